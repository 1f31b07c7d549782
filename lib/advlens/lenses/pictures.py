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
from advlens.lenses.base import Lens, frame_of, names_of
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
class Relevancy(Lens):
    """Maps of what speaks for a decision, a column per pixel.

    Args:
        classifier: the task network; method: one of `explain.methods()`, "deep_taylor" or "lrp.z" in the study.
        neuron: "predicted" explains the decision alone, "all" the sum of all logits, as the study's code did.
        coloured: as the study's red–green–blue pictures, each to its own scale; else relevances as they are.
    """

    name, family = "relevancy", "explanation"

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: str = "deep_taylor",
        neuron: str = "predicted",
        coloured: bool = False,
    ) -> None:
        self.classifier = checked_classifier(classifier)
        self.method, self.neuron, self.coloured = method, neuron, coloured
        *sides, channels = classifier.input_shape
        self.shape = (*sides, 3 if coloured else channels)
        self.columns = tuple(names_of("relevance", int(np.prod(self.shape))))

    def measure(self, images: Array) -> pd.DataFrame:
        """Relevances, or colours in [0, 1]."""
        images = checked_images(images, shape=self.classifier.input_shape)
        maps = explain(self.classifier.model, images, method=self.method, neuron=self.neuron)
        return frame_of(colour_map(maps) if self.coloured else maps, "relevance")

    def to_parts(self) -> dict[str, Any]:
        """Network and parameters."""
        about = {"method": self.method, "neuron": self.neuron, "coloured": self.coloured}
        return {"network": self.classifier.model} | about


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
