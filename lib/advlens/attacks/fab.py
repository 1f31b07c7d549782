"""FAB: the nearest image of another class by projections onto linearised decision boundaries inside the box."""

import numpy as np
import tensorflow as tf

from advlens.arrays import Array
from advlens.attacks.inputs import MARGIN, check_norm, check_number, check_whole_number
from advlens.attacks.minimum_norm import TINY, MinimumNorm
from advlens.store import versioned


@versioned(1)
class FAB(MinimumNorm):
    """The fast adaptive boundary attack, L2 or L∞ and untargeted.

    Of the `nb_grads` most likely classes, s is the one whose boundary, linearised at xₖ, is nearest. δₖ and δ lead from
    xₖ and from x to it inside the box, and xₖ₊₁ = (1 − α)(xₖ + η δₖ) + α (x + η δ) with
    α = min(‖δₖ‖ / (‖δₖ‖ + ‖δ‖), α_max). A success is kept where it is nearer than all before, and the walk goes on
    from x + β (xₖ₊₁ − x). At the end, three interpolations look for a nearer one on the line to x. There is one start,
    x: the paper's restarts draw others.

    Args:
        classifier: the network attacked.
        norm: 2 or "inf".
        max_iter: steps.
        alpha_max: the largest share of x in a step; eta: the overshoot η ≥ 1; beta: how far a success steps back.
        nb_grads: classes considered, among them the one to leave.
        margin: the logit margin that makes a success, and where boundaries are.
        batch_size: images attacked at once.

    Source: Croce & Hein 2020, algorithm 1.
    """

    norm: int | float | str = 2
    max_iter: int = 100
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    nb_grads: int = 10
    margin: float = MARGIN
    batch_size: int = 512

    def _attack(self, x: Array, y: Array) -> Array:
        return self._walk(tf.constant(x.reshape(len(x), -1)), tf.constant(y, tf.int32)).numpy().reshape(x.shape)

    @tf.function(reduce_retracing=True)
    def _walk(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """(n, d) nearest successes of (n, d) images; itself where there is none."""
        others, lead = self._rivals(x, y)
        moved, nearest, least = x, x, tf.where(lead >= self.margin, 0.0, np.float32(np.inf))
        for _ in tf.range(self.max_iter):
            w, needed = self._nearest_boundary(moved, y, others)
            needed_from_x = needed - tf.reduce_sum(w * (x - moved), axis=1)
            pairs = ((moved, x), (w, w), (needed, needed_from_x))
            both = projection(*(tf.concat(pair, axis=0) for pair in pairs), linf=self._is_linf)
            step, step_from_x = tf.split(both, 2)
            length, length_from_x = self._length(step), self._length(step_from_x)
            alpha = tf.minimum(length / tf.maximum(length + length_from_x, TINY), self.alpha_max)[:, None]
            moved = (1 - alpha) * (moved + self.eta * step) + alpha * (x + self.eta * step_from_x)
            moved = tf.clip_by_value(moved, 0.0, 1.0)
            won, length = self._lead(self._logits(moved), y) >= self.margin, self._length(moved - x)
            better = won & (length < least)
            least, nearest = tf.where(better, length, least), tf.where(better[:, None], moved, nearest)
            moved = tf.where(won[:, None], x + self.beta * (moved - x), moved)
        return self._nearer(x, y, nearest)

    def _rivals(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(n, k) most likely other classes, and (n,) the lead of the first of them."""
        logits = self._logits(x)
        without = logits - tf.one_hot(y, logits.shape[1], on_value=np.inf, off_value=0.0)
        others = tf.math.top_k(without, min(self.nb_grads, self.estimator.nb_classes) - 1).indices
        return others, self._lead(logits, y)

    def _nearest_boundary(self, moved: tf.Tensor, y: tf.Tensor, others: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(n, d) normals w of the nearest linearised boundaries, and (n,) by how much ⟨w, z⟩ must rise to them."""
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(moved)
            logits = self._logits(moved)
            leads = tf.gather(logits, others, batch_dims=1) - tf.gather(logits, y, batch_dims=1)[:, None]
            each = tf.unstack(leads, num=others.shape[1], axis=1)
        normals = tf.stack([tape.gradient(lead, moved) for lead in each], axis=1)
        needed = self.margin - leads
        dual = tf.norm(normals, ord=1 if self._is_linf else 2, axis=2)
        chosen = tf.argmin(tf.abs(needed) / tf.maximum(dual, TINY), axis=1)
        return tf.gather(normals, chosen, batch_dims=1), tf.gather(needed, chosen, batch_dims=1)

    def _nearer(self, x: tf.Tensor, y: tf.Tensor, nearest: tf.Tensor) -> tf.Tensor:
        """The last success of three interpolations of the lead between x and the nearest success."""
        low, high = x, nearest
        below, above = (self._lead(self._logits(each), y) - self.margin for each in (low, high))
        for _ in range(3):
            share = tf.math.divide_no_nan(below, below - above)  # 0 where there is no success to start from
            between = low + share[:, None] * (high - low)
            lead = self._lead(self._logits(between), y) - self.margin
            won = lead >= 0
            high, above = tf.where(won[:, None], between, high), tf.where(won, lead, above)
            low, below = tf.where(won[:, None], low, between), tf.where(won, below, lead)
        return high

    @property
    def _is_linf(self) -> bool:
        return self.norm != 2

    def _length(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.norm(rows, ord=np.inf if self._is_linf else 2, axis=1)

    def _logits(self, rows: tf.Tensor) -> tf.Tensor:
        return self.estimator.model(tf.reshape(rows, [-1, *self.estimator.input_shape]), training=False)

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "batch_size")
        check_whole_number(self, "nb_grads", lowest=2)
        for name in ("alpha_max", "eta", "beta"):
            check_number(self, name)
        check_number(self, "margin", zero=True)
        check_norm(self)


def projection(x: tf.Tensor, w: tf.Tensor, needed: tf.Tensor, *, linf: bool) -> tf.Tensor:
    """The shortest change of each image by which ⟨w, x⟩ rises as far as needed and the image stays in the box.

    Pixel i moves with sign(wᵢ) by min(t · vᵢ, roomᵢ), vᵢ = |wᵢ| in L2 and 1 in L∞; ⟨w, x⟩ rises by
    Σᵢ |wᵢ| min(t · vᵢ, roomᵢ), which is linear in t between the sorted times at which pixels meet the box.

    Args:
        x: (n, d) in [0, 1]; w: (n, d); needed: (n,), negative where ⟨w, x⟩ must fall.
        linf: whether the length is the largest change, else L2.
    Returns:
        (n, d); to the corner farthest along w where the box does not reach.

    Source: Croce & Hein 2020, section 3.1 and appendix.

    >>> x, w = tf.constant([[0.5, 0.9]]), tf.constant([[1.0, 1.0]])
    >>> projection(x, w, tf.constant([0.4]), linf=True).numpy().round(3)
    array([[0.3, 0.1]], dtype=float32)
    """
    sign = tf.sign(needed)[:, None]
    w, needed = w * sign, tf.abs(needed)[:, None]
    room, size = tf.where(w > 0, 1 - x, x), tf.abs(w)
    speed = tf.ones_like(size) if linf else size
    ends = room / tf.maximum(speed, TINY)
    order = tf.argsort(ends, axis=1)
    sorted_ends, full, slope = (tf.gather(each, order, batch_dims=1) for each in (ends, size * room, size * speed))
    nothing = tf.zeros_like(needed)
    full = tf.concat([nothing, tf.cumsum(full, axis=1)], axis=1)  # of the pixels that have met the box by then
    slope = tf.concat([tf.cumsum(slope, axis=1, reverse=True), nothing], axis=1)  # of all others
    risen = full[:, 1:] + sorted_ends * slope[:, 1:]
    count = tf.reduce_sum(tf.cast(risen < needed, tf.int32), axis=1, keepdims=True)
    time = (needed - tf.gather(full, count, batch_dims=1)) / tf.maximum(tf.gather(slope, count, batch_dims=1), TINY)
    return tf.sign(w) * tf.minimum(time * speed, room)
