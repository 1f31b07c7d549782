"""The relevancy-map study: can a network tell attacks from normal images by their relevance maps?

Two protocols on the same attack sets. *As published*: wrapped JPEGs, single images split at random, accuracy read
on the set that stopped the training. *Corrected*: float values, splits by source image, noisy twins among the
negatives, thresholds committed from clean images.

Source: "Interpretability for Detecting Adversarial Attacks" (slides), and its public code where the slides are silent.
"""

from advlens.studies.relevancy.maps import DIFFERENCE, map_agreement, map_movement
from advlens.studies.relevancy.results import beyond_input
from advlens.studies.relevancy.study import ATTACKS, Study, Training

__all__ = [
    "ATTACKS",
    "DIFFERENCE",
    "Study",
    "Training",
    "beyond_input",
    "map_agreement",
    "map_movement",
]
