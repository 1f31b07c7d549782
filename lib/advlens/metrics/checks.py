"""The checks of scores, truths and sources at the public boundary of the metrics."""

import numpy as np

from advlens.arrays import Array


def checked_scores(scores: Array, *, name: str = "scores", n: int | None = None, seeds: bool = False) -> Array:
    """Validate finite scores, n of them where n is given, and return them as float64.

    Args:
        scores: (n,); where `seeds` is true (s, n) as well.
    """
    scores = np.asarray(scores)
    fits = scores.ndim == 1 or (seeds and scores.ndim == 2)
    if not fits or scores.size == 0 or (n is not None and scores.shape[-1] != n):
        wanted = "n" if n is None else n
        shape = f"({wanted},) or (s, {wanted})" if seeds else f"({wanted},)"
        raise ValueError(f"{name} must have shape {shape}, one number an image, got {scores.shape}")
    if not (np.issubdtype(scores.dtype, np.floating) or np.issubdtype(scores.dtype, np.integer)):
        raise ValueError(f"{name} must be numbers, got {scores.dtype}: pass scores, not decisions")
    scores = scores.astype(np.float64)
    broken = np.argwhere(~np.isfinite(scores))
    if len(broken):
        raise ValueError(
            f"{name} must be finite, got {scores[tuple(broken[0])]} at row {broken[0][-1]} and {len(broken) - 1} more: "
            "mend the detector, or clip its scores"
        )
    return scores


def checked_probabilities(probabilities: Array, *, n: int) -> Array:
    """Validate (n,) probabilities in [0, 1] and return them as float64."""
    probabilities = checked_scores(probabilities, name="probabilities", n=n)
    low, high = probabilities.min(), probabilities.max()
    if low < 0 or high > 1:
        raise ValueError(f"probabilities must lie in [0, 1], got [{low:g}, {high:g}]: pass no logits or scores")
    return probabilities


def checked_truth(is_adversarial: Array, *, n: int) -> Array:
    """Validate (n,) booleans that hold both classes."""
    is_adversarial = np.asarray(is_adversarial)
    if is_adversarial.shape != (n,):
        raise ValueError(
            f"is_adversarial must have shape ({n},) as the scores have, got {is_adversarial.shape}: "
            "pass one truth a score"
        )
    if is_adversarial.dtype != bool:
        raise ValueError(f"is_adversarial must be booleans, got {is_adversarial.dtype}: convert with astype(bool)")
    if is_adversarial.all() or not is_adversarial.any():
        only = "adversarial" if is_adversarial[0] else "clean"
        raise ValueError(f"is_adversarial must hold both classes, got {n} {only} images only: add the others")
    return is_adversarial


def checked_source(source: Array, *, n: int | None = None) -> Array:
    """Validate (n,) integers, the indices of source images."""
    source = np.asarray(source)
    if source.ndim != 1 or len(source) == 0 or (n is not None and len(source) != n):
        wanted = "n" if n is None else n
        raise ValueError(f"source must have shape ({wanted},), one image index a score, got {source.shape}")
    if not np.issubdtype(source.dtype, np.integer):
        raise ValueError(f"source must be integers, got {source.dtype}: pass the indices of the source images")
    return source


def checked_rate(rate: float, *, name: str = "fpr") -> float:
    """Validate a rate strictly between 0 and 1."""
    if not 0 < rate < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {rate:g}: 5 % is 0.05")
    return float(rate)
