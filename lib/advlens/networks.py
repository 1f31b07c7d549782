"""Keras builders of every task and detector network, one function each, and the catalogue of their names.

Networks take images in [0, 1] and end in logits: no softmax layer, losses with `from_logits=True`.
Activations are fused into their layer, as Deep Taylor's rules want it. Nothing here trains.
"""

from collections.abc import Callable

import keras
from keras import layers

Shape = tuple[int, int, int]


def average_pooling_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """Task network of the relevancy-map study: three convolutions with average pooling, inputs 2x − 1.

    The study pools once more after the third convolution; at 28×28 its output is one pixel wide already, so that
    pooling is the identity and is left out.
    """
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Rescaling(2.0, offset=-1.0, name="symmetric"),
            layers.Conv2D(10, 5, activation="relu", name="conv1"),
            layers.AveragePooling2D(2, name="pool1"),
            layers.Conv2D(25, 5, activation="relu", name="conv2"),
            layers.AveragePooling2D(2, name="pool2"),
            layers.Conv2D(100, 4, activation="relu", name="conv3"),
            layers.Conv2D(num_classes, 1, name="conv4"),
            layers.Flatten(name="logits"),
        ],
        name="average_pooling_cnn",
    )


def two_conv_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """A small network with max pooling and one hidden dense layer: quick to train, used by tests and benchmarks."""
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(16, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(32, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="two_conv_cnn",
    )


def digits_dropout_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """Task network of the closeness-and-uncertainty study for digits: two convolutions, dropout around a dense layer.

    The study lists no kernel sizes but 3×3, no padding and no activation: none and ReLU here.
    """
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(10, 3, activation="relu", name="conv1"),
            layers.Conv2D(20, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.5, name="dropout1"),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dropout(0.5, name="dropout2"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="digits_dropout_cnn",
    )


def fashion_dropout_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """Task network of the closeness-and-uncertainty study for Fashion-MNIST: four convolutions, three dropouts.

    As `digits_dropout_cnn`, but padded, so that four convolutions and two poolings leave 7×7 values.
    """
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv3"),
            layers.Dropout(0.5, name="dropout1"),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv4"),
            layers.Dropout(0.5, name="dropout2"),
            layers.Flatten(name="flatten"),
            layers.Dense(600, activation="relu", name="hidden1"),
            layers.Dropout(0.5, name="dropout3"),
            layers.Dense(128, activation="relu", name="hidden2"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="fashion_dropout_cnn",
    )


def slide_detector_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 2) -> keras.Model:
    """Input and relevancy classifier of the relevancy-map study: three convolutions with batch normalisation."""
    return keras.Sequential(
        [
            layers.Input(input_shape),
            *_normalised_conv(1, channels=8),
            layers.MaxPooling2D(2, name="pool1"),
            *_normalised_conv(2, channels=16),
            layers.MaxPooling2D(2, name="pool2"),
            *_normalised_conv(3, channels=32),
            layers.Flatten(name="flatten"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="slide_detector_cnn",
    )


def vgg_like_detector_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 2) -> keras.Model:
    """The deeper relevancy classifier that the study tried: pairs of convolutions, two dense layers with dropout."""
    return keras.Sequential(
        [
            layers.Input(input_shape),
            *_vgg_block(1, channels=16),
            *_vgg_block(2, channels=32),
            layers.Flatten(name="flatten"),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dropout(0.5, name="dropout"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="vgg_like_detector_cnn",
    )


def _normalised_conv(number: int, *, channels: int) -> list[layers.Layer]:
    # The slides' framework normalises by the whole training set's statistics; Keras' default momentum of 0.99 would
    # still hold half of the initial ones after 70 steps.
    return [
        layers.Conv2D(channels, 3, padding="same", name=f"conv{number}"),
        layers.BatchNormalization(momentum=0.9, name=f"norm{number}"),
        layers.ReLU(name=f"relu{number}"),
    ]


def _vgg_block(number: int, *, channels: int) -> list[layers.Layer]:
    return [
        layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{number}a"),
        layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{number}b"),
        layers.MaxPooling2D(2, name=f"pool{number}"),
        layers.Dropout(0.25, name=f"dropout{number}"),
    ]


NETWORKS: dict[str, Callable[[Shape, int], keras.Model]] = {
    builder.__name__: builder
    for builder in (
        average_pooling_cnn,
        two_conv_cnn,
        digits_dropout_cnn,
        fashion_dropout_cnn,
        slide_detector_cnn,
        vgg_like_detector_cnn,
    )
}


def last_layer(network: keras.Model) -> layers.Layer:
    """The last layer that has weights: the one whose outputs are the logits."""
    return [layer for layer in network.layers if layer.weights][-1]


def build(name: str, *, input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """The untrained network of that name, (n, *input_shape) in [0, 1] → (n, num_classes) logits.

    Raises:
        ValueError: for a name that is not in the catalogue, or images of a size that the network is not made for.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network is called {name!r}: choose one of {', '.join(NETWORKS)}")
    try:
        network = NETWORKS[name](input_shape, num_classes)
    except ValueError as error:
        raise ValueError(
            f"{name} can't take images of shape {input_shape}, they are too small: choose another"
        ) from error
    if network.output_shape != (None, num_classes):
        raise ValueError(
            f"{name} is not made for images of shape {input_shape}: it would give {network.output_shape[1:]} outputs "
            f"where {num_classes} are needed: resize the images to 28×28, or choose another network"
        )
    return network
