"""What the notebooks' regression test lets pass, and what it doesn't."""

import pytest

from tests.tolerance import FewImages, TolerantText, WordsAlone


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("AUC 0.912 [0.880, 0.941]", "AUC 0.921 [0.874, 0.949]"),
        ("97.5% of 200", "94.0% of 200"),
        ("norm 1.00", "norm 1.14"),
        ("| a   | 0.98 |\n|-----|------|", "| a | 0.981 |\n|---|-------|"),
        ("10,000 images", "10,000 images"),
        ("**0.912**: confirmed", "0.908: open"),
        ("On MNIST: yes to both, AUC 0.91", "On MNIST: undecided, AUC 0.90"),
        ("0.912 [0.9, 1.0] (entropy)", "0.908 [0.9, 1.0] (mutual information)"),
        ("0.91 [0.9, 1.0] (all lenses, boosting, FGSM 77/255)", "0.90 [0.9, 1.0] (deep knn, PGD, L2 2)"),
        ("to 97% (density); most for density (+21%)", "to 100% (max softmax); most for all six (+17%)"),
        ("| a | evasion; inverted binarisation |", "| a | none |"),
    ],
)
def test_rounding_passes(text, other):
    assert (TolerantText(text) == other) is True
    assert (TolerantText(text) != other) is False


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("AUC 0.912", "AUC 0.088"),
        ("correlation -0.4", "correlation 0.4"),
        ("97.5%", "62.5%"),
        ("lbfgs 0.9", "deepfool 0.9"),
        ("0.912: confirmed", "0.912"),
        ("0.912 [0.9, 1.0] (entropy)", "0.912 [0.9, 1.0]"),
        ("n = 80", "n = 60"),
        ("0.9 [0.8, 1.0] (n = 80)", "0.9 [0.8, 1.0] (n = 60)"),
        ("n = 4", "n = 3"),
        ("TPR 0.75", "TPR 0.5"),
        ("AUC 0.80", "AUC 0.68"),
        ("norm 1.00", "norm 1.20"),
        ("0.9 0.9", "0.9"),
        ("AUC 0.912", "AUC nan"),
        ("97% (report: 59%)", "97% (report: 12%)"),
        ("| a | 0.9 |\n|---|---|\n| b | 0.9 |\n| c | 0.9 |", "| a | 0.9 |\n|---|---|\n| c | 0.9 |\n| b | 0.9 |"),
    ],
)
def test_a_wrong_word_or_number_does_not_pass(text, other):
    assert (TolerantText(text) == other) is False
    assert (TolerantText(text) != other) is True


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("0.96 [0.80, 1.00]", "0.79 [0.61, 0.90]", True),
        ("on 0 of 5, FGSM (n = 7)", "on 1 of 5, FGSM (n = 6)", True),
        ("| a | b |\n|---|---|\n| x | 0.9 |\n| y | 0.8 |", "| a | b |\n|---|---|\n| y | 0.8 |\n| x | 0.8 |", True),
        ("| a | b |\n|---|---|\n| x | 0.9 |\n| y | 0.5 |", "| a | b |\n|---|---|\n| y | 0.9 |\n| x | 0.5 |", False),
        ("0.96 [0.80, 1.00]", "0.71 [0.61, 0.90]", False),
        ("FGSM (n = 7)", "FGSM (n = 5)", False),
        ("FGSM 0.9", "PGD 0.9", False),
    ],
)
def test_of_few_images_a_share_may_move_by_more_and_rows_change_places(text, other, same):
    assert (FewImages(text) == other) is same
    assert (FewImages(text) != other) is not same


def test_another_processor_may_write_other_numbers_and_in_a_longer_text_a_few_other_words():
    assert WordsAlone("| a | 0.9 [0.8, 1.0] |") == "| a | 0.1 [0.0, 0.2] |"
    assert WordsAlone("| a | 0.9 [0.8, 1.0] |") != "| a | nan |"
    assert WordsAlone("FGSM 0.9") != "PGD 0.9"
    text = "Of nine detectors that know nothing of it the first one, entropy, finds 0.9 of all images that it is shown"
    assert WordsAlone(text) == text.replace("entropy", "density")
    assert WordsAlone(text) != text.replace("finds", "does not find any more than")
    assert TolerantText(text) != text.replace("entropy", "density")


def test_another_processor_may_choose_another_setting():
    text, other = "chosen setting: gradient, 256 levels\n", "chosen setting: deconvnet, 256 levels\n"
    assert WordsAlone(text) == other
    assert TolerantText(text) != other
    assert WordsAlone(text) != "nothing was chosen\n"
