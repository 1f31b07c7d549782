"""What the study publishes of poisoned data, and what is compared here."""

NETWORK = "deep_knn_cnn"
LABELS = (1, 9)  # the study's two

MIXTURES = ((4, 15), (25, 50))  # poisoned points, and all that are judged, of its experiment 1
PUBLISHED_RECOVERED, PUBLISHED_MISCLASSIFIED = 213, 364  # labels that Deep kNN recovers, non-poisoned points
PUBLISHED_WITH_POISON = 414  # misclassified points, the poisoned ones included
PUBLISHED_POINTS = 50  # poisoned, in experiments 2.1 and 2.2

CORRECT, MISCLASSIFIED = "correct", "misclassified"
POISONED, POISONED_THERE = "poisoned", "poisoned, itself among its neighbours"
# Table 1: % of poisoned points among the 75 nearest neighbours, in three ReLU layers and the last.
PUBLISHED_INFLUENCE = {
    CORRECT: (24.93, 28.8, 29.14, 29.04),
    MISCLASSIFIED: (25.3, 28.8, 35.4, 36.93),
}


def two_labels(num_classes: int) -> list[int]:
    """Classes 1 and 9 where there are both, else the first and the last."""
    return list(LABELS) if max(LABELS) < num_classes else [0, num_classes - 1]
