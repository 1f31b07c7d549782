"""What all builders share: the shape of an image, and the check of what a builder makes of it."""

from collections.abc import Callable

import keras

Shape = tuple[int, int, int]
Builder = Callable[[Shape, int], keras.Model]


def built(builder: Builder, *, input_shape: Shape, num_classes: int) -> keras.Model:
    """As `networks.build`, of a builder instead of a name."""
    name = builder.__name__
    try:
        network = builder(input_shape, num_classes)
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
