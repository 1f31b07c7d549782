"""Closeness of a decision to the training data, in the features of the last hidden layer."""

from advlens.closeness.density import ClassDensity
from advlens.closeness.divergence import ClassDivergence
from advlens.closeness.reference import ClassReference

__all__ = ["ClassDensity", "ClassDivergence", "ClassReference"]
