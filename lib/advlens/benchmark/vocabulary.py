"""The closed vocabularies of the long table's columns. What the words do is the business of `Benchmark`."""

from enum import Enum

from advlens.metrics import NOMINAL_FPRS

NOMINAL_FPR = 0.05


class Word(str, Enum):
    """A word of a closed vocabulary; prints and sorts as its text."""

    __str__ = str.__str__
    __format__ = str.__format__


class Role(Word):
    """What was done to a source image."""

    CLEAN = "clean"
    NOISY = "noisy"
    ADVERSARIAL = "adversarial"
    REDRAWN = "redrawn"


class Part(Word):
    """What a source image is used for; thresholds have images of their own."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Condition(Word):
    """What happens to images before they are seen: the codecs of `image_files`."""

    EIGHT_BIT = "8-bit"
    FLOAT = "float"
    PNG = "png"
    JPEG = "jpeg"
    MIN_MAX_JPEG = "min-max jpeg"
    WRAPPED_JPEG = "wrapped jpeg"


class Negatives(Word):
    """Which normal images stand beside the positives."""

    MATCHED = "matched"
    """Clean images and noisy twins of the positives' own sources."""
    CLEAN = "clean"
    NOISY = "noisy"
    ALL_SOURCES = "all sources"
    """Clean images and noisy twins of every attacked source, whether it is a positive or not."""
    HARD_IMAGES = "hard images"
    """The control: the positives' clean sources, in the place of positives, against other clean images."""


class Knowledge(Word):
    """What the attacker knows of the detector."""

    OBLIVIOUS = "oblivious"
    TRANSFER = "transfer"
    """It was made against another detector, or against this one's twin, whose head learnt from other images."""
    ADAPTIVE = "adaptive"
    DECISIONS = "decisions"
    """It asks the detector whether it flags an image, and knows no more of it."""


class TrainedOn(Word):
    """Which attacks a detector learnt from."""

    NOTHING = "no attack"
    ATTACK = "the attack"
    ALL = "all attacks"
    OTHER_ATTACKS = "all but the attack"
    OTHER_FAMILIES = "all but its family"
    OTHER_DATA = "another data set"
    """All attacks on another data set's network, by heads that are given, not fitted."""


class Family(Word):
    """What a detector looks at."""

    EXPLANATION = "explanation"
    UNCERTAINTY = "uncertainty"
    CLOSENESS = "closeness"
    NEIGHBOURS = "neighbours"
    IMAGE = "image"
    BASELINE = "baseline"
    FUSED = "fused"
    INPUT = "input"


OBSERVED = f"observed_fpr_{NOMINAL_FPR:g}"
FPR_ON = {name: f"{OBSERVED} on {name}" for name in ("correct clean", "all clean", "noisy")}
ABOVE_BASELINE = f"tpr_at_fpr_{NOMINAL_FPR:g} above the best baseline"
EVALUATED = (
    "roc_auc",
    "average_precision",
    *(f"{name}_{rate:g}" for name in ("tpr_at_fpr", "committed_tpr", "observed_fpr") for rate in NOMINAL_FPRS),
    "precision_at_prevalence_0.01",
    "precision_at_prevalence_0.1",
    "expected_calibration_error",
)
COMMITTED_ACCURACY = f"committed_accuracy_{NOMINAL_FPR:g}"
METRICS = (*EVALUATED, COMMITTED_ACCURACY, *FPR_ON.values(), ABOVE_BASELINE)
"""Every metric that `Benchmark.run` measures; `EVALUATED` are those of `metrics.evaluate`."""
EVASION = {fpr: f"evasion_{fpr:g}" for fpr in NOMINAL_FPRS}
"""Nominal FPR → the share of attacked images that are misclassified and not flagged at the committed threshold."""

Metric = Word(
    "Metric", {name.replace(".", "_").replace(" ", "_").upper(): name for name in (*METRICS, *EVASION.values())}
)

ATTACK_FAMILIES = {
    **dict.fromkeys(("fgsm", "bim", "pgd", "mi_fgsm", "bim_targeted", "ilap", "ilaf", "universal"), "gradient sign"),
    **dict.fromkeys(("apgd_ce", "apgd_dlr"), "gradient sign"),
    **dict.fromkeys(("deepfool", "carlini_l2", "gradient", "lbfgs", "ddn", "elastic_net", "pgd_l2"), "small norm"),
    **dict.fromkeys(("fab", "fab_linf", "carlini_linf"), "small norm"),
    **dict.fromkeys(("boundary", "hop_skip_jump", "square"), "black box"),
    **dict.fromkeys(("one_pixel", "jsma"), "few pixels"),
    "spatial": "spatial",
}
"""Attack of the catalogue → its family; any other attack is a family of its own."""
