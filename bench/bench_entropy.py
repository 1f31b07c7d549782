"""Measures the local spatial entropy against scikit-image's, in this one process: the ratio counts, not the seconds.

Run from the project as `python -m bench.bench_entropy`, or by `make bench`.
"""

import time

import numpy as np
from skimage.filters.rank import entropy as rank_entropy

from advlens.explanations.entropy import grey_levels, local_entropy

MAPS, FEW = 10_000, 500


def main() -> None:
    levels = grey_levels(np.random.default_rng(0).normal(size=(MAPS, 28, 28, 1)))
    for window in (3, 5, 7):
        start = time.perf_counter()
        local_entropy(levels, window=window)
        ours = time.perf_counter() - start
        footprint = np.ones((window, window), np.uint8)
        start = time.perf_counter()
        for picture in levels[:FEW]:
            rank_entropy(picture, footprint)
        theirs = (time.perf_counter() - start) * MAPS / FEW
        about = f"{MAPS} maps of 28×28, scikit-image extrapolated from {FEW}"
        print(
            f"local entropy, window {window}: {ours:6.2f} s {theirs:8.2f} s {theirs / ours:6.1f}×  {about}", flush=True
        )


if __name__ == "__main__":
    main()
