"""What the study attacks, and what is compared."""

from advlens.studies.closeness.settings import Setting, published_of

FEWER_NEIGHBOURS = (1, 5, 25)  # beside the study's 75
PUBLISHED_K = 75


def settings(dataset: str) -> list[Setting]:
    """FGSM, BIM and PGD at the weaker and the stronger ε of the closeness study, and DeepFool.

    Source: Papernot & McDaniel 2018, section VI, which has FGSM, BIM and Carlini-L2.
    """
    weak, strong = published_of(dataset).strengths
    made = [Setting(attack, eps) for eps in (weak, strong) for attack in ("fgsm", "bim", "pgd")]
    return [*made, Setting("deepfool")]
