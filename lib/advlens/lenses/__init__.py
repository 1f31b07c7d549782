"""Lenses: what of a network's decision is measured. Detectors make scores of it."""

from advlens.lenses.base import Joined, Lens
from advlens.lenses.decisions import BASELINES, MAX_SOFTMAX, Baselines, Closeness, Features, Uncertainty
from advlens.lenses.neighbours import DeepNeighbours
from advlens.lenses.pictures import InFile, LocalEntropy, Pixels, Relevancy

__all__ = [
    "BASELINES",
    "MAX_SOFTMAX",
    "Baselines",
    "Closeness",
    "DeepNeighbours",
    "Features",
    "InFile",
    "Joined",
    "Lens",
    "LocalEntropy",
    "Pixels",
    "Relevancy",
    "Uncertainty",
]
