"""The benchmark: what every study needs of detection, once. Attack sets and detectors in, one long table out."""

from advlens.benchmark.adaptive import Strength, adaptive_set, evades, strength_checks
from advlens.benchmark.benchmark import Benchmark
from advlens.benchmark.binarisation import binarisation_test
from advlens.benchmark.evaluation import evaluate
from advlens.benchmark.hard_negatives import hard_negatives
from advlens.benchmark.judging import Scored
from advlens.benchmark.protocol import CORRECTED, Noise, Protocol, Split, Stopping, Threshold
from advlens.benchmark.samples import Samples
from advlens.benchmark.table import BEST_BASELINE, LONG_TABLE, leaderboard, pivot, query, transfer, worst_first
from advlens.benchmark.vocabulary import (
    METRICS,
    Condition,
    Family,
    Knowledge,
    Metric,
    Negatives,
    Part,
    Role,
    TrainedOn,
)
from advlens.metrics import Stratum

__all__ = [
    "BEST_BASELINE",
    "CORRECTED",
    "LONG_TABLE",
    "METRICS",
    "Benchmark",
    "Condition",
    "Family",
    "Knowledge",
    "Metric",
    "Negatives",
    "Noise",
    "Part",
    "Protocol",
    "Role",
    "Samples",
    "Scored",
    "Split",
    "Stopping",
    "Stratum",
    "Strength",
    "Threshold",
    "TrainedOn",
    "adaptive_set",
    "binarisation_test",
    "evades",
    "evaluate",
    "hard_negatives",
    "leaderboard",
    "pivot",
    "query",
    "strength_checks",
    "transfer",
    "worst_first",
]
