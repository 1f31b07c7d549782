"""The L-BFGS attack one image at a time with SciPy, as foolbox 2 does it: the reference of a test and a benchmark."""

import numpy as np
import tensorflow as tf
from scipy.optimize import fmin_l_bfgs_b


def scipy_lbfgs(network, images, targets, *, epsilon=1e-5, maxiter=150):
    """For each image the nearest one of its target class that was evaluated, None where there was none.

    Args:
        network: a Keras network that ends in logits.
        images: (n, h, w, channels) in [0, 1].
        targets: (n,) class numbers.
    """

    @tf.function
    def evaluate(x, target):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = network(x, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target[None], logits)
        return loss[0], tape.gradient(loss, x)[0], tf.argmax(logits[0]) == target

    return [_attacked(evaluate, *pair, epsilon, maxiter) for pair in zip(images, targets, strict=True)]


def _attacked(evaluate, image, target, epsilon, maxiter):
    x0, target = image.ravel().astype(np.float64), tf.constant(target, tf.int64)
    best = {"distance": np.inf, "image": None}

    def evaluated(x):
        return [v.numpy() for v in evaluate(tf.constant(x.reshape(1, *image.shape), tf.float32), target)]

    def objective(x, c):
        cross_entropy, gradient, reached = evaluated(x)
        distance = np.mean((x - x0) ** 2)
        if reached and distance < best["distance"]:
            best.update(distance=distance, image=x.reshape(image.shape).astype(np.float32))
        slope = 2 * (x - x0) / len(x0) + c * gradient.ravel().astype(float)
        return 1e10 * (distance + c * float(cross_entropy)), 1e10 * slope

    def reaches(c):
        x, _, _ = fmin_l_bfgs_b(objective, x0, args=(c,), bounds=[(0, 1)] * len(x0), m=15, maxiter=maxiter)
        return evaluated(x)[2]

    low, high = 0.0, 2 * epsilon
    for _ in range(30):
        if reaches(high):
            break
        high *= 2
    while high - low >= epsilon and best["image"] is not None:
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return best["image"]
