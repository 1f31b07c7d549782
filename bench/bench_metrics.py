"""Measures the uncertainty and closeness metrics against naive passes and scikit-learn, each pair in one process.

Run from the project as `python -m bench.bench_metrics`, or by `make bench`.
"""

import advlens  # first, as it silences TensorFlow's start

# isort: split

import numpy as np
import tensorflow as tf
from sklearn.neighbors import KernelDensity

from advlens import networks
from advlens.closeness import ClassDensity
from advlens.uncertainty import MonteCarloDropout
from bench.bench_attacks import DATA
from bench.harness import report, seconds

PASSES = 50
QUERIES, TRAINING, CLASSES, FEATURES = 10_000, 60_000, 10, 128
BANDWIDTH = 1.7


def naive_passes(network, images: np.ndarray) -> np.ndarray:
    """The eager loop that the trick replaces: every pass computes the whole network, dropout switched on."""
    return np.stack([tf.nn.softmax(network(images, training=True)).numpy() for _ in range(PASSES)])


def class_by_class(rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, classes: np.ndarray) -> np.ndarray:
    densities = np.empty(len(queries))
    for label in np.unique(classes):
        density = KernelDensity(bandwidth=BANDWIDTH).fit(rows[labels == label])
        densities[classes == label] = density.score_samples(queries[classes == label])
    return densities


def activations(n: int, labels: np.ndarray, *, seed: int) -> np.ndarray:
    """(n, FEATURES) rectified features around a centre a class."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, 20))
    mixing = np.random.default_rng(1).normal(size=(20, FEATURES)) / 2
    return np.maximum((centres[labels] + 0.4 * rng.normal(size=(n, 20))) @ mixing, 0).astype(np.float32)


def main() -> None:
    with np.load(DATA) as archive:
        images = archive["x"][..., None].astype(np.float32) / 255
    print(f"advlens {advlens.__version__}, {'metric':25s} {'advlens':>8s} {'library':>10s} {'ratio':>10s}")
    for name in ("digits_dropout_cnn", "fashion_dropout_cnn"):
        network = networks.build(name)
        thinned = MonteCarloDropout(network, passes=PASSES)
        thinned.probabilities(images[:64])
        ours, _ = seconds(lambda thinned=thinned: thinned.probabilities(images), 2)
        theirs, _ = seconds(lambda network=network: naive_passes(network, images))
        report(f"{PASSES} passes, {name}", ours, theirs, f"{len(images)} images, naive eager passes in one batch")

    rng = np.random.default_rng(2)
    labels, classes = rng.integers(CLASSES, size=TRAINING), rng.integers(CLASSES, size=QUERIES)
    rows, queries = activations(TRAINING, labels, seed=3), activations(QUERIES, classes, seed=4)
    density = ClassDensity(bandwidth=BANDWIDTH).fit(rows, labels)
    density.log_density(queries[:100], classes[:100])
    ours, densities = seconds(lambda: density.log_density(queries, classes), 3)
    few = np.arange(0, QUERIES, 20)
    theirs, expected = seconds(lambda: class_by_class(rows, labels, queries[few], classes[few]))
    worst = np.abs(densities[few] - expected).max()
    remark = (
        f"{QUERIES:,} against {TRAINING:,} × {FEATURES}, extrapolated from {len(few)}, largest difference {worst:.1g}"
    )
    report("kernel density, own class", ours, theirs * QUERIES / len(few), remark)


if __name__ == "__main__":
    main()
