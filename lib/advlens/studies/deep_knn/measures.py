"""What Deep kNN says of images, and what trivial scores say, a row an image."""

import time
from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.detectors.baselines import trivial_baselines
from advlens.neighbours import DeepKNN, Judgement, Neighbourhoods
from advlens.neighbours.conformal import CONVENTIONS, true_nonconformity
from advlens.neighbours.search import SEARCHES, recall
from advlens.store import artifact

DEEP_KNN = "Deep kNN"
NETWORKS_LABEL = f"{DEEP_KNN}, network's label"
PUBLISHED = f"{DEEP_KNN}, as published"
CONFIDENCE = f"{DEEP_KNN}, confidence"
OF_DEEP_KNN = (DEEP_KNN, NETWORKS_LABEL, PUBLISHED, CONFIDENCE)


def layer_column(layer: str) -> str:
    """The name of a score that looks at one layer alone."""
    return f"neighbours in {layer}"


def k_column(k: int) -> str:
    """The name of the credibility's score with k neighbours."""
    return f"{DEEP_KNN}, k = {k}"


@artifact(version=1)
def measure(
    network: keras.Model,
    images: Array,
    labels: Array,
    *,
    train_images: Array,
    train_labels: Array,
    calibration_images: Array,
    calibration_labels: Array,
    k: int,
    layers: Sequence[str] | None = None,
    ks: Sequence[int] = (),
) -> pd.DataFrame:
    """Everything that the study says of (n, h, w, channels) images, a row an image.

    Args:
        labels: (n,) true classes, for the nonconformity to these alone: no score knows them.
        train_images, train_labels: among whom neighbours are looked for.
        calibration_images, calibration_labels: held out, for the p-values.
        k, layers: of the Deep kNN; ks: further numbers of neighbours, at most k, whose credibility is given as well.
    Returns:
        predicted (by the network), softmax (of that), label (by Deep kNN), true α (nonconformity to the true label),
        credibility, confidence, credibility as published, and, all higher = more adversarial: `OF_DEEP_KNN`, one
        `k_column` each of `ks`, one `layer_column` a layer (the share of neighbours there whose label is not the
        network's), and the trivial baselines.
    """
    classifier = Classifier(network)
    knn = DeepKNN(classifier, k=k, layers=layers).fit(train_images, train_labels)
    held_out = knn.neighbours(calibration_images)
    hoods = knn.neighbours(images)
    logits = classifier.predict(images)
    predicted = logits.argmax(axis=1)
    about = {"num_classes": classifier.nb_classes, "labels": calibration_labels}
    conformal, published = (_judged(hoods, held_out, **about, k=k, convention=each) for each in CONVENTIONS)
    columns = {
        "predicted": predicted,
        "softmax": softmax(logits.astype(np.float64), axis=1).max(axis=1),
        "label": conformal.predicted,
        "true α": true_nonconformity(hoods.labels, labels, num_classes=classifier.nb_classes),
        "credibility": conformal.credibility,
        "confidence": conformal.confidence,
        "credibility, as published": published.credibility,
        DEEP_KNN: 1 - conformal.credibility,
        NETWORKS_LABEL: 1 - conformal.p_values[np.arange(len(images)), predicted],
        PUBLISHED: 1 - published.credibility,
        CONFIDENCE: 1 - conformal.confidence,
    }
    for fewer in ks:
        columns[k_column(fewer)] = 1 - _judged(hoods, held_out, **about, k=fewer, convention="conformal").credibility
    others = hoods.labels != predicted[:, None, None]
    columns |= {layer_column(layer): others[:, place].mean(axis=1) for place, layer in enumerate(hoods.layers)}
    columns |= {name: scorer.scores(images) for name, scorer in trivial_baselines(classifier).items()}
    return pd.DataFrame(columns)


def _judged(
    hoods: Neighbourhoods, held_out: Neighbourhoods, labels: Array, *, num_classes: int, k: int, convention: str
) -> Judgement:
    """What the k nearest of the neighbours found say, calibrated by held-out images of the (m,) true labels."""
    calibration = true_nonconformity(held_out.labels[:, :, :k], labels, num_classes=num_classes)
    return Judgement.of(hoods.labels[:, :, :k], calibration, num_classes=num_classes, convention=convention)


@artifact(version=1)
def nearest(
    network: keras.Model, images: Array, *, train_images: Array, train_labels: Array, k: int
) -> dict[str, Array]:
    """The (n, l, k) rows of the training images nearest to (n, h, w, channels) images, as "indices", for display."""
    knn = DeepKNN(Classifier(network), k=k).fit(train_images, train_labels)
    return {"indices": knn.neighbours(images).indices}


@artifact(version=1)
def searches(network: keras.Model, images: Array, *, train_images: Array, train_labels: Array, k: int) -> pd.DataFrame:
    """Every way to search, on (n, h, w, channels) images.

    Returns:
        A row a way and layer: search, layer, recall (the share of the true neighbours that it finds). And a row a way
        with the layer "all": the seconds that taking over the training images and searching took, of all layers.
    """
    classifier, found, rows = Classifier(network), {}, []
    for kind in SEARCHES:
        start = time.perf_counter()
        knn = DeepKNN(classifier, k=k, search=kind).fit(train_images, train_labels)
        fitted = time.perf_counter()
        found[kind] = knn.neighbours(images).indices
        seconds = {"fit seconds": fitted - start, "search seconds": time.perf_counter() - fitted}
        rows.append({"search": kind, "layer": "all", "recall": recall(found[kind], found["exact"]), **seconds})
        for place, layer in enumerate(knn.layers):
            share = recall(found[kind][:, place], found["exact"][:, place])
            rows.append({"search": kind, "layer": layer, "recall": share})
    return pd.DataFrame(rows)
