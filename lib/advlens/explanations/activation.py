"""Class activation maps: which places of a network's last channels spoke for a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from advlens.arrays import Array, checked_images
from advlens.explanations.arguments import neuron_selection
from advlens.networks.parts import last_convolution, last_layer, layer_called, name_in, tensors_of

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

AT_ONCE = 512


def class_activation_maps(
    network: keras.Model, images: Array, *, neuron: str | int | Array = "predicted", as_published: bool = False
) -> Array:
    """Sums of the channels before global average pooling, each weighted as the class weights its mean.

    The mean of a map before it is enlarged, and the class's bias, are the logit.

    Args:
        network: Keras 3 network whose logits are a dense layer of the means of channels.
        images: (n, h, w, channels) floats in [0, 1].
        neuron: "predicted" explains each image's largest logit, a class number or (n,) class numbers that logit.
        as_published: as the Type I study's code has it, which assigns each channel's part where it should add it, so
            that the last channel alone is seen.
    Returns:
        (n, h, w, 1) float32, bilinearly enlarged to the image's size.
    Raises:
        ValueError: for a network of another form, bad images, or classes that it does not have.
    Source: Zhou et al. 2016.
    """
    import keras

    from advlens.networks.unfolding import unfolded

    network = unfolded(network)
    images = checked_images(images, shape=network.input_shape[1:])
    logits, pooling, tensors = last_layer(network), _pooling(network), tensors_of(network)
    inside = keras.Model(tensors.image, [tensors.inputs[name_in(network, pooling)], tensors.logits])

    def of_batch(images: tf.Tensor, neurons: tf.Tensor | None) -> Array:
        channels, outputs = (each.numpy() for each in inside(images, training=False))
        weights = logits.kernel.numpy().T[outputs.argmax(axis=1) if neurons is None else neurons]
        parts = channels * weights[:, None, None, :]
        return parts[..., -1:] if as_published else parts.sum(axis=-1, keepdims=True)

    return _enlarged(of_batch, network, images, neuron)


def grad_cam(
    network: keras.Model, images: Array, *, neuron: str | int | Array = "predicted", layer: str | None = None
) -> Array:
    """The positive part of the sum of a layer's channels, each weighted by the mean gradient of a logit by it.

    Args:
        network: Keras 3 network that ends in logits.
        images, neuron: as in `class_activation_maps`.
        layer: whose channels; None for the last convolution before the logits.
    Returns:
        (n, h, w, 1) float32 ≥ 0, bilinearly enlarged to the image's size.
    Raises:
        ValueError: for a network without a convolution, a layer that it does not have or that has no places, bad
            images, or classes that it does not have.
    Source: Selvaraju et al. 2017, eqs. 1 and 2.
    """
    import keras
    import tensorflow as tf

    from advlens.networks.unfolding import unfolded

    network = unfolded(network)
    images = checked_images(images, shape=network.input_shape[1:])
    name = name_in(network, last_convolution(network) if layer is None else layer_called(network, layer))
    tensors = tensors_of(network)
    if len(shape := tensors.outputs[name].shape) != 4:
        raise ValueError(f"layer {name!r} has no places, its outputs are {shape}: choose another")
    inside = keras.Model(tensors.image, [tensors.outputs[name], tensors.logits])

    def of_batch(images: tf.Tensor, neurons: tf.Tensor | None) -> Array:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            channels, outputs = inside(images, training=False)
            rows = tf.argmax(outputs, axis=1) if neurons is None else neurons
            explained = tf.gather(outputs, rows, batch_dims=1)
        return weigh_channels(channels, tape.gradient(explained, channels), tf.nn.relu).numpy()

    return _enlarged(of_batch, network, images, neuron)


def weigh_channels(channels: tf.Tensor, gradients: tf.Tensor, positive: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """(n, h, w, 1) positive part of the sum of (n, h, w, k) channels, each weighted by its mean gradient."""
    import tensorflow as tf

    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    return positive(tf.reduce_sum(weights * channels, axis=-1, keepdims=True))


def _enlarged(of_batch, network: keras.Model, images: Array, neuron: str | int | Array) -> Array:
    import tensorflow as tf

    if isinstance(neuron, str) and neuron != "predicted":
        raise ValueError(f'neuron must be "predicted", a class number or one an image, got {neuron!r}')
    _, neurons = neuron_selection(neuron, n=len(images), num_classes=network.output_shape[-1])
    maps = np.empty((*images.shape[:3], 1), np.float32)
    for start in range(0, len(images), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found = of_batch(tf.convert_to_tensor(images[part]), None if neurons is None else neurons[part])
        maps[part] = tf.image.resize(found, images.shape[1:3]).numpy()
    return maps


def _pooling(network: keras.Model) -> keras.layers.Layer:
    """The layer of means that the logits are made of."""
    import keras

    kinds = (keras.layers.GlobalAveragePooling2D, keras.layers.Dense)
    last = network.layers[-2:]
    if len(last) < 2 or not all(map(isinstance, last, kinds)):
        raise ValueError(
            f"network {network.name!r} must end in global average pooling and a dense layer, as global_pooling_cnn "
            "does: for others use grad_cam"
        )
    return last[0]
