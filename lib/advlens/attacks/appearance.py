"""How an attack looks to a person: norms, structural similarity, and whether it did anything at all."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import bootstrap
from skimage.metrics import structural_similarity

from advlens.arrays import Array
from advlens.attacks.attack_set import AttackSet
from advlens.image_files import through

WITHOUT_GRADIENTS = ("boundary", "hop_skip_jump", "one_pixel", "spatial", "square")
"""The catalogue's attacks that never ask for a gradient."""


def similarity(images: Array, others: Array) -> Array:
    """Structural similarity of each image to its counterpart.

    Args:
        images, others: (n, h, w, channels) in [0, 1].
    Returns:
        (n,) in [−1, 1], 1 where they are equal.
    Source: Wang et al. 2004, Gaussian window of σ = 1.5; scikit-image.
    """
    options = {"data_range": 1.0, "channel_axis": -1, "gaussian_weights": True, "sigma": 1.5}
    pairs = zip(images, others, strict=True)
    return np.array([structural_similarity(*pair, use_sample_covariance=False, **options) for pair in pairs])


def appearance(attack_sets: Mapping[str, AttackSet], *, seed: int) -> pd.DataFrame:
    """How often each attack succeeds and how it looks where it does, a row an attack.

    Returns:
        Columns attack, n, success_rate, the medians l2, linf and similarity over successful attacks, each with the
        ends of its 95 % bootstrap interval as in l2_low and l2_high; NaN where none succeeded.
    """
    rows = []
    for name, attack_set in attack_sets.items():
        won = attack_set.select(attack_set.success)
        row = {"attack": name, "n": len(attack_set), "success_rate": attack_set.success.mean()}
        values = {"l2": won.l2, "linf": won.linf, "similarity": similarity(won.clean, won.adversarial)}
        for label, value in values.items():
            row |= dict(zip((label, f"{label}_low", f"{label}_high"), _median(value, seed=seed), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def idle(attack_sets: Mapping[str, AttackSet]) -> pd.DataFrame:
    """How often each attack did nothing, and how often it had no gradient to follow, a row an attack.

    Returns:
        Columns attack, n, and the shares success, unchanged, unchanged_8_bit (once rounded to multiples of 1/255) and
        zero_gradient (of the cross-entropy at the clean image; NaN for attacks that ask for none).
    """
    rows = []
    for name, made in attack_sets.items():
        rounded = through("8-bit", made.adversarial) == through("8-bit", made.clean)
        without = re.split(r"[ ,]", made.attack)[0] in WITHOUT_GRADIENTS
        rows.append(
            {
                **{"attack": name, "n": len(made), "success": made.success.mean(), "unchanged": made.unchanged.mean()},
                "unchanged_8_bit": rounded.all(axis=(1, 2, 3)).mean(),
                "zero_gradient": np.nan if without else made.zero_gradient.mean(),
            }
        )
    return pd.DataFrame(rows)


def _median(values: Array, *, seed: int) -> tuple[float, ...]:
    """The median and its interval, which a single value shrinks to a point; NaNs where there is no value."""
    if len(values) < 2:
        return (float(values[0]),) * 3 if len(values) else (np.nan,) * 3
    interval = bootstrap((values,), np.median, n_resamples=1000, method="percentile", rng=seed).confidence_interval
    return float(np.median(values)), float(interval.low), float(interval.high)
