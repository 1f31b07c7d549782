"""The boundary attack on whole batches: every image walks its own boundary, all ask the network together."""

from collections.abc import Callable
from functools import partial

import numpy as np
from art.estimators.classification import ClassifierMixin
from art.estimators.estimator import BaseEstimator

from advlens.arrays import Array, checked_seed
from advlens.attacks.inputs import MARGIN, BatchAttack, check_number, check_whole_number
from advlens.classifier import logit_margins
from advlens.store import versioned

FEW, MANY = 0.2, 0.5  # shares of adversarial candidates below and above which a step is shortened or lengthened


@versioned(2)
class BoundaryAttack(BatchAttack):
    """Walks along the decision boundary towards the image, from noise that is decided otherwise, L2 and untargeted.

    It sees decisions, and how clear they are, alone. An iteration draws `sample_size` candidates orthogonal to the way
    back, at a distance δ·‖x − x'‖, keeps the adversarial ones, moves them by ε of the way towards x, and goes on from
    the nearest that is still adversarial. Each image adapts its own δ and ε by `step_adapt`, so that a fifth to a half
    of its candidates are adversarial. Both searches are repeated up to `num_trial` times until one is; an image for
    which none is stops.

    The algorithm, its parameters and its number of queries are those of ART's `BoundaryAttack`, which takes one image
    after the other; the draws are others.

    Args:
        classifier: an ART classifier.
        delta, epsilon: first δ and ε, as shares of the distance.
        step_adapt: in (0, 1).
        max_iter: iterations.
        num_trial: repetitions of a search at most.
        sample_size: candidates a search.
        init_size: uniform noise images tried as the start; an image for which none is adversarial stays as it is.
        margin: by which another output must be above that of the class to leave, for an image to be adversarial.
        batch_size: images attacked at once.
        seed: governs all draws; an image's depend on the images before it.

    Source: Brendel et al. 2018, algorithm 1.
    """

    delta: float = 0.01
    epsilon: float = 0.01
    step_adapt: float = 0.667
    max_iter: int = 1000
    num_trial: int = 25
    sample_size: int = 20
    init_size: int = 100
    margin: float = MARGIN
    batch_size: int = 256
    seed: int = 0
    _estimator_requirements = (BaseEstimator, ClassifierMixin)

    def _start(self) -> Callable[[Array, Array], Array]:
        return partial(self._attack, rng=np.random.default_rng(self.seed))

    def _attack(self, x: Array, y: Array, *, rng: np.random.Generator) -> Array:
        x_adv, started = self._starts(x, y, rng=rng)
        δ, ε = np.full(len(x), self.delta), np.full(len(x), self.epsilon)
        left = np.flatnonzero(started)
        for _ in range(self.max_iter):
            if len(left) == 0:
                break
            draw = partial(_orthogonal, x[left], x_adv[left], n=self.sample_size, rng=rng)
            around, found = self._until_adversarial(left, y, draw, step=δ)
            left, around, found = _those(found.any(axis=1), left, around, found)  # pyright: ignore[reportArgumentType]
            if len(left) == 0:
                break
            nearer, still = self._until_adversarial(left, y, partial(_towards, x[left], around), step=ε, among=found)
            # Where none of the nearer ones is adversarial any more, those around are what is left.
            stays = still.any(axis=1)
            nearer[~stays], still[~stays] = around[~stays], found[~stays]
            x_adv[left] = _nearest(x[left], nearer, still)
            left = left[stays]
        return x_adv

    def _starts(self, x: Array, y: Array, *, rng: np.random.Generator) -> tuple[Array, Array]:
        """(n, *shape) starts, uniform noise that is adversarial, else the image itself; (n,) bool, where one is."""
        starts, left = x.copy(), np.arange(len(x))
        for _ in range(self.init_size):
            noise = rng.random((len(left), *x.shape[1:]), dtype=np.float32)
            adversarial = self._is_adversarial(noise, y[left])
            starts[left[adversarial]] = noise[adversarial]
            left = left[~adversarial]
            if len(left) == 0:
                break
        return starts, ~np.isin(np.arange(len(x)), left)

    def _until_adversarial(
        self,
        rows: Array,
        y: Array,
        draw: Callable[[Array, Array], Array],
        *,
        step: Array,
        among: Array | None = None,
    ) -> tuple[Array, Array]:
        """Candidates of the rows, drawn anew, with an adapted step, where none is adversarial.

        Args:
            rows: (r,) images of the batch; y: (n,) the classes that all of them leave.
            draw: from (m,) places in `rows` and their (m,) steps to (m, k, *shape) candidates.
            step: (n,) δ or ε, adapted in place.
            among: (r, k) bool, which candidates are asked for; None for all.
        Returns:
            (r, k, *shape) candidates and (r, k) bool, which of them are adversarial.
        """
        candidates, adversarial = None, None
        waiting = np.arange(len(rows))
        for _ in range(self.num_trial):
            if len(waiting) == 0:
                break
            tried = draw(waiting, step[rows[waiting]])
            asked = np.ones(tried.shape[:2], bool) if among is None else among[waiting]
            leaving = np.broadcast_to(y[rows[waiting], None], asked.shape)
            fooled = np.zeros(asked.shape, bool)
            fooled[asked] = self._is_adversarial(tried[asked], leaving[asked])
            if candidates is None:
                candidates, adversarial = tried, fooled
            else:
                candidates[waiting], adversarial[waiting] = tried, fooled  # pyright: ignore[reportOptionalSubscript]
            share = fooled.sum(axis=1) / asked.sum(axis=1)
            step[rows[waiting]] *= np.select([share < FEW, share > MANY], [self.step_adapt, 1 / self.step_adapt], 1.0)
            waiting = waiting[~fooled.any(axis=1)]
        return candidates, adversarial  # pyright: ignore[reportReturnType]

    def _is_adversarial(self, images: Array, leaving: Array) -> Array:
        return logit_margins(self.estimator.predict(images), leaving) >= self.margin

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "num_trial", "sample_size", "init_size", "batch_size")
        for name in ("delta", "epsilon", "step_adapt"):
            check_number(self, name)
        check_number(self, "margin", zero=True)
        if self.step_adapt >= 1:
            raise ValueError(f"step_adapt must lie in (0, 1), got {self.step_adapt}")
        checked_seed(self.seed)


