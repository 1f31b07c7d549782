"""A detector's score as a TensorFlow function of the images, which an attacker follows. `Detector.scores` judges."""

from functools import singledispatch
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from advlens.arrays import Array
from advlens.detectors.deviations import Deviations
from advlens.detectors.heads import Fisher, Head, Logistic, Network, Sign
from advlens.lenses.differentiable import differentiable, strangeness


class DifferentiableScore:
    """The score of a fitted detector for `tf.GradientTape`: see `advlens.lenses.differentiable` for what is exact.

    `score(images, *score.context(images))` is (n,) float64 of (n, h, w, channels) images; the context, which may be
    empty, holds what is looked up outside the graph, so that it is taken anew every few steps.

    Args:
        detector: an `advlens.detectors.Detector`, which itself is made of this.
    Raises:
        ValueError: for a lens, columns or a head that have no gradient.
        RuntimeError: for a lens that was not fitted, or a head that has not learnt.
    """

    def __init__(self, detector: Any) -> None:
        self.head, self.columns = detector.head, tuple(detector.columns or detector.lens.columns)
        self._lens = differentiable(detector.lens)
        needed = (self.head.column,) if isinstance(self.head, Sign) else self.columns
        lacking = [column for column in needed if column not in self._lens.columns]
        if lacking:
            raise ValueError(
                f"{detector.name} sees {', '.join(lacking[:5])}, which can't be differentiated: of its lens "
                f"{', '.join(self._lens.columns[:5])} can"
            )
        self._places = [self._lens.columns.index(column) for column in needed]
        if head_score.dispatch(type(self.head)) is not head_score.registry[object]:
            nothing = np.zeros((1, len(self.columns)))
            self.head.score(pd.DataFrame(nothing, columns=list(self.columns)))  # which says what it has not learnt
        head_score(self.head, tf.zeros((1, len(needed)), tf.float64))

    def context(self, images: Array) -> tuple[Any, ...]:
        """What is looked up for (n, h, w, channels) images outside the graph."""
        return self._lens.context(images)

    def __call__(self, images: tf.Tensor, *context: Any) -> tf.Tensor:
        measured = self._lens.measure(images, *context)
        every = self._places == list(range(len(self._lens.columns)))
        return head_score(self.head, measured if every else tf.gather(measured, self._places, axis=1))


@singledispatch
def head_score(head: Head, measured: tf.Tensor) -> tf.Tensor:
    """(n,) float64 scores of (n, columns) float64 measurements, as the head's own `score`."""
    raise ValueError(
        f"a {type(head).__name__} head has no gradient: follow a detector with a Sign, Logistic or Fisher head as its "
        "stand_in, or attack it by DetectorAwareBoundary"
    )


@head_score.register
def _(head: Sign, measured: tf.Tensor) -> tf.Tensor:
    return (head.sign or 1) * measured[:, 0]


@head_score.register
def _(head: Logistic, measured: tf.Tensor) -> tf.Tensor:
    scaled = (measured - head.mean_) / head.scale_  # pyright: ignore[reportOperatorIssue]
    return tf.linalg.matvec(scaled, head.weights_) + head.bias_


@head_score.register
def _(head: Deviations, measured: tf.Tensor) -> tf.Tensor:
    z = (measured - head.centre_) / head.width_  # pyright: ignore[reportOperatorIssue]
    far = tf.math.log1p(tf.abs(z))
    return head_score.dispatch(Logistic)(head, tf.concat([tf.sign(z) * far, far], axis=1))


@head_score.register
def _(head: Fisher, measured: tf.Tensor) -> tf.Tensor:
    return 2 * tf.reduce_sum(strangeness(measured * head.signs_, head.normal_), axis=1)  # pyright: ignore[reportOperatorIssue]


@head_score.register
def _(head: Network, measured: tf.Tensor) -> tf.Tensor:
    pictures = tf.reshape(tf.cast(measured * head.scale_, tf.float32), (-1, *head.shape))
    logits = tf.cast(head.model_(pictures, training=False), tf.float64)
    return logits[:, 1] - logits[:, 0]
