"""Named streams of random numbers: one seed governs all, and no two names draw the same."""

import contextlib
import hashlib
from collections.abc import Iterator

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


@contextlib.contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global state, from which ART and Quantus draw, seeded; afterwards it is as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
