"""How relevance passes back through one step: the rules of layer-wise relevance propagation and Deep Taylor.

Each is a vector–Jacobian product of the step's own function, with other kernels where the rule wants them: of a linear
layer z = w x the relevance of x is x · wᵀ (R / z).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from advlens.explanations.native.maths import Maths, pulled
from advlens.explanations.native.steps import Linear, Rectifier, Role, Standardisation, Step


@dataclasses.dataclass(frozen=True)
class Pass:
    """One step as it was computed.

    Attributes:
        inputs, output: its tensors.
        pull: the output's tensor r ↦ Jᵀ r, one tensor for each input.
        is_positive: whether no value of the inputs is below 0.
        is_gate: for each input, whether it is a sigmoid's.
    """

    step: Step
    inputs: tuple[tf.Tensor, ...]
    output: tf.Tensor
    pull: Callable[[tf.Tensor], Sequence[tf.Tensor]]
    is_positive: bool
    is_gate: tuple[bool, ...]


@dataclasses.dataclass(frozen=True)
class Epsilon:
    """R_x = x · wᵀ (R / (z + ε sign z)), z with bias: the ε-rule, and with ε = 0 the z-rule.

    Source: Bach et al. 2015, eqs. 56 and 58.
    """

    epsilon: float = 0.0
    bias: bool = True

    def linear(self, done: Pass, step: Linear, relevance: tf.Tensor, maths: Maths) -> tf.Tensor:
        (x,), z = done.inputs, done.output
        z = z if self.bias else z - step.shift(x)
        return x * done.pull(maths.quotient(relevance, z, self.epsilon))[0]


@dataclasses.dataclass(frozen=True)
class AlphaBeta:
    """α times the shares of positive contributions less β times those of negative ones; α = 1, no bias is the z⁺-rule.

    As in iNNvestigate, the whole bias is a contribution of both kinds.
    Source: Bach et al. 2015, eq. 60; Montavon et al. 2017, eq. 9.
    """

    alpha: float = 1.0
    beta: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        if self.alpha < 1 or abs(self.alpha - self.beta - 1) > 1e-6:
            raise ValueError(f"alpha must be 1 or more, and beta alpha − 1, got {self.alpha} and {self.beta}")

    def linear(self, done: Pass, step: Linear, relevance: tf.Tensor, maths: Maths) -> tf.Tensor:
        (x,), kernel = done.inputs, step.kernel()
        up, down = tf.nn.relu(kernel), -tf.nn.relu(-kernel)
        halves = [x] if done.is_positive else [maths.positive(x), -maths.positive(-x)]

        def shares(*kernels: tf.Tensor) -> tf.Tensor:
            z: Any = step.shift(x) if self.bias else 0.0
            pulls = []
            for half, k in zip(halves, kernels, strict=False):
                part, pull = pulled(lambda half, k=k: step.call(half, k), half)
                z, pulls = z + part, [*pulls, pull]
            quotient = maths.quotient(relevance, z)
            return tf.add_n([half * pull(quotient)[0] for half, pull in zip(halves, pulls, strict=True)])

        activating = shares(up, down)
        return self.alpha * activating - self.beta * shares(down, up) if self.beta else activating


@dataclasses.dataclass(frozen=True)
class Weights:
    """Shares by w² whatever the inputs are, or (flat) the same for all. Source: Montavon et al. 2017, eq. 8."""

    flat: bool = False

    def linear(self, done: Pass, step: Linear, relevance: tf.Tensor, maths: Maths) -> tf.Tensor:
        kernel = step.kernel()
        weights = tf.ones_like(kernel) if self.flat else kernel**2
        z, pull = pulled(lambda x: step.call(x, weights), tf.ones_like(done.inputs[0]))
        return pull(tf.math.divide_no_nan(relevance, z))[0]


@dataclasses.dataclass(frozen=True)
class Bounded:
    """Shares of x w − low w⁺ − high w⁻ for inputs between bounds, numbers or (h, w, channels): the z^B-rule.

    Source: Montavon et al. 2017, eq. 10.
    """

    low: Any
    high: Any

    def linear(self, done: Pass, step: Linear, relevance: tf.Tensor, maths: Maths) -> tf.Tensor:
        x, kernel = done.inputs[0], step.kernel()
        shape: Any = x.shape[1:].as_list()  # where pixels were flattened, bounds of each one are
        ends = (np.asarray(end, np.float32) for end in (self.low, self.high))
        low, high = (tf.zeros_like(x) + (end.reshape(shape) if end.size == np.prod(shape) else end) for end in ends)
        from_low, pull_low = pulled(lambda low: step.call(low, tf.nn.relu(kernel)), low)
        from_high, pull_high = pulled(lambda high: step.call(high, -tf.nn.relu(-kernel)), high)
        z = done.output - step.shift(x) - from_low - from_high
        quotient = maths.quotient(relevance, z)
        return x * done.pull(quotient)[0] - low * pull_low(quotient)[0] - high * pull_high(quotient)[0]


Rule = Epsilon | AlphaBeta | Weights | Bounded


@dataclasses.dataclass(frozen=True)
class Relevance:
    """A method that shares the explained logit out among inputs.

    Attributes:
        dense, convolution: rules of those layers.
        first: rule of the first one, if it is another.
        taylor: as Deep Taylor, explain max(0, logit), and share equally among what is averaged.
        only_relu: take no activation but ReLU.
    """

    dense: Rule
    convolution: Rule
    first: Rule | None = None
    taylor: bool = False
    only_relu: bool = False

    def takes(self, step: Step) -> bool:
        """Whether relevance passes through the step."""
        if self.only_relu and step.role is Role.ACTIVATE:
            return isinstance(step, Rectifier) and not step.slope
        refused = (Role.OTHER, Role.NORMALISE) if self.taylor else (Role.OTHER,)
        return isinstance(step, Linear) or step.role not in refused

    def pull(self, done: Pass, relevance: tf.Tensor, maths: Maths, *, is_first: bool) -> Sequence[tf.Tensor]:
        """The relevance of each input of a step."""
        step = done.step
        if step.role is Role.ACTIVATE:  # one input makes one output
            return [relevance]
        if isinstance(step, Linear):
            rule = self.dense if step.kind == "Dense" else self.convolution
            return [(self.first if is_first and self.first else rule).linear(done, step, relevance, maths)]
        if step.role is Role.MOVE or (step.role is Role.AVERAGE and self.taylor):
            return done.pull(relevance)
        by_output = self.dense if isinstance(self.dense, Epsilon) and self.dense == self.convolution else None
        if step.role is Role.PRODUCT:
            return _equal_shares(done, relevance)
        if step.role is Role.SCALE and (by_output is None or not by_output.bias):
            # All of it, but where the scale is 0; a share by output would explode where inputs got any.
            counts = done.pull(tf.ones_like(done.output))[0] != 0
            return [relevance * tf.cast(counts, relevance.dtype)]
        if step.role is Role.SUM and by_output is None and (step.kind == "Subtract" or not done.is_positive):
            return _directed_shares(done, relevance, maths)
        pull, epsilon = done.pull, by_output.epsilon if by_output else 0.0
        if isinstance(step, Standardisation):
            _, pull = pulled(step.at(done.inputs[0]), *done.inputs)
            epsilon = max(epsilon, 1e-7)
        gradients = pull(maths.quotient(relevance, done.output, epsilon))
        return [x * gradient for x, gradient in zip(done.inputs, gradients, strict=True)]


def _directed_shares(done: Pass, relevance: tf.Tensor, maths: Maths) -> Sequence[tf.Tensor]:
    """Relevance of summands by what each adds in the sum's own direction: it is conserved and can't explode."""
    rises, found = maths.step(done.output), []
    for sign, weight in ((1, rises), (-1, 1 - rises)):
        ways = [-sign if done.step.kind == "Subtract" and number else sign for number in range(len(done.inputs))]
        parts = [way * maths.positive(way * x) for way, x in zip(ways, done.inputs, strict=True)]
        total, pull = pulled(done.step.call, *parts)
        gradients = pull(maths.quotient(weight * relevance, total))
        found.append([part * gradient for part, gradient in zip(parts, gradients, strict=True)])
    return [up + down for up, down in zip(*found, strict=True)]


def _equal_shares(done: Pass, relevance: tf.Tensor) -> Sequence[tf.Tensor]:
    """Relevance of factors: the same for all but gates, which get none where there are others (Arras et al. 2017)."""
    _, pull = pulled(lambda *factors: tf.add_n([x + tf.zeros_like(done.output) for x in factors]), *done.inputs)
    takes = [float(all(done.is_gate) or not gate) for gate in done.is_gate]
    return [take / sum(takes) * each for take, each in zip(takes, pull(relevance), strict=True)]
