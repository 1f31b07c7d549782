"""Layers of a network by their names, and by the role that they have in it."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

FULL_NAMES = "full_names"  # an unfolded network's attribute: a layer's own name → as it is called, `backbone/conv2`


@dataclass(frozen=True)
class Tensors:
    """A network's symbolic tensors in a graph of their own, which a layer's `output` need not be in.

    Attributes:
        image, logits: its ends; inputs, outputs: by the names of layers, of each one's first use.
    """

    image: keras.KerasTensor
    inputs: dict[str, keras.KerasTensor]
    outputs: dict[str, keras.KerasTensor]
    logits: keras.KerasTensor


def tensors_of(network: keras.Model) -> Tensors:
    """The tensors of a network, on whose layers they are made anew."""
    inputs, outputs = {}, {}

    def call(layer: keras.Operation, *args, **options) -> Any:
        made = layer(*args, **options)
        inputs.setdefault(name_in(network, layer), args[0])
        outputs.setdefault(name_in(network, layer), made)
        return made

    # Layers of a loaded network, or of one that another was built of, are in several graphs and know the first alone.
    graph = keras.Model(network.inputs, network.outputs)
    copy = keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    first = {layer.name: copy.inputs[0] for layer in network.layers if isinstance(layer, layers.InputLayer)}
    return Tensors(copy.inputs[0], inputs, first | outputs, copy.outputs[0])


def name_in(network: keras.Model, layer: keras.Operation) -> str:
    """What a layer of a network is called: `backbone/conv2` for one that lay in a network inside it."""
    return getattr(network, FULL_NAMES, {}).get(layer.name, layer.name)


def layer_called(network: keras.Model, name: str) -> layers.Layer:
    """The layer of that name.

    Raises:
        ValueError: for a name that no layer has.
    """
    known = {name_in(network, layer): layer for layer in network.layers}
    if name not in known:
        raise ValueError(f"no layer is called {name!r}: choose one of {', '.join(known)}")
    return known[name]


def unseen(network: keras.Model) -> dict[str, keras.Model]:
    """The Models inside a network that have no graph, as subclassed ones, by name: their layers can't be seen."""
    inner = [layer for layer in getattr(network, "layers", ()) if isinstance(layer, keras.Model)]
    return {name_in(network, model): model for model in inner if not getattr(model, "inputs", None)}


def weighted_layers(network: keras.Model) -> dict[str, layers.Layer]:
    """The layers that have weights, by name, in the order of computation; the statistics of normalised inputs are none.

    Raises:
        ValueError: for a network whose layers can't be seen.
    """
    found = {
        name_in(network, layer): layer
        for layer in network.layers
        if layer.weights and not isinstance(layer, layers.Normalization)
    }
    hidden = [name for name in unseen(network) if name in found]
    if hidden:
        raise ValueError(
            f"the layers of {hidden[0]!r}, a {type(found[hidden[0]]).__name__}, can't be seen: build it as Sequential "
            "or as keras.Model(inputs, outputs)"
        )
    return found


def last_layer(network: keras.Model) -> layers.Layer:
    """The last layer that has weights: the one whose outputs are the logits."""
    return list(weighted_layers(network).values())[-1]


def last_convolution(network: keras.Model) -> layers.Layer:
    """The last Conv2D of the network, or the one before it where the logits are its outputs.

    Raises:
        ValueError: for a network without one, or whose layers can't be seen.
    """
    found = [layer for layer in list(weighted_layers(network).values())[:-1] if isinstance(layer, layers.Conv2D)]
    if not found:
        raise ValueError(f"network {network.name!r} has no convolution before its logits: choose another network")
    return found[-1]
