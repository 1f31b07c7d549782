"""Explanation maps as one compiled TensorFlow function of the images, which can be differentiated."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier
from advlens.explanations.activation import weigh_channels
from advlens.explanations.arguments import in_batches, network_of, neuron_selection
from advlens.explanations.native.maths import Maths, pulled
from advlens.explanations.native.methods import Gradient, Method, method_of
from advlens.explanations.native.rules import Pass, Relevance
from advlens.explanations.native.steps import IMAGE, RESIZES, ROLES, Linear, Network, Rectifier, Role, Step, unfold

if TYPE_CHECKING:
    import keras

GATES = ("sigmoid", "hard_sigmoid", "Sigmoid", "HardSigmoid")
CHECKED_IMAGES, MOST_OFF = 8, 2.0
GIVEN = "given"
"""The `neuron` of an `explainer` that is told the classes with the images."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """A method on a network.

    Attributes:
        mode: iNNvestigate's name of the neuron selection, "max_activation", "index" or "all".
        start: number of the tensor that maps are over.
        first: numbers of the tensors that the method's first layers make.
        positive: numbers of tensors that are known not to be below 0.
    """

    network: Network
    method: Method
    maths: Maths
    mode: str
    start: int
    first: frozenset[int]
    positive: frozenset[int]

    def batch(self, images: tf.Tensor, neurons: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps of (n, h, w, channels) images, and the (n,) relevance that was to be shared out.

        `neurons` are (n,) class numbers in the mode "index".
        """
        passes, tensors = self._forward(images)
        signal = self._head(tensors[self.network.output], neurons)
        explained, signals = tf.reduce_sum(signal, axis=1), {self.network.output: signal}
        for number in range(self.network.output, self.start, -1):
            if number in signals:
                done, signal = passes[number], signals.pop(number)
                parts = self.method.pull(done, signal, self.maths, is_first=number in self.first)
                for source, part in zip(done.step.inputs, parts, strict=True):
                    signals[source] = signals[source] + part if source in signals else part
        maps, inputs = signals[self.start], tensors[self.start]
        if isinstance(self.method, Gradient) and self.method.times_input:
            maps *= inputs
        if isinstance(self.method, Gradient) and self.method.maps_of is not None:
            if inputs.shape.rank != 4:
                name = self.network.steps[self.start - 1].name
                raise ValueError(f"layer {name!r} has no places, its outputs are {inputs.shape}: choose another")
            maps = weigh_channels(inputs, maps, self.maths.gate)
            maps = tf.image.resize(maps, self.network.input_shape[:2])
        return maps, explained

    def _forward(self, images: tf.Tensor) -> tuple[dict[int, Pass], list[tf.Tensor]]:
        tensors, passes = [images], {}
        is_positive, is_gate = [True], [False]  # images lie in [0, 1]
        for number, step in enumerate(self.network.steps, 1):
            inputs = tuple(tensors[source] for source in step.inputs)
            output, pull = pulled(functools.partial(step.run, self.maths), *inputs)
            pull = _differentiable(pull, step.call) if step.kind in RESIZES else pull
            positive, gate = (tuple(each[source] for source in step.inputs) for each in (is_positive, is_gate))
            passes[number] = Pass(step, inputs, output, pull, all(positive), gate)
            tensors.append(output)
            is_positive.append(number in self.positive or _stays_positive(step, all(positive)))
            is_gate.append(step.kind in GATES or (all(gate) and step.kind in ROLES))
        return passes, tensors

    def _head(self, logits: tf.Tensor, neurons: tf.Tensor) -> tf.Tensor:
        """What is pulled back from the logits."""
        if self.mode == "max_activation":  # equal ones share
            is_largest = tf.cast(logits == tf.reduce_max(logits, axis=1, keepdims=True), logits.dtype)
            chosen = is_largest / tf.reduce_sum(is_largest, axis=1, keepdims=True)
        else:
            chosen = tf.one_hot(neurons, self.network.num_classes) if self.mode == "index" else tf.ones_like(logits)
        if isinstance(self.method, Gradient):  # iNNvestigate starts from the logit where it stops what is negative
            return chosen * logits if self.method.gate else chosen
        return chosen * (self.maths.positive(logits) if self.method.taylor else logits)


