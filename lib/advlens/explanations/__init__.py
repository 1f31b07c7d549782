"""Explanation maps: how much each pixel spoke for the class that a network predicts."""

from advlens.explanations.colour import colour_map
from advlens.explanations.explain import METHODS, explain, methods

__all__ = ["METHODS", "colour_map", "explain", "methods"]
