"""What the study attacks, and what is compared."""

from advlens.studies.closeness.settings import Setting, published_of
from advlens.workbench import Workbench

FEWER_NEIGHBOURS = (1, 5, 25)  # beside the study's 75
PUBLISHED_K = 75


def settings(dataset: str) -> list[Setting]:
    """FGSM, BIM and PGD at the weaker and the stronger ε of the closeness study, and DeepFool.

    Source: Papernot & McDaniel 2018, section VI, which has FGSM, BIM and Carlini-L2.
    """
    weak, strong = published_of(dataset).strengths
    made = [Setting(attack, eps) for eps in (weak, strong) for attack in ("fgsm", "bim", "pgd")]
    return [*made, Setting("deepfool")]


def checked_sizes(bench: Workbench, *, neighbours: int, held_out: int, test_images: int = 0) -> None:
    """Whether a data set has as many images as a Deep kNN asks for, asked before anything is trained.

    Args:
        test_images: how many test images are looked at, 0 for all.
    Raises:
        ValueError: for as many neighbours as training images, or as many calibration images as test images.
    """
    training = bench.train_images or len(bench.data.train_labels)
    tested = test_images or len(bench.data.test_labels)
    if neighbours >= training:
        raise ValueError(f"neighbours must be fewer than the {training} training images, got {neighbours}")
    if held_out >= tested:
        raise ValueError(f"deep_knn_calibration must be fewer than the {tested} test images, got {held_out}")
