"""The one-pixel attack on whole batches: a population of pixels for every image, all asked of the network together."""

from collections.abc import Callable
from functools import partial

import numpy as np
from art.estimators.classification import ClassifierMixin
from art.estimators.estimator import BaseEstimator

from advlens.arrays import Array, checked_seed
from advlens.attacks.inputs import MARGIN, BatchAttack, check_whole_number
from advlens.classifier import logit_margins
from advlens.store import versioned

LEVELS = 255  # a pixel's new value is a multiple of 1/255
QUERIES = 4096  # candidates that the network is asked about at once: bounds the memory of changed copies


@versioned(2)
class PixelAttack(BatchAttack):
    """Looks for the pixels whose change lowers the true class's logit most, by differential evolution, untargeted.

    A candidate holds `pixels` times a row, a column and a new grey level a channel. In each generation every member i
    meets one child, best + F·(a − b), of two random others a and b, with F drawn from [0.5, 1) for the generation;
    what leaves the range is drawn anew; the better of both survives. An image is done when its best candidate changes
    the decision, and stays as it came where none does.

    The algorithm and its number of queries are those of ART's `PixelAttack` with `es=1`, which takes one image after
    the other; the draws are others.

    Args:
        classifier: an ART classifier.
        pixels: how many pixels may change (ART: `th`).
        max_iter: generations.
        population: candidates an image.
        batch_size: images attacked at once.
        seed: governs all draws; an image's depend on the images before it.

    Source: Su et al. 2019 (400 candidates, 100 generations); Storn & Price 1997, "best/1/bin" with full crossover.
    """

    pixels: int = 1
    max_iter: int = 100
    population: int = 400
    batch_size: int = 256
    seed: int = 0
    _estimator_requirements = (BaseEstimator, ClassifierMixin)

    def _start(self) -> Callable[[Array, Array], Array]:
        return partial(self._attack, rng=np.random.default_rng(self.seed))

    def _attack(self, x: Array, y: Array, *, rng: np.random.Generator) -> Array:
        x_adv, left = x.copy(), np.arange(len(x))
        members = _latin_hypercube(len(x), self.population, self.pixels * (2 + x.shape[-1]), rng=rng)
        energies = self._energies(x, y, members)
        for _ in range(self.max_iter):
            children = _children(members, _best(members, energies), rng=rng)
            born = self._energies(x[left], y[left], children)
            better = born < energies
            members, energies = np.where(better[..., None], children, members), np.where(better, born, energies)
            # The best candidate alone is tried, as ART does: another may fool the network at a larger logit.
            tried = self._changed(x[left], np.arange(len(left)), self._genes(_best(members, energies), x.shape))
            fooled = logit_margins(self.estimator.predict(tried), y[left]) >= MARGIN
            x_adv[left[fooled]] = tried[fooled]
            left, members, energies = left[~fooled], members[~fooled], energies[~fooled]
            if len(left) == 0:
                break
        return x_adv

    def _energies(self, x: Array, y: Array, members: Array) -> Array:
        """(n, population) logits of the true class under each member's change."""
        image = np.repeat(np.arange(len(x)), members.shape[1])
        genes = self._genes(members, x.shape).reshape(len(image), -1)
        logits = np.empty(len(image), np.float32)
        for start in range(0, len(image), QUERIES):
            part = slice(start, start + QUERIES)
            outputs = self.estimator.predict(self._changed(x, image[part], genes[part]))
            logits[part] = outputs[np.arange(len(outputs)), y[image[part]]]
        return logits.reshape(members.shape[:2])

    def _genes(self, members: Array, shape: tuple[int, ...]) -> Array:
        """Members in [0, 1] as whole numbers, (…, pixels · (2 + channels)): row, column and levels of each pixel."""
        _, h, w, channels = shape
        scale = np.tile([h, w, *[LEVELS] * channels], self.pixels)
        limit = np.tile([h - 1, w - 1, *[LEVELS] * channels], self.pixels)
        return np.minimum((members * scale).astype(np.int32), limit)

    def _changed(self, x: Array, image: Array, genes: Array) -> Array:
        """(r, h, w, channels) copies of the (r,) images with their (r, pixels · (2 + channels)) pixels set."""
        changed = x[image]
        for row, column, *levels in np.split(genes.T, self.pixels):
            changed[np.arange(len(image)), row, column] = np.stack(levels, axis=1) / np.float32(LEVELS)
        return changed

    def _check_params(self) -> None:
        check_whole_number(self, "pixels", "max_iter", "batch_size")
        check_whole_number(self, "population", lowest=4)
        checked_seed(self.seed)


def _best(members: Array, energies: Array) -> Array:
    """(n, genes) the member of each image with the lowest energy."""
    return members[np.arange(len(members)), energies.argmin(axis=1)]


def _latin_hypercube(n: int, population: int, genes: int, *, rng: np.random.Generator) -> Array:
    """(n, population, genes) in [0, 1]: of an image's members, one lies in each of `population` segments of a gene."""
    segment = rng.permuted(np.broadcast_to(np.arange(population)[:, None], (n, population, genes)), axis=1)
    return (segment + rng.random((n, population, genes))) / population


def _children(members: Array, best: Array, *, rng: np.random.Generator) -> Array:
    """(n, population, genes) best + F·(a − b), with a and b two others than the member; outside [0, 1] drawn anew."""
    n, population, _ = members.shape
    own = np.arange(population)
    one = rng.integers(population - 1, size=(n, population))
    one += one >= own
    other = rng.integers(population - 2, size=(n, population))
    low, high = np.minimum(own, one), np.maximum(own, one)
    other += other >= low
    other += other >= high
    factor = rng.uniform(0.5, 1.0, size=(n, 1, 1))
    rows = np.arange(n)[:, None]
    children = best[:, None] + factor * (members[rows, one] - members[rows, other])
    outside = (children < 0) | (children > 1)
    return np.where(outside, rng.random(children.shape), children)
