"""Attacks that look for the nearest image of another class: DDN in L2, Carlini and Wagner's in tanh space in L2 and L∞.

They walk whole batches in compiled calls, and keep of each image the nearest success that they ever had.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from advlens.arrays import Array, checked_seed
from advlens.attacks.inputs import MARGIN, BatchAttack, check_number, check_whole_number
from advlens.store import versioned

TINY = 1e-12
LAST_STEP = 0.01  # as a share of the first
KICK = 0.5  # the norm of the noise that a search starts with, as a share of the nearest success's distance


def along_a_cosine(done: tf.Tensor) -> tf.Tensor:
    """The length of a step, of a first one of 1, once a share of the steps is done: it falls to `LAST_STEP`."""
    return LAST_STEP + (1 - LAST_STEP) * (1 + tf.cos(np.pi * done)) / 2


class MinimumNorm(BatchAttack):
    """What they share. They return the nearest success of each image, or itself where there was none."""

    def _lead(self, logits: tf.Tensor, y: tf.Tensor, *, largest: Callable[..., tf.Tensor] = tf.reduce_max) -> tf.Tensor:
        """(n,) by how much the logit to reach is above all others, or any other above that of the class to leave.

        Args:
            largest: of the other logits: their maximum, or a smooth one.
        """
        own = tf.gather(logits, y, batch_dims=1)
        others = largest(logits - tf.one_hot(y, logits.shape[1], on_value=np.inf, off_value=0.0), axis=1)
        return own - others if self.targeted else others - own


@versioned(1)
class DDN(MinimumNorm):
    """Decoupled direction and norm: unit steps along the loss gradient on a sphere that shrinks on each success.

    δ ← δ + α_k ∇L/‖∇L‖, ε ← (1 ∓ γ)ε where x + δ is (is not) a success, δ ← ε δ/‖δ‖, clipped to the box; α falls from
    1 to 0.01 along a cosine.

    Args:
        classifier: the network attacked.
        max_iter: steps.
        gamma: by how much the norm changes at each, in (0, 1).
        init_norm: the first norm.
        margin: the logit margin that makes a success.
        targeted: whether labels are the classes to reach.
        batch_size: images attacked at once.

    Source: Rony et al. 2019, algorithm 1.
    """

    max_iter: int = 100
    gamma: float = 0.05
    init_norm: float = 1.0
    margin: float = MARGIN
    targeted: bool = False  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]
    batch_size: int = 512

    def _attack(self, x: Array, y: Array) -> Array:
        return self._walk(tf.constant(x), tf.constant(y, tf.int32)).numpy()

    @tf.function(reduce_retracing=True)
    def _walk(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        model, sign = self.estimator.model, -1.0 if self.targeted else 1.0
        norm = tf.fill([tf.shape(x)[0]], tf.constant(self.init_norm, tf.float32))
        delta, nearest, least = tf.zeros_like(x), x, tf.fill(tf.shape(norm), np.float32(np.inf))
        for step in tf.range(self.max_iter + 1):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(delta)
                logits = model(x + delta, training=False)
                losses = sign * tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            gradient = tape.gradient(losses, delta)
            won, length = self._lead(logits, y) >= self.margin, _length(delta)
            better = won & (length < least)
            least, nearest = tf.where(better, length, least), tf.where(_wide(better), x + delta, nearest)
            norm = tf.where(won, tf.minimum(norm, length) * (1 - self.gamma), norm * (1 + self.gamma))
            alpha = along_a_cosine(tf.cast(step, tf.float32) / self.max_iter)
            delta += alpha * gradient / _wide(tf.maximum(_length(gradient), TINY))  # pyright: ignore[reportArgumentType, reportOperatorIssue]
            delta *= _wide(norm / tf.maximum(_length(delta), TINY))
            delta = tf.clip_by_value(x + delta, 0.0, 1.0) - x
        return nearest

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "batch_size")
        check_number(self, "init_norm")
        check_number(self, "margin", zero=True)
        check_number(self, "gamma")
        if self.gamma >= 1:
            raise ValueError(f"gamma must lie between 0 and 1, got {self.gamma:g}: 0.05 is the paper's")


class _CarliniWagner(MinimumNorm):
    """Adam on w in penalty(x' − x) + c · max(κ − lead, 0), x' = ½ + tanh(w)/2s, with a c for each image.

    The *lead* is that of another logit over the class to leave, or of the class to reach over all others. ART's own
    start from pixels where tanh is flat, which black and white ones are, and hardly move them; here s < 1 keeps w
    away from there, x' is clipped, and w₀ still gives x itself.
    """

    confidence: float = 0.0
    max_iter: int = 60
    learning_rate: float = 0.1
    initial_const: float = 1.0
    targeted: bool = False  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]
    batch_size: int = 512
    smoother = 0.99

    def _penalty(self, change: tf.Tensor, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(n,) what is minimised of (n, *shape) changes, and (n,) their norms; `limit` is (n,)."""
        raise NotImplementedError

    @tf.function(reduce_retracing=True)
    def _minimise(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        aim: tf.Tensor | None,
        start: tf.Tensor,
        weight: tf.Tensor,
        limit: tf.Tensor,
        nearest: tf.Tensor,
        least: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Adam's steps with one c an image: the nearest successes, their distances, which images won now.

        Where there is an `aim`, an (n,) class each, its lead over all others is what the loss asks for.
        """
        model, kappa = self.estimator.model, max(self.confidence, MARGIN)
        w = tf.atanh((2 * start - 1) * self.smoother)
        first, second, ever = tf.zeros_like(w), tf.zeros_like(w), tf.zeros(tf.shape(y), tf.bool)
        for step in tf.range(1, self.max_iter + 1):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(w)
                moved = tf.clip_by_value(0.5 + tf.tanh(w) / (2 * self.smoother), 0.0, 1.0)
                logits = model(moved, training=False)
                lead = self._lead(logits, y)
                wanted = lead if aim is None or self.targeted else -self._lead(logits, aim)
                penalty, length = self._penalty(moved - x, limit)
                loss = penalty + weight * tf.nn.relu(kappa + MARGIN - wanted)
            gradient, won = tape.gradient(loss, w), lead >= kappa
            better = won & (length < least)
            least, nearest = tf.where(better, length, least), tf.where(_wide(better), moved, nearest)
            ever, power = ever | won, tf.cast(step, tf.float32)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            scale = tf.sqrt(second / (1 - 0.999**power)) + 1e-8
            w -= self._rate((power - 1) / self.max_iter) * first / (1 - 0.9**power) / scale
        return nearest, least, ever

    def _rate(self, done: tf.Tensor) -> float | tf.Tensor:
        """Adam's learning rate once a share of the steps is done."""
        return self.learning_rate

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "batch_size")
        check_number(self, "confidence", zero=True)
        check_number(self, "learning_rate")
        check_number(self, "initial_const")


@versioned(2)
class CarliniWagnerL2(_CarliniWagner):
    """Minimises ‖x' − x‖² + c · max(κ − lead, 0) in tanh space, with a binary search for each image's c.

    As in the paper, an untargeted attack is the best of targeted ones: here of those at the classes that the network
    thinks likeliest, one search each, and the searches left are for the class that was reached nearest. One Adam alone
    stays at the first boundary that it meets, 10 to 15 % farther: each search starts from the nearest success so far
    with noise, and its steps fall along a cosine. A class's c rises by decades until one succeeds, falls by quarters
    until one fails, and halves their ratio then.

    Args:
        classifier: the network attacked.
        confidence: the κ by which the lead must exceed 0; never less than `MARGIN`.
        binary_search_steps: searches; max_iter: Adam's steps for each; learning_rate: Adam's, at first.
        initial_const: the first c.
        classes: how many are aimed at, where not `targeted`.
        targeted: whether labels are the classes to reach.
        batch_size: images attacked at once.
        seed: governs the noise; an image's depends on the images before it.

    Source: Carlini & Wagner 2017, section VI.A, f₆; Kingma & Ba 2015 for Adam.
    """

    binary_search_steps: int = 6
    classes: int = 3
    seed: int = 0

    def _start(self) -> Callable[[Array, Array], Array]:
        return partial(self._attack, rng=np.random.default_rng(self.seed))

    def _attack(self, x: Array, y: Array, *, rng: np.random.Generator) -> Array:
        aims = y[:, None] if self.targeted else self._likeliest(x, y)
        weight = np.full(aims.shape, self.initial_const, np.float32)
        low, high = np.zeros_like(weight), np.full_like(weight, np.inf)
        least, nearest, best = np.full(len(x), np.inf, np.float32), x, np.zeros(len(x), np.int64)
        images, classes = tf.constant(x), tf.constant(y, tf.int32)
        for search in range(self.binary_search_steps):
            at = np.arange(len(x)), np.full(len(x), search) if search < aims.shape[1] else best
            size = np.where(np.isinf(least), 0, KICK * least / np.sqrt(x[0].size)).astype(np.float32)
            noise = size[:, None, None, None] * rng.standard_normal(x.shape, np.float32)
            start = np.clip(nearest + noise, 0, 1)
            # This norm has no limit: `weight` stands for it, unused.
            state = (aims[at].astype(np.int32), start, weight[at], weight[at], nearest, least)
            found = self._minimise(images, classes, *(tf.constant(each) for each in state))
            (nearest, now, won), last = (each.numpy() for each in found), least
            least, best = now, np.where(now < last, at[1], best)
            high[at], low[at] = np.where(won, weight[at], high[at]), np.where(won, low[at], weight[at])
            between = np.sqrt(np.maximum(low[at], TINY)) * np.sqrt(np.where(np.isinf(high[at]), 1, high[at]))
            weight[at] = np.where(np.isinf(high[at]), 10 * weight[at], np.where(low[at] == 0, weight[at] / 4, between))
        return nearest

    def _likeliest(self, x: Array, y: Array) -> Array:
        """(n, `classes`) the classes of the largest logits but that to leave, the largest first; fewer of few."""
        logits = self.estimator.predict(x)
        logits[np.arange(len(x)), y] = -np.inf
        return np.argsort(-logits, axis=1)[:, : min(self.classes, logits.shape[1] - 1)]

    def _rate(self, done: tf.Tensor) -> float | tf.Tensor:
        return self.learning_rate * along_a_cosine(done)

    def _penalty(self, change: tf.Tensor, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        squares = tf.reduce_sum(change**2, axis=(1, 2, 3))
        return squares, tf.sqrt(squares)

    def _check_params(self) -> None:
        super()._check_params()
        check_whole_number(self, "binary_search_steps", "classes")
        checked_seed(self.seed)


@versioned(1)
class CarliniWagnerLinf(_CarliniWagner):
    """Minimises Σᵢ max(|x'ᵢ − xᵢ| − τ, 0) + c · max(κ − lead, 0) in tanh space, with a falling τ for each image.

    τ starts at 1. A round that finds a success within τ sets τ to 0.9 of the nearest one's L∞ distance and the next
    goes on from there; one that finds none doubles c.

    Args:
        classifier: the network attacked.
        confidence: the κ by which the lead must exceed 0; never less than `MARGIN`.
        rounds: values of (τ, c); max_iter: Adam's steps for each; learning_rate: Adam's.
        decrease_factor: what τ is multiplied by.
        initial_const: the first c.
        targeted: whether labels are the classes to reach.
        batch_size: images attacked at once.

    Source: Carlini & Wagner 2017, section VI.C, which stops at the first τ that no c up to 20 reaches.
    """

    rounds: int = 20
    decrease_factor: float = 0.9
    learning_rate: float = 0.05

    def _attack(self, x: Array, y: Array) -> Array:
        weight, limit = np.full(len(x), self.initial_const, np.float32), np.ones(len(x), np.float32)
        least, nearest = np.full(len(x), np.inf, np.float32), x
        images, classes = tf.constant(x), tf.constant(y, tf.int32)
        for _ in range(self.rounds):
            state = (nearest, weight, limit, nearest, least)
            found = self._minimise(images, classes, None, *(tf.constant(each) for each in state))
            nearest, least, _ = (each.numpy() for each in found)
            won = least <= limit
            weight = np.where(won, weight, 2 * weight)
            limit = np.where(won, np.float32(self.decrease_factor) * least, limit)
        return nearest

    def _penalty(self, change: tf.Tensor, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = tf.abs(change)
        return tf.reduce_sum(tf.nn.relu(size - _wide(limit)), axis=(1, 2, 3)), tf.reduce_max(size, axis=(1, 2, 3))

    def _check_params(self) -> None:
        super()._check_params()
        check_whole_number(self, "rounds")
        check_number(self, "decrease_factor")
        if self.decrease_factor >= 1:
            raise ValueError(f"decrease_factor must lie between 0 and 1, got {self.decrease_factor:g}: take 0.9")


def _length(rows: tf.Tensor) -> tf.Tensor:
    """(n,) L2 norms."""
    return tf.sqrt(tf.reduce_sum(rows**2, axis=(1, 2, 3)))


def _wide(values: tf.Tensor) -> tf.Tensor:
    """(n, 1, 1, 1)."""
    return values[:, None, None, None]
