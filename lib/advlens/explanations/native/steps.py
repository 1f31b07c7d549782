"""A Keras network as a list of steps, TensorFlow functions of tensors made before; nothing here explains."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from advlens.explanations.describe import IDENTITIES, checked_input_shape
from advlens.explanations.native.maths import Maths

ops: Any = keras.ops  # annotated for another backend
Weight = Callable[[], tf.Tensor]  # read at each call, so that weights changed in place count
IMAGE = 0  # the number of the tensor that enters a network; the i-th step makes tensor i


class Role(enum.Enum):
    """What a step without a kernel does with its inputs."""

    MOVE = enum.auto()  # each output is one of them
    AVERAGE = enum.auto()  # or a mean of some
    SUM = enum.auto()
    PRODUCT = enum.auto()
    SCALE = enum.auto()  # s x + t, value by value
    NORMALISE = enum.auto()  # by their own mean and deviation
    ACTIVATE = enum.auto()
    OTHER = enum.auto()


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One function of earlier tensors, in general one without a kernel.

    Attributes:
        name: the layer's path, as `backbone/conv2`; an activation within a layer has that layer's.
        kind: class of the layer or operator, or the activation's name.
        inputs: numbers of the tensors that it takes.
        call: from those tensors to its own.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    call: Callable[..., tf.Tensor]
    role: Role = Role.OTHER

    def run(self, maths: Maths, *inputs: tf.Tensor) -> tf.Tensor:
        """Its output."""
        return self.call(*inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Rectifier(Step):
    """A ReLU, which can be made smooth; `slope` below 0 and `largest` value."""

    slope: float = 0.0
    largest: float | None = None

    def run(self, maths: Maths, *inputs: tf.Tensor) -> tf.Tensor:
        (x,) = inputs
        y = maths.positive(x) if self.largest is None else maths.positive(x) - maths.positive(x - self.largest)
        return y - self.slope * maths.positive(-x) if self.slope else y


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Normalisation(Step):
    """A batch normalisation at inference, scale · x + shift along an axis."""

    layer: Any

    def scale(self) -> tf.Tensor:
        gamma = _value(self.layer.gamma) if self.layer.scale else 1.0
        return gamma / tf.sqrt(_value(self.layer.moving_variance) + self.layer.epsilon)

    def shift(self) -> tf.Tensor:
        beta = _value(self.layer.beta) if self.layer.center else 0.0
        return beta - _value(self.layer.moving_mean) * self.scale()

    def run(self, maths: Maths, *inputs: tf.Tensor) -> tf.Tensor:
        scale, shift = (_along(each, self.layer.axis, inputs[0]) for each in (self.scale(), self.shift()))
        return inputs[0] * scale + shift


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Standardisation(Step):
    """A layer normalisation."""

    layer: Any

    def at(self, inputs: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """Its linear part where the deviation is that of `inputs`."""
        axes = [axis % inputs.shape.rank for axis in self.layer.axis]
        factor = tf.math.rsqrt(tf.math.reduce_variance(inputs, axes, keepdims=True) + self.layer.epsilon)
        if self.layer.gamma is not None:
            shape = [size if axis in axes else 1 for axis, size in enumerate(inputs.shape)]
            factor *= tf.reshape(_value(self.layer.gamma), shape)
        return lambda x: (x - tf.reduce_mean(x, axes, keepdims=True)) * factor


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Step):
    """A convolution or dense layer without activation; `call` takes inputs and kernel, and is linear in both.

    Attributes:
        bias: or None.
        channels: the shape in which a factor of each output channel multiplies the kernel.
        axis: of the output channels.
    """

    kernel: Weight
    channels: tuple[Any, ...]
    bias: Weight | None = None
    axis: int = -1

    def run(self, maths: Maths, *inputs: tf.Tensor) -> tf.Tensor:
        return self.call(inputs[0], self.kernel()) + self.shift(inputs[0])

    def shift(self, inputs: tf.Tensor) -> tf.Tensor | float:
        """The bias in a shape that adds to outputs."""
        return 0.0 if self.bias is None else _along(self.bias(), self.axis, inputs)

    def normalised(self, after: Normalisation) -> Linear:
        """With the normalisation after it."""
        bias = self.bias or (lambda: 0.0)
        return dataclasses.replace(
            self,
            kernel=lambda: self.kernel() * tf.reshape(after.scale(), self.channels),
            bias=lambda: bias() * after.scale() + after.shift(),
        )

    def padded(self, before: Step) -> Linear:
        """With the zero padding before it, so that no rule gives relevance to the padding."""
        call = self.call
        return dataclasses.replace(self, inputs=before.inputs, call=lambda x, kernel: call(before.call(x), kernel))


@dataclasses.dataclass(frozen=True)
class Network:
    """Steps in the order of computation; `output` is the number of the tensor of logits."""

    input_shape: tuple[int, ...]
    num_classes: int
    steps: tuple[Step, ...]
    output: int

    def folded(self, keep: str | None) -> Network:
        """With normalisations and paddings taken up by kernels, but for the layer called `keep`."""
        uses = self._uses()
        made, steps = [IMAGE], []
        for step in self.steps:
            inputs = tuple(made[number] for number in step.inputs)
            alone = inputs[0] != IMAGE and uses[step.inputs[0]] == 1 and step.name != keep
            before = steps[inputs[0] - 1] if alone else step
            if isinstance(step, Normalisation) and isinstance(before, Linear) and _fits(step, before):
                steps[inputs[0] - 1] = before.normalised(step)
            elif isinstance(step, Linear) and before.kind.startswith("ZeroPadding") and before.name != keep:
                steps[inputs[0] - 1] = step.padded(before)
            else:
                steps.append(dataclasses.replace(step, inputs=inputs))
                made.append(len(steps))
                continue
            made.append(inputs[0])
        return dataclasses.replace(self, steps=tuple(steps), output=made[self.output])

    def after_rescaling(self) -> int:
        """The number of the tensor that leading rescalings make of the image."""
        uses, start = self._uses(), IMAGE
        for number, step in enumerate(self.steps, 1):
            scales = step.role is Role.SCALE and not isinstance(step, Normalisation)
            if step.inputs == (start,) and uses[start] == 1 and scales:
                start = number
        return start

    def between(self, start: int) -> list[int]:
        """Numbers of the tensors that lead from `start` to the logits, `start` left out.

        Raises:
            ValueError: if a path leads to the logits past `start`.
        """
        needed, waiting = set(), [self.output]
        while waiting:
            number = waiting.pop()
            if number == IMAGE != start:
                raise ValueError(
                    f"the network has a path around layer {self.steps[start - 1].name!r}: choose a layer that all "
                    "paths lead through"
                )
            if number != start and number not in needed:
                needed.add(number)
                waiting.extend(self.steps[number - 1].inputs)
        return sorted(needed)

    def _uses(self) -> collections.Counter[int]:
        return collections.Counter(number for step in self.steps for number in step.inputs)


def unfold(network: keras.Model) -> Network:
    """The steps of a network; nested networks are unfolded, layers that act in training alone left out.

    Raises:
        TypeError: for what isn't a Keras network.
        ValueError: for a network without one known image input and one (n, c) output, or with an activation last.
    """
    shape, walk = checked_input_shape(network), _Walk()
    output = walk.network(network, _Tensor(IMAGE), "").number
    if walk.dropped:
        names = ", ".join(walk.dropped)
        warnings.warn(f"layers {names} change images in training alone: explanations leave them out", stacklevel=4)
    if output and walk.steps[output - 1].role is Role.ACTIVATE:
        raise ValueError(f"network {network.name!r} must end in logits: let its last layer have no activation")
    return Network(shape, network.outputs[0].shape[-1], tuple(walk.steps), output)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """What stands for a tensor while a network is walked through."""

    number: int


class _Walk:
    """Walks through a network's graph and notes its steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.dropped: list[str] = []
        self.uses: collections.Counter[str] = collections.Counter()

    def network(self, network: keras.Model, tensor: _Tensor, prefix: str) -> _Tensor:
        """Notes the steps of a network that takes `tensor`; returns what it makes."""

        def noted(operation: keras.Operation) -> Callable[..., Any]:
            return lambda *args, **kwargs: self.operation(operation, (args, kwargs), prefix)

        if isinstance(network, keras.Sequential):
            for layer in network.layers:
                tensor = noted(layer)(tensor)
            return tensor
        # As Keras calls the network itself: its configuration names no operators, and not each use of a layer.
        return keras.tree.flatten(network._run_through_graph([tensor], noted))[0]

    def operation(self, operation: Any, arguments: tuple, prefix: str) -> Any:
        """Notes one layer or operator; returns what stands for its outputs."""
        tensors = [leaf for leaf in keras.tree.flatten(arguments) if isinstance(leaf, _Tensor)]
        inputs, kind, name = tuple(each.number for each in tensors), type(operation).__name__, prefix + operation.name
        self.uses[name] += 1
        if self.uses[name] > 1:
            name += f", use {self.uses[name]}"
        call = _call(operation, arguments)
        if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
            return self.network(operation, tensors[0], f"{name}/")
        if not type(operation).__module__.startswith("keras."):
            return self.add(Step(name, kind, inputs, call))
        if kind in IDENTITIES or kind.startswith("SpatialDropout"):
            return tensors[0]
        if kind in AUGMENTATIONS or (kind.startswith("Random") and kind != "RandomCrop"):
            self.dropped.append(repr(name))
            return tensors[0]
        if kind in LINEAR:
            return self.linear(operation, name, kind, inputs)
        if kind == "Activation":
            return self.activation(operation.activation, name, inputs)
        if kind in RECTIFIERS and not getattr(operation, "threshold", 0):
            return self.add(Rectifier(name, kind, inputs, call, Role.ACTIVATE, *RECTIFIERS[kind](operation)))
        if kind in ELEMENTWISE:
            return self.add(Step(name, kind, inputs, call, Role.ACTIVATE))
        if kind == "BatchNormalization":
            return self.add(Normalisation(name, kind, inputs, call, Role.SCALE, layer=operation))
        if kind == "LayerNormalization" and not operation.rms_scaling:
            return self.add(Standardisation(name, kind, inputs, call, Role.NORMALISE, layer=operation))
        role = ROLES.get(kind, Role.OTHER)
        if len(inputs) == 1 and kind in ARITHMETIC:
            divides = kind in ("Divide", "TrueDivide") and not isinstance(arguments[0][0], _Tensor)
            role = Role.OTHER if divides else Role.SCALE
        outputs = range(len(keras.tree.flatten(operation.output)))
        made = [self.add(Step(name, kind, inputs, _call(operation, arguments, each), role)) for each in outputs]
        return made if len(made) > 1 else made[0]

    def add(self, step: Step) -> _Tensor:
        self.steps.append(step)
        return _Tensor(len(self.steps))

    def linear(self, layer: Any, name: str, kind: str, inputs: tuple[int, ...]) -> _Tensor:
        bias = (lambda: _value(layer.bias)) if layer.use_bias else None
        axis = 1 if getattr(layer, "data_format", "") == "channels_first" else -1
        kernel, call = (lambda: _value(layer.kernel)), _linear_call(layer, kind)
        if kind.startswith("Separable"):
            channels = tuple(layer.depthwise_kernel.shape[-2:])
            spatial = Linear(name, kind, inputs, call, kernel=lambda: _value(layer.depthwise_kernel), channels=channels)
            inputs = (self.add(dataclasses.replace(spatial, axis=axis)).number,)
            kernel = lambda: _value(layer.pointwise_kernel)  # noqa: E731
            call = functools.partial(ops.conv, data_format=layer.data_format)
        channels = tuple(kernel().shape)[-2 if kind.startswith("Depthwise") else -1 :]
        if kind.endswith("Transpose"):
            channels = (kernel().shape[-2], 1)
        made = Linear(name, kind, inputs, call, kernel=kernel, bias=bias, channels=channels, axis=axis)
        return self.activation(layer.activation, name, (self.add(made).number,))

    def activation(self, function: Any, name: str, inputs: tuple[int, ...]) -> _Tensor:
        kind = getattr(function, "__name__", type(function).__name__)
        if function is None or function is keras.activations.linear:
            return _Tensor(inputs[0])
        if function is not getattr(keras.activations, kind, None) or kind in NOT_ELEMENTWISE:
            return self.add(Step(name, kind, inputs, function))
        if kind in RECTIFIERS:
            return self.add(Rectifier(name, kind, inputs, function, Role.ACTIVATE, *RECTIFIERS[kind](function)))
        return self.add(Step(name, kind, inputs, function, Role.ACTIVATE))


