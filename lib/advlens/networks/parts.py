"""Layers of a network by the role that they have in it."""

import keras
from keras import layers


def last_layer(network: keras.Model) -> layers.Layer:
    """The last layer that has weights: the one whose outputs are the logits."""
    return [layer for layer in network.layers if layer.weights][-1]


def last_convolution(network: keras.Model) -> layers.Layer:
    """The last Conv2D among the network's own layers, or the one before it where the logits are its outputs.

    Raises:
        ValueError: for a network without one.
    """
    found = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    found = [layer for layer in found if layer is not last_layer(network)]
    if not found:
        raise ValueError(f"network {network.name!r} has no convolution before its logits: choose another network")
    return found[-1]
