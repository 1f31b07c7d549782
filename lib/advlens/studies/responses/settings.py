"""What the study attacks with, what it published of it, and which responses and entropies are compared."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from advlens.explanations.entropy import NORMALISATIONS
from advlens.explanations.responses import LAST_CONVOLUTION, METHODS, PREDICTED

RATES = (0.01, 0.05, 0.10)  # the false-positive rates at which the study gives a true-positive rate


@dataclasses.dataclass(frozen=True)
class Publication:
    """The study's row of an attack, on ImageNet and VGG19.

    Attributes:
        images, days: how many images were attacked, and for how long.
        success: share whose prediction changes.
        truth, target: mean confidence in the true class and in the reached one after a successful attack.
        tpr: true-positive rates at `RATES`.
    """

    images: int
    days: int
    success: float
    truth: float
    target: float
    tpr: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One attack as it is run here.

    Attributes:
        name: as tables list it; attack: the catalogue's name; parameters: what differs from the catalogue's.
        searches: whether it asks the network so often that it attacks fewer images.
        published: the study's row of it.
    """

    name: str
    attack: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    searches: bool = False
    published: Publication | None = None


def settings(*, eps: float, generations: int, steps: int) -> list[Setting]:
    """The study's five attacks, whose parameters it does not give, and the one-pixel attack with five pixels.

    Args:
        eps: FGSM's strength.
        generations: of the one-pixel attack's evolution; steps: of the boundary attack.
    """
    pixel = {"max_iter": generations}
    return [
        Setting("fgsm", "fgsm", {"eps": eps}, published=PUBLISHED["fgsm"]),
        Setting("gradient", "gradient", published=PUBLISHED["gradient"]),
        Setting("deepfool", "deepfool", published=PUBLISHED["deepfool"]),
        Setting("one pixel", "one_pixel", pixel, searches=True, published=PUBLISHED["one pixel"]),
        Setting("five pixels", "one_pixel", {**pixel, "pixels": 5}, searches=True),
        Setting("boundary", "boundary", {"max_iter": steps}, searches=True, published=PUBLISHED["boundary"]),
    ]


PUBLISHED = {
    "fgsm": Publication(50_014, 3, 0.925, 0.022, 0.588, (0.954, 0.974, 0.983)),
    "gradient": Publication(50_014, 15, 0.499, 0.052, 0.371, (0.922, 0.954, 0.969)),
    "one pixel": Publication(50_014, 32, 0.620, 0.037, 0.463, (0.917, 0.951, 0.966)),
    "deepfool": Publication(47_858, 42, 0.606, 0.041, 0.446, (0.936, 0.963, 0.976)),
    "boundary": Publication(4_013, 17, 0.940, 0.023, 0.583, (0.934, 0.960, 0.972)),
}

# Method, data set, network, attack, recall, precision, AUC; None where the study gives none.
PUBLISHED_METHODS = (
    ("uncertainty density estimation", "SVHN", "LeNet", "FGSM", None, None, 0.890),
    ("adaptive noise reduction", "ImageNet, 4 classes", "CaffeNet", "DeepFool", 0.956, 0.911, None),
    ("feature squeezing", "ImageNet", "VGG19", "several", 0.859, 0.917, 0.942),
    ("statistical analysis", "MNIST", "self-designed", "FGSM 0.3", 0.999, 0.940, None),
    ("feature response, the study's", "ImageNet", "VGG19", "several", 0.979, 0.920, 0.990),
)


@dataclasses.dataclass(frozen=True)
class ResponseEntropy:
    """A response and how its entropy is taken; the defaults are how we read the study, which names few of them."""

    method: str = "guided_backprop"
    of: str = LAST_CONVOLUTION
    window: int = 3
    bins: int = 256
    stride: int = 1
    normalisation: str = "minmax"

    @property
    def name(self) -> str:
        """As tables and columns list it."""
        return f"{self.method}, {self.of}, {self.normalisation}, {self.window}/{self.stride}, {self.bins} levels"


PUBLISHED_RESPONSE = ResponseEntropy()
WINDOWS, BINS = (3, 5, 7), (8, 32, 64, 256)
# How the entropy is taken of one response, and one way to take it of every response.
OF_WINDOWS = [ResponseEntropy(window=window, bins=bins) for window, bins in itertools.product(WINDOWS, BINS)]
OF_RESPONSES = [
    ResponseEntropy(method=method, of=of, normalisation=normalisation)
    for method, of, normalisation in itertools.product(METHODS, (LAST_CONVOLUTION, PREDICTED), NORMALISATIONS)
]
COMPARED = list(dict.fromkeys([PUBLISHED_RESPONSE, *OF_WINDOWS, *OF_RESPONSES, ResponseEntropy(stride=3)]))
