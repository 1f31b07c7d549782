"""Any Keras network of images as the one flat network, from [0, 1] to logits, that attacks, lenses and maps look at.

Networks inside it are unfolded, their layers called `backbone/conv2`; operators and normalisations become layers; a
softmax or sigmoid at the end is cut off. Nothing here trains, and the given network stays as it is.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from advlens.arrays import Array
from advlens.networks.parts import FULL_NAMES

Tensor = keras.KerasTensor
Range = tuple[float | Sequence[float], float | Sequence[float]]

IDLE = (layers.Dropout, layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout, layers.Identity)
HEADS = ("softmax", "sigmoid")
MEAN_OF_PASSES = "mean_of_passes"  # the last layer of what `averaged` makes
MOST_OFF = 0.02  # of the largest value, by which outputs differ that should be the same: half precision errs by less


def unfolded(network: keras.Model, *, input_range: Range | None = None, bgr: bool = False) -> keras.Model:
    """The network as a flat functional one, (n, h, w, channels) in [0, 1] → (n, c) float32 logits; itself if it is one.

    One output z, with or without its sigmoid, becomes the logits (0, z) of classes 0 and 1. Random augmentation, the
    identity in evaluation, is left out. A warning says what is cut off and left out. Layers of a network inside are
    copies, unless one computes something else; the others are shared with `network`. A subclassed Model becomes one
    layer, once it was called.

    Args:
        input_range: what the network takes for 0 and 1, numbers or one a channel in the network's own order: (0, 255),
            (−1, 1), or −mean/std and (1 − mean)/std; None for [0, 1].
        bgr: whether the network takes the channels of colour images in reverse order.
    Raises:
        ValueError: for a range that is none, `bgr` of other than three channels, or a network that computes something
            else once it is flat.
    """
    network = _with_graph(network)
    graph = _graph(network)
    if graph is None or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return network  # what is wrong with it is said by the classifier
    if input_range is None and not bgr and (hasattr(network, FULL_NAMES) or _is_flat(network, graph)):
        return network
    image: Any = keras.Input(graph.inputs[0].shape[1:], name="image")
    flattening = _Flattening()
    given = _scaled(image, input_range, bgr, flattening.reversed)
    found = flattening.run(graph, given, "")
    if None not in image.shape[1:]:
        _check_same(network, keras.Model(image, given), keras.Model(given, found), bgr=bgr)
    output, said = flattening.logits(found)
    if flattening.left_out:
        said = [*said, f"is taken without {', '.join(flattening.left_out)}, which act in training alone"]
    if output.dtype != "float32":
        output = layers.Identity(dtype="float32", name="as_float32")(output)
    if said:
        warnings.warn(f"network {network.name!r} {' and '.join(said)}", stacklevel=1)  # here: once, whoever asks
    flat = keras.Model(image, output, name=network.name)
    setattr(flat, FULL_NAMES, flattening.names)
    return flat


def averaged(network: keras.Model, passes: int) -> keras.Model:
    """A flat network with random layers as one whose logits are the mean of that many passes through these layers."""
    graph, image = _graph(network), keras.Input(network.inputs[0].shape[1:], name="image")
    logits = [keras.tree.flatten(graph._run_through_graph(image))[0] for _ in range(passes)]
    made = keras.Model(image, layers.Average(name=MEAN_OF_PASSES, dtype="float32")(logits), name=network.name)
    setattr(made, FULL_NAMES, getattr(network, FULL_NAMES, {}))
    return made


def is_averaged(network: keras.Model) -> bool:
    """Whether `averaged` made it, or what it was made into: its outputs differ a little between two calls."""
    return any(layer.name == MEAN_OF_PASSES for layer in network.layers)


class _Flattening:
    """Walks through a network's graph on new tensors; layers are known by their full names."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # a layer's own name → its full one, of those in networks inside
        self.left_out: list[str] = []
        self.reversed: dict[int, Tensor] = {}  # by id, tensors that the next layer takes in reverse order of channels
        self._layers: dict[tuple[str, bool], Any] = {}  # by full name, and whether its kernel is reversed
        self._made: dict[int, tuple[Any, Tensor, Tensor]] = {}  # by the output's id: its layer, the input, itself

    def run(self, graph: Any, inputs: Any, prefix: str) -> Any:
        """What the graph makes of symbolic inputs."""
        return graph._run_through_graph(inputs, call_fn=partial(self._call, prefix))

    def _call(self, prefix: str, operation: Any, *args: Any, **options: Any) -> Any:
        """What one layer, operator or network inside makes of symbolic inputs."""
        name = prefix + operation.name
        inside = _graph(operation) if isinstance(operation, keras.Model) else None
        if inside is not None:
            return self.run(inside, args[0], f"{name}/")
        if _is_augmentation(operation):
            self.left_out.append(name)
            return args[0]
        is_reversed = id(args[0]) in self.reversed
        kernel_reversed = is_reversed and type(operation) is layers.Conv2D and operation.groups == 1
        if is_reversed and not kernel_reversed and not isinstance(operation, layers.ZeroPadding2D):
            args = (keras.ops.flip(args[0], axis=-1), *args[1:])
        key, is_copied = (name, kernel_reversed), bool(prefix) or kernel_reversed
        is_new = key not in self._layers
        layer = self._layers[key] = self._layer(operation, args, name, is_copied) if is_new else self._layers[key]
        if isinstance(layer, layers.Layer) and not isinstance(operation, layers.Layer):
            tensors = [each for each in args if isinstance(each, Tensor)]
            args, options = (tensors if len(tensors) > 1 else tensors[0],), {}
        made = layer(*args, **options)
        if is_new and layer is not operation and type(layer) is type(operation) and isinstance(layer, layers.Layer):
            weights = operation.get_weights()
            layer.set_weights([weights[0][:, :, ::-1], *weights[1:]] if kernel_reversed else weights)
            if isinstance(layer, layers.Normalization):
                layer.finalize_state()  # it computes by numbers that are no weights
            if not kernel_reversed and not _computes_the_same(layer, operation, args, options):
                self.names.pop(layer.name, None)
                layer = self._layers[key] = operation  # shared, as its configuration does not hold all that it is
                made = layer(*args, **options)
        if isinstance(made, Tensor):
            self._made[id(made)] = layer, args[0], made
            if is_reversed and isinstance(operation, layers.ZeroPadding2D):
                self.reversed[id(made)] = made
        return made

    def _layer(self, operation: Any, args: tuple, name: str, is_copied: bool) -> Any:
        """The layer that does what the operation does, under that name; the operation itself where it can."""
        layer = _as_layer(operation, args)
        if layer is None:
            if not is_copied or isinstance(operation, keras.Model):
                return operation
            try:
                layer = type(operation).from_config(operation.get_config())
            except Exception:  # a layer of the user's own without a configuration: shared, under its own name
                return operation
        layer.name = name.replace("/", ".")  # Keras takes no slash
        if layer.name != name:
            self.names[layer.name] = name
        return layer

    def logits(self, output: Any) -> tuple[Tensor, list[str]]:
        """The output without its softmax or sigmoid, one output as two, and what is to be said of it."""
        (output,) = keras.tree.flatten(output)
        layer, source, end = self._maker(output)
        while isinstance(layer, IDLE):
            layer, source, end = self._maker(source)
        head, is_binary = _activation(layer), end.shape[1:] == (1,)
        if head not in HEADS and not (is_binary and head == "linear"):
            return output, []
        is_fused = head in HEADS and bool(getattr(layer, "weights", None))
        if head in HEADS and not is_fused:
            layer, source, end = self._maker(source)
        said = f"ends in a {head}: it is cut off, so that outputs are logits" if head in HEADS else "has one output"
        said += ": the logits are (0, z) of classes 0 and 1" if is_binary else ""
        return _linear(layer, source, end, is_fused=is_fused, is_binary=is_binary), [said]

    def _maker(self, tensor: Tensor) -> tuple[Any, Tensor, Tensor]:
        """The layer or operator that made a tensor, what it made it of, and the tensor."""
        return self._made.get(id(tensor), (None, tensor, tensor))


