"""Measures the exact search of neighbours against FAISS's own and scikit-learn's, on activations of all of MNIST.

Run from the project as `python -m bench.bench_neighbours`, or by `make bench`; it takes 5 GB of memory.
"""

import advlens  # first, as it silences TensorFlow's start

# isort: split

import faiss
import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors

from advlens.classifier import Classifier
from advlens.datasets import load
from advlens.neighbours.search import row_search
from advlens.networks import deep_knn_cnn
from advlens.training import train_task_network
from bench.harness import report, seconds

K = 75
EVERY = {"FAISS": 20, "scikit-learn": 100}  # queries that one of theirs stands for: they are extrapolated
AT_ONCE = 2048


def unit_rows(classifier: Classifier, images: np.ndarray, layer: str) -> np.ndarray:
    """(n, d) activations of norm 1."""
    parts = []
    for start in range(0, len(images), AT_ONCE):
        rows = classifier.layer_activations(images[start : start + AT_ONCE], [layer])[layer]
        rows = rows.reshape(len(rows), -1)
        parts.append(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
    return np.concatenate(parts)


def main() -> None:
    keras.utils.set_random_seed(0)
    data = load("mnist")
    trained = train_task_network(
        data.train_images[:10_000], data.train_labels[:10_000], builder=deep_knn_cnn, num_classes=10, epochs=1, seed=0
    )
    classifier = Classifier(trained.network)
    print(f"advlens {advlens.__version__}, {'search':25s} {'advlens':>8s} {'library':>10s} {'ratio':>10s}")
    for layer in ("conv1", "conv2", "conv3", "logits"):
        rows, queries = (unit_rows(classifier, images, layer) for images in (data.train_images, data.test_images))
        search = row_search(rows)
        ours, found = seconds(lambda search=search, queries=queries: search.nearest(queries, K))
        for library, every in EVERY.items():
            few = queries[::every]
            if library == "FAISS":
                theirs, expected = seconds(lambda few=few, rows=rows: faiss.knn(few, rows, K)[1])
            else:
                brute = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(rows)
                theirs, expected = seconds(lambda few=few, brute=brute: brute.kneighbors(few, return_distance=False))
            same = np.mean([np.isin(*pair).mean() for pair in zip(expected, found[::every], strict=True)])
            remark = f"{len(queries):,} against {rows.shape[0]:,} × {rows.shape[1]:,}, same neighbours {same:.5f}"
            report(f"{layer}, {library}", ours, theirs * every, f"{remark}, extrapolated from {len(few)}")
        del rows, queries, search


if __name__ == "__main__":
    main()
