"""The attacker who knows a detector by its decisions alone, and so needs no gradient of its score."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.spatial.distance import cdist

from advlens.arrays import Array, checked_images, checked_seed
from advlens.attacks.inputs import MARGIN, BatchAttack, check_norm, check_number, check_whole_number
from advlens.classifier import logit_margins
from advlens.detectors.detector import Detector

HALVINGS = 8  # of a way or a step: to a grey level
ROUNDING = 1e-6  # of a distance in float32
SPREAD = np.float32(2 / 255)  # standard deviation of the noise: less would be rounded away
LEVEL = 1 / 255
LARGEST = 0.7  # side of the first squares, as a share of the image's
SHRINK, AT_LEAST, AT_MOST = 0.05, 0.005, 0.3  # of a radius at a question: the first, and its bounds
WON, LOST = 1.5, 0.93  # what that share is multiplied by after a success, or none


class DetectorAwareBoundary(BatchAttack):
    """A walk among what evades: images that are misclassified and that a calibrated detector does not flag.

    It starts from the nearest of some images that evades, drawn back to the border by bisection. In L2 it is
    HopSkipJump: each iteration asks which of many noisy versions evade, steps along the mean of these less that of the
    others, bisects again, and keeps the nearest. In L∞, where the sign of such a mean leads nowhere with few
    questions, a random square of the change gets one value while all of it gets nearer, and what still evades is kept;
    squares get smaller with time. All are asked as 8 bits hold them.

    Args:
        classifier: the network attacked; detector: any that is calibrated.
        eps: radius of the ball: an image within it is left alone, one that never is comes back as it was.
        starts: (m, h, w, channels) images to start from: clean ones of several classes, what other attacks made.
        norm: 2 or "inf"; max_iter: iterations; queries: versions asked of in the first, √t times as many in the t-th.
        margin: the logit margin that makes a success; batch_size: images attacked at once; seed: of the noise.
    Raises:
        ValueError: for bad parameters, or where all starts are flagged; RuntimeError: for a detector without threshold.

    Source: Chen et al. 2020, "HopSkipJumpAttack", algorithm 2; its noise shrinks with the distance. Andriushchenko et
    al. 2020, "Square Attack", for the squares, which are accepted by a loss there.
    """

    detector: Detector
    eps: float
    starts: Array
    norm: int | float | str = "inf"
    max_iter: int = 20
    queries: int = 100
    margin: float = MARGIN
    batch_size: int = 64
    seed: int = 0

    def _start(self) -> Callable[[Array, Array], Array]:
        starts = _on_grid(checked_images(self.starts, shape=self.estimator.input_shape))
        pool = starts[~self.detector.detect(starts)[1]]
        if len(pool) == 0:
            raise ValueError(f"all {len(starts)} starts are flagged: pass clean images of several classes")
        rng = np.random.default_rng(self.seed)
        return partial(self._attack, pool=pool, logits=self.estimator.predict(pool), rng=rng)

    def _attack(self, x: Array, y: Array, *, pool: Array, logits: Array, rng: np.random.Generator) -> Array:
        metric = "euclidean" if self.norm == 2 else "chebyshev"
        away = cdist(x.reshape(len(x), -1), pool.reshape(len(pool), -1), metric)
        away[np.stack([logit_margins(logits, np.full(len(pool), each)) for each in y]) < self.margin] = np.inf
        nearest, left = x.copy(), np.flatnonzero(np.isfinite(away.min(axis=1)))
        nearest[left] = self._drawn_back(x[left], pool[away[left].argmin(axis=1)], y[left])
        (self._hop if self.norm == 2 else self._cover)(x, nearest, y, left, rng)
        outside = self._distance(x, nearest) > self.eps + ROUNDING
        nearest[outside] = x[outside]
        return nearest

    def _hop(self, x: Array, nearest: Array, y: Array, left: Array, rng: np.random.Generator) -> None:
        """HopSkipJump's iterations, on some rows of `nearest`."""
        for number in range(1, self.max_iter + 1):
            left = left[self._distance(x[left], nearest[left]) > self.eps + ROUNDING]
            if len(left) == 0:
                break
            own, old = x[left], nearest[left]
            new = self._drawn_back(own, self._ahead(own, old, y[left], number, rng), y[left])
            closer = self._distance(own, new) < self._distance(own, old)
            nearest[left[closer]] = new[closer]

    def _cover(self, x: Array, nearest: Array, y: Array, left: Array, rng: np.random.Generator) -> None:
        """The squares, on some rows of `nearest`, with as many questions as HopSkipJump's noise takes."""
        questions = sum(round(self.queries * np.sqrt(number)) for number in range(1, self.max_iter + 1))
        shrink, (height, width, channels) = np.full(len(x), SHRINK), x.shape[1:]
        for number in range(questions):
            left = left[self._distance(x[left], nearest[left]) > self.eps + ROUNDING]
            if len(left) == 0:
                break
            distance, change = self._distance(x[left], nearest[left]), nearest[left] - x[left]
            radius = np.maximum(distance - np.maximum(shrink[left] * distance, LEVEL), self.eps)
            largest = LARGEST * (1 - number / questions) * min(height, width)
            for own, most in zip(change, radius, strict=True):
                side = 1 + int(rng.random() * largest)
                row, column = rng.integers(0, (height - side + 1, width - side + 1))
                own[row : row + side, column : column + side] = most * rng.integers(-1, 2, channels)
            made = _on_grid(x[left] + np.clip(change, -_wide(radius), _wide(radius)))
            last = radius <= self.eps
            made[last] = self._inside(x[left][last], made[last])
            won = self._evades(made, y[left])
            nearest[left[won]] = made[won]
            shrink[left] = np.clip(shrink[left] * np.where(won, WON, LOST), AT_LEAST, AT_MOST)

    def _inside(self, x: Array, made: Array) -> Array:
        """A level nearer to the original where the nearest level is out of the ball; the original where that is too."""
        for nearer in (_on_grid(made - np.float32(LEVEL) * np.sign(made - x)), x):
            made = np.where(np.abs(made - x) > self.eps + ROUNDING, nearer, made)
        return made

    def _drawn_back(self, x: Array, found: Array, y: Array) -> Array:
        """What still evades on the way from (n, *shape) images that do to their originals, by bisection."""
        low, high, nearest = np.zeros(len(x)), np.ones(len(x)), found.copy()
        change, distance = found - x, self._distance(x, found)
        for _ in range(HALVINGS):
            share = (low + high) / 2
            limit = _wide(share * distance)
            made = _on_grid(x + (_wide(share) * change if self.norm == 2 else np.clip(change, -limit, limit)))
            won = self._evades(made, y)
            nearest[won] = made[won]
            low, high = np.where(won, low, share), np.where(won, share, high)
        return nearest

    def _ahead(self, x: Array, found: Array, y: Array, number: int, rng: np.random.Generator) -> Array:
        """Images farther inside of what evades than (n, *shape) ones on its border; these themselves where none is."""
        n, shape = round(self.queries * np.sqrt(number)), x.shape[1:]
        noise = rng.standard_normal((len(x), n, *shape), dtype=np.float32)
        tried = _on_grid(found[:, None] + SPREAD * noise)
        signs = np.where(self._evades(tried.reshape(-1, *shape), np.repeat(y, n)), 1.0, -1.0).reshape(-1, n)
        mean = signs.mean(axis=1, keepdims=True)
        way = np.einsum("nk,nkhwc->nhwc", np.where(np.abs(mean) < 1, signs - mean, signs), tried - found[:, None])
        way /= np.maximum(_wide(self._distance(0, way)), ROUNDING)
        length, ahead, left = self._distance(x, found) / np.sqrt(number), found.copy(), np.arange(len(x))
        for _ in range(HALVINGS):
            if len(left) == 0:
                break
            made = _on_grid(found[left] + _wide(length[left]) * way[left])
            won = self._evades(made, y[left])
            ahead[left[won]] = made[won]
            left = left[~won]
            length[left] /= 2
        return ahead

    def _evades(self, images: Array, y: Array) -> Array:
        """(n,) bool, whether images are misclassified and not flagged."""
        won = logit_margins(self.estimator.predict(images), y) >= self.margin
        if won.any():
            won[won] = ~self.detector.detect(images[won])[1]
        return won

    def _distance(self, x: Array | int, other: Array) -> Array:
        change, axes = other - x, (1, 2, 3)
        return np.sqrt(np.square(change).sum(axis=axes)) if self.norm == 2 else np.abs(change).max(axis=axes)

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "queries", "batch_size")
        check_number(self, "eps")
        check_number(self, "margin", zero=True)
        check_norm(self)
        checked_seed(self.seed)


def _on_grid(images: Array) -> Array:
    return np.rint(np.clip(images, 0, 1) * np.float32(255)).astype(np.float32) / np.float32(255)


def _wide(values: Array) -> Array:
    return values.astype(np.float32)[:, None, None, None]
