"""Named streams of random numbers: one seed governs all, and no two names draw the same."""

import hashlib

import numpy as np

from advlens.arrays import checked_seed


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator of a seed and a name such as "benchmark/parts".

    >>> bool(stream(0, "a").random() == stream(0, "a").random())
    True
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence([checked_seed(seed), *words.tolist()]))


def stream_seed(seed: int, name: str) -> int:
    """A seed below 2³² for libraries that take an int."""
    return int(stream(seed, name).integers(2**32))
