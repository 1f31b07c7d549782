"""What the notebooks' regression test lets pass, and what it doesn't."""

import pytest

from tests.tolerance import TolerantText


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("AUC 0.912 [0.880, 0.941]", "AUC 0.921 [0.874, 0.949]"),
        ("97.5% of 200", "94.0% of 200"),
        ("norm 1.00", "norm 1.14"),
        ("| a   | 0.98 |\n|-----|------|", "| a | 0.981 |\n|---|-------|"),
        ("10,000 images", "10,000 images"),
        ("**0.912**: confirmed", "0.908: open"),
        ("0.912 [0.9, 1.0] (entropy)", "0.908 [0.9, 1.0] (mutual information)"),
        ("0.91 [0.9, 1.0] (all lenses, boosting, FGSM 77/255)", "0.90 [0.9, 1.0] (deep knn, PGD, L2 2)"),
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
    ],
)
def test_a_wrong_word_or_number_does_not_pass(text, other):
    assert (TolerantText(text) == other) is False
    assert (TolerantText(text) != other) is True