def _call(operation: Any, arguments: tuple, output: int = 0) -> Callable[..., tf.Tensor]:
    """The operation as a function of its tensors alone, in single precision; of several outputs, that of the number."""

    def call(*tensors: tf.Tensor) -> tf.Tensor:
        left = iter(tensors)
        filled: Any = keras.tree.map_structure(
            lambda leaf: next(left) if isinstance(leaf, _Tensor) else leaf, arguments
        )
        args, kwargs = filled
        if getattr(operation, "_call_has_training_arg", False):
            kwargs = kwargs | {"training": False}
        made = keras.tree.flatten(operation(*args, **kwargs))[output]
        return tf.cast(made, tf.float32) if made.dtype.is_floating else made

    return call


def _linear_call(layer: Any, kind: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(inputs, kernel) ↦ what the layer makes of them without bias and activation."""
    if kind == "Dense":
        return ops.matmul
    options = {key: getattr(layer, key) for key in ("strides", "padding", "data_format", "dilation_rate")}
    if kind.endswith("Transpose"):
        return functools.partial(ops.conv_transpose, output_padding=layer.output_padding, **options)
    if kind.startswith(("Depthwise", "Separable")):
        return functools.partial(ops.depthwise_conv, **options)
    axis, is_causal = (1 if layer.data_format == "channels_first" else -1), layer.padding == "causal"
    options["padding"] = "valid" if is_causal else layer.padding

    def convolution(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        x = ops.pad(x, layer._compute_causal_padding()) if is_causal else x
        if layer.groups == 1:
            return ops.conv(x, kernel, **options)
        groups = zip(tf.split(x, layer.groups, axis), tf.split(kernel, layer.groups, -1), strict=True)
        return tf.concat([ops.conv(*group, **options) for group in groups], axis)

    return convolution


def _value(weight: Any) -> tf.Tensor:
    """A weight's value, to which no gradient flows."""
    return tf.stop_gradient(ops.convert_to_tensor(weight, "float32"))


def _along(values: tf.Tensor, axis: int, tensor: tf.Tensor) -> tf.Tensor:
    """Values of channels in a shape that broadcasts over tensors of that rank."""
    shape = [1] * tensor.shape.rank
    shape[axis] = -1
    return tf.reshape(values, shape)


def _fits(after: Normalisation, before: Linear) -> bool:
    rank = after.layer.input_spec.ndim
    return after.layer.axis % rank == before.axis % rank


def _dimensions(kinds: str, numbers: str = "123") -> list[str]:
    return [f"{kind}{number}D" for kind in kinds.split() for number in numbers]


LINEAR = ("Dense", *_dimensions("Conv"), *(f"{kind}Transpose" for kind in _dimensions("Conv")))
LINEAR += (*_dimensions("DepthwiseConv SeparableConv", "12"),)
RESIZES = ("Resizing", *_dimensions("UpSampling"))
ROLES: dict[str, Role] = {
    **dict.fromkeys(_dimensions("ZeroPadding Cropping MaxPooling GlobalMaxPooling"), Role.MOVE),
    **dict.fromkeys(("Flatten", "Reshape", "Permute", "RepeatVector", "Concatenate", "Maximum", "Minimum"), Role.MOVE),
    **dict.fromkeys(("Cast", "Transpose", "ExpandDims", "Squeeze", "GetItem", "Pad", "Split", "Stack"), Role.MOVE),
    **dict.fromkeys(("CenterCrop", "RandomCrop", "Max"), Role.MOVE),
    **dict.fromkeys((*_dimensions("AveragePooling GlobalAveragePooling"), "Mean", "Sum", *RESIZES), Role.AVERAGE),
    **dict.fromkeys(("Add", "Subtract", "Average"), Role.SUM),
    **dict.fromkeys(("Rescaling", "Normalization", "Negative"), Role.SCALE),
    "Multiply": Role.PRODUCT,
}
ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")  # with a constant
RECTIFIERS: dict[str, Callable[[Any], tuple[float, float | None]]] = {
    **dict.fromkeys(("relu", "Relu"), lambda _: (0.0, None)),
    **dict.fromkeys(("relu6", "Relu6"), lambda _: (0.0, 6.0)),
    **dict.fromkeys(("LeakyReLU", "LeakyRelu"), lambda layer: (layer.negative_slope, None)),
    "ReLU": lambda layer: (layer.negative_slope, layer.max_value),
    "leaky_relu": lambda _: (0.2, None),
}
NOT_ELEMENTWISE = ("softmax", "log_softmax", "glu", "sparsemax")
ELEMENTWISE = ("ReLU", "ELU", "PReLU", "Elu", "Selu", "Gelu", "Silu", "Celu", "Sigmoid", "Tanh", "Softplus", "Softsign")
ELEMENTWISE += ("HardSigmoid", "HardSilu", "Mish")
AUGMENTATIONS = ("MixUp", "CutMix", "AugMix", "RandAugment")
