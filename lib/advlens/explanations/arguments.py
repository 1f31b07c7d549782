"""What both engines of `explain` ask of a network, images and the neuron that is explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from advlens.arrays import Array, checked_labels
from advlens.memory import halve_until_it_fits
from advlens.progress import progress

if TYPE_CHECKING:
    import keras

    from advlens.classifier import Classifier


def network_of(network: keras.Model | Classifier) -> keras.Model:
    from advlens.classifier import Classifier  # here: the worker process has no Keras 3
    from advlens.networks.unfolding import unfolded

    return network.model if isinstance(network, Classifier) else unfolded(network)


def in_batches(
    analyze: Callable[[Array, Array | None], Array], images: Array, neurons: Array | None, batch_size: int, method: str
) -> Array:
    """The maps that `analyze` makes of each batch of images and their class numbers, in one array.

    Where memory does not suffice for a batch, all are made again in smaller ones: see `halve_until_it_fits`.
    """

    def of_size(size: int) -> Array:
        maps = None
        starts = range(0, len(images), size)
        if len(starts) > 1:
            starts = progress(starts, description=f"explaining by {method}", unit="batch")
        for start in starts:
            part = slice(start, start + size)
            made = analyze(images[part], None if neurons is None else neurons[part])
            if maps is None:
                maps = np.empty((len(images), *made.shape[1:]), np.float32)
            maps[part] = made
        return maps  # pyright: ignore[reportReturnType]

    return halve_until_it_fits(of_size, batch_size, n=len(images), shape=images.shape[1:])


def neuron_selection(neuron: str | int | Array, *, n: int, num_classes: int) -> tuple[str, Array | None]:
    """iNNvestigate's neuron selection mode, and (n,) int64 class numbers where it is "index"."""
    if isinstance(neuron, str):
        modes = {"predicted": "max_activation", "all": "all"}
        if neuron not in modes:
            raise ValueError(f'neuron must be "predicted", "all", a class number or one an image, got {neuron!r}')
        return modes[neuron], None
    classes = np.asarray(neuron)
    if classes.ndim == 0:
        classes = np.full(n, classes)
    return "index", checked_labels(classes, n=n, num_classes=num_classes)
