"""Lenses on how a decision holds when the image is changed a little: squeezed, moved, made noisy, denoised."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter, rotate, shift
from scipy.special import softmax

from advlens.arrays import Array, checked_images, checked_seed, checked_whole
from advlens.classifier import Classifier, checked_classifier
from advlens.explanations.explain import explain
from advlens.explanations.similarity import rank_correlation
from advlens.lenses.base import Lens
from advlens.networks.parts import weighted_layers
from advlens.random import stream
from advlens.store import versioned

MOVES: dict[str, tuple[float, float, float]] = {
    **{"left": (0, -1, 0), "right": (0, 1, 0), "up": (-1, 0, 0), "down": (1, 0, 0)},
    **{"turned left": (0, 0, 8), "turned right": (0, 0, -8)},
}
"""Name → rows and columns that an image is shifted by, and degrees that it is turned by."""


def _probabilities(classifier: Classifier, images: Array) -> Array:
    return softmax(classifier.logits(images).astype(np.float64), axis=1)


def _distance(one: Array, other: Array) -> Array:
    """(n,) L1 distances of (n, c) probabilities, in [0, 2]."""
    return np.abs(one - other).sum(axis=1)


def transformed(images: Array, down: float, right: float, degrees: float) -> Array:
    """(n, h, w, channels) images, shifted or turned; what comes in at an edge is as the pixel there."""
    if degrees:
        return rotate(images, degrees, axes=(1, 2), reshape=False, order=1, mode="nearest")
    return shift(images, (0, down, right, 0), order=1, mode="nearest")


@versioned(1)
class FeatureSqueezing(Lens):
    """How far the softmax moves (L1) when the image has fewer grey levels, or a median filter over it.

    Args:
        classifier: the task network.
        bits: of the grey levels that are left, 1 on digits.
        median: side of the filter, 2 on digits, 3 on photographs.

    Source: Xu et al. 2018, section V, whose score is the largest of the distances.
    """

    name, family, columns = "feature squeezing", "image", ("bit depth", "median filter", "largest")

    def __init__(self, classifier: Classifier, *, bits: int = 1, median: int = 2) -> None:
        self.classifier = checked_classifier(classifier)
        self.bits, self.median = checked_whole(bits, name="bits"), checked_whole(median, name="median", least=2)

    def measure(self, images: Array) -> pd.DataFrame:
        """In [0, 2]."""
        images = checked_images(images, shape=self.classifier.input_shape)
        levels = 2**self.bits - 1
        filtered = median_filter(images, size=(1, self.median, self.median, 1), mode="reflect")
        own = _probabilities(self.classifier, images)
        moved = [
            _distance(own, _probabilities(self.classifier, each))
            for each in (np.rint(images * levels) / np.float32(levels), filtered)
        ]
        return pd.DataFrame(dict(zip(self.columns, (*moved, np.maximum(*moved)), strict=True)))

    def to_parts(self) -> dict[str, Any]:
        """Network and parameters."""
        return {"network": self.classifier.model, "bits": self.bits, "median": self.median}


@versioned(1)
class Augmented(Lens):
    """How far the softmax moves (L1) when the image is shifted by a pixel or turned by 8°: needs no learnt weights.

    Args:
        classifier: the task network.

    Source: Tian et al. 2018, whose detector compares decisions under shifts and rotations.
    """

    name, family, columns = "augmentation", "image", (*MOVES, "mean")

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = checked_classifier(classifier)

    def measure(self, images: Array) -> pd.DataFrame:
        """In [0, 2]."""
        images = checked_images(images, shape=self.classifier.input_shape)
        own, found = _probabilities(self.classifier, images), {}
        for name, move in MOVES.items():
            found[name] = _distance(own, _probabilities(self.classifier, np.clip(transformed(images, *move), 0, 1)))
        return pd.DataFrame({**found, "mean": np.mean(list(found.values()), axis=0)})

    def to_parts(self) -> dict[str, Any]:
        """The network."""
        return {"network": self.classifier.model}


@versioned(1)
class Sensitivity(Lens):
    """How far logits and attribution move (L1) under Gaussian noise, on average over some draws.

    The attribution is the logit's gradient of the class decided for, times the image less a black one's: integrated
    gradients with one step. All images get the same draws, so that none depends on another.

    Args:
        classifier: the task network.
        spread: the noise's standard deviation, of pixels in [0, 1]; draws: how many; seed: of the draws.

    Source: Bhusal et al. 2024 (PASA), section 4.
    """

    name, family, columns = "sensitivity", "explanation", ("prediction sensitivity", "attribution sensitivity")

    def __init__(self, classifier: Classifier, *, spread: float = 0.1, draws: int = 4, seed: int = 0) -> None:
        self.classifier = checked_classifier(classifier)
        self.spread, self.draws, self.seed = spread, checked_whole(draws, name="draws"), checked_seed(seed)

    def measure(self, images: Array) -> pd.DataFrame:
        """In logits, and in units of the attribution."""
        images = checked_images(images, shape=self.classifier.input_shape)
        logits = self.classifier.logits(images)
        decided = logits.argmax(axis=1)
        own, found = self._attribution(images, decided), np.zeros((2, len(images)))
        for noisy in self._noisy(images):
            found[0] += np.abs(self.classifier.predict(noisy) - logits).sum(axis=1)
            found[1] += np.abs(self._attribution(noisy, decided) - own).sum(axis=(1, 2, 3))
        return pd.DataFrame(dict(zip(self.columns, found / self.draws, strict=True)))

    def _noisy(self, images: Array) -> Iterator[Array]:
        rng = stream(self.seed, "lenses/sensitivity")
        for _ in range(self.draws):
            yield images + rng.normal(0, self.spread, images.shape[1:]).astype(np.float32)

    def _attribution(self, images: Array, classes: Array) -> Array:
        return self.classifier.class_gradient(images, classes)[:, 0] * images

    def to_parts(self) -> dict[str, Any]:
        """Network and parameters."""
        about = {"spread": self.spread, "draws": self.draws, "seed": self.seed}
        return {"network": self.classifier.model} | about


@versioned(1)
class MapUnderDenoising(Lens):
    """How much a map of the decision changes when a median filter removes what is fine in the image.

    Args:
        classifier: the task network; method: of `explain`; median: side of the filter.
    """

    name, family, columns = "map under denoising", "explanation", ("1 − rank correlation",)

    def __init__(self, classifier: Classifier, *, method: str = "deep_taylor", median: int = 3) -> None:
        self.classifier = checked_classifier(classifier)
        self.method, self.median = method, checked_whole(median, name="median", least=2)

    def measure(self, images: Array) -> pd.DataFrame:
        """In [0, 2], over the strongest 20 % of pixels, for the class decided for on the image as it is."""
        images = checked_images(images, shape=self.classifier.input_shape)
        filtered = median_filter(images, size=(1, self.median, self.median, 1), mode="reflect")
        decided = self.classifier.predict(images).argmax(axis=1)
        maps = [explain(self.classifier.model, each, method=self.method, neuron=decided) for each in (images, filtered)]
        return pd.DataFrame({self.columns[0]: 1 - rank_correlation(maps[0], maps[1])})

    def to_parts(self) -> dict[str, Any]:
        """Network and parameters."""
        return {"network": self.classifier.model, "method": self.method, "median": self.median}


@versioned(1)
class LeaveOneOut(Lens):
    """How spread out, and in how many layers, are the changes that single patches make when they are blanked.

    For each of some layers and the logits the L2 norm of the change is taken patch by patch; a column is the
    interquartile range over the patches.

    Args:
        classifier: the task network; layers: names of its layers, by default those with weights.
        patch: side of the blanked squares in pixels; 1 is the paper's, larger ones cost less.

    Source: Yang et al. 2020 (ML-LOO), section 4: leave-one-out attributions, IQR, several layers.
    """

    name, family = "leave one out", "explanation"

    def __init__(self, classifier: Classifier, *, layers: tuple[str, ...] | None = None, patch: int = 4) -> None:
        self.classifier = checked_classifier(classifier)
        self.layers = tuple(layers or weighted_layers(classifier.model))
        self.patch = checked_whole(patch, name="patch")
        self.columns = tuple(f"spread at {name}" for name in self.layers)

    def measure(self, images: Array) -> pd.DataFrame:
        """In the layers' activations."""
        images = checked_images(images, shape=self.classifier.input_shape)
        height, width = images.shape[1:3]
        corners = [(row, column) for row in range(0, height, self.patch) for column in range(0, width, self.patch)]
        own = self._activations(images)
        moved = np.empty((len(corners), len(self.layers), len(images)))
        for place, (row, column) in enumerate(corners):
            blanked = images.copy()
            blanked[:, row : row + self.patch, column : column + self.patch] = 0
            for depth, (one, other) in enumerate(zip(own, self._activations(blanked), strict=True)):
                moved[place, depth] = np.linalg.norm(one - other, axis=1)
        high, low = np.quantile(moved, (0.75, 0.25), axis=0)
        return pd.DataFrame(dict(zip(self.columns, high - low, strict=True)))

    def _activations(self, images: Array) -> list[Array]:
        found = self.classifier.layer_activations(images, self.layers)
        return [found[name].reshape(len(images), -1) for name in self.layers]

    def to_parts(self) -> dict[str, Any]:
        """Network and parameters."""
        return {"network": self.classifier.model, "layers": list(self.layers), "patch": self.patch}
