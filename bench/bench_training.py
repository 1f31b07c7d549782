"""Measures the compiled training of detector networks against Keras's own loop, in one process.

Run from the project as `python -m bench.bench_training`, or by `make bench`.
"""

import advlens  # first, as it silences TensorFlow's start

# isort: split

import keras
import numpy as np

from advlens.networks.building import built
from advlens.networks.detector import slide_detector_cnn, vgg_like_detector_cnn
from advlens.training import RepeatedTraining
from bench.harness import report, seconds

ROWS, EPOCHS = 1800, 10


def main() -> None:
    rng = np.random.default_rng(0)
    pictures, labels = rng.random((ROWS, 28, 28, 1), np.float32), rng.integers(2, size=ROWS)
    about = {"epochs": EPOCHS, "seed": 0, "validation": (pictures[:600], labels[:600]), "patience": EPOCHS}
    print(f"advlens {advlens.__version__}, {'training':25s} {'advlens':>8s} {'Keras':>10s} {'ratio':>10s}")
    for builder in (slide_detector_cnn, vgg_like_detector_cnn):
        training = RepeatedTraining(builder, (28, 28, 1), num_classes=2, learning_rate=0.01, batch_size=128)
        training.train(pictures, labels, **{**about, "epochs": 1})  # compiled once for all that follow

        def keras_fit(builder=builder):
            network = built(builder, input_shape=(28, 28, 1), num_classes=2)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            network.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
            stop = keras.callbacks.EarlyStopping(patience=EPOCHS, restore_best_weights=True)
            given = {"validation_data": about["validation"], "epochs": EPOCHS, "batch_size": 128, "verbose": 0}
            return network.fit(pictures, labels, callbacks=[stop], **given)

        ours, _ = seconds(lambda training=training: training.train(pictures, labels, **about), 2)
        theirs, _ = seconds(keras_fit, 2)
        report(builder.__name__, ours, theirs, f"{ROWS:,} rows, {EPOCHS} epochs, each network anew")


if __name__ == "__main__":
    main()
