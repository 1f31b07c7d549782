"""Detectors: one module a family, all behind the `Detector` interface."""

from advlens.detectors.base import Detector
from advlens.detectors.baselines import trivial_baselines
from advlens.detectors.cnn import InputClassifier, RelevancyClassifier

__all__ = ["Detector", "InputClassifier", "RelevancyClassifier", "trivial_baselines"]
