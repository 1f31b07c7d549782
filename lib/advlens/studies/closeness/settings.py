"""What the study attacks, how strongly, and what it published of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Setting:
    """One attack at one strength.

    Attributes:
        attack: the catalogue's name.
        eps: the L∞ strength; None for the attacks that look for the smallest perturbation.
        claim: "strong" or "weak" where the study says which metrics see it better, else "".
    """

    attack: str
    eps: float | None = None
    claim: str = ""

    @property
    def name(self) -> str:
        """As tables list it, such as "bim 0.30"."""
        return self.attack if self.eps is None else f"{self.attack} {self.eps:.2f}"

    @property
    def parameters(self) -> dict[str, Any]:
        """What `craft` is given beyond the catalogue's parameters."""
        return {} if self.eps is None else {"eps": self.eps}


@dataclasses.dataclass(frozen=True)
class Publication:
    """What the study says of one data set.

    Attributes:
        network: its task network's name in `networks.NETWORKS`.
        accuracy: the task network's, on the test set; NaN where nothing is published.
        strengths: the weaker and the stronger ε of the attacks.
        bandwidth: of the kernel density.
        means: metric → its mean over wrong and over right predictions; empty where the text lacks the table.
        later: detector → ROC-AUC on BIM at the stronger ε that a later version of the study saved; empty without one.
    """

    network: str
    accuracy: float
    strengths: tuple[float, float]
    bandwidth: float
    means: Mapping[str, tuple[float, float]]
    later: Mapping[str, float]


# The text holds one of its two tables of means, above the caption of Fashion-MNIST's; the digits' caption and the other
# table are lost. So either data set may be meant, and it is shown beside both.
MEANS = {
    "variance": (0.02195, 0.00135),
    "entropy": (0.96277, 0.08891),
    "mutual information": (0.42247, 0.04068),
    "confidence": (0.59387, 0.97724),
}
PUBLISHED = {
    "mnist": Publication(
        network="digits_dropout_cnn",
        accuracy=0.9884,
        strengths=(0.12, 0.30),
        bandwidth=1.70,
        means=MEANS,
        later={
            "aleatoric": 0.642,
            "epistemic": 0.599,
            "entropy": 0.636,
            "attack-aware distance": 0.983,
            "all, with that distance": 0.993,
        },
    ),
    "fashion_mnist": Publication(
        network="fashion_dropout_cnn",
        accuracy=0.9203,
        strengths=(0.03, 0.12),
        bandwidth=1.00,
        means=MEANS,
        later={},
    ),
}


def published_of(dataset: str) -> Publication:
    """What the study says of a data set; for a user's own, the digits' network, strengths and bandwidth, no figures."""
    nothing = dataclasses.replace(PUBLISHED["mnist"], accuracy=float("nan"), means={}, later={})
    return PUBLISHED.get(dataset, nothing)


def settings(strengths: Sequence[float]) -> list[Setting]:
    """The study's attacks at its two strengths, and those of its later version."""
    weak, strong = strengths
    made = [Setting("fgsm", eps, "weak") for eps in (weak, strong)]
    made += [Setting(attack, weak, "weak") for attack in ("bim", "pgd")]
    made += [Setting(attack, strong, "strong") for attack in ("bim", "pgd")]
    return [*made, Setting("deepfool"), Setting("carlini_l2")]
