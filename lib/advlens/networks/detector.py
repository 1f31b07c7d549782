"""The detector networks of the relevancy-map study, one function each: images or maps → two logits."""

import keras
from keras import layers

from advlens.networks.building import Shape
from advlens.store import versioned


@versioned(1)
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


@versioned(1)
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