def _computes_the_same(layer: Any, operation: Any, args: tuple, options: dict[str, Any]) -> bool:
    """Whether a copy gives what its original gives, for random values; yes where that is random itself."""
    rng = np.random.default_rng(0)

    def values(given: Any) -> Any:
        return rng.random((2, *given.shape[1:]), np.float32).astype(given.dtype) if isinstance(given, Tensor) else given

    if any(isinstance(each, Tensor) and None in each.shape[1:] for each in keras.tree.flatten((args, options))):
        return True  # of no fixed size: nothing to try it on
    args, options = (keras.tree.map_structure(values, each) for each in (args, options))  # pyright: ignore
    expected, again = operation(*args, **options), operation(*args, **options)
    return not _close(expected, again) or _close(expected, layer(*args, **options))


def _check_same(network: keras.Model, scaled: keras.Model, flat: keras.Model, *, bgr: bool) -> None:
    """Stops where a network gives other outputs than `flat`, which was made of it, for images through `scaled`."""
    given = np.asarray(scaled(np.random.default_rng(0).random((2, *scaled.input_shape[1:]), np.float32)))
    dtype = network.inputs[0].dtype
    given = given if "float" in dtype else np.rint(given)
    taken = given[..., ::-1] if bgr else given
    expected, again = (network(keras.ops.convert_to_tensor(taken, dtype), training=False) for _ in range(2))
    if _close(expected, again) and not _close(expected, flat(given, training=False)):
        raise ValueError(
            f"network {network.name!r} gives other outputs than its layers do, one after the other: a network inside "
            "it computes more than these (as by a call of its own); make that a Layer"
        )


