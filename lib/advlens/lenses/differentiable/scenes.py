"""The stand-in of natural scene statistics."""

import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter1d

from advlens.arrays import Array
from advlens.lenses.differentiable.parts import TINY, float64, through
from advlens.lenses.differentiable.registry import Differentiable, differentiable
from advlens.lenses.natural_scenes import NEIGHBOURS, SHAPES, SIGMA, NaturalScenes, moment_ratios, spread_ratios


@differentiable.register
def _(lens: NaturalScenes) -> Differentiable:
    about = {"axis": 0, "truncate": 3 / SIGMA, "mode": "nearest"}
    down, across = (gaussian_filter1d(np.eye(length), SIGMA, **about) for length in lens.shape[:2])

    def measure(images: tf.Tensor) -> tf.Tensor:
        grey = tf.reduce_mean(float64(images), axis=3) * 255
        mean, square = (tf.matmul(down @ each, across, transpose_b=True) for each in (grey, grey**2))
        pixels = (grey - mean) / (_root(square - mean**2) + 1)
        size = (-1, np.prod(lens.shape[:2]))
        values = [*_symmetric(tf.reshape(pixels, size))]
        for below, right in NEIGHBOURS.values():
            values += _asymmetric(tf.reshape(pixels * tf.roll(pixels, (-below, -right), axis=(1, 2)), size))
        return tf.stack(values, axis=1)

    return Differentiable(lens.columns, measure)


def _root(values: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.maximum(values, TINY))


def _shape(ratio: tf.Tensor, table: Array) -> tf.Tensor:
    """The shape at which a rising table has a ratio, with the table's slope as its gradient."""
    place = tf.clip_by_value(tf.searchsorted(table, ratio), 0, len(SHAPES) - 1)
    slope = tf.gather(np.gradient(SHAPES, table), place)
    return through(tf.gather(SHAPES, place), ratio * tf.stop_gradient(slope))


def _symmetric(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    variance = tf.reduce_mean(values**2, axis=1)
    ratio = variance / tf.maximum(tf.reduce_mean(tf.abs(values), axis=1), TINY) ** 2
    return _shape(-ratio, -spread_ratios()), variance


def _asymmetric(values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    squares = []
    for side in (values < 0, values > 0):
        total = tf.reduce_sum(tf.where(side, values, 0) ** 2, axis=1)
        squares.append(total / tf.maximum(tf.reduce_sum(float64(side), axis=1), 1))
    left, right = (tf.sqrt(tf.maximum(each, TINY**2)) for each in squares)
    share, mean_square = left / right, tf.maximum(tf.reduce_mean(values**2, axis=1), TINY)
    moments = tf.reduce_mean(tf.abs(values), axis=1) ** 2 / mean_square
    shape = _shape(moments * (share**3 + 1) * (share + 1) / (share**2 + 1) ** 2, moment_ratios())
    logs = [tf.math.lgamma(each / shape) for each in (1.0, 2.0, 3.0)]
    mean = (right - left) * tf.exp(logs[1] - (logs[0] + logs[2]) / 2)
    return shape, mean, squares[0], squares[1]
