"""The L-BFGS attack one image at a time with SciPy, as foolbox 2 does it: the reference of a test and a benchmark."""

import numpy as np
from scipy.optimize import fmin_l_bfgs_b


def scipy_lbfgs(classifier, image, target, *, epsilon=1e-5, maxiter=150):
    """The nearest image of class `target` that was evaluated, None if there was none.

    Args:
        image: (h, w, channels) in [0, 1].
    """
    x0 = image.ravel().astype(np.float64)
    one_hot = np.eye(classifier.nb_classes, dtype=np.float32)[[target]]
    best = {"distance": np.inf, "image": None}

    def objective(x, c):
        x = x.astype(np.float32)[None].reshape(1, *image.shape)
        logits, gradient = classifier.predict(x)[0].astype(float), classifier.loss_gradient(x, one_hot)
        cross_entropy = np.log(np.exp(logits - logits[target]).sum())
        moved = x.ravel() - x0
        distance = np.mean(moved**2)
        if logits.argmax() == target and distance < best["distance"]:
            best.update(distance=distance, image=x[0])
        slope = 2 * moved / len(x0) + c * gradient.ravel().astype(float)
        return 1e10 * (distance + c * cross_entropy), 1e10 * slope

    def reaches(c):
        x, _, _ = fmin_l_bfgs_b(objective, x0, args=(c,), bounds=[(0, 1)] * len(x0), m=15, maxiter=maxiter)
        return classifier.predict(x.astype(np.float32).reshape(1, *image.shape)).argmax() == target

    low, high = 0.0, 2 * epsilon
    for _ in range(30):
        if reaches(high):
            break
        high *= 2
    while high - low >= epsilon and best["image"] is not None:
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return best["image"]
