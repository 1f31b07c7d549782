"""The lens of adaptive noise reduction: coarser grey levels, and smoothing where an image holds much information."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d
from scipy.special import softmax

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.lenses.base import Lens
from advlens.store import versioned

LOW, HIGH = 4.0, 5.0  # entropies in bits: below LOW two grey levels are left, below HIGH four, else six
INTERVALS = (128, 64, 43)  # of 255 grey levels
ARM = 3  # pixels of the cross on each side of its centre: 13 pixels in all
ROUNDING = 1e-3  # of a grey level: float32 stores a level a little below it


def entropies(levels: Array) -> Array:
    """(n,) Shannon entropies in bits of (n, h, w, channels) grey levels from 0 to 255, averaged over the channels.

    >>> entropies(np.array([0, 0, 255, 255]).reshape(1, 2, 2, 1))
    array([1.])
    """
    n, channels = len(levels), levels.shape[3]
    rows = np.moveaxis(levels, 3, 1).reshape(n * channels, -1)
    places = rows + 256 * np.arange(n * channels)[:, None]
    shares = np.bincount(places.ravel(), minlength=256 * n * channels).reshape(-1, 256) / rows.shape[1]
    return -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1).reshape(n, channels).mean(axis=1)


def cross_mean(images: Array) -> Array:
    """(n, h, w, channels), each pixel the mean of the cross around it; within `ARM` pixels of the edge as it was."""
    length = 2 * ARM + 1
    lines = sum(length * uniform_filter1d(images, length, axis=axis, mode="nearest") for axis in (1, 2))
    smooth = images.copy()
    inside = (slice(None), slice(ARM, -ARM), slice(ARM, -ARM))
    smooth[inside] = ((lines - images) / (2 * length - 1))[inside]
    return smooth


def reduce_noise(images: Array) -> Array:
    """(n, h, w, channels) float32, with two, four or six grey levels by the image's entropy.

    Those with six are smoothed as well: each pixel is the quantised or the smoothed one, whichever is nearer to the
    image's own.
    """
    scaled = images.astype(np.float64) * 255
    levels = np.floor(scaled + ROUNDING)
    found = entropies(levels.astype(np.int64))
    interval = np.select([found < LOW, found < HIGH], INTERVALS[:2], INTERVALS[2])[:, None, None, None]
    quantised = levels // interval * interval
    busy = found >= HIGH
    if busy.any():
        smooth = cross_mean(quantised[busy])
        nearer = np.abs(quantised[busy] - scaled[busy]) < np.abs(smooth - scaled[busy])
        quantised[busy] = np.where(nearer, quantised[busy], smooth)
    return (quantised / 255).astype(np.float32)


@versioned(1)
class NoiseReduction(Lens):
    """Whether the decision changes when the image's noise is reduced, and how far the softmax moves (L1).

    The paper flags changed decisions; the distance orders images where a threshold is chosen afterwards.

    Args:
        classifier: the task network.

    Source: Liang et al. 2021 (first version 2017); bounds, intervals and filter are those of the authors' code.
    """

    name, family, columns = "noise reduction", "image", ("decision under noise reduction", "softmax distance")

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = checked_classifier(classifier)

    def measure(self, images: Array) -> pd.DataFrame:
        """1 where the decision changes, else 0; a distance in [0, 2]."""
        images = checked_images(images, shape=self.classifier.input_shape)
        p, q = (
            softmax(self.classifier.logits(each).astype(np.float64), axis=1) for each in (images, reduce_noise(images))
        )
        changed = (p.argmax(axis=1) != q.argmax(axis=1)).astype(np.float64)
        return pd.DataFrame(dict(zip(self.columns, (changed, np.abs(p - q).sum(axis=1)), strict=True)))

    def to_parts(self) -> dict[str, Any]:
        """The network."""
        return {"network": self.classifier.model}
