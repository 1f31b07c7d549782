"""The network of the Type I study, whose class activation maps are looked at."""

import keras
from keras import layers

from advlens.networks.building import Shape
from advlens.store import versioned


@versioned(1)
def global_pooling_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """Two convolutions, and the mean of each channel: a class activation map is exact there.

    The study names no kernel size: 3×3, which keeps the size of its input, here.

    Source: Zhou et al. 2016, in the sizes of the study's code.
    """
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="global_pooling_cnn",
    )
