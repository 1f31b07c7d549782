"""Lenses: what of a network's decision is measured. Detectors make scores of it."""

from advlens.lenses.base import Joined, Lens
from advlens.lenses.decisions import BASELINES, MAX_SOFTMAX, Baselines, Closeness, Features, Uncertainty
from advlens.lenses.natural_scenes import NaturalScenes
from advlens.lenses.neighbours import DeepNeighbours
from advlens.lenses.outputs import Outputs
from advlens.lenses.pictures import InFile, LocalEntropy, Pixels, Relevancy
from advlens.lenses.stability import Augmented, FeatureSqueezing, LeaveOneOut, MapUnderDenoising, Sensitivity
from advlens.lenses.training_features import LocalDimensionality, Mahalanobis, ShapSignature

__all__ = [
    "BASELINES",
    "MAX_SOFTMAX",
    "Augmented",
    "Baselines",
    "Closeness",
    "DeepNeighbours",
    "FeatureSqueezing",
    "Features",
    "InFile",
    "Joined",
    "LeaveOneOut",
    "Lens",
    "LocalDimensionality",
    "LocalEntropy",
    "Mahalanobis",
    "MapUnderDenoising",
    "NaturalScenes",
    "Outputs",
    "Pixels",
    "Relevancy",
    "Sensitivity",
    "ShapSignature",
    "Uncertainty",
]
