"""Two comparisons of detectors that others published for MNIST, remade on the same attacks at one false-positive rate.

Here are their numbers, the attacks that they stand for, and nothing else: measuring is `Benchmark`'s business.

Source: Aldahdooh, Hamidouche, Fezza & Déforges 2022, a review of eight detectors; Bhusal et al. 2024 (PASA).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from advlens.benchmark import Family, query
from advlens.benchmark.judging import BAR
from advlens.detectors import Detector
from advlens.suite import Suite

REVIEWED = {  # the review's name → the catalogue's; DNR, SFAD and NIC are not remade
    "KD+BU": "kd bu",
    "LID": "lid",
    "NSS": "natural scenes",
    "feature squeezing": "feature squeezing",
    "MagNet": "magnet",
}
REVIEW: Mapping[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "fgsm 32/255": ({"eps": 32 / 255}, (0.855, 0.817, 1.000, 0.978, 1.000)),
    "bim 80/255": ({"eps": 80 / 255}, (0.808, 0.776, 1.000, 0.897, 1.000)),
    "pgd 64/255": ({"eps": 64 / 255}, (0.497, 0.750, 1.000, 0.952, 1.000)),
    "pgd_l2 2": ({"eps": 2.0}, (0.007, 0.574, 0.986, 0.856, 0.933)),
    "deepfool": ({}, (0.490, 0.933, 0.985, 0.670, 0.970)),
    "square 77/255": ({"eps": 77 / 255}, (0.535, 0.428, 0.876, 1.000, 0.999)),
    "spatial": ({}, (0.479, 0.938, 0.123, 0.775, 0.016)),
}
"""Attack, the catalogue's name first → its parameters, and `REVIEWED`'s TPR in the review, each at an FPR of its own.

The review's ε are n/256 and, for Square, 0.3; ours lie on the 1/255 grid. Its C&W L∞ is left out: ART's finds nothing
here at its defaults.
"""
PASA: Mapping[str, tuple[float, ...]] = {
    "fgsm": (0.968, 0.979, 0.981, 0.983),
    "pgd": (0.984, 0.978, 0.976, 0.969),
    "bim": (0.571, 0.551, 0.516, 0.532),
}
"""Attack → PASA's ROC-AUC at `PASA_EPSILONS`."""
BEST_TRIVIAL = "best trivial score"
PASA_EPSILONS = (8 / 255, 16 / 255, 32 / 255, 64 / 255)


def review(suite: Suite, detectors: Sequence[Detector]) -> pd.DataFrame:
    """The review's table: TPR at 5 % FPR of detectors that learn from the attack where they learn at all.

    Args:
        suite: whose network is attacked; detectors: its own; those that the review lists are found by their names.
    Returns:
        A row an attack, detector (with `BEST_TRIVIAL`, chosen on validation images) and negatives (clean images, as in
        the review; with noisy twins): attack, detector, family, negatives, published (NaN where the review has none,
        and for data other than digits), estimate, low, high, n.
    """
    sets = {title: suite.attack_set(title, title.split()[0], about) for title, (about, _) in REVIEW.items()}
    benchmark = suite.benchmark_of(sets)
    table = query(benchmark.run(detectors, negatives=("clean", "matched"), wanted=(BAR,)), metric=BAR)
    bars = table["attack"].map({attack: bar.name for attack in sets if (bar := benchmark.best_baseline(attack))})
    table = table[(table["family"] != Family.BASELINE.value) | (table["detector"] == bars)].reset_index(drop=True)
    table["detector"] = table["detector"].where(table["family"] != Family.BASELINE.value, BEST_TRIVIAL)
    known = {
        (attack, ours): said
        for attack, (_, published) in REVIEW.items()
        for ours, said in zip(REVIEWED.values(), published, strict=True)
        if suite.bench.data.name == "mnist"
    }
    pairs = zip(table["attack"], table["detector"], strict=True)
    table["published"] = pd.Series([known.get(pair, np.nan) for pair in pairs], table.index, dtype=object)
    columns = ["attack", "detector", "family", "negatives", "published", "estimate", "low", "high", "n_positive"]
    return table[columns].rename(columns={"n_positive": "n"})


def pasa(suite: Suite, detector: Detector) -> pd.DataFrame:
    """PASA's own run: ROC-AUC by attack and ε, against clean images alone and with noisy twins of the same norm.

    Returns:
        A row an attack, ε and negatives: attack, eps, negatives, published (NaN for data other than digits), estimate,
        low, high, n.
    """
    cells = [(attack, eps, said) for attack, row in PASA.items() for eps, said in zip(PASA_EPSILONS, row, strict=True)]
    names = [f"{attack} {round(255 * eps)}/255" for attack, eps, _ in cells]
    sets = {
        name: suite.attack_set(name, attack, {"eps": eps}) for name, (attack, eps, _) in zip(names, cells, strict=True)
    }
    benchmark = suite.benchmark_of(sets, baselines=())
    table = query(benchmark.run([detector], negatives=("clean", "matched"), wanted=("roc_auc",)), metric="roc_auc")
    about = pd.DataFrame(cells, columns=["kind", "eps", "published"]).assign(attack=names)
    table = table.merge(about, on="attack")
    table["attack"] = table["kind"]
    if suite.bench.data.name != "mnist":
        table["published"] = np.nan
    columns = ["attack", "eps", "negatives", "published", "estimate", "low", "high", "n_positive"]
    return table[columns].rename(columns={"n_positive": "n"})
