"""Detectors: a lens's measurements and a head that makes a score of them, by name."""

from advlens.detectors.art_head import ArtBinary
from advlens.detectors.catalogue import create, load, names, trivial_baselines
from advlens.detectors.detector import Detector
from advlens.detectors.deviations import Averaged, Deviations
from advlens.detectors.heads import Boosting, Fisher, Head, Logistic, Network, Sign
from advlens.lenses import BASELINES

__all__ = [
    "BASELINES",
    "ArtBinary",
    "Averaged",
    "Boosting",
    "Detector",
    "Deviations",
    "Fisher",
    "Head",
    "Logistic",
    "Network",
    "Sign",
    "create",
    "load",
    "names",
    "trivial_baselines",
]
