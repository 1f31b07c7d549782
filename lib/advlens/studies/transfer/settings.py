"""Which networks, methods and strengths are compared."""

import dataclasses
from collections.abc import Mapping
from typing import Any

SOURCE = "deep_knn_cnn"  # the network that is attacked
LAYERS = ("conv1", "conv2", "conv3", "logits")  # of it, to which intermediate level attacks turn
VICTIMS = ("two_conv_cnn", "average_pooling_cnn")  # beside the data set's network with dropout

REPORT_EPS = 0.03 / 2  # the report's ε, which is on a scale from −1 to 1; its rate, 0.006, is a fifth of it
# Digits are black and white and bear more; the first is the report's, layers are compared at the second.
STRENGTHS = {"mnist": (REPORT_EPS, 0.1, 0.2)}
OTHER_STRENGTHS = (REPORT_EPS, 0.03, 0.06)

FGSM, BIM, LONGER_BIM, MOMENTUM = "fgsm", "bim", "bim, twice the steps", "mi-fgsm"
ILAP, ILAF, CONTROL = "ilap", "ilaf", "random guide"
PLAIN = (FGSM, BIM, LONGER_BIM, MOMENTUM)
VARIANTS = (ILAP, ILAF)
METHODS = (*PLAIN, *VARIANTS, CONTROL)
RIVALS = (LONGER_BIM, MOMENTUM, CONTROL)  # with as many gradient steps as the intermediate level attack
ILA_OF_FGSM, ILA_OF_BIM = "fgsm + ila", "bim + ila"
DETECTED = (FGSM, BIM, ILA_OF_FGSM, ILA_OF_BIM)  # what Deep kNN judges


@dataclasses.dataclass(frozen=True)
class Method:
    """One attack at one strength.

    Attributes:
        method: one of `METHODS` or `DETECTED`; layer: to which it turns, "" where it turns to none.
        eps: the largest change of a pixel.
        attack: the catalogue's name; parameters: beside eps.
    """

    method: str
    eps: float
    attack: str
    layer: str = ""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the store lists it."""
        return " ".join(filter(None, (self.method, self.layer, f"{self.eps:g}")))


def strengths_of(dataset: str) -> tuple[float, ...]:
    """The ε that are compared on a data set, rising, the report's first."""
    return STRENGTHS.get(dataset, OTHER_STRENGTHS)


def plain(method: str, eps: float, *, iterations: int) -> Method:
    """One of `PLAIN`; like the intermediate level attacks, they take steps of a fifth of ε, but for FGSM."""
    if method == FGSM:
        return Method(method, eps, "fgsm")
    attack = "mi_fgsm" if method == MOMENTUM else "bim"
    return Method(method, eps, attack, parameters={"max_iter": iterations if method == BIM else 2 * iterations})


def intermediate(
    variant: str,
    layer: str,
    eps: float,
    *,
    iterations: int,
    base_steps: int | None = None,
    method: str | None = None,
    guide: str = "attack",
) -> Method:
    """An intermediate level attack with as many steps as its base attack, or fewer of those.

    Args:
        variant: one of `VARIANTS`; layer: one of `LAYERS`.
        base_steps: of the base attack, 1 for FGSM; None for `iterations`.
        method: how tables call it, None for the variant.
        guide: "attack" or "random".
    """
    parameters = {"layer": layer, "max_iter": iterations, "base_steps": base_steps or iterations, "guide": guide}
    return Method(method or variant, eps, variant, layer, parameters)
