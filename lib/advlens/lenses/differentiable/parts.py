"""What the stand-ins of several lenses are made of."""

from collections.abc import Callable, Sequence
from itertools import product

import keras
import numpy as np
import tensorflow as tf

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.explanations.native import explainer
from advlens.networks.parts import tensors_of

SHARPNESS = 30.0  # of the softplus in place of ReLU where maps are differentiated
KNOTS = 200  # quantiles of normal images that stand for all where p-values are smoothed
SPREAD = 0.6  # of normal values, times their number to the power of −1/5: the width of their smoothed distribution
TINY = 1e-12


def float64(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(values, tf.float64)


def flat(values: tf.Tensor) -> tf.Tensor:
    return tf.reshape(values, (-1, values.shape[1:].num_elements()))


def through(hard: tf.Tensor, soft: tf.Tensor) -> tf.Tensor:
    """The value of the one with the gradient of the other (a straight-through estimator)."""
    return soft + tf.stop_gradient(hard - soft)


def moved(classifier: Classifier, images: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
    """(n,) L1 distances between the softmax outputs of images and of each of their other versions."""
    own, *found = (tf.nn.softmax(float64(classifier.model(each, training=False))) for each in (images, *others))
    return [tf.reduce_sum(tf.abs(own - each), axis=1) for each in found]


def outputs_of(classifier: Classifier, names: Sequence[str]) -> keras.Model:
    """The network whose outputs are those of some layers, by name."""
    tensors = tensors_of(classifier.model)
    return keras.Model(tensors.image, {name: tensors.outputs[name] for name in names})


def smooth_maps(model: keras.Model, *, from_layer: str | None = None, **about: str) -> Callable[..., tf.Tensor]:
    """Native maps with the gradients of smooth ones, as a function of what `explainer`'s takes."""
    exact, smooth = (explainer(model, from_layer=from_layer, softplus=each, **about) for each in (None, SHARPNESS))
    return lambda *given: through(exact(*given), smooth(*given))


def median_filtered(images: tf.Tensor, size: int) -> tf.Tensor:
    """As SciPy's with the mode "reflect": of an even number of pixels the upper one of the two in the middle."""
    before, (_, height, width, _) = size // 2, images.shape.as_list()
    after = size - 1 - before
    padded = tf.pad(images, [[0, 0], [before, after], [before, after], [0, 0]], "SYMMETRIC")
    patch = [padded[:, i : i + height, j : j + width] for i, j in product(range(size), repeat=2)]  # pyright: ignore[reportOperatorIssue]
    return tf.sort(tf.stack(patch, axis=4), axis=4)[..., size * size // 2]


def strangeness(values: tf.Tensor, normal: Array) -> tf.Tensor:
    """−log p of values among those of normal images, column by column, with the gradient of a smooth p.

    p is the share of normal images that are as high, itself counted. Its gradient is that of p smoothed by a logistic
    kernel as wide as Silverman's: far above all normal values it goes on, where p itself stays as it is.

    Args:
        values: (n, columns) float64; normal: (m, columns) float64, each column sorted.

    >>> strangeness(tf.constant([[0.5], [9.0]], tf.float64), np.array([[0.0], [1.0], [2.0]])).numpy().round(4).tolist()
    [[0.2877], [1.3863]]
    """
    m = len(normal)
    below = tf.transpose(tf.searchsorted(np.ascontiguousarray(normal.T), tf.transpose(values)))
    hard = -tf.math.log(float64(1 + m - below) / (1 + m))  # pyright: ignore[reportOperatorIssue]
    knots = np.quantile(normal, (np.arange(KNOTS) + 0.5) / KNOTS, axis=0)
    width = SPREAD * normal.std(axis=0) * m**-0.2
    above = tf.math.log_sigmoid((knots - values[:, None]) / np.where(width > 0, width, 1.0))
    return through(hard, -tf.reduce_logsumexp(above, axis=1))