def _close(expected: Any, found: Any) -> bool:
    """Whether outputs differ by at most `MOST_OFF` of their largest value; NaN and infinity are never other values."""
    for one, other in zip(*(keras.tree.flatten(each) for each in (expected, found)), strict=True):
        one, other = (np.asarray(each, np.float64) for each in (one, other))
        if one.shape != other.shape or (np.abs(one - other) > MOST_OFF * np.abs(one).max()).any():
            return False
    return True


def _linear(layer: Any, source: Tensor, end: Tensor, *, is_fused: bool, is_binary: bool) -> Tensor:
    """`end`, which the layer makes of `source`, without the activation if fused, and (0, z) for a binary z."""
    changed: dict[str, Any] = {"activation": "linear"} if is_fused else {}
    weights = layer.get_weights() if isinstance(layer, layers.Layer) else []
    if is_binary and type(layer) is layers.Dense and (is_fused or _activation(layer) == "linear"):
        changed["units"], weights = 2, [np.concatenate([0 * each, each], axis=-1) for each in weights]
    if changed:
        end = _made_by(type(layer), {**layer.get_config(), **changed}, source, weights)
    if is_binary and end.shape[1:] == (1,):
        both = {"units": 2, "use_bias": False, "trainable": False, "name": "both_classes", "dtype": "float32"}
        end = _made_by(layers.Dense, both, end, [np.array([[0.0, 1.0]], np.float32)])
    return end


def _made_by(kind: type[layers.Layer], config: dict[str, Any], source: Tensor, weights: list[Array]) -> Tensor:
    layer = kind.from_config(config)
    made = layer(source)
    layer.set_weights(weights)
    return made


def _with_graph(network: keras.Model) -> keras.Model:
    """A Model without a graph as the one layer of a functional network, if its input's shape is known."""
    if not isinstance(network, keras.Model) or getattr(network, "inputs", None):
        return network
    if isinstance(network, keras.Sequential):  # such as one of a single network
        shape = getattr(network.layers[0], "input_shape", None) if network.layers else None
    else:
        shape = (network.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, tuple | list) or not all(isinstance(side, int) for side in shape[1:]):
        return network
    image = keras.Input(shape[1:], name="image")
    return keras.Model(image, network(image), name=network.name)


def _graph(network: keras.Model) -> Any:
    """The functional graph of a network, Sequential ones included; None where it has none."""
    if not isinstance(network, keras.Model) or not getattr(network, "inputs", None):
        return None
    return network if hasattr(network, "operations") else keras.Model(network.inputs, network.outputs)


