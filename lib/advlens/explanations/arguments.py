"""What both engines of `explain` ask of a network, images and the neuron that is explained, and say of their maps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from advlens.arrays import Array, checked_labels
from advlens.memory import halve_until_it_fits
from advlens.progress import progress

if TYPE_CHECKING:
    import keras

    from advlens.classifier import Classifier

CHECKED_IMAGES, MOST_OFF = 8, 2.0  # by whose maps it is seen that relevance is lost, and by what factor


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


def warn_of_losses(maps: Array, explained: Array, method: str) -> None:
    """Says where maps add up to less or more than the (n,) relevance explained, by more than a factor `MOST_OFF`."""
    sums = maps.reshape(len(maps), -1).sum(axis=1, dtype=np.float64)
    ratios = sums[explained != 0] / explained[explained != 0]
    off = ratios[(ratios < 1 / MOST_OFF) | (ratios > MOST_OFF)]
    if len(off):
        warnings.warn(
            f"maps by {method!r} add up to {off.min():.3g} to {off.max():.3g} times the logit on {len(off)} of "
            f"{len(maps)} images checked: biases and normalisations take up relevance or add to it",
            stacklevel=4,
        )
