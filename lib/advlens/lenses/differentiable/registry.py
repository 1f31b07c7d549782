"""A lens's measurements as a TensorFlow function, found by the lens's class."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import tensorflow as tf

from advlens.arrays import Array
from advlens.lenses.base import Joined, Lens


@dataclass(frozen=True)
class Differentiable:
    """A lens's measurements as a TensorFlow function.

    Attributes:
        columns: the lens's columns that it has, in order.
        measure: (n, h, w, channels) float32 images in [0, 1], and the context → (n, columns) float64.
        context: images → arrays with a row an image, looked up outside the graph anew every few steps; mostly none.
    """

    columns: tuple[str, ...]
    measure: Callable[..., tf.Tensor]
    context: Callable[[Array], tuple[Any, ...]] = lambda images: ()


@singledispatch
def differentiable(lens: Lens) -> Differentiable:
    """A lens's measurements for `tf.GradientTape`; one of your own is added by `@differentiable.register`.

    Raises:
        ValueError: for a lens without; RuntimeError: for one that has not seen the training images that it needs.

    >>> from advlens.lenses import Pixels
    >>> differentiable(Pixels((2, 2, 1))).measure(tf.ones((3, 2, 2, 1))).shape
    TensorShape([3, 4])
    """
    raise ValueError(f"{lens.name} has no differentiable measurements: add them by @differentiable.register")


@differentiable.register
def _(lens: Joined) -> Differentiable:
    """The columns of all parts that have a gradient."""
    parts = []
    for each in lens.lenses:
        try:
            parts.append(differentiable(each))
        except ValueError:
            if each is lens.lenses[-1] and not parts:
                raise

    def context(images: Array) -> tuple[Any, ...]:
        return tuple(part.context(images) for part in parts)

    def measure(images: tf.Tensor, *contexts: Any) -> tf.Tensor:
        return tf.concat([part.measure(images, *own) for part, own in zip(parts, contexts, strict=True)], axis=1)

    return Differentiable(tuple(column for part in parts for column in part.columns), measure, context)
