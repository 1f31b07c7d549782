"""Stand-ins of the lenses on explanation maps: native maps, with the gradients of smooth ones."""

from itertools import product

import numpy as np
import tensorflow as tf

from advlens.arrays import Array
from advlens.explanations.native.engine import GIVEN
from advlens.explanations.responses import LAST_CONVOLUTION, PREDICTED, up_to
from advlens.explanations.similarity import rank_correlation
from advlens.lenses.base import fit_first
from advlens.lenses.differentiable.parts import TINY, flat, float64, median_filtered, smooth_maps, through
from advlens.lenses.differentiable.registry import Differentiable, differentiable
from advlens.lenses.pictures import LocalEntropy, Relevancy
from advlens.lenses.reconstruction import MapReconstruction
from advlens.lenses.stability import MapUnderDenoising
from advlens.networks.parts import last_convolution, last_layer, name_in

BLUR = 4.0  # grey levels, at which two count as half the same one
STRONG = 0.2  # of a map's pixels, those that rank correlations are taken of


@differentiable.register
def _(lens: LocalEntropy) -> Differentiable:
    model, of = lens.classifier.model, lens.of
    if of != PREDICTED:
        model = up_to(model, name_in(model, last_convolution(model)) if of == LAST_CONVOLUTION else of)
    maps = smooth_maps(model, method=lens.method, neuron="predicted" if of == PREDICTED else "all")
    window, bins, stride = (lens.patches[name] for name in ("window", "bins", "stride"))

    def measure(images: tf.Tensor) -> tf.Tensor:
        levels = _grey_levels(maps(images), bins=bins, normalisation=lens.patches["normalisation"])
        height, width = levels.shape[1:]
        pixels = [
            levels[:, i : height - window + i + 1 : stride, j : width - window + j + 1 : stride]
            for i, j in product(range(window), repeat=2)
        ]
        patches = tf.stack(pixels, axis=3)
        apart, whole = (each[..., None, :] - each[..., None] for each in (patches, tf.floor(patches)))
        hard, soft = (
            -tf.reduce_mean(tf.math.log(tf.reduce_mean(same, axis=4)), axis=(1, 2, 3)) / np.log(2)
            for same in (tf.cast(whole == 0, tf.float32), 1 / (1 + tf.square(apart / BLUR)))
        )
        return float64(through(hard, soft))[:, None]

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Relevancy) -> Differentiable:
    if lens.coloured:
        raise ValueError("coloured relevancy maps can't be differentiated: make the lens with coloured=False")
    model = lens.classifier.model
    layer = name_in(model, last_layer(model)) if lens.last_layer else None
    maps = smooth_maps(model, method=lens.method, neuron=lens.neuron, from_layer=layer)

    def measure(images: tf.Tensor) -> tf.Tensor:
        values = float64(flat(maps(images)))
        lacking = len(lens.columns) - values.shape[1]  # pyright: ignore[reportOperatorIssue]
        return tf.pad(values, [[0, 0], [0, lacking]])  # hidden units are laid out as a square

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: MapReconstruction) -> Differentiable:
    fit_first(lens, "networks_")
    maps, known = (
        smooth_maps(lens.classifier.model, method=lens.method, neuron="predicted"),
        [*map(int, lens.networks_)],
    )

    def measure(images: tf.Tensor) -> tf.Tensor:
        found, decided = maps(images), tf.argmax(lens.classifier.model(images, training=False), axis=1)
        found /= tf.maximum(_root_mean_square(found), TINY)  # pyright: ignore[reportOperatorIssue]
        off = [found - network(found, training=False) for network in lens.networks_.values()]
        errors = float64(tf.concat([tf.reshape(_root_mean_square(each), (-1, 1)) for each in off], axis=1))
        is_own = decided[:, None] == tf.constant(known, tf.int64)
        own = tf.reduce_sum(tf.where(is_own, errors, 0), axis=1)
        return tf.where(tf.reduce_any(is_own, axis=1), own, tf.reduce_max(errors, axis=1))[:, None]

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: MapUnderDenoising) -> Differentiable:
    """The gradient is that of the correlation of the values themselves, on the pixels that are strong in either map."""
    model = lens.classifier.model
    maps = smooth_maps(model, method=lens.method, neuron=GIVEN)

    def unlike(one: Array, other: Array) -> Array:
        return 1 - rank_correlation(one, other, share=STRONG)

    def measure(images: tf.Tensor) -> tf.Tensor:
        decided = tf.argmax(model(images, training=False), axis=1)
        pair = [maps(each, decided) for each in (images, median_filtered(images, lens.median))]
        hard = tf.ensure_shape(tf.numpy_function(unlike, pair, tf.float64), (None,))
        values = [float64(flat(tf.reduce_sum(each, axis=3, keepdims=True))) for each in pair]
        values = [
            tf.math.divide_no_nan(each, tf.stop_gradient(tf.reduce_max(tf.abs(each), axis=1, keepdims=True)))
            for each in values
        ]
        count = max(round(STRONG * values[0].shape[1]), 1)  # pyright: ignore[reportOperatorIssue]
        sizes = [tf.abs(each) for each in values]
        strong = [(each >= tf.math.top_k(each, count).values[:, -1:]) & (each > 0) for each in sizes]
        weights = float64(strong[0] | strong[1])
        total = tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1)
        one, other = (
            weights * (each - tf.reduce_sum(weights * each, axis=1, keepdims=True) / total) for each in values
        )
        norms = tf.reduce_sum(one**2, axis=1) * tf.reduce_sum(other**2, axis=1)
        says = norms > TINY  # of a map that is constant there nothing follows
        soft = tf.where(says, -tf.reduce_sum(one * other, axis=1) / tf.sqrt(tf.where(says, norms, 1)), 0)
        return through(hard, soft)[:, None]

    return Differentiable(lens.columns, measure)


def _root_mean_square(maps: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(maps**2, axis=(1, 2, 3), keepdims=True))


def _grey_levels(maps: tf.Tensor, *, bins: int, normalisation: str) -> tf.Tensor:
    """`explanations.entropy.grey_levels` before they are cut to whole ones."""
    grey = tf.reduce_mean(maps, axis=3)
    if normalisation == "absolute":
        grey = tf.abs(grey)
    low, high = (end(grey, axis=(1, 2), keepdims=True) for end in (tf.reduce_min, tf.reduce_max))
    if normalisation != "minmax":
        high = tf.maximum(high, -low)
        low = -high if normalisation == "symmetric" else tf.zeros_like(high)
    return tf.minimum(tf.math.divide_no_nan(grey - low, high - low) * bins, bins - 1)