def _is_flat(network: keras.Model, graph: Any) -> bool:
    """Whether nothing is to be done: plain layers from a float image to logits."""
    last, output = graph.operations[-1], network.compute_output_spec(graph.inputs[0])
    return (
        all(
            isinstance(each, layers.Layer)
            and not isinstance(each, keras.Model | layers.Normalization)
            and not _is_augmentation(each)
            for each in graph.operations
        )
        and graph.inputs[0].dtype == "float32"
        and not isinstance(output, dict)
        and graph.outputs[0].shape[1:] != (1,)
        and graph.outputs[0].dtype == "float32"
        and not isinstance(last, IDLE)
        and _activation(last) not in HEADS
    )


def _is_augmentation(layer: Any) -> bool:
    kind = type(layer)
    return kind.__module__.startswith("keras.") and kind.__name__.startswith("Random") and kind != layers.RandomCrop


def _activation(layer: Any) -> str:
    """The name of a layer's or an operator's activation."""
    kind = type(layer).__name__
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    activation = getattr(layer, "activation", None) or keras.activations.linear
    return getattr(activation, "__name__", type(activation).__name__).lower()


def _scaled(image: Tensor, input_range: Range | None, bgr: bool, is_reversed: dict[int, Tensor]) -> Tensor:
    """The image in the range that a network takes; noted where its channels are yet to be reversed."""
    channels = image.shape[-1]
    if bgr and channels != 3:
        raise ValueError(f"bgr wants colour images, got {channels} channels: leave it out")
    if input_range is not None:
        try:
            low, high = (
                np.broadcast_to(np.asarray(each, np.float64), channels)[:: -1 if bgr else 1] for each in input_range
            )
        except (TypeError, ValueError):
            low = high = np.zeros(1)
        if not (low < high).all() or not np.isfinite(high - low).all():
            raise ValueError(
                f"input_range must be what the network takes for black and for white, such as (0, 255), numbers or "
                f"{channels} each, got {input_range!r}"
            )
        image = _rescaling(high - low, low)(image)
    if bgr:
        is_reversed[id(image)] = image
    return image


def _rescaling(scale: Array, offset: Array, name: str = "input_range") -> layers.Layer:
    """x ↦ scale · x + offset with numbers, or one a channel."""
    scale, offset = np.broadcast_arrays(np.ravel(scale), np.ravel(offset))
    if len(set(scale)) == len(set(offset)) == 1:
        return layers.Rescaling(float(scale[0]), float(offset[0]), name=name, dtype="float32")
    return layers.Rescaling(scale.tolist(), offset.tolist(), name=name, dtype="float32")


def _as_layer(operation: Any, args: tuple) -> layers.Layer | None:
    """A Normalization, or an operator, as the plain layer that computes the same; None for any other."""
    kind, channels = type(operation).__name__, args[0].shape[-1] if isinstance(args[0], Tensor) else None
    if isinstance(operation, layers.Normalization):
        mean, variance = (np.asarray(each, np.float64).ravel() for each in (operation.mean, operation.variance))
        if operation.invert or mean.size not in (1, channels):
            return None
        scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
        return _rescaling(scale, -mean * scale)
    if isinstance(operation, layers.Layer):
        return None
    if kind == "Relu":
        return layers.ReLU(dtype="float32")
    tensors = [each for each in args if isinstance(each, Tensor)]
    if kind == "Add" and len(args) == len(tensors) == 2 and tensors[0].shape == tensors[1].shape:
        return layers.Add(dtype="float32")
    if len(args) != 2 or len(tensors) != 1:
        return None
    comes_first = isinstance(args[0], Tensor)
    number = np.asarray(args[1 if comes_first else 0], np.float64)
    if number.size != 1 and (*number.shape[-1:], number.size) != (tensors[0].shape[-1],) * 2:
        return None
    affine = {"Add": (1, number), "Multiply": (number, 0), "Subtract": (1, -number) if comes_first else (-1, number)}
    if kind in ("Divide", "TrueDivide") and comes_first:
        affine[kind] = (1 / number, 0)
    return _rescaling(*affine[kind]) if kind in affine else None
