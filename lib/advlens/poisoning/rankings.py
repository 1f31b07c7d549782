"""How suspicious each training image is: by its neighbours, by the images that it misleads, or without Deep kNN."""

import numpy as np
import pandas as pd
from art.defences.detector.poison import SpectralSignatureDefense
from scipy.stats import rankdata

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.neighbours import DeepKNN, Judgement, Neighbourhoods
from advlens.neighbours.conformal import true_nonconformity
from advlens.neighbours.search import row_search, without_own

NOTHING = "nothing removed"
CREDIBILITY, GIVEN, INFLUENCE, BOTH = "credibility", "given label", "influence", "given label and influence"
RANDOM, LOSS, PIXELS, SPECTRAL = "random", "training loss", "pixel neighbours", "spectral signature"
OF_DEEP_KNN = (CREDIBILITY, GIVEN, INFLUENCE, BOTH)
BASELINES = (RANDOM, LOSS, PIXELS, SPECTRAL)
RANKINGS = (*OF_DEEP_KNN, *BASELINES)
UNSURE = 0.05  # a held-out image with a credibility up to this counts as unsure


def rank(
    classifier: Classifier,
    images: Array,
    labels: Array,
    *,
    calibration_images: Array,
    calibration_labels: Array,
    k: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Scores of the training images, none of which knows who is poisoned; each image is left out of its neighbours.

    Args:
        classifier: trained on these images and labels.
        images, labels: the training set as the defender has it, (n, h, w, channels) and (n,).
        calibration_images, calibration_labels: held out, with labels that can be trusted.
        k: neighbours in each layer, and in pixels.
    Returns:
        A column for each of `RANKINGS`, higher = sooner removed. Of the credibility that is one minus it; of the
        given label its nonconformity, of which the p-value is a falling step function that ties more.
    """
    knn = DeepKNN(classifier, k=k).fit(images, labels).calibrate(calibration_images, calibration_labels)
    hoods = knn.neighbours(images, own=np.arange(len(images)))
    said = knn.judge_neighbours(hoods)
    given = true_nonconformity(hoods.labels, labels, num_classes=classifier.nb_classes)
    held_out = knn.neighbours(calibration_images)
    by_others = Judgement.among(held_out.labels, calibration_labels, num_classes=classifier.nb_classes)
    decided = classifier.predict(calibration_images).argmax(axis=1)
    is_troubled = troubled(by_others, decided, calibration_labels)
    blamed = influence(held_out.select(is_troubled), calibration_labels[is_troubled], n=len(images))
    columns = {
        CREDIBILITY: 1 - said.credibility,
        GIVEN: given,
        INFLUENCE: blamed,
        BOTH: rankdata(given) + rankdata(blamed),
        RANDOM: rng.permutation(len(images)),
        LOSS: classifier.compute_loss(images, labels),
        PIXELS: disagreement(images, labels, k=k),
        SPECTRAL: spectral(classifier.features(images), labels),
    }
    return pd.DataFrame(columns).astype(np.float64)


def troubled(said: Judgement, predicted: Array, labels: Array) -> Array:
    """(n,) bool: held-out images that the network or Deep kNN gets wrong, or of credibility `UNSURE` or less.

    Args:
        predicted: (n,) by the network; labels: (n,) true classes.
    """
    return (predicted != labels) | (said.predicted != labels) | (said.credibility <= UNSURE)


def influence(hoods: Neighbourhoods, labels: Array, *, n: int) -> Array:
    """How often each of n training images is, with a wrong label for them, among the neighbours of some images.

    Args:
        hoods: of (m,) images, of true classes `labels`.
    Returns:
        (n,) int64, counted over images and layers.
    """
    misleads = hoods.labels != np.asarray(labels)[:, None, None]
    return np.bincount(hoods.indices[misleads], minlength=n)


def disagreement(images: Array, labels: Array, *, k: int) -> Array:
    """(n,) shares of the k nearest other images, in pixels, whose label is another."""
    flat = images.reshape(len(images), -1)
    found = row_search(flat).nearest(flat, k + 1)
    others = without_own(found, np.arange(len(flat)))
    return (labels[others] != labels[:, None]).mean(axis=1)


def spectral(features: Array, labels: Array) -> Array:
    """(n,) outlier scores of (n, d) features within each given label, by ART's spectral signature.

    ART projects features on the main axis of the centred ones without centring them, so they are centred before.

    Source: Tran, Li & Madry 2018, algorithm 1.
    """
    scores = np.zeros(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        centred = features[rows] - features[rows].mean(axis=0)
        scores[rows] = SpectralSignatureDefense.spectral_signature_scores(centred)[:, 0]
    return scores


def top(scores: Array, budget: int, *, seed: int) -> Array:
    """(budget,) places of the highest of (n,) scores, ties broken at random."""
    order = np.random.default_rng(seed).permutation(len(scores))
    return np.sort(order[np.argsort(-scores[order], kind="stable")][:budget])
