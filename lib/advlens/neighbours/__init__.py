"""Nearest neighbours of a decision among the training data, in every layer of the network."""

from advlens.neighbours.deep_knn import DeepKNN, Neighbourhoods
from advlens.neighbours.judgement import Judgement

__all__ = ["DeepKNN", "Judgement", "Neighbourhoods"]
