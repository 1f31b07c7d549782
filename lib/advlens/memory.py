"""Going on with fewer images at once where memory does not suffice."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

Result = TypeVar("Result")


def halve_until_it_fits(call: Callable[[int], Result], size: int, *, n: int, shape: tuple[int, ...]) -> Result:
    """What `call` gives with `size` images at once, or with half of that, as often as memory does not suffice.

    Args:
        n: how many images there are; shape: of one of them, for the message.
    Raises:
        MemoryError: where memory does not suffice for one image.
    """
    while True:
        try:
            return call(size)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            if size == 1:
                raise MemoryError(
                    f"one image of {shape} needs more memory than there is: close other programs, or use a smaller "
                    "network"
                ) from error
            size = -(-min(size, n) // 2)
            warnings.warn(f"out of memory: going on with {size} images at once", stacklevel=4)