def explainer(
    model: keras.Model | Classifier,
    *,
    method: str = "deep_taylor",
    neuron: str | int | Array = "predicted",
    softplus: float | None = None,
    from_layer: str | None = None,
    **options: Any,
) -> Callable[..., tf.Tensor]:
    """Maps as a compiled function of images that a `tf.GradientTape` differentiates.

    Args:
        model: as of `explain`. Its weights are read at each call; no gradient flows to them.
        method: one of `METHODS`.
        neuron, from_layer, options: as of `explain`; for `GIVEN` the function takes (n,) int64 class numbers as well.
        softplus: None for the maps of `explain`, or a sharpness β > 0: ReLU is then a softplus, and gates, positive
            parts and quotients of the way back are smooth, so that gradients lead somewhere. As β → ∞ maps become the
            exact ones; activations should be well above 1 / β. Max pooling stays as it is.
    Returns:
        (n, h, w, channels) float32 images in [0, 1] → maps of the shape that `explain` gives, a `tf.function`.
    Raises:
        TypeError, ValueError: as `explain`, and for a `softplus` that isn't above 0.

    >>> import keras
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> maps_of_batch, images = explainer(network, method="lrp.z", neuron=0, softplus=20.0), tf.ones((2, 4, 4, 1))
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(images)
    ...     loss = tf.reduce_sum(maps_of_batch(images) ** 2)
    >>> tape.gradient(loss, images).shape
    TensorShape([2, 4, 4, 1])
    """
    if softplus is not None and not softplus > 0:
        raise ValueError(f"softplus must be a sharpness above 0 or None, got {softplus}")
    given = isinstance(neuron, str) and neuron == GIVEN
    neuron = 0 if given else neuron
    engine = _engine(network_of(model), method, _mode(neuron), from_layer, softplus, options)
    shape = tf.TensorSpec((None, *engine.network.input_shape))
    if given:
        signature = [shape, tf.TensorSpec((None,), tf.int64)]
        return tf.function(lambda *about: engine.batch(*about)[0], input_signature=signature, autograph=False)
    _, classes = neuron_selection(neuron, n=max(np.size(neuron), 1), num_classes=engine.network.num_classes)
    classes = np.zeros(1, np.int64) if classes is None else classes

    @tf.function(input_signature=[shape], autograph=False)
    def maps(images: tf.Tensor) -> tf.Tensor:
        return engine.batch(images, tf.broadcast_to(tf.constant(classes), tf.shape(images)[:1]))[0]

    return maps


def maps_of(
    network: keras.Model,
    images: Array,
    *,
    method: str,
    neuron: str | int | Array,
    from_layer: str | None,
    batch_size: int,
    options: dict[str, Any],
) -> Array:
    """What `explain` returns for the native engine."""
    frozen = tuple(sorted((key, _frozen(value)) for key, value in options.items()))
    layers = tuple(getattr(network, "layers", ()))
    engine, batch = _compiled(network, layers, method, _mode(neuron), from_layer, frozen)
    images = checked_images(images, shape=engine.network.input_shape)
    _, classes = neuron_selection(neuron, n=len(images), num_classes=engine.network.num_classes)
    explained: list[Array] = []

    def analyze(images: Array, chosen: Array | None) -> Array:
        maps, shared = batch(images, np.zeros(len(images), np.int64) if chosen is None else chosen)
        explained.append(shared.numpy())
        return maps.numpy()

    maps = in_batches(analyze, images, classes, batch_size, method)
    if isinstance(engine.method, Relevance):
        _warn_of_losses(maps[:CHECKED_IMAGES], np.concatenate(explained)[:CHECKED_IMAGES], method)
    return maps


@functools.lru_cache(maxsize=8)  # keeps as many networks
def _compiled(
    network: keras.Model, layers: tuple, method: str, mode: str, from_layer: str | None, options: tuple
) -> tuple[Engine, Callable]:
    """The engine and its compiled function; a network that got other `layers` is another one."""
    engine = _engine(network, method, mode, from_layer, None, dict(options))
    signature = [tf.TensorSpec((None, *engine.network.input_shape)), tf.TensorSpec((None,), tf.int64)]
    return engine, tf.function(engine.batch, input_signature=signature, autograph=False)


