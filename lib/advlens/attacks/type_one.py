"""Type I attacks: another digit to the eye, the same decision of the network, found in a generator's latent space."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from art.estimators.classification import ClassifierMixin
from art.estimators.estimator import BaseEstimator, LossGradientsMixin

from advlens.arrays import Array, checked_images
from advlens.attacks.inputs import BatchAttack, attacked_labels, check_number, check_whole_number
from advlens.generative import Generator
from advlens.progress import progress
from advlens.store import storable, versioned

STEPS_A_CALL = 50  # after which images that are done leave the batch
REALNESS, LENGTH = 0.01, 0.0005  # weights of the discriminator's loss and of ‖z‖
WEIGHT_RATE = 1e-4  # how fast the weight of the decision grows
WEIGHT_SHARE = 1e-3  # the decision's loss in the balance that it grows by, beside the class's
KEPT = 0.01  # loss of the kept decision up to which its weight need not grow
FIRST, SECOND, TINY = 0.9, 0.999, 1e-7  # Adam's, as Keras has them


@versioned(1)
class TypeOneAttack(BatchAttack):
    """Walks from an image's latent vector to another class's, while the network still says what it said.

    From z = encoder(x), Adam minimises, image by image,

        CE(y′ | z) + 0.01·L_dis(z) + 0.0005·‖z‖ + k·CE_f(decoder(z), y),

    with y′ the class that the image is to become, L_dis the discriminator's loss of a latent vector that looks like an
    image's, f the attacked network, y its decision on x, and k a weight that grows from 0 while that decision is lost
    and shrinks while y′ is. A walk ends where y′ and, in an attack, the decision have a loss of at most `tolerance`.

    Args:
        classifier: an ART classifier with a Keras network.
        generator: trained on images of the same kind.
        keeps_decision: False for a plain transition, in which k stays 0.
        learning_rate: Adam's; max_iter: steps at most.
        largest_weight: that k can have.
        tolerance: of the losses.
        batch_size: images that walk together.

    Notes:
        A targeted attack in ART's sense, whose target is the class for the eye, not for the network. What it returns
        are decoded images, also where a walk does not end.

    Source: Tang et al. 2019, "Adversarial Attack Type I: Cheat Classifiers by Significant Changes", in the settings of
        the study's code.
    """

    generator: Generator
    keeps_decision: bool = True
    learning_rate: float = 5e-3
    max_iter: int = 20_000
    largest_weight: float = 1e-3
    tolerance: float = 0.01
    batch_size: int = 512
    _estimator_requirements = (BaseEstimator, LossGradientsMixin, ClassifierMixin)
    targeted = True  # pyright: ignore[reportAssignmentType]

    def generate(self, x: Array, y: Array | None = None, **kwargs) -> Array:
        """The attacked images.

        Args:
            x: (n, h, w, channels) images in [0, 1].
            y: (n,) class numbers or (n, c) one-hot: what each is to become.
        Returns:
            (n, h, w, channels) float32 in [0, 1].
        Raises:
            ValueError: for images or classes that are none, or none given.
        """
        return self.generator.decode(self.walk(x, y).path[-1])

    def walk(self, x: Array, y: Array | None) -> "Walk":
        """The way of each image through the latent space; `x` and `y` as in `generate`."""
        x = checked_images(x, shape=self.estimator.input_shape)
        if y is None:
            raise ValueError("y must say what each image is to become: pass (n,) class numbers")
        aims, kept = attacked_labels(self.estimator, x, y), self.estimator.predict(x).argmax(axis=1)
        already = int((aims == kept).sum())
        if already:
            raise ValueError(f"{already} of {len(x)} images are already decided for as y has it: name another class")
        z, steps = self.generator.encode(x), self._steps()
        batches = [slice(start, start + self.batch_size) for start in range(0, len(x), self.batch_size)]
        walks = []
        with progress(description="walking", unit="image", total=len(x)) as bar:
            for batch in batches:
                walks.append(self._walked(steps, z[batch], aims[batch], kept[batch]))
                bar.update(len(z[batch]))
        return Walk.of(walks)

    def _walked(self, steps: Callable, z: Array, aims: Array, kept: Array) -> "Walk":
        """One batch: of those that are not done, as many steps at a time as one call takes."""
        path, taken = [z.copy()], np.zeros(len(z), np.int64)
        is_done = np.zeros(len(z), bool)
        state = [z, *(np.zeros_like(z) for _ in range(2)), np.zeros(len(z), np.float32)]
        for start in range(0, self.max_iter, STEPS_A_CALL):
            left = np.flatnonzero(~is_done)
            if len(left) == 0:
                break
            count = min(STEPS_A_CALL, self.max_iter - start)
            parts = [values[left] for values in state]
            # As tensors: each number of Python's own would compile the steps anew.
            bounds = (tf.constant(number) for number in (start, count))
            *moved, done, more = (each.numpy() for each in steps(*parts, aims[left], kept[left], *bounds))
            for values, new in zip(state, moved, strict=True):
                values[left] = new
            is_done[left], taken[left] = done, taken[left] + more
            path.append(state[0].copy())
        return Walk(np.stack(path), taken, is_done)

    def _steps(self) -> Callable:
        """Compiled: some of Adam's steps on a batch, from its state to that and to who is done, after how many."""
        generator, network = self.generator, self.estimator.model
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits

        def losses(z: tf.Tensor, aims: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            became = entropy(aims, generator.classifier(z, training=False))
            if self.keeps_decision:
                remained = entropy(kept, network(tf.sigmoid(generator.decoder(z, training=False)), training=False))
            else:
                remained = tf.zeros_like(became)
            realness = tf.nn.softplus(-generator.discriminator(z, training=False)[:, 0])
            return became, remained, REALNESS * realness + LENGTH * tf.norm(z, axis=1)

        @tf.function(reduce_retracing=True)
        def steps(z, first, second, weight, aims, kept, start, count):
            is_done, taken = tf.zeros_like(aims, tf.bool), tf.zeros_like(aims)
            for step in tf.range(start, start + count):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(z)
                    became, remained, regular = losses(z, aims, kept)
                    loss = tf.reduce_sum(became + regular + weight * remained)
                slope = tape.gradient(loss, z)
                is_done |= (became <= self.tolerance) & (remained <= self.tolerance)
                first, second = FIRST * first + (1 - FIRST) * slope, SECOND * second + (1 - SECOND) * slope**2  # pyright: ignore[reportOperatorIssue]
                since = tf.cast(step + 1, tf.float32)
                rate = self.learning_rate * tf.sqrt(1 - SECOND**since) / (1 - FIRST**since)
                moved = z - rate * first / (tf.sqrt(second) + TINY)
                z = tf.where(is_done[:, None], z, moved)
                taken += tf.cast(~is_done, taken.dtype)
                grown = WEIGHT_SHARE * remained - became + tf.maximum(remained - KEPT, 0)
                weight = tf.clip_by_value(weight + WEIGHT_RATE * grown, 0, self.largest_weight)
            return z, first, second, weight, is_done, taken

        return steps

    def _check_params(self) -> None:
        if not isinstance(self.generator, Generator):
            raise TypeError(f"generator must be an advlens.generative.Generator, got {type(self.generator).__name__}")
        ours = self.generator.encoder.input_shape[1:], self.generator.classifier.output_shape[-1]
        theirs = tuple(self.estimator.input_shape), self.estimator.nb_classes
        if ours != theirs:
            raise ValueError(
                f"generator is of images {ours[0]} and {ours[1]} classes, the classifier of {theirs[0]} and {theirs[1]}"
            )
        check_whole_number(self, "max_iter", "batch_size")
        for name in ("learning_rate", "largest_weight", "tolerance"):
            check_number(self, name)
        if not isinstance(self.keeps_decision, bool):
            raise ValueError(f"keeps_decision must be True or False, got {self.keeps_decision!r}")


@storable
@dataclasses.dataclass(frozen=True, eq=False)
class Walk:
    """Ways of n images through a latent space of d dimensions.

    Attributes:
        path: (t, n, d) float32: the start, and where each image was after each call; who is done stays there.
        steps: (n,) int64 taken; has_ended: (n,) bool, before the steps were used up (where a walk arrives by its very
            last step is not looked at).
    """

    path: Array
    steps: Array
    has_ended: Array

    def to_parts(self) -> dict[str, Any]:
        """Parts for the artifact store."""
        return {"arrays": {"path": self.path, "steps": self.steps, "has_ended": self.has_ended}}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "Walk":
        """The walk that `to_parts` took apart."""
        return cls(**parts["arrays"])

    @classmethod
    def of(cls, walks: Sequence["Walk"]) -> "Walk":
        """Several batches as one; shorter paths wait at their ends."""
        longest = max(len(walk.path) for walk in walks)
        paths = [np.concatenate([walk.path, np.repeat(walk.path[-1:], longest - len(walk.path), 0)]) for walk in walks]
        return cls(
            np.concatenate(paths, axis=1),
            np.concatenate([walk.steps for walk in walks]),
            np.concatenate([walk.has_ended for walk in walks]),
        )

    def stops(self, count: int) -> Array:
        """(count, n, d) places in equal shares of each path's length, its two ends among them."""
        lengths = np.linalg.norm(np.diff(self.path, axis=0), axis=2)
        along = np.concatenate([np.zeros((1, lengths.shape[1])), np.cumsum(lengths, axis=0)])
        found = np.empty((count, *self.path.shape[1:]), np.float32)
        for image, reached in enumerate(along.T):
            wanted = np.linspace(0, reached[-1], count)
            for axis in range(self.path.shape[2]):
                found[:, image, axis] = np.interp(wanted, reached, self.path[:, image, axis])
        return found
