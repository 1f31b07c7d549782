"""Detectors: one module a family, all behind the `Detector` interface."""

from advlens.detectors.base import Detector
from advlens.detectors.baselines import trivial_baselines
from advlens.detectors.cnn import InputClassifier, RelevancyClassifier
from advlens.detectors.entropy import SpatialEntropy
from advlens.detectors.neighbours import DeepKNNDetector

__all__ = [
    "DeepKNNDetector",
    "Detector",
    "InputClassifier",
    "RelevancyClassifier",
    "SpatialEntropy",
    "trivial_baselines",
]