def _frozen(value: Any) -> Any:
    """An option in a form that can be a key."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _mode(neuron: str | int | Array) -> str:
    return neuron_selection(neuron if isinstance(neuron, str) else 0, n=1, num_classes=1)[0]


def _engine(
    network: keras.Model, name: str, mode: str, from_layer: str | None, softplus: float | None, options: dict[str, Any]
) -> Engine:
    """A method on a network, once it is known that it takes every layer."""
    unfolded, positive = unfold(network), frozenset()
    if from_layer is None:
        low, high = _bounds(unfolded)
        positive = frozenset([unfolded.after_rescaling()] if (low >= 0).all() else [])
        options = {"low": low, "high": high} | options if name == "deep_taylor.bounded" else options
    method = method_of(name, options)
    if isinstance(method, Relevance):
        unfolded = unfolded.folded(keep=from_layer)
    start = _start(unfolded, method, from_layer)
    whole_path = not (isinstance(method, Gradient) and method.maps_of is not None)
    steps = [unfolded.steps[number - 1] for number in unfolded.between(start)] if whole_path else []
    refused = dict.fromkeys(f"{step.name!r} ({step.kind})" for step in steps if not method.takes(step))
    if refused:
        others = [each for each in ("lrp.epsilon", "gradient") if all(map(method_of(each, {}).takes, steps))]
        raise ValueError(f"{name!r} does not take {', '.join(refused)}: choose {' or '.join(others)}")
    has_first = isinstance(method, Relevance) and method.first is not None
    first = _first(unfolded, start, name) if has_first else frozenset()
    return Engine(unfolded, method, Maths(softplus), mode, start, first, positive)


def _start(network: Network, method: Method, from_layer: str | None) -> int:
    """The number of the tensor that maps are over."""
    name = from_layer
    if isinstance(method, Gradient) and method.maps_of is not None:
        linear = [step for step in network.steps if isinstance(step, Linear)][:-1]
        name = method.maps_of or next((step.name for step in reversed(linear) if step.kind == "Conv2D"), "")
        numbers = [number for number, step in enumerate(network.steps, 1) if step.name == name]
        if numbers:
            return numbers[-1]
        if not name:
            raise ValueError(
                "Grad-CAM needs a convolution before the logits, and none can be seen: choose gradient or "
                "input_t_gradient"
            )
    elif name is None:
        only_gradient = isinstance(method, Gradient) and not method.times_input
        return IMAGE if only_gradient else network.after_rescaling()
    for step in network.steps:
        if step.name == name:
            if len(step.inputs) != 1:
                raise ValueError(f"layer {name!r} has {len(step.inputs)} inputs: choose a layer with one")
            return step.inputs[0]
    known = ", ".join(dict.fromkeys(step.name for step in network.steps))
    raise ValueError(f"no layer to explain is called {name!r}: choose one of {known}")


def _first(network: Network, start: int, name: str) -> frozenset[int]:
    """The numbers of what the layers that take the start make, past those that only arrange it anew."""
    first, starts = set(), {start}
    for number, step in enumerate(network.steps, 1):
        if starts.intersection(step.inputs):
            if step.kind in ("Flatten", "Reshape", "Permute"):
                starts.add(number)
            elif isinstance(step, Linear):
                first.add(number)
            else:
                raise ValueError(
                    f"{name!r} has its own rule for a first convolution or dense layer, but the first is "
                    f"{step.name!r} ({step.kind}): choose another method"
                )
    return frozenset(first)


def _bounds(network: Network) -> tuple[Array, Array]:
    """Smallest and largest value that each rescaled pixel can have."""
    ends = [np.full((1, *network.input_shape), value, np.float32) for value in (0, 1)]
    start, number = network.after_rescaling(), IMAGE
    while number != start:  # the rescalings follow one on the other
        number = next(i for i, step in enumerate(network.steps, 1) if step.inputs == (number,))
        ends = [network.steps[number - 1].call(tf.constant(end)).numpy() for end in ends]
    return np.minimum(*ends)[0], np.maximum(*ends)[0]


def _stays_positive(step: Step, inputs_are: bool) -> bool:
    if isinstance(step, Rectifier):
        return not step.slope
    moves = step.role in (Role.MOVE, Role.AVERAGE, Role.SUM, Role.PRODUCT)
    return inputs_are and moves and step.kind != "Subtract" and step.kind not in RESIZES


def _differentiable(pull: Callable, call: Callable[[tf.Tensor], tf.Tensor]) -> Callable:
    """The way back through a resizing, which TensorFlow can't differentiate: its derivative is the resizing."""
    transposed = tf.custom_gradient(lambda signal: (pull(signal)[0], call))
    return lambda signal: [transposed(signal)]


def _warn_of_losses(maps: Array, explained: Array, method: str) -> None:
    """Says where a map adds up to less or more than the logit by more than a factor `MOST_OFF`."""
    sums = maps.reshape(len(maps), -1).sum(axis=1, dtype=np.float64)
    ratios = sums[explained != 0] / explained[explained != 0]
    off = ratios[(ratios < 1 / MOST_OFF) | (ratios > MOST_OFF)]
    if len(off):
        warnings.warn(
            f"maps by {method!r} add up to {off.min():.3g} to {off.max():.3g} times the logit on {len(off)} of "
            f"{len(maps)} images checked: biases and normalisations take up relevance or add to it",
            stacklevel=4,
        )
