"""The closeness-and-uncertainty study: is an attack uncertain, or far from the class that it claims?

Two protocols on the same attacks. *As published*: one logistic regression a metric, fitted and judged on the same
rows, failed attacks among the positives. *Corrected*: splits by source image, successful attacks, noise of the
perturbation's own norm, thresholds committed from clean validation images.

Source: Tuna, Catak & Eskil 2020, "Closeness and Uncertainty Aware Adversarial Examples Detection in Adversarial
Machine Learning", and its public code where the text is silent.
"""

from advlens.studies.closeness.crossings import crossings, end_differences, walk_means
from advlens.studies.closeness.settings import PUBLISHED
from advlens.studies.closeness.study import Study

__all__ = ["PUBLISHED", "Study", "crossings", "end_differences", "walk_means"]
