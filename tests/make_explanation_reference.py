"""Makes tests/data/explanations_reference.npz: maps by iNNvestigate itself, in graph mode, without Advlens.

Run by hand, `python tests/make_explanation_reference.py`, where MNIST's IDX files lie in data/raw/mnist.
The tests build the same network in Keras 3 and take its weights from here.
"""

import os
from pathlib import Path

import numpy as np

METHODS = (
    "deep_taylor",
    "deep_taylor.bounded",
    "guided_backprop",
    "deconvnet",
    "gradient",
    "input_t_gradient",
    "lrp.z",
    "lrp.epsilon",
    "lrp.sequential_preset_a_flat",
)
SHAPES = ((5, 5, 1, 6), (6,), (3, 3, 6, 8), (8,), (200, 16), (16,), (16, 10), (10,))


def seeded_weights(seed: int = 2021) -> list[np.ndarray]:
    """He-normal kernels and small biases of the reference network, float32, the same on every machine."""
    generator = np.random.default_rng(seed)
    weights = []
    for shape in SHAPES:
        deviation = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
        weights.append(generator.normal(0, deviation, shape).astype(np.float32))
    return weights


def main() -> None:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import innvestigate
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    here = Path(__file__).parent
    pixels = np.fromfile(here.parent / "data/raw/mnist/t10k-images-idx3-ubyte", np.uint8, offset=16)
    images = pixels[: 8 * 784].reshape(8, 28, 28, 1)
    layers = tf.keras.layers
    inputs = layers.Input((28, 28, 1))
    hidden = layers.Conv2D(6, 5, activation="relu")(inputs)
    hidden = layers.AveragePooling2D(2)(hidden)
    hidden = layers.Conv2D(8, 3, activation="relu")(hidden)
    hidden = layers.MaxPooling2D(2)(hidden)
    hidden = layers.Dense(16, activation="relu")(layers.Flatten()(hidden))
    network = tf.keras.Model(inputs, layers.Dense(10)(hidden))
    network.set_weights(seeded_weights())

    symmetric = images / np.float32(255) * 2 - 1
    found = {"images": images, "logits": network.predict_on_batch(symmetric)}
    for method in METHODS:
        options = {"low": -1, "high": 1} if method == "deep_taylor.bounded" else {}
        analyzer = innvestigate.create_analyzer(method, network, **options)
        found[method] = analyzer.analyze(symmetric)
    chosen = innvestigate.create_analyzer("lrp.z", network, neuron_selection_mode="index")
    found["lrp.z of class 3"] = chosen.analyze(symmetric, 3)
    np.savez_compressed(here / "data/explanations_reference.npz", **found)


if __name__ == "__main__":
    main()
