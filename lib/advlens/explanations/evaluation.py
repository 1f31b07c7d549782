"""How good explanation maps are, by Quantus; nothing here makes any."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_images, checked_labels, checked_seed
from advlens.random import numpy_seeded

if TYPE_CHECKING:
    import keras

    from advlens.classifier import Classifier

METRICS = ("faithfulness correlation", "pixel flipping", "sparseness", "complexity")


def evaluate(
    model: Classifier | keras.Model,
    images: Array,
    labels: Array,
    maps: Array,
    *,
    metrics: Sequence[str] = METRICS[:3],
    seed: int = 0,
) -> pd.DataFrame:
    """Quantus' metrics of maps, also as `explain.evaluate`: pip install quantus.

    - "faithfulness correlation": of 100 random tenths of the pixels, the correlation of a tenth's sum in the map with
      the fall of the class's logit where the tenth is as dark as the image's darkest pixel; higher is better.
    - "pixel flipping": the mean softmax output of the class while a row's worth of pixels after the other is made as
      dark, the map's largest first; lower is better.
    - "sparseness": Gini's index of absolute values, 0 to 1; "complexity": their entropy in nats. Of the map alone.

    They rank maps of one network, and mean little without those of another method, and of random maps, beside.

    Args:
        model: the network; images: (n, h, w, channels) in [0, 1]; labels: (n,) classes whose maps these are.
        maps: (n, h, w, channels) or (n, h, w, 1), finite; metrics: of `METRICS`; seed: draws the tenths.
    Returns:
        A row an image and metric: image, metric, value.
    Raises:
        RuntimeError: where Quantus is not installed; ValueError: for bad images, labels, maps (an image's that is all
            zeros or one number among them), or names.

    Source: Quantus, Hedström et al. 2023; Bhatt et al. 2020; Bach et al. 2015; Chalasani et al. 2020.
    """
    from advlens.classifier import as_classifier  # here: the worker process has no Keras 3

    classifier = as_classifier(model)
    images = checked_images(images, shape=classifier.input_shape)
    labels = checked_labels(labels, n=len(images), num_classes=classifier.nb_classes)
    maps = np.array(maps, np.float32)  # a copy: Quantus writes into it
    if maps.shape not in (images.shape, (*images.shape[:3], 1)) or not np.isfinite(maps).all():
        raise ValueError(f"maps must be finite and of shape {images.shape} or with one channel, got {maps.shape}")
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ValueError(f"no metric of maps is called {(*unknown, '')[0]!r}: choose among {', '.join(METRICS)}")
    about = {"model": _with_plain_end(classifier.model), "x_batch": images, "y_batch": labels, "channel_first": False}
    made, found = _metrics(images.shape[1:]), []
    with numpy_seeded(checked_seed(seed)):  # from which Quantus draws
        for name in metrics:
            try:
                values = made[name](**about, a_batch=maps.transpose(0, 3, 1, 2).copy())
            except AssertionError as error:  # of maps that are all zeros, or all one number
                raise ValueError(f"{name} can't be measured of these maps: {error}") from error
            means = [float(np.mean(value)) for value in values]  # of pixel flipping's curve
            found.append(pd.DataFrame({"image": range(len(images)), "metric": name, "value": means}))
    return pd.concat(found, ignore_index=True)


def _metrics(shape: tuple[int, ...]) -> dict[str, Any]:
    try:
        quantus = importlib.import_module("quantus")
    except ModuleNotFoundError as error:
        raise RuntimeError(f"metrics of maps need {error.name}: pip install quantus") from error
    quiet = {"disable_warnings": True, "return_aggregate": False}
    tenth = max(int(np.prod(shape)) // 10, 1)
    kinds = (
        quantus.FaithfulnessCorrelation(subset_size=tenth, **quiet),
        quantus.PixelFlipping(features_in_step=shape[1], **quiet),
        quantus.Sparseness(**quiet),
        quantus.Complexity(**quiet),
    )
    return dict(zip(METRICS, kinds, strict=True))


def _with_plain_end(network: keras.Model) -> keras.Model:
    """The network with a layer after it that Quantus can put a softmax on, whatever its last one is."""
    import keras

    end: Any = keras.layers.Activation("linear")(network.outputs[0])
    return keras.Model(network.inputs[0], end)
