"""How alike the maps of one decision and of another are, for every kind of map that the study looks at."""

from collections.abc import Callable

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.explanations import explain
from advlens.explanations.activation import class_activation_maps, grad_cam
from advlens.explanations.similarity import rank_correlation, top_overlap
from advlens.store import artifact

CAM, CAM_AS_PUBLISHED, GRAD_CAM = "CAM", "CAM, as published", "Grad-CAM"
GUIDED, DEEP_TAYLOR, IMAGE = "guided backprop", "Deep Taylor", "image"
Neuron = str | Array  # which class is explained: "predicted", or (n,) class numbers
# From a network, images and what is explained to maps; the image itself stands for a map that knows no network.
MAPS: dict[str, Callable[[keras.Model, Array, Neuron], Array]] = {
    CAM: lambda network, images, neuron: class_activation_maps(network, images, neuron=neuron),
    CAM_AS_PUBLISHED: lambda network, images, neuron: class_activation_maps(
        network, images, neuron=neuron, as_published=True
    ),
    GRAD_CAM: lambda network, images, neuron: grad_cam(network, images, neuron=neuron),
    GUIDED: lambda network, images, neuron: explain(network, images, method="guided_backprop", neuron=neuron),
    DEEP_TAYLOR: lambda network, images, neuron: explain(network, images, method="deep_taylor", neuron=neuron),
    IMAGE: lambda network, images, neuron: images,
}
SIGNED = (CAM, CAM_AS_PUBLISHED, GUIDED)  # maps of values for and against
MEASURES: dict[str, Callable[[Array, Array], Array]] = {
    "rank correlation": rank_correlation,
    "overlap of the top 20 %": top_overlap,
}
START, TARGET = "start", "target"


@artifact(version=1)
def likeness(
    network: keras.Model, ways: Array, starts: Array, targets: Array, *, neuron: Neuron = "predicted"
) -> pd.DataFrame:
    """How alike the maps along ways from image to image are to those of what was, and of what is aimed at.

    Args:
        ways: (t, n, h, w, channels) images, t to a way.
        starts: (n, …) the images before; targets: (n, …) real images of the classes aimed at. Of both the network's
            decision is explained.
        neuron: what is explained along the ways.
    Returns:
        A row an image, kind of map and measure: stop (0 to t − 1), place (0 to n − 1), map, measure, `START`, `TARGET`
        (each in [−1, 1]).
    """
    frames = []
    for name, of in MAPS.items():
        theirs, real = (of(network, each, "predicted") for each in (starts, targets))
        for stop, images in enumerate(ways):
            ours = of(network, images, neuron)
            for measure, alike in MEASURES.items():
                columns = {START: alike(ours, theirs), TARGET: alike(ours, real)}
                about = {"stop": stop, "place": np.arange(len(images)), "map": name, "measure": measure}
                frames.append(pd.DataFrame(about | columns))
    return pd.concat(frames, ignore_index=True)


@artifact(version=1)
def films(network: keras.Model, frames: Array) -> dict[str, Array]:
    """Kind of map → (t, h, w, 1) maps of (t, h, w, channels) frames, but for the image itself."""
    of_decisions = {name: of(network, frames, "predicted") for name, of in MAPS.items() if name != IMAGE}
    return {name: each.sum(axis=-1, keepdims=True) for name, each in of_decisions.items()}
