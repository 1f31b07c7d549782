"""Detectors: one module a family, all behind the `Detector` interface."""

from advlens.detectors.base import Detector
from advlens.detectors.baselines import trivial_baselines
from advlens.detectors.cnn import InputClassifier, RelevancyClassifier
from advlens.detectors.entropy import SpatialEntropy

__all__ = ["Detector", "InputClassifier", "RelevancyClassifier", "SpatialEntropy", "trivial_baselines"]
