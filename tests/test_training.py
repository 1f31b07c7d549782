"""Training: the compiled loop does what Keras's does."""

import keras
import numpy as np
import pandas as pd
import pytest

from advlens.networks.building import built
from advlens.networks.detector import slide_detector_cnn, vgg_like_detector_cnn
from advlens.training import RepeatedTraining

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 90)
    return rng.random((90, *SHAPE), np.float32) + 0.3 * labels[:, None, None, None].astype(np.float32), labels


def repeated(builder=slide_detector_cnn, *, batch_size=90, learning_rate=0.01):
    return RepeatedTraining(builder, SHAPE, num_classes=2, learning_rate=learning_rate, batch_size=batch_size)


def test_it_ends_where_keras_ends(rows):
    """One batch holds all rows, so that the order of the rows, which the loops draw differently, has no effect."""
    watched = rows[0][:30], rows[1][:30]
    own = repeated().train(*rows, epochs=6, seed=3, validation=watched, patience=6)
    keras.utils.set_random_seed(3)
    network = built(slide_detector_cnn, input_shape=SHAPE, num_classes=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping(patience=6, restore_best_weights=True)
    about = {"validation_data": watched, "epochs": 6, "batch_size": 90, "callbacks": [stop], "verbose": 0}
    theirs = pd.DataFrame(network.fit(*rows, **about).history)
    np.testing.assert_allclose(own.history[theirs.columns], theirs, rtol=2e-3, atol=1e-5)
    assert own.history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(own.network.predict(rows[0], verbose=0), network.predict(rows[0], verbose=0), atol=1e-3)


def test_a_training_does_not_depend_on_those_before_it(rows):
    training = repeated(vgg_like_detector_cnn, batch_size=32)
    first, other, again = (training.train(*rows, epochs=2, seed=seed) for seed in (1, 2, 1))
    first, other, again = (each.network.predict(rows[0], verbose=0) for each in (first, other, again))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_keeps_the_best_epoch_and_stops_after_the_patience(rows):
    turned = (rows[0], 1 - rows[1])  # the better the training, the worse this loss
    trained = repeated(batch_size=16).train(*rows, epochs=40, seed=0, validation=turned, patience=3)
    best = trained.history["val_loss"].idxmin()
    assert len(trained.history) == best + 1 + 3 < 40
    logits = trained.network.predict(turned[0], verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(turned[1], logits)
    assert float(loss) == pytest.approx(trained.history["val_loss"].min(), rel=1e-4)


def test_a_loss_that_is_nan_stops_after_the_patience(rows):
    broken = repeated(learning_rate=float("nan"))  # NaN images would not do: a ReLU may make them 0
    trained = broken.train(*rows, epochs=9, seed=0, validation=rows, patience=2)
    assert len(trained.history) == 2
    assert trained.history["val_loss"].isna().all()
