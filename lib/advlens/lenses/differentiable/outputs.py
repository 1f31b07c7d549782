"""Stand-ins of the lenses on a decision's pixels, outputs and uncertainty."""

import tensorflow as tf

from advlens.lenses.decisions import MAX_SOFTMAX, Baselines, Uncertainty
from advlens.lenses.differentiable.parts import flat, float64
from advlens.lenses.differentiable.registry import Differentiable, differentiable
from advlens.lenses.outputs import Outputs
from advlens.lenses.pictures import Pixels


@differentiable.register
def _(lens: Pixels) -> Differentiable:
    return Differentiable(lens.columns, lambda images: float64(flat(images)))


@differentiable.register
def _(lens: Outputs) -> Differentiable:
    def measure(images: tf.Tensor) -> tf.Tensor:
        logits = float64(lens.classifier.model(images, training=False))
        return tf.stack([-tf.reduce_logsumexp(logits, axis=1), -tf.reduce_max(logits, axis=1)], axis=1)

    return Differentiable(lens.columns, measure)


@differentiable.register
def _(lens: Baselines) -> Differentiable:
    def measure(images: tf.Tensor) -> tf.Tensor:
        logits = float64(lens.classifier.model(images, training=False))
        exponentials = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
        is_largest = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], dtype=tf.float64)
        others = tf.reduce_sum(exponentials * (1 - is_largest), axis=1, keepdims=True)
        return others / (others + tf.reduce_sum(exponentials * is_largest, axis=1, keepdims=True))

    return Differentiable((MAX_SOFTMAX,), measure)


@differentiable.register
def _(lens: Uncertainty) -> Differentiable:
    def measure(images: tf.Tensor) -> tf.Tensor:
        passes = float64(lens.dropout.tensor(images))
        mean, spread = tf.reduce_mean(passes, axis=0), tf.math.reduce_variance(passes, axis=0)
        total, within = (-tf.reduce_sum(tf.math.xlogy(p, p), axis=-1) for p in (mean, passes))
        columns = {
            "variance": tf.reduce_mean(spread, axis=1),
            "entropy": total,
            "mutual information": tf.nn.relu(total - tf.reduce_mean(within, axis=0)),
            "confidence": tf.reduce_max(mean, axis=1),
            "aleatoric": tf.reduce_mean(tf.reduce_sum(passes * (1 - passes), axis=2), axis=0),
            "epistemic": tf.reduce_sum(spread, axis=1),
        }
        return tf.stack([columns[name] for name in lens.columns], axis=1)

    return Differentiable(lens.columns, measure)
