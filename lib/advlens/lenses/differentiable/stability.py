"""Stand-ins of the lenses on how a decision holds when the image is changed a little."""

from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from advlens.lenses.differentiable.parts import TINY, flat, float64, median_filtered, moved, outputs_of, through
from advlens.lenses.differentiable.registry import Differentiable, differentiable
from advlens.lenses.noise_reduction import NoiseReduction, reduce_noise
from advlens.lenses.stability import MOVES, Augmented, FeatureSqueezing, LeaveOneOut, Sensitivity, transformed


@differentiable.register
def _(lens: FeatureSqueezing) -> Differentiable:
    levels = 2**lens.bits - 1

    def measure(images: tf.Tensor) -> tf.Tensor:
        squeezed = through(tf.round(images * levels) / levels, images)
        coarse, filtered = moved(lens.classifier, images, squeezed, median_filtered(images, lens.median))
        return tf.stack([coarse, filtered, tf.maximum(coarse, filtered)], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Augmented) -> Differentiable:
    """A move of the pixels' own numbers says between which four each new one lies."""
    height, width, channels = lens.classifier.input_shape
    numbers, corners = np.moveaxis(np.indices((height, width), np.float64), 0, -1)[None], []
    for move in MOVES.values():
        came_from = transformed(numbers, *move).reshape(-1, 2)
        low = np.floor(came_from).astype(int)
        ends = (low, 1 - came_from + low), (np.minimum(low + 1, (height - 1, width - 1)), came_from - low)
        places = np.stack([row[:, 0] * width + column[:, 1] for (row, _), (column, _) in product(ends, repeat=2)])
        shares = np.stack([row[:, 0] * column[:, 1] for (_, row), (_, column) in product(ends, repeat=2)])
        corners.append((places, shares[..., None].astype(np.float32)))

    def measure(images: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(images, (-1, height * width, channels))
        others = [tf.reduce_sum(tf.gather(flat, places, axis=1) * shares, axis=1) for places, shares in corners]
        found = moved(lens.classifier, images, *(tf.reshape(each, tf.shape(images)) for each in others))
        return tf.stack([*found, tf.add_n(found) / len(found)], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Sensitivity) -> Differentiable:
    """The jump of the attribution where a ReLU switches has no gradient; all else has."""
    model = lens.classifier.model
    noise = list(lens._noisy(np.zeros((1, *lens.classifier.input_shape), np.float32)))

    def seen(images: tf.Tensor, classes: tf.Tensor | None = None) -> tuple[Any, ...]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = model(images, training=False)
            classes = tf.argmax(logits, axis=1) if classes is None else classes
            own = tf.gather(logits, classes, batch_dims=1)
        attribution = tape.gradient(own, images) * images  # pyright: ignore[reportOperatorIssue]
        return float64(logits), float64(flat(attribution)), classes

    def measure(images: tf.Tensor) -> tf.Tensor:
        *own, classes = seen(images)
        others = [seen(images + each, classes)[:2] for each in noise]
        sums = [[tf.reduce_sum(tf.abs(a - b), axis=1) for a, b in zip(each, own, strict=True)] for each in others]
        return tf.transpose(tf.reduce_mean(sums, axis=0))

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: LeaveOneOut) -> Differentiable:
    """With all patches' images in one batch, so that it takes much memory."""
    (height, width, channels), side = lens.classifier.input_shape, lens.patch
    rows, columns = (np.arange(length) // side for length in (height, width))
    patch = rows[:, None] * (columns[-1] + 1) + columns
    kept = (patch != np.arange(patch.max() + 1)[:, None, None])[..., None].astype(np.float32)
    network, places = outputs_of(lens.classifier, lens.layers), np.array((0.75, 0.25)) * (len(kept) - 1)

    def measure(images: tf.Tensor) -> tf.Tensor:
        blanked = tf.reshape(images[:, None] * kept, (-1, height, width, channels))  # pyright: ignore[reportIndexIssue]
        own, others, spreads = network(images, training=False), network(blanked, training=False), []
        for name in lens.layers:
            one = flat(own[name])[:, None]
            squares = tf.reduce_sum((tf.reshape(others[name], (-1, len(kept), one.shape[2])) - one) ** 2, axis=2)
            lengths = tf.sort(tf.sqrt(tf.maximum(float64(squares), TINY**2)), axis=1)
            low, high = (tf.gather(lengths, end(places).astype(int), axis=1) for end in (np.floor, np.ceil))
            quantiles = low + (places % 1) * (high - low)
            spreads.append(quantiles[:, 0] - quantiles[:, 1])
        return tf.stack(spreads, axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: NoiseReduction) -> Differentiable:
    """Whether the decision changes has no gradient, but the value."""

    def measure(images: tf.Tensor) -> tf.Tensor:
        reduced = tf.ensure_shape(tf.numpy_function(reduce_noise, [images], tf.float32), images.shape)
        own, other = (tf.argmax(lens.classifier.model(each, training=False), axis=1) for each in (images, reduced))
        return tf.stack([float64(own != other), *moved(lens.classifier, images, through(reduced, images))], axis=1)

    return Differentiable(lens.columns, measure)
