"""Networks of `keras.applications` that take images in [0, 1] and end in logits, as all networks here do."""

import keras
import numpy as np
from keras import layers

from advlens.store import versioned

BLUE_GREEN_RED_MEANS = (103.939, 116.779, 123.68)  # of ImageNet, in 0 to 255: what VGG was trained to see taken off
FIRST_CONVOLUTION = "block1_conv1"


@versioned(1)
def vgg19(*, weights: str | None = "imagenet", seed: int = 0) -> keras.Model:
    """VGG-19 with its preprocessing built in: (n, 224, 224, 3) RGB in [0, 1] → (n, 1000) logits.

    Keras' own takes blue-green-red in 0 to 255 without its mean. Here a Rescaling does the latter, and the first
    convolution's kernel, its channels turned around, the former.

    Args:
        weights: "imagenet", which Keras downloads, a file of weights, or None for random ones.
        seed: governs random weights.
    Raises:
        OSError: where the weights cannot be fetched, with what to do.

    Source: Simonyan & Zisserman 2015.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input((224, 224, 3), name="image")
    offset = [-mean for mean in BLUE_GREEN_RED_MEANS[::-1]]
    scaled = layers.Rescaling([255.0] * 3, offset=offset, name="imagenet_scale")(image)  # pyright: ignore[reportArgumentType]
    try:
        applied = keras.applications.VGG19(weights=weights, classifier_activation=None, input_tensor=scaled)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # Keras passes on whatever its download runs into
        if weights is None:
            raise
        raise OSError(
            f"VGG-19's weights {weights!r} cannot be had ({error}): pass a weights file's path, or None for random ones"
        ) from error
    network = keras.Model(image, applied.outputs[0], name="vgg19")
    kernel, bias = network.get_layer(FIRST_CONVOLUTION).get_weights()
    network.get_layer(FIRST_CONVOLUTION).set_weights([np.ascontiguousarray(kernel[:, :, ::-1]), bias])
    return network
