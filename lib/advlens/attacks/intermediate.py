"""Intermediate level attacks: what an attack did to a layer, done again and further, from the clean image on."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import BasicIterativeMethod
from art.estimators.classification import ClassifierMixin
from art.estimators.estimator import BaseEstimator, LossGradientsMixin

from advlens.arrays import Array, checked_seed
from advlens.attacks.inputs import BatchAttack, check_number, check_whole_number
from advlens.networks.parts import last_convolution, layer_called, name_in, tensors_of
from advlens.store import versioned

VARIANTS = ("projection", "flexible")
GUIDES = ("attack", "random")
STEPS = 5  # of eps_step that lead from the clean image to the edge of the ball, where no eps_step is given
# The length of Δy″, as a share of Δy′'s, below which the flexible loss stops telling its direction from its length.
SOFTENING = 1e-3
SMALLEST = 1e-12  # a guide shorter than this is none: its image stays as it is


@versioned(1)
class IntermediateLevelAttack(BatchAttack):
    """Moves a layer's activations along the guide that another attack has found there, L∞ and untargeted.

    With F the activations of `layer`, x the image and x' what the base attack makes of it, the guide is Δy′ =
    F(x') − F(x). From x anew, signed gradient steps seek an x″ whose Δy″ = F(x″) − F(x) has

    - the largest projection on the guide, Δy″·Δy′ (the variant "projection", ILAP), or
    - the largest cos(Δy″, Δy′) + α·‖Δy″‖/‖Δy′‖ (the variant "flexible", ILAF),

    within `eps` of x and within [0, 1]. Every image has its own guide and its own loss; one whose activations the
    base attack left alone stays as it is.

    Args:
        classifier: an `advlens.classifier.Classifier`, or another ART classifier that holds a Keras network.
        layer: the layer's name; None for the last convolution before the logits.
        variant: "projection" or "flexible".
        eps: the largest change of a pixel; the study's 0.03 on a scale from −1 to 1.
        eps_step: of the steps and of the base attack's, None for a fifth of `eps`.
        max_iter: steps; base_steps: of the base attack, a single one being as long as `eps`, which is FGSM.
        alpha: the weight of ILAF's length.
        guide: "attack", or "random" for a control: a direction drawn at random, as long as Δy′.
        base: an untargeted attack on the same classifier, None for ART's basic iterative method.
        batch_size: images attacked at once.
        seed: governs the random guides; an image's depends on how many come before it.

    Notes:
        At x″ = x, where the steps start, neither cos(Δy″, Δy′) nor ‖Δy″‖ has a gradient. Both use √(‖Δy″‖² + δ²) in
        place of ‖Δy″‖, with δ a thousandth of ‖Δy′‖: there the length's gradient is then 0 and the cosine's that
        of Δy″·Δy′, so that the first step is ILAP's.

    Source: Huang et al. 2019, "Enhancing Adversarial Example Transferability with an Intermediate Level Attack".
    """

    layer: str | None = None
    variant: str = "projection"
    eps: float = 0.015
    eps_step: float | None = None
    max_iter: int = 10
    base_steps: int = 10
    alpha: float = 5.0
    guide: str = "attack"
    base: EvasionAttack | None = None
    batch_size: int = 512
    seed: int = 0
    _estimator_requirements = (BaseEstimator, LossGradientsMixin, ClassifierMixin)

    def _start(self) -> Callable[[Array, Array], Array]:
        base, features = self.base or self._iterative(), self._features()
        follow, rng = self._follower(features), np.random.default_rng(self.seed)

        def attack(x: Array, y: Array) -> Array:
            x_base = base.generate(x, np.eye(self.estimator.nb_classes, dtype=np.float32)[y])
            guides = features(x_base).numpy() - features(x).numpy()
            if self.guide == "random":
                guides = _with_lengths_of(guides, rng.standard_normal(guides.shape, dtype=np.float32))
            return follow(x, guides).numpy()

        return attack

    def _iterative(self) -> EvasionAttack:
        """The base attack where none is given."""
        return BasicIterativeMethod(
            self.estimator,
            eps=self.eps,
            eps_step=self.eps if self.base_steps == 1 else self._step,
            max_iter=self.base_steps,
            batch_size=self.batch_size,
            verbose=False,
        )

    @property
    def _step(self) -> float:
        return self.eps / STEPS if self.eps_step is None else self.eps_step

    def _features(self) -> Callable[[Array | tf.Tensor], tf.Tensor]:
        """Compiled, from images to the layer's activations, (n, h, w, channels) to (n, d)."""
        network = self.estimator.model
        tensors = tensors_of(network)
        part = keras.Model(tensors.image, tensors.outputs[self.layer or name_in(network, last_convolution(network))])
        return tf.function(lambda x: tf.reshape(part(x, training=False), (tf.shape(x)[0], -1)), reduce_retracing=True)

    def _follower(self, features: Callable[[Array | tf.Tensor], tf.Tensor]) -> Callable[..., tf.Tensor]:
        """All steps on a batch, compiled: from images and their (n, d) guides to images."""
        loss_of = _projection if self.variant == "projection" else self._flexible

        @tf.function(reduce_retracing=True)
        def follow(x: tf.Tensor, guides: tf.Tensor) -> tf.Tensor:
            clean = features(x)
            lengths = tf.maximum(tf.norm(guides, axis=1, keepdims=True), SMALLEST)
            low, high = tf.maximum(x - self.eps, 0.0), tf.minimum(x + self.eps, 1.0)
            x_adv = x
            for _ in tf.range(self.max_iter):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(x_adv)
                    # In lengths of the guide, which changes no gradient's sign; an image's terms are its own alone.
                    loss = tf.reduce_sum(loss_of((features(x_adv) - clean) / lengths, guides / lengths))
                x_adv = tf.clip_by_value(x_adv + self._step * tf.sign(tape.gradient(loss, x_adv)), low, high)  # pyright: ignore[reportArgumentType, reportCallIssue]
            return x_adv

        return follow

    def _flexible(self, moved: tf.Tensor, guides: tf.Tensor) -> tf.Tensor:
        """(n,) ILAF's loss of (n, d) Δy″ and Δy′, both in lengths of Δy′."""
        length = tf.sqrt(tf.reduce_sum(tf.square(moved), axis=1) + SOFTENING**2)
        return _projection(moved, guides) / length + self.alpha * length

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "base_steps", "batch_size")
        check_number(self, "eps")
        check_number(self, "alpha", zero=True)
        if self.eps_step is not None:
            check_number(self, "eps_step")
        for name, known in (("variant", VARIANTS), ("guide", GUIDES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        checked_seed(self.seed)
        self._check_layer()
        self._check_base()

    def _check_layer(self) -> None:
        network = getattr(self.estimator, "model", None)
        if not isinstance(network, keras.Model):
            raise TypeError(f"the classifier must hold a Keras network, got {type(network).__name__}")
        if self.layer is None:
            last_convolution(network)
        else:
            layer_called(network, self.layer)

    def _check_base(self) -> None:
        if self.base is None:
            return
        if not isinstance(self.base, EvasionAttack):
            raise TypeError(f"base must be an evasion attack of ART, got {type(self.base).__name__}")
        if self.base.estimator is not self.estimator:
            raise ValueError("base attacks another classifier: build it on the one that is attacked here")
        if self.base.targeted:
            raise ValueError("base must be untargeted: the guide leads away from the true class, not to another one")


def _projection(moved: tf.Tensor, guides: tf.Tensor) -> tf.Tensor:
    """(n,) ILAP's loss of (n, d) Δy″ and Δy′."""
    return tf.reduce_sum(moved * guides, axis=1)


def _with_lengths_of(guides: Array, directions: Array) -> Array:
    """(n, d) vectors along `directions`, each as long as the guide of its row."""
    lengths, drawn = (np.linalg.norm(rows, axis=1, keepdims=True) for rows in (guides, directions))
    return directions * (lengths / drawn)
