"""The functions with a kink or a pole that explanations are made of, exact or smooth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Maths:
    """ReLU, gate and quotient.

    Attributes:
        softplus: None for the exact functions, or the sharpness β of smooth ones, which become exact as β → ∞.

    >>> [round(float(Maths(sharpness).positive(tf.constant(0.0))), 3) for sharpness in (None, 4.0)]
    [0.0, 0.173]
    """

    softplus: float | None = None

    def positive(self, x: tf.Tensor) -> tf.Tensor:
        """max(0, x), or ln(1 + exp(β x)) / β."""
        return tf.nn.relu(x) if self.softplus is None else tf.nn.softplus(self.softplus * x) / self.softplus

    def step(self, x: tf.Tensor) -> tf.Tensor:
        """1 where x ≥ 0 and 0 elsewhere, or σ(β x)."""
        return tf.cast(x >= 0, x.dtype) if self.softplus is None else tf.sigmoid(self.softplus * x)

    def gate(self, signal: tf.Tensor) -> tf.Tensor:
        """max(0, x), or x σ(β x): no signal stays none, where a softplus would add one everywhere."""
        return tf.nn.relu(signal) if self.softplus is None else signal * tf.sigmoid(self.softplus * signal)

    def quotient(self, relevance: tf.Tensor, z: tf.Tensor, epsilon: float = 0.0) -> tf.Tensor:
        """R / (z + ε sign z), 0 where z is 0; or R z / (z² + ε √(z² + β⁻²) + β⁻²)."""
        if self.softplus is None:
            stable = z + epsilon * tf.where(z >= 0, 1.0, -1.0) if epsilon else z
            return tf.math.divide_no_nan(relevance, stable)
        width = self.softplus**-2
        near = epsilon * tf.sqrt(z * z + width) if epsilon else 0.0
        return relevance * z / (z * z + near + width)


def pulled(function: Callable[..., tf.Tensor], *inputs: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """f(x …), and the function that pulls a tensor r of its shape back: Jᵀ r, one tensor for each input."""
    with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
        inputs = tuple(tf.identity(x) for x in inputs)  # two inputs may be one tensor
        tape.watch(inputs)
        outputs = function(*inputs)
    zero = tf.UnconnectedGradients.ZERO
    return outputs, lambda r: tape.gradient(outputs, inputs, output_gradients=r, unconnected_gradients=zero)
