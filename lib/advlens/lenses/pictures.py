"""Lenses whose measurements are pictures: the image itself, relevancy maps, and the entropy of feature responses."""

from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.explanations.colour import colour_map
from advlens.explanations.entropy import average_local_entropy
from advlens.explanations.explain import explain
from advlens.explanations.responses import LAST_CONVOLUTION, responses
from advlens.image_files import CODECS, through
from advlens.lenses.base import Lens, frame_of, names_of
from advlens.networks.parts import last_layer as logits_layer
from advlens.networks.parts import name_in
from advlens.store import versioned


@versioned(1)
class Pixels(Lens):
    """The image itself, a column per pixel and channel.

    Args:
        shape: (h, w, channels) of the images.
    """

    name, family = "pixels", "input"

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = tuple(shape)
        self.columns = tuple(names_of("pixel", int(np.prod(self.shape))))

    def measure(self, images: Array) -> pd.DataFrame:
        """In [0, 1]."""
        return frame_of(checked_images(images, shape=self.shape), "pixel")

    def to_parts(self) -> dict[str, Any]:
        """The shape."""
        return {"shape": list(self.shape)}


@versioned(1)
class InFile(Lens):
    """Another lens, of the images as an image file gives them back.

    Args:
        lens: what measures them; codec: the file, of `image_files.CODECS`.
    """

    def __init__(self, lens: Lens, codec: str) -> None:
        self.lens, self.codec = lens, checked_codec(codec)
        self.name, self.family, self.columns = f"{lens.name} in {codec}", lens.family, lens.columns

    def measure(self, images: Array) -> pd.DataFrame:
        """What the other lens measures."""
        return self.lens.measure(through(self.codec, images))

    def to_parts(self) -> dict[str, Any]:
        """Lens and codec."""
        return {"lens": self.lens, "codec": self.codec}


@versioned(1)
class Relevancy(Lens):
    """Maps of what speaks for a decision, a column per pixel.

    Args:
        classifier: the task network; method: one of `explain.methods()`, "deep_taylor" or "lrp.z" in the study.
        neuron: "predicted" explains the decision alone, "all" the sum of all logits, as the study's code did.
        last_layer: map the inputs of the layer that makes the logits, laid out as a square, instead of the pixels.
        coloured: as the study's red–green–blue pictures, each to its own scale; else relevances as they are.
        codec: the file, of `image_files.CODECS`, that coloured maps are read from.
    Raises:
        ValueError: for a codec other than "float" of maps without colours, which no image file can hold.
    """

    name, family = "relevancy", "explanation"

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: str = "deep_taylor",
        neuron: str = "predicted",
        last_layer: bool = False,
        coloured: bool = False,
        codec: str = "float",
    ) -> None:
        if checked_codec(codec) != "float" and not coloured:
            raise ValueError(f"the codec {codec!r} needs pixels in [0, 1]: pass coloured=True")
        self.classifier = checked_classifier(classifier)
        self.method, self.neuron, self.last_layer = method, neuron, last_layer
        self.coloured, self.codec = coloured, codec
        *sides, channels = classifier.input_shape
        if last_layer:
            side, channels = _side(int(np.prod(logits_layer(classifier.model).input.shape[1:]))), 1  # pyright: ignore[reportAttributeAccessIssue]
            sides = [side, side]
        self.shape = (*sides, 3 if coloured else channels)
        self.columns = tuple(names_of("relevance", int(np.prod(self.shape))))

    def measure(self, images: Array) -> pd.DataFrame:
        """Relevances, or colours in [0, 1]."""
        maps = self.maps(images)
        return frame_of(through(self.codec, colour_map(maps)) if self.coloured else maps, "relevance")

    def maps(self, images: Array) -> Array:
        """(n, h, w, channels) relevances before colours and codec."""
        images = checked_images(images, shape=self.classifier.input_shape)
        network = self.classifier.model
        layer = name_in(network, logits_layer(network)) if self.last_layer else None
        maps = explain(network, images, method=self.method, neuron=self.neuron, from_layer=layer)
        return _as_square(maps) if self.last_layer else maps

    def to_parts(self) -> dict[str, Any]:
        """Network and parameters."""
        about = {"method": self.method, "neuron": self.neuron, "last_layer": self.last_layer}
        return {"network": self.classifier.model} | about | {"coloured": self.coloured, "codec": self.codec}


def checked_codec(codec: str) -> str:
    """Validate the name of a codec."""
    if codec not in CODECS:
        raise ValueError(f"no codec is called {codec!r}: choose one of {', '.join(CODECS)}")
    return codec


def _as_square(maps: Array) -> Array:
    """Relevances of d hidden units as (n, s, s, 1) pictures, filled row by row and padded with 0."""
    flat = maps.reshape(len(maps), -1)
    side = _side(flat.shape[1])
    return np.pad(flat, ((0, 0), (0, side**2 - flat.shape[1]))).reshape(-1, side, side, 1)


def _side(count: int) -> int:
    """s = ⌈√d⌉ of the square that holds d values."""
    return int(np.ceil(np.sqrt(count)))


@versioned(1)
class LocalEntropy(Lens):
    """The average local spatial entropy of a feature response, in bits.

    Args:
        classifier: the task network; method, of: which response, see `explanations.responses.responses`.
        window, bins, stride, normalisation: see `explanations.entropy.average_local_entropy`.

    Source: Amirian et al. 2018.
    """

    name, family, columns = "local entropy", "explanation", ("local entropy",)

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: str = "guided_backprop",
        of: str = LAST_CONVOLUTION,
        window: int = 3,
        bins: int = 256,
        stride: int = 1,
        normalisation: str = "minmax",
    ) -> None:
        self.classifier = checked_classifier(classifier)
        self.method, self.of = method, of
        self.patches = {"window": window, "bins": bins, "stride": stride, "normalisation": normalisation}

    def measure(self, images: Array) -> pd.DataFrame:
        """In bits, from 0 to log2 min(bins, window²)."""
        images = checked_images(images, shape=self.classifier.input_shape)
        maps = responses(self.classifier.model, images, method=self.method, of=self.of)
        return pd.DataFrame({self.columns[0]: average_local_entropy(maps, **self.patches)})

    def to_parts(self) -> dict[str, Any]:
        """Network and parameters."""
        return {"network": self.classifier.model, "method": self.method, "of": self.of} | self.patches
