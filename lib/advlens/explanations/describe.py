"""A Keras 3 network as plain data that tf_keras can rebuild, and the check that iNNvestigate can take it.

What Keras 3 saves does not load in tf_keras, so the configuration keys that both know and the weights travel.
Nothing here imports Keras: the worker process, which has tf_keras in its place, loads this module too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from advlens.arrays import Array

if TYPE_CHECKING:
    import keras

IMAGE = ""  # the name of the tensor that enters a description: no layer is called that

_POOLING = ("pool_size", "strides", "padding", "data_format")
_WINDOW = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation", "use_bias")
LAYER_KEYS: dict[str, tuple[str, ...]] = {
    "Conv2D": _WINDOW,
    "Conv2DTranspose": (*_WINDOW, "output_padding"),
    "Dense": ("units", "activation", "use_bias"),
    "BatchNormalization": ("axis", "epsilon", "center", "scale"),
    "MaxPooling2D": _POOLING,
    "AveragePooling2D": _POOLING,
    "GlobalMaxPooling2D": ("data_format", "keepdims"),
    "GlobalAveragePooling2D": ("data_format", "keepdims"),
    "Flatten": ("data_format",),
    "Reshape": ("target_shape",),
    "ZeroPadding2D": ("padding", "data_format"),
    "Cropping2D": ("cropping", "data_format"),
    "UpSampling2D": ("size", "data_format", "interpolation"),
    "Permute": ("dims",),
    "LeakyReLU": ("negative_slope",),
    "Activation": ("activation",),
    "Add": (),
    "Average": (),
    "Maximum": (),
    "Concatenate": ("axis",),
}
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
IDENTITIES = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout2D",
)
ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "elu", "selu", "softplus", "softsign")
_PLAIN_RELU = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}


@dataclasses.dataclass(frozen=True)
class LayerDescription:
    """One layer: its Keras class, the configuration that tf_keras takes, where its inputs come from."""

    name: str
    kind: str
    config: dict[str, Any]
    inputs: tuple[str, ...]
    weights: list[Array]


@dataclasses.dataclass(frozen=True)
class Request:
    """What decides an analyzer: the network by its digest, the method, and the tensor that maps are over."""

    digest: str
    method: str
    neuron_mode: str
    start: str
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Description:
    """A network after its leading rescaling, x ↦ scale · x + offset.

    Attributes:
        input_shape: (h, w, channels) of its images.
        scale, offset: float32, scalars or (channels,).
        layers: in the order of computation, each with tensor names (`IMAGE` or a layer's name) as inputs.
        output: name of the layer that makes the logits.
    """

    input_shape: tuple[int, ...]
    scale: Array | np.float32
    offset: Array | np.float32
    layers: tuple[LayerDescription, ...]
    output: str

    def digest(self) -> str:
        """Hexadecimal digest of all that decides what the network computes."""
        digest = hashlib.blake2b(digest_size=16)
        shape = [self.input_shape, self.scale.tolist(), self.offset.tolist(), self.output]
        digest.update(json.dumps(shape).encode())
        for layer in self.layers:
            digest.update(json.dumps([layer.name, layer.kind, layer.config, layer.inputs]).encode())
            for weight in layer.weights:
                digest.update(f"{weight.dtype}{weight.shape}".encode())
                digest.update(np.ascontiguousarray(weight).data)
        return digest.hexdigest()

    def between(self, start: str, end: str) -> set[str]:
        """Names of the layers that lie between two tensors.

        Raises:
            ValueError: if a path leads to `end` past `start`.
        """
        inputs = {layer.name: layer.inputs for layer in self.layers}
        needed: set[str] = set()
        waiting = [end]
        while waiting:
            name = waiting.pop()
            if name == start or name in needed:
                continue
            if name == IMAGE:
                raise ValueError(
                    f"the network has a path around layer {start!r}: choose a layer that all paths lead through"
                )
            needed.add(name)
            waiting.extend(inputs[name])
        return needed

    def activations(self) -> Iterator[tuple[LayerDescription, str]]:
        """The layers that hold a non-linear activation, with its name."""
        for layer in self.layers:
            activation = "leaky_relu" if layer.kind == "LeakyReLU" else layer.config.get("activation", "linear")
            if activation != "linear":
                yield layer, activation


def describe(network: keras.Model) -> Description:
    """The network as plain data.

    Args:
        network: Keras 3 Sequential or functional, (n, h, w, channels) images → (n, c) logits; networks used
            as layers of it are unfolded, layers that only act in training are left out.
    Raises:
        TypeError: for what isn't a Keras network.
        ValueError: for a network or a layer that can't be rebuilt, naming it and what to do.
    """
    input_shape = checked_input_shape(network)
    collector = _Collector()
    output = collector.network(network, IMAGE, "")
    made_by = {layer.name: layer for layer in collector.layers}
    if output not in made_by or made_by[output].config.get("activation", "linear") != "linear":
        raise ValueError(f"network {network.name!r} must end in logits: let its last layer have no activation")
    return Description(input_shape, collector.scale, collector.offset, tuple(collector.layers), output)


def checked_input_shape(network: keras.Model) -> tuple[int, ...]:
    """(h, w, channels) of the images that a network takes, once it is known to make (n, c) logits of them.

    Raises:
        TypeError: for what isn't a Keras network.
        ValueError: for a network without one known image input and one (n, c) output.
    """
    if not hasattr(network, "get_config") or not hasattr(network, "layers"):
        raise TypeError(f"network must be a keras.Model, got {type(network).__name__}")
    ends = [getattr(network, "inputs", None), getattr(network, "outputs", None)] if network.built else [None]
    if any(end is None or len(end) != 1 for end in ends):
        raise ValueError(
            f"network {network.name!r} must have one known input and one output: call it once on a batch of images, "
            "or build it as Sequential with an Input layer or as keras.Model(inputs, outputs)"
        )
    input_shape, output_shape = tuple(network.inputs[0].shape[1:]), tuple(network.outputs[0].shape[1:])
    if len(input_shape) != 3 or None in input_shape or len(output_shape) != 1:
        raise ValueError(
            f"network {network.name!r} must take images of a fixed (h, w, channels) to (num_classes,), "
            f"got {input_shape} to {output_shape}: fix its Input's shape and flatten its output"
        )
    return input_shape


class _Collector:
    """Walks through a network and collects its layers; tensors go by the name of the layer that made them."""

    def __init__(self) -> None:
        self.layers: list[LayerDescription] = []
        self.scale, self.offset = np.float32(1), np.float32(0)
        self.image = IMAGE  # the image as the last Rescaling so far made it
        self.before_rescaling: set[str] = set()

    def network(self, network: keras.Model, tensor: str, prefix: str) -> str:
        """Collects the layers of `network`, which takes `tensor`; returns the tensor that it makes."""
        from advlens.networks.parts import name_in, weighted_layers  # here: the worker process has no Keras 3

        config = _configuration(network)
        weighted_layers(network)  # all of them can be seen
        tensors: dict[tuple[str, int], str] = {}
        layers = {layer.name: layer for layer in network.layers}
        waiting = [
            (entry, use) for entry in config["layers"] for use in range(len(entry.get("inbound_nodes", [0])) or 1)
        ]
        while waiting:
            before = len(tensors)
            for entry, use in waiting:
                name, sources = entry["config"]["name"], _sources(entry, use)
                if entry["class_name"] == "InputLayer":
                    tensors[name, use] = tensor
                elif sources is None or all(source in tensors for source in sources):
                    inputs = [tensor] if sources is None else [tensors[source] for source in sources]
                    if name not in layers:  # an operator, as x / 255
                        raise _unsupported(prefix + name, entry["class_name"])
                    own = prefix + name_in(network, layers[name]) + (f", use {use + 1}" if use else "")
                    made = tensors[name, use] = self.layer(layers[name], inputs, own)
                    tensor = made if sources is None else tensor
            waiting = [(entry, use) for entry, use in waiting if (entry["config"]["name"], use) not in tensors]
            if len(tensors) == before:
                stuck = ", ".join(repr(prefix + entry["config"]["name"]) for entry, _ in waiting)
                raise ValueError(f"layers {stuck} take what no layer of the network makes: build it as one network")
        if "output_layers" not in config:
            return tensor
        name, use, _ = _flat(config["output_layers"])
        return tensors[name, use]

    def layer(self, layer: keras.Layer, inputs: list[str], name: str) -> str:
        """Collects one layer; returns the tensor that it makes."""
        kind, config = type(layer).__name__, layer.get_config()
        if hasattr(layer, "layers"):
            return self.network(layer, inputs[0], f"{name}/")
        if not type(layer).__module__.startswith("keras."):
            raise _unsupported(name, kind)
        if kind in IDENTITIES:
            return inputs[0]
        if kind == "Rescaling" and inputs == [self.image] and not self.layers:
            return self.rescale(config, name)
        if self.before_rescaling.intersection(inputs):
            raise ValueError(f"layer {name!r} takes the image before its Rescaling: let all layers take it after")
        if kind == "ReLU" and all(config[key] == value for key, value in _PLAIN_RELU.items()):
            # The same function, and iNNvestigate's LRP takes activation layers only.
            kind, config = "Activation", {"activation": "relu"}
        if kind not in LAYER_KEYS and kind not in CONVOLUTIONS:
            raise _unsupported(name, kind)
        _check_activation(name, kind, config.get("activation", "linear"))
        weights = layer.get_weights()
        if not all(np.isfinite(weight).all() for weight in weights):
            raise ValueError(f"layer {name!r} has weights that are NaN or infinite: train the network again")
        sources = tuple(IMAGE if tensor == self.image else tensor for tensor in inputs)
        plain = "Conv2D" if kind in CONVOLUTIONS else kind
        for part, own, parameters in _as_plain(kind, config, weights):
            made = name + part
            kept = {key: own[key] for key in LAYER_KEYS[plain]}
            self.layers.append(LayerDescription(made, plain, kept, sources, parameters))
            sources = (made,)
        return made

    def rescale(self, config: dict[str, Any], name: str) -> str:
        """Takes a leading Rescaling layer up into scale and offset."""
        scale, offset = np.float32(config["scale"]), np.float32(config["offset"])
        self.scale, self.offset = self.scale * scale, self.offset * scale + offset
        self.before_rescaling.add(self.image)
        self.image = name
        return name


def _configuration(network: keras.Model) -> dict[str, Any]:
    config = network.get_config()
    if "layers" not in config or len(_flat(config.get("input_layers", ["", 0, 0]))) != 3:
        raise ValueError(
            f"network {network.name!r} must be Sequential or functional with one input, got "
            f"{type(network).__name__}: build it as keras.Model(inputs, outputs)"
        )
    return config


def _sources(entry: dict[str, Any], use: int) -> list[tuple[str, int]] | None:
    """The layers, and which use of each, that feed this use of a layer; None in a Sequential network."""
    if "inbound_nodes" not in entry:
        return None
    if not entry["inbound_nodes"]:
        return []
    found: list[tuple[str, int]] = []

    def search(value: Any) -> None:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            found.append(tuple(value["config"]["keras_history"][:2]))
        elif isinstance(value, dict | list | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                search(part)

    search(entry["inbound_nodes"][use])
    return found


def _as_plain(kind: str, config: dict[str, Any], weights: list[Array]) -> list[tuple[str, dict[str, Any], list[Array]]]:
    """A layer as those that iNNvestigate takes: the end of each one's name, its configuration and weights.

    Convolutions in groups, depthwise and separable ones become plain ones with zeros, which compute the same and
    through which no relevance flows.
    """
    if kind not in CONVOLUTIONS:
        return [("", config, weights)]
    bias = weights[-1:] if config["use_bias"] else []
    if kind == "Conv2D":
        return [("", config, [_ungrouped(weights[0], config["groups"]), *bias])]
    depthwise = _depthwise(weights[0])
    spatial = config | {"filters": depthwise.shape[-1]}
    if kind == "DepthwiseConv2D":
        return [("", spatial, [depthwise, *bias])]
    pointwise = config | {"kernel_size": (1, 1), "strides": (1, 1), "dilation_rate": (1, 1)}
    return [
        (", depthwise", spatial | {"activation": "linear", "use_bias": False}, [depthwise]),
        ("", pointwise, [weights[1], *bias]),
    ]


def _ungrouped(kernel: Array, groups: int) -> Array:
    """(h, w, in, out) kernel of a convolution in groups, (h, w, in / groups, out)."""
    h, w, inner, outer = kernel.shape
    plain, each = np.zeros((h, w, inner * groups, outer), kernel.dtype), outer // groups
    for group in range(groups):
        rows, columns = slice(group * inner, (group + 1) * inner), slice(group * each, (group + 1) * each)
        plain[:, :, rows, columns] = kernel[..., columns]
    return plain


def _depthwise(kernel: Array) -> Array:
    """(h, w, in, in · multiplier) kernel of a depthwise convolution, (h, w, in, multiplier)."""
    h, w, channels, multiplier = kernel.shape
    plain = np.zeros((h, w, channels, channels * multiplier), kernel.dtype)
    for channel in range(channels):
        plain[:, :, channel, channel * multiplier : (channel + 1) * multiplier] = kernel[:, :, channel]
    return plain


def _flat(value: Any) -> list[Any]:
    """A nested list, as Keras writes the ends of a network, in one row."""
    return [leaf for part in value for leaf in _flat(part)] if isinstance(value, list | tuple) else [value]


def _check_activation(name: str, kind: str, activation: Any) -> None:
    if activation == "softmax":
        raise ValueError(f"layer {name!r} ({kind}) is a softmax: explanations want logits, so leave its softmax out")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"layer {name!r} ({kind}) has the activation {activation!r}, which can't be rebuilt: "
            f"use one of {', '.join(ACTIVATIONS)}"
        )


def _unsupported(name: str, kind: str) -> ValueError:
    if kind == "Softmax":
        return ValueError(f"layer {name!r} is a softmax: explanations want logits, so leave it out of the network")
    return ValueError(
        f"layer {name!r} ({kind}) can't be explained by iNNvestigate: build the network from "
        f'{", ".join(LAYER_KEYS)}, ReLU without options, and one leading Rescaling, or pass engine="native"'
    )
