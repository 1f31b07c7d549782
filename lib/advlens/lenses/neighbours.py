"""The lens of Deep k-nearest neighbours: whether the training data support a decision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.classifier import Classifier, checked_classifier
from advlens.lenses.base import Lens
from advlens.neighbours import DeepKNN
from advlens.random import stream
from advlens.store import versioned

CONFORMAL_IMAGES = 750  # of the study
CREDIBILITY, OF_DECISION, CONFIDENCE = "1 − credibility", "1 − p-value of the decision", "1 − confidence"


@versioned(1)
class DeepNeighbours(Lens):
    """One minus the credibility, one minus the p-value of the network's label, one minus the confidence.

    Args:
        classifier: the task network; layers, k: of the Deep kNN.
        conformal_images: how many of the images given to `fit` are held out to calibrate the p-values.
        seed: governs which.

    Source: Papernot & McDaniel 2018.
    """

    name, family, columns = "neighbours", "neighbours", (CREDIBILITY, OF_DECISION, CONFIDENCE)

    def __init__(
        self,
        classifier: Classifier,
        *,
        layers: Sequence[str] | None = None,
        k: int = 75,
        conformal_images: int = CONFORMAL_IMAGES,
        seed: int = 0,
    ) -> None:
        self.classifier = checked_classifier(classifier)
        self.layers, self.k, self.conformal_images, self.seed = layers, k, conformal_images, seed
        self.knn = DeepKNN(classifier, layers=layers, k=k)

    def fit(self, images: Array, labels: Array) -> "DeepNeighbours":
        """Holds some images out for the p-values and takes over the others as neighbours.

        Raises:
            ValueError: for fewer images than k and `conformal_images` need.
        """
        if len(images) <= self.k + self.conformal_images:
            raise ValueError(
                f"images must be more than k + conformal_images = {self.k + self.conformal_images}, got {len(images)}"
            )
        order = stream(self.seed, "lenses/conformal images").permutation(len(images))
        held_out, others = np.sort(order[: self.conformal_images]), np.sort(order[self.conformal_images :])
        labels = np.asarray(labels)
        return self.fit_apart((images[others], labels[others]), (images[held_out], labels[held_out]))

    def fit_apart(self, training: tuple[Array, Array], conformal: tuple[Array, Array]) -> "DeepNeighbours":
        """As `fit`, with images and labels that calibrate the p-values given apart."""
        self.training_, self.conformal_ = training, conformal
        self.knn.fit(*training).calibrate(*conformal)
        return self

    def fitted(self) -> dict[str, Array]:
        """Training and held-out images with their labels."""
        if not hasattr(self, "training_"):
            return {}
        (images, labels), (held_out, y_held_out) = self.training_, self.conformal_
        return {"images": images, "labels": labels, "held out": held_out, "labels held out": y_held_out}

    def take_over(self, arrays: dict[str, Array]) -> "DeepNeighbours":
        """As `fit`, from what `fitted` gave."""
        training, held_out = (arrays["images"], arrays["labels"]), (arrays["held out"], arrays["labels held out"])
        return self.fit_apart(training, held_out)

    def measure(self, images: Array) -> pd.DataFrame:
        """In [0, 1], higher where the training data support the decision less.

        Raises:
            RuntimeError: before `fit`.
        """
        verdict = self.knn.judge(images)
        decided = self.classifier.predict(images).argmax(axis=1)
        own = 1 - verdict.p_values[np.arange(len(images)), decided]
        values = (1 - verdict.credibility, own, 1 - verdict.confidence)
        return pd.DataFrame(dict(zip(self.columns, values, strict=True)))

    def release(self) -> "DeepNeighbours":
        """Lets go of the training images' activations."""
        self.knn.release()
        return self

    def to_parts(self) -> dict[str, Any]:
        """Network, parameters, training and held-out images."""
        fitted = {name: getattr(self, f"{name}_", None) for name in ("training", "conformal")}
        return {"network": self.classifier.model, "layers": self.layers, "k": self.k} | fitted
