"""The lens of subset scanning: ART's scan for the units whose activations together are unlike those of clean images."""

from typing import Any

import numpy as np
import pandas as pd
from art.defences.detector.evasion.subsetscanning.scanner import Scanner

from advlens.arrays import Array, checked_images, checked_seed, checked_whole
from advlens.classifier import Classifier, checked_classifier
from advlens.lenses.base import Lens, fit_first
from advlens.networks.parts import weighted_layers
from advlens.random import stream
from advlens.store import versioned

AT_ONCE = 256  # images: a layer may have many thousand units
MOST = 0.5  # the largest p-value that ART's scanner looks at


@versioned(1)
class SubsetScanning(Lens):
    """The Berk–Jones score of the most anomalous subset of a layer's units.

    A unit's p-value is the share of training images that activate it as much or more; for one image the score is the
    maximum over α of N_α log(1/α), where N_α units have p-values of at most α.

    Args:
        classifier: the task network; layer: the name of the one that is scanned, by default the first with weights.
        reference: how many training images give p-values; seed: of which.

    Notes:
        The scores are those of ART's `SubsetScanningDetector`. Its own `detect` fails for an image none of whose
        units has a p-value of 0.5 or less (0 here), and takes Sequential networks only.

    Source: McFowland et al. 2013; Speakman et al. 2018 for the activations of networks.
    """

    name, family, columns = "subset scanning", "closeness", ("Berk–Jones score",)

    def __init__(
        self, classifier: Classifier, *, layer: str | None = None, reference: int = 1000, seed: int = 0
    ) -> None:
        self.classifier, self.seed = checked_classifier(classifier), checked_seed(seed)
        self.layer = layer or next(iter(weighted_layers(classifier.model)))
        self.reference = checked_whole(reference, name="reference")

    def fit(self, images: Array, labels: Array) -> "SubsetScanning":
        """Takes over the activations of some training images, sorted."""
        images = checked_images(images, shape=self.classifier.input_shape)
        order = stream(self.seed, "lenses/subset scanning").permutation(len(images))[: self.reference]
        self.sorted_ = np.sort(self._activations(images[order]), axis=0)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """Scores, ≥ 0.

        Raises:
            RuntimeError: before `fit`.
        """
        fit_first(self, "sorted_")
        images = checked_images(images, shape=self.classifier.input_shape)
        parts = [self._scores(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)]
        return pd.DataFrame({self.columns[0]: np.concatenate(parts)})

    def _scores(self, images: Array) -> Array:
        n, units = len(self.sorted_), zip(self.sorted_.T, self._activations(images).T, strict=True)
        p_values = (1 + n - np.stack([np.searchsorted(*unit) for unit in units], axis=1)) / (1 + n)
        # ART takes a lower and an upper p-value of each unit, and scans the upper ones.
        scores = [
            Scanner.fgss_individ_for_nets(np.stack([p, p], axis=1))[0] if p.min() <= MOST else 0 for p in p_values
        ]
        return np.array(scores, np.float64)

    def _activations(self, images: Array) -> Array:
        """(n, d) of the layer."""
        return self.classifier.layer_activations(images, [self.layer])[self.layer].reshape(len(images), -1)

    def fitted(self) -> dict[str, Array]:
        """The sorted activations."""
        return {"sorted": self.sorted_} if hasattr(self, "sorted_") else {}

    def take_over(self, arrays: dict[str, Array]) -> "SubsetScanning":
        """As `fit`, from what `fitted` gave."""
        self.sorted_ = arrays["sorted"]
        return self

    def to_parts(self) -> dict[str, Any]:
        """Network, layer and sorted activations."""
        return {"network": self.classifier.model, "layer": self.layer} | self.fitted()
