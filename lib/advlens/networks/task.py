"""The task networks of the studies, one function each: images in [0, 1] → logits."""

import keras
from keras import layers

from advlens.networks.building import Shape
from advlens.store import versioned


@versioned(1)
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


@versioned(1)
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


@versioned(1)
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


@versioned(1)
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
