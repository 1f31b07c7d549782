"""The task network of the deep-k-nearest-neighbours study: images in [0, 1] → logits."""

import keras
from keras import layers

from advlens.networks.building import Shape
from advlens.store import versioned


@versioned(1)
def deep_knn_cnn(input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """Three convolutions without pooling, of 8×8, 6×6 and 5×5 pixels, that end in one pixel at 28×28.

    Source: Papernot & McDaniel 2018, table 1, and the report's appendix A.
    """
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(64, 8, strides=2, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(128, 6, strides=2, activation="relu", name="conv2"),
            layers.Conv2D(128, 5, activation="relu", name="conv3"),
            layers.Flatten(name="flatten"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="deep_knn_cnn",
    )
