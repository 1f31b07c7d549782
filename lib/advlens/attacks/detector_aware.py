"""The attacker who knows the detector: leaves the class and lowers the detector's score at once."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import tensorflow as tf

from advlens.arrays import Array, checked_seed
from advlens.attacks.inputs import MARGIN, check_norm, check_number, check_whole_number
from advlens.attacks.minimum_norm import TINY, MinimumNorm, _length, _wide, along_a_cosine
from advlens.detectors.detector import Detector
from advlens.detectors.differentiable import DifferentiableScore

STRATEGIES = ("selective", "orthogonal")
ROUNDING = 1e-3  # of a grey level: float32 stores a level a little below it


class DetectorAwareAttack(MinimumNorm):
    """Projected gradient descent against a network and a detector, inside a ball around each image.

    With f the lead of the other logits (their log-sum-exp, so that ∇f goes the cross-entropy's way) and g the
    detector's score, an image that is not misclassified yet follows ∇f, one that is follows −∇g ("selective"); or each
    of them without its part along the other ("orthogonal"); or, before it is misclassified, ∇f/‖∇f‖ − w ∇g/‖∇g‖ (a
    number w). Steps fall along a cosine. Gradients are taken at the image as 8 bits hold it. Each `refresh` steps the
    real detector scores the best image of these steps, and the one with the lowest score is kept; an image that is
    never misclassified comes back as it was.

    Args:
        classifier: the network attacked; detector: the detector to evade, whose score has a gradient.
        stand_in: another detector, whose gradient is followed where this one has none, as trees; this one judges.
        eps: radius of the ball; norm: 2 or "inf".
        max_iter: steps of each walk; eps_step: the first step, by default eps / 10.
        step: "sign", or "l2", of fixed length along what is followed; by default "sign" for "selective" in L∞ alone,
            since signs of orthogonal gradients are not orthogonal.
        strategies: a walk each: "selective", "orthogonal", or a weight w.
        restarts: how often all strategies are tried, first from the image, then from random places in the ball.
        margin: the logit margin that makes a success.
        score_alone: lower the score, whatever the class.
        until_unflagged: leave an image alone once it is misclassified and scores no more than the detector's threshold;
            the others go on among themselves, through all strategies and restarts. As many evade, with higher scores
            than they could have.
        eight_bit: give images on the 1/255 grid, rounded towards the original, so that they stay in the ball; a value
            of an original between two levels stays as it was where the level is out of the ball.
        refresh: steps between the real detector's judgements, and the searches of what is followed.
        targeted: whether labels are the classes to reach; batch_size: images attacked at once; seed: of random starts.

    Attributes:
        zero_gradients_: the share of steps, over images, at which the score had no gradient, after `generate`.
    Raises:
        ValueError, RuntimeError: as `DifferentiableScore`, for bad parameters, and without the threshold asked for.

    Source: Bryniarski et al. 2021, sections 4.1 and 4.2; Carlini & Wagner 2017b for the weights.
    """

    detector: Detector
    eps: float
    stand_in: Detector | None = None
    norm: int | float | str = "inf"
    max_iter: int = 100
    eps_step: float | None = None
    step: str | None = None
    strategies: tuple[str | float, ...] = STRATEGIES
    restarts: int = 1
    margin: float = MARGIN
    score_alone: bool = False
    until_unflagged: bool = False
    eight_bit: bool = True
    refresh: int = 10
    targeted: bool = False  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]
    batch_size: int = 128
    seed: int = 0

    @property
    def given(self) -> dict[str, Any]:
        """The parameters after the classifier, by name."""
        return {name: getattr(self, name) for name in list(signature(type(self)).parameters)[1:]}

    def changed(self, **parameters: Any) -> "DetectorAwareAttack":
        """The same attack with some other parameters; a step that was given keeps its share of eps."""
        about = self.given | parameters
        if self.eps_step is not None and "eps_step" not in parameters:
            about["eps_step"] = self.eps_step * about["eps"] / self.eps
        return type(self)(self.estimator, **about)

    @property
    def zero_gradients_(self) -> float:
        """See above."""
        return self._without_gradient / max(self._steps, 1)

    def _start(self) -> Callable[[Array, Array], Array]:
        self._without_gradient, self._steps = 0, 0
        return partial(self._attack, rng=np.random.default_rng(self.seed))

    def _attack(self, x: Array, y: Array, *, rng: np.random.Generator) -> Array:
        best, lowest, left = x.copy(), np.full(len(x), np.inf), np.arange(len(x))
        images = tf.constant(x)
        for restart in range(self.restarts):
            for strategy in self.strategies:
                moved = (self._projected(images, images + self._noise(x, rng)).numpy() if restart else x)[left]
                for first in range(0, self.max_iter + 1, self.refresh):
                    if len(left) == 0:
                        break
                    last = min(first + self.refresh, self.max_iter + 1)
                    steps = tf.constant(first), tf.constant(last), self._score.context(moved), strategy
                    state = tf.constant(x[left]), tf.constant(y[left], tf.int32), tf.constant(moved)
                    moved, found, won, lost = (each.numpy() for each in self._walk(*state, *steps))
                    self._without_gradient += int(lost)
                    self._steps += (last - first) * len(left)
                    rows = left[won]
                    if len(rows):
                        scores = self.detector.scores(found[won])
                        better = scores < lowest[rows]
                        best[rows[better]], lowest[rows[better]] = found[won][better], scores[better]
                    if self.until_unflagged:
                        above = np.greater_equal if self.detector.tie_share_ else np.greater  # a tie may be flagged
                        stays = above(lowest[left], self.detector.threshold_)
                        left, moved = left[stays], moved[stays]
        return best

    @tf.function(reduce_retracing=True)
    def _walk(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        moved: tf.Tensor,
        first: tf.Tensor,
        last: tf.Tensor,
        context: tuple[Any, ...],
        strategy: str | float,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Some steps: where they end, the best images, which of these are successes, steps without a gradient."""
        best, lost = x, tf.constant(0, tf.int32)
        lowest = tf.fill(tf.shape(y), tf.constant(np.inf, tf.float64))
        for number in tf.range(first, last):
            shown = self._rounded(x, moved) if self.eight_bit else moved
            with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
                tape.watch(shown)
                logits = self.estimator.model(shown, training=False)
                lead, pull = self._lead(logits, y), self._lead(logits, y, largest=tf.reduce_logsumexp)
                score = self._score(shown, *context)
            to_leave, to_hide = _unit(tape.gradient(pull, shown)), -_unit(tape.gradient(score, shown))
            won = tf.ones_like(y, tf.bool) if self.score_alone else lead >= self.margin
            better = won & (score < lowest)
            lowest, best = tf.where(better, score, lowest), tf.where(_wide(better), shown, best)
            lost += tf.reduce_sum(tf.cast(tf.reduce_all(to_hide == 0, axis=(1, 2, 3)), tf.int32))
            length = self._first_step * along_a_cosine(tf.cast(number, tf.float32) / self.max_iter)
            moved = self._projected(x, moved + length * self._way(to_leave, to_hide, won, strategy))
        return moved, best, lowest < np.inf, lost

    def _way(self, to_leave: tf.Tensor, to_hide: tf.Tensor, won: tf.Tensor, strategy: str | float) -> tf.Tensor:
        """What a step follows, of the two gradients, each of length 1; as long as a sign step in L∞."""
        if strategy == "orthogonal":
            along = _wide(tf.reduce_sum(to_leave * to_hide, axis=(1, 2, 3)))
            to_leave, to_hide = to_leave - along * to_hide, to_hide - along * to_leave
        elif strategy != "selective":
            to_leave += strategy * to_hide
        way = tf.where(_wide(won), to_hide, to_leave)
        root = float(np.sqrt(way.shape[1:].num_elements()))
        if self.step == "sign" or (self.step is None and self._linf and strategy == "selective"):
            return tf.sign(way) / (1.0 if self._linf else root)
        return _unit(way) * (root if self._linf else 1.0)

    def _projected(self, x: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        change = moved - x
        if self._linf:
            change = tf.clip_by_value(change, -self.eps, self.eps)
        else:
            change *= _wide(tf.minimum(1.0, self.eps / tf.maximum(_length(change), TINY)))
        return tf.clip_by_value(x + change, 0.0, 1.0)

    def _rounded(self, x: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        levels = moved * 255
        shown = tf.where(moved > x, tf.floor(levels + ROUNDING), tf.math.ceil(levels - ROUNDING)) / 255
        change, near = shown - x, 2 * ROUNDING / 255
        reach = tf.abs(change) if self._linf else _wide(_length(change))
        farther = tf.abs(change) > tf.abs(moved - x) + near  # past the original, which is between two levels
        return tf.where(farther & (reach > self.eps + near), x, shown)

    def _noise(self, x: Array, rng: np.random.Generator) -> Array:
        """Random places in the ball, before they are clipped to it."""
        if self._linf:
            return rng.uniform(-self.eps, self.eps, x.shape).astype(np.float32)
        noise = rng.standard_normal(x.shape)
        lengths = np.sqrt(np.square(noise).sum(axis=(1, 2, 3), keepdims=True))
        return (noise * self.eps * rng.random((len(x), 1, 1, 1)) / lengths).astype(np.float32)

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "restarts", "refresh", "batch_size")
        check_number(self, "eps")
        check_number(self, "margin", zero=True)
        check_norm(self)
        if self.step not in (None, "sign", "l2"):
            raise ValueError(f'step must be "sign" or "l2", got {self.step!r}')
        weights = [each for each in self.strategies if each not in STRATEGIES]
        if not self.strategies or not all(isinstance(each, int | float) and each >= 0 for each in weights):
            raise ValueError(f"strategies must be of {', '.join(STRATEGIES)} or weights ≥ 0, got {self.strategies!r}")
        if self.eps_step is not None:
            check_number(self, "eps_step")
        checked_seed(self.seed)
        self._linf = self.norm != 2
        self._first_step = self.eps / 10 if self.eps_step is None else self.eps_step
        if self.until_unflagged and self.detector.threshold_ is None:
            raise RuntimeError("until_unflagged needs a threshold: call the detector's calibrate(clean_images) first")
        self._score = DifferentiableScore(self.stand_in or self.detector)


def _unit(gradient: Any) -> tf.Tensor:
    """Of length 1; of zeros, and of what is not finite, zeros."""
    gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
    largest = tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)  # squares of tiny ones would be 0
    gradient = tf.math.divide_no_nan(gradient, largest)
    return tf.math.divide_no_nan(gradient, _wide(_length(gradient)))