def _orthogonal(x: Array, x_adv: Array, rows: Array, δ: Array, *, n: int, rng: np.random.Generator) -> Array:
    """(r, n, *shape) candidates around the (r,) rows of `x_adv`, at δ of the distance and as far from x as they are."""
    x, x_adv = x[rows], x_adv[rows]
    shape = x.shape[1:]
    way = (x - x_adv).reshape(len(x), 1, -1)
    distance = np.linalg.norm(way, axis=2, keepdims=True)
    unit = way / np.maximum(distance, np.finfo(np.float32).tiny)
    noise = rng.standard_normal((len(x), n, way.shape[2]), dtype=np.float32)
    δ = δ.astype(np.float32)[:, None, None]
    noise *= δ * distance / np.linalg.norm(noise, axis=2, keepdims=True)
    noise -= (noise @ unit.swapaxes(1, 2)) * unit
    hypotenuse = np.sqrt(1 + δ**2)
    candidates = x_adv.reshape(len(x), 1, -1) + ((hypotenuse - 1) * way + noise) / hypotenuse
    return np.clip(candidates, 0, 1).reshape(len(x), n, *shape)


def _towards(x: Array, around: Array, rows: Array, ε: Array) -> Array:
    """(r, k, *shape) the candidates of the (r,) rows, moved by ε of the way to their images."""
    x, around = x[rows], around[rows]
    ε = ε.astype(np.float32)[:, None, None, None, None]
    return np.clip(around + ε * (x[:, None] - around), 0, 1)


def _nearest(x: Array, candidates: Array, among: Array) -> Array:
    """(r, *shape) the candidate of each row that lies nearest to x."""
    distance = np.square(candidates - x[:, None]).sum(axis=(2, 3, 4))
    return candidates[np.arange(len(x)), np.where(among, distance, np.inf).argmin(axis=1)]


def _those(mask: Array, *arrays: Array) -> tuple[Array, ...]:
    return tuple(array[mask] for array in arrays)
