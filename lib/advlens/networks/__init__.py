"""Keras builders of every task and detector network, and the catalogue of their names.

Networks take images in [0, 1] and end in logits: no softmax layer, losses with `from_logits=True`.
Activations are fused into their layer, as Deep Taylor's rules want it. Nothing here trains.
"""

import keras

from advlens.networks.building import Builder, Shape, built
from advlens.networks.deep_knn import deep_knn_cnn
from advlens.networks.detector import slide_detector_cnn, vgg_like_detector_cnn
from advlens.networks.global_pooling import global_pooling_cnn
from advlens.networks.parts import last_convolution, last_layer
from advlens.networks.task import average_pooling_cnn, digits_dropout_cnn, fashion_dropout_cnn, two_conv_cnn

NETWORKS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        *(average_pooling_cnn, two_conv_cnn, digits_dropout_cnn, fashion_dropout_cnn, deep_knn_cnn),
        *(global_pooling_cnn, slide_detector_cnn, vgg_like_detector_cnn),
    )
}

__all__ = [
    "NETWORKS",
    "average_pooling_cnn",
    "build",
    "deep_knn_cnn",
    "digits_dropout_cnn",
    "dropout_network",
    "fashion_dropout_cnn",
    "find_builder",
    "global_pooling_cnn",
    "last_convolution",
    "last_layer",
    "slide_detector_cnn",
    "two_conv_cnn",
    "vgg_like_detector_cnn",
]


def find_builder(name: str) -> Builder:
    """The builder of that name.

    Raises:
        ValueError: for a name that is not in the catalogue.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network is called {name!r}: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def build(name: str, *, input_shape: Shape = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """The untrained network of that name, (n, *input_shape) in [0, 1] → (n, num_classes) logits.

    Raises:
        ValueError: for a name that is not in the catalogue, or images of a size that the network is not made for.
    """
    return built(find_builder(name), input_shape=input_shape, num_classes=num_classes)


def dropout_network(dataset: str) -> str:
    """The name of the task network with dropout of a data set, the closeness study's; the digits' for a user's own.

    >>> dropout_network("mnist")
    'digits_dropout_cnn'
    """
    return "fashion_dropout_cnn" if dataset == "fashion_mnist" else "digits_dropout_cnn"
