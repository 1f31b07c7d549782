"""Protocols as values: the corrected one is the default, and each published defect is one field of it."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from advlens.benchmark.vocabulary import Condition, Negatives, Part
from advlens.metrics import Stratum

Word = TypeVar("Word", bound=Enum)


class Split(str, Enum):
    """How rows are divided into train, validation and test."""

    GROUPED = "grouped"
    """By source image: all that was made of one image is in one part."""
    BY_ROW = "by row"
    """Row by row, so that an image and its attacked version may fall on both sides."""
    NONE = "none"
    """Not at all: fitted and judged on the same rows."""


class Noise(str, Enum):
    """How strong the noisy twins are."""

    MATCHED_NORM = "matched norm"
    """The L2 norm of the perturbation."""
    EPSILON = "epsilon"
    """σ = ε in every pixel, where the attack has an ε."""


class Threshold(str, Enum):
    """Where the thresholds of `committed_…` and `observed_fpr_…` come from."""

    COMMITTED = "committed"
    """Clean images that are used for nothing else."""
    EVALUATED = "evaluated"
    """The evaluated negatives themselves."""
    FIXED = "fixed"
    """Score 0, that is probability ½, whatever clean images score."""


class Stopping(str, Enum):
    """Which images decide when a network stops to train."""

    VALIDATION = "validation"
    EVALUATED = "evaluated"
    """The test part. With rows split one by one, the validation part, which nothing needs then, is learnt from too."""


@dataclass(frozen=True)
class Protocol:
    """How a detector is fitted and judged; the defaults are the corrected protocol.

    Attributes:
        name: what the table's column `protocol` calls it.
        positives, negatives: the images that it is fitted on and, unless `run` is told others, judged on.
        condition: what happens to images, unless `run` is told other conditions.
        fitted_in: the condition in which heads are fitted; None for each condition anew.

    >>> Protocol("no split", split=Split.NONE).positives.value
    'success'
    """

    name: str
    split: Split = Split.GROUPED
    positives: Stratum = Stratum.SUCCESS
    negatives: Negatives = Negatives.MATCHED
    noise: Noise = Noise.MATCHED_NORM
    threshold: Threshold = Threshold.COMMITTED
    condition: Condition = Condition.EIGHT_BIT
    fitted_in: Condition | None = None
    stopping: Stopping = Stopping.VALIDATION

    @property
    def learnt_from(self) -> tuple[Part, ...]:
        """The parts that a head learns from."""
        needs_no_validation = self.split is Split.BY_ROW and self.stopping is Stopping.EVALUATED
        return (Part.TRAIN, Part.VALIDATION) if needs_no_validation else (Part.TRAIN,)

    @property
    def stopped_by(self) -> tuple[Part, ...]:
        """The parts whose loss stops a training early."""
        return (Part.TEST,) if self.stopping is Stopping.EVALUATED else (Part.VALIDATION,)

    def __post_init__(self) -> None:
        kinds = {
            **{"split": Split, "positives": Stratum, "negatives": Negatives, "noise": Noise, "threshold": Threshold},
            **{"condition": Condition, "fitted_in": Condition, "stopping": Stopping},
        }
        for field, kind in kinds.items():
            value = getattr(self, field)
            if field != "fitted_in" or value is not None:
                object.__setattr__(self, field, checked_word(value, kind, name=field))
        if self.negatives is Negatives.HARD_IMAGES:
            raise ValueError(
                f"negatives of a protocol can't be {self.negatives.value!r}: it is a control, ask run for it"
            )


def checked_word(value: str, kind: type[Word], *, name: str) -> Word:
    """Validate a word of a closed vocabulary and return its member."""
    known = [member.value for member in kind]
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return kind(value)


CORRECTED = Protocol("corrected")
