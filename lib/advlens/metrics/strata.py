"""Which adversarial images count as positives: those whose attack succeeded, failed, or all."""

from enum import Enum

import numpy as np

from advlens.arrays import Array


class Stratum(str, Enum):
    """The positives that a figure is about; figures of different strata are never mixed."""

    SUCCESS = "success"
    """The attack changed the prediction: the default."""
    FAILED = "failed"
    """The attack left the prediction as it was."""
    ALL = "all"


def positives(success: Array, *, stratum: Stratum | str = Stratum.SUCCESS) -> Array:
    """The adversarial images of a stratum.

    Args:
        success: (n,) bool, whether the attack changed the prediction.
    Returns:
        (n,) bool.
    Raises:
        ValueError: for another shape or type, or an unknown stratum.
    """
    success = np.asarray(success)
    if success.ndim != 1 or success.dtype != bool:
        raise ValueError(f"success must be (n,) booleans, got {success.dtype} of shape {success.shape}")
    if stratum not in {member.value for member in Stratum}:
        raise ValueError(f"stratum {stratum!r} is unknown: pass {', '.join(repr(s.value) for s in Stratum)}")
    masks = {Stratum.SUCCESS: success, Stratum.FAILED: ~success, Stratum.ALL: np.ones_like(success)}
    return masks[Stratum(stratum)]
