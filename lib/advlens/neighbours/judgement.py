"""What Deep kNN says of images: p-values of all labels, and what follows from them."""

from dataclasses import dataclass

import numpy as np

from advlens.arrays import Array
from advlens.neighbours.conformal import nonconformity, p_values, p_values_among


@dataclass(frozen=True, eq=False)
class Judgement:
    """Deep kNN's word on n images.

    Attributes:
        p_values: (n, c) in [0, 1], one a label.
        predicted: (n,) int64, the label that the neighbours conform to best, the lower of two that tie.
        credibility: (n,) its p-value, the largest: how well the training data support the decision.
        confidence: (n,) one minus the second-largest p-value: how little they support any other.

    Source: section IV of Papernot & McDaniel 2018.
    """

    p_values: Array
    predicted: Array
    credibility: Array
    confidence: Array

    @classmethod
    def of(
        cls, neighbour_labels: Array, calibration: Array, *, num_classes: int, convention: str = "conformal"
    ) -> "Judgement":
        """From the (n, l, k) labels of neighbours and the (m,) nonconformity of held-out images to their true labels.

        A p-value falls where α grows, so the smallest α has the largest one; among labels whose p-values tie because
        no held-out image parts them, it is still the one with most neighbours.

        Raises:
            ValueError: as `conformal.p_values` does.
        """
        alpha = nonconformity(neighbour_labels, num_classes)
        return cls._from(alpha, p_values(alpha, calibration, convention=convention))

    @classmethod
    def among(cls, neighbour_labels: Array, labels: Array, *, num_classes: int) -> "Judgement":
        """Of (m, l, k) labels of neighbours of held-out images, each calibrated by the true labels of all others, (m,).

        Raises:
            ValueError: as `conformal.p_values_among` does.
        """
        alpha = nonconformity(neighbour_labels, num_classes)
        return cls._from(alpha, p_values_among(alpha, alpha[np.arange(len(labels)), labels]))

    @classmethod
    def _from(cls, alpha: Array, p: Array) -> "Judgement":
        ordered = np.sort(p, axis=1)
        return cls(
            p_values=p, predicted=alpha.argmin(axis=1), credibility=ordered[:, -1], confidence=1 - ordered[:, -2]
        )
