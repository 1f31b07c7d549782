"""What the measurements share: the shortest time of a few runs, and one table of all rows.

Both times of a row come from one process on one machine: their ratio is what counts.
"""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results.csv"


def seconds(function: Callable, repeats: int = 1) -> tuple[float, object]:
    """The shortest of `repeats` runs, and what the last one gave."""
    shortest = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest, result


def report(name: str, ours: float, theirs: float, remark: str = "") -> None:
    """Prints a row and adds it to `results.csv`, which `make bench` starts anew."""
    print(f"{name:38s} {ours:8.2f} s {theirs:8.2f} s {theirs / ours:7.1f}×  {remark}", flush=True)
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        rows = csv.writer(file)
        if is_new:
            rows.writerow(["measured", "advlens, s", "compared with, s", "ratio", "remark"])
        rows.writerow([name, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}", remark])
