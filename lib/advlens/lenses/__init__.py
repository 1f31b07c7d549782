"""Lenses: what of a network's decision is measured. Detectors make scores of it."""

from advlens.lenses.base import Joined, Lens
from advlens.lenses.decisions import BASELINES, MAX_SOFTMAX, Baselines, Closeness, Features, Uncertainty
from advlens.lenses.kernel_means import KernelMeans
from advlens.lenses.natural_scenes import NaturalScenes
from advlens.lenses.neighbours import DeepNeighbours
from advlens.lenses.noise_reduction import NoiseReduction
from advlens.lenses.outputs import Outputs
from advlens.lenses.pictures import InFile, LocalEntropy, Pixels, Relevancy
from advlens.lenses.reconstruction import MagNet, MapReconstruction
from advlens.lenses.stability import Augmented, FeatureSqueezing, LeaveOneOut, MapUnderDenoising, Sensitivity
from advlens.lenses.subset_scanning import SubsetScanning
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
    "KernelMeans",
    "LeaveOneOut",
    "Lens",
    "LocalDimensionality",
    "LocalEntropy",
    "MagNet",
    "Mahalanobis",
    "MapReconstruction",
    "MapUnderDenoising",
    "NaturalScenes",
    "NoiseReduction",
    "Outputs",
    "Pixels",
    "Relevancy",
    "Sensitivity",
    "ShapSignature",
    "SubsetScanning",
    "Uncertainty",
]
