"""The methods by iNNvestigate's names, and Grad-CAM; what each does with its options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from advlens.explanations.native.maths import Maths
from advlens.explanations.native.rules import AlphaBeta, Bounded, Epsilon, Pass, Relevance, Rule, Weights
from advlens.explanations.native.steps import Linear, Rectifier, Role, Step


@dataclasses.dataclass(frozen=True)
class Gradient:
    """A method that pulls a signal back by gradients.

    Attributes:
        gate: "guided" also stops what is negative at each ReLU, "deconvnet" does that alone, whatever the activation.
        times_input: multiply the gradient with the inputs.
        maps_of: name of the layer whose channels are weighted and summed, as Grad-CAM does it; "" for the last
            convolution; None for maps of the inputs.
    """

    gate: str | None = None
    times_input: bool = False
    maps_of: str | None = None

    def takes(self, step: Step) -> bool:
        """Whether the method is defined at the step; a gradient is everywhere."""
        if self.gate and step.role is Role.ACTIVATE:
            return isinstance(step, Rectifier) and not step.slope
        return not self.gate or isinstance(step, Linear) or step.role is not Role.OTHER

    def pull(self, done: Pass, signal: tf.Tensor, maths: Maths, *, is_first: bool) -> Sequence[tf.Tensor]:
        """The signal at each input of a step."""
        if self.gate and done.step.role is Role.ACTIVATE:
            signal = maths.gate(signal)
            if self.gate == "deconvnet":
                return [signal]
        return done.pull(signal)


Method = Gradient | Relevance


def _same(rule: Rule) -> Relevance:
    return Relevance(dense=rule, convolution=rule)


def _epsilon(epsilon: float, *, bias: bool = True) -> Epsilon:
    if epsilon <= 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    return Epsilon(epsilon, bias)


def _preset(alpha: float, first: Rule | None) -> Callable[..., Relevance]:
    def method(*, epsilon: float = 0.1) -> Relevance:
        convolution = AlphaBeta(alpha, alpha - 1, bias=True)
        return Relevance(_epsilon(epsilon), convolution, first, only_relu=True)

    return method


def _taylor(first: Rule | None = None) -> Relevance:
    return Relevance(AlphaBeta(), AlphaBeta(), first, taylor=True, only_relu=True)


def _alpha_beta(*, alpha: float, beta: float, bias: bool = True) -> Relevance:
    return _same(AlphaBeta(alpha, beta, bias))


METHODS: dict[str, Callable[..., Method]] = {
    "deep_taylor": _taylor,
    "deep_taylor.bounded": lambda *, low, high: _taylor(Bounded(low, high)),
    "guided_backprop": lambda: Gradient(gate="guided"),
    "deconvnet": lambda: Gradient(gate="deconvnet"),
    "gradient": lambda: Gradient(),
    "input_t_gradient": lambda: Gradient(times_input=True),
    "grad_cam": lambda *, layer="": Gradient(maps_of=layer),
    "lrp.z": lambda: _same(Epsilon()),
    "lrp.epsilon": lambda *, epsilon=1e-7, bias=True: _same(_epsilon(epsilon, bias=bias)),
    "lrp.w_square": lambda: _same(Weights()),
    "lrp.flat": lambda: _same(Weights(flat=True)),
    "lrp.alpha_beta": _alpha_beta,
    "lrp.alpha_1_beta_0": lambda: _same(AlphaBeta(bias=True)),
    "lrp.alpha_1_beta_0_IB": lambda: _same(AlphaBeta()),
    "lrp.alpha_2_beta_1": lambda: _same(AlphaBeta(2, 1, bias=True)),
    "lrp.alpha_2_beta_1_IB": lambda: _same(AlphaBeta(2, 1)),
    "lrp.z_plus": lambda: _same(AlphaBeta()),
    "lrp.sequential_preset_a": _preset(1, None),
    "lrp.sequential_preset_a_flat": _preset(1, Weights(flat=True)),
    "lrp.sequential_preset_b": _preset(2, None),
    "lrp.sequential_preset_b_flat": _preset(2, Weights(flat=True)),
}


def method_of(name: str, options: dict[str, Any]) -> Method:
    """The method of that name with these options.

    Raises:
        ValueError: for another name, or options that it doesn't have.
    """
    if name not in METHODS:
        raise ValueError(f"no native explanation method is called {name!r}: choose one of {', '.join(METHODS)}")
    signature = inspect.signature(METHODS[name])
    parameters = {key: each for key, each in signature.parameters.items() if key != "first"}
    needed = {key for key, each in parameters.items() if each.default is each.empty}
    if not needed <= set(options) <= set(parameters):
        raise ValueError(f"{name!r} takes the options {', '.join(parameters) or 'none'}, got {options}")
    return METHODS[name](**options)
