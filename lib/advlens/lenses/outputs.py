"""The lens of the network's outputs alone: energy and maximum logit, which need nothing that was learnt."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from advlens.arrays import Array
from advlens.classifier import Classifier, checked_classifier
from advlens.lenses.base import Lens
from advlens.store import versioned


@versioned(1)
class Outputs(Lens):
    """Free energy −log Σ exp(z) and negated maximum of the logits z, both higher for less certain decisions.

    Args:
        classifier: the task network.

    Source: Liu et al. 2020, equation 4; Hendrycks et al. 2022 for the maximum logit.
    """

    name, family, columns = "outputs", "uncertainty", ("energy", "−max logit")

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = checked_classifier(classifier)

    def measure(self, images: Array) -> pd.DataFrame:
        """In logits, at temperature 1."""
        logits = self.classifier.logits(images).astype(np.float64)
        return pd.DataFrame({"energy": -logsumexp(logits, axis=1), "−max logit": -logits.max(axis=1)})

    def to_parts(self) -> dict[str, Any]:
        """The network."""
        return {"network": self.classifier.model}
