"""The gradient attack: one step along the loss gradient, as short as it can be."""

import numpy as np
from art.estimators.classification import ClassifierMixin
from art.estimators.estimator import BaseEstimator, LossGradientsMixin

from advlens.arrays import Array
from advlens.attacks.inputs import MARGIN, BatchAttack, check_number, check_whole_number
from advlens.classifier import logit_margins
from advlens.store import versioned

BLOCK = 20  # step sizes tried at once: an image that is fooled skips all later blocks


@versioned(2)
class GradientAttack(BatchAttack):
    """Walks along the gradient of the cross-entropy until the class changes, untargeted.

    With g = ∇ₓ CE(x, y), scaled so that its root mean square is 1, the steps ε = 1/`steps`, 2/`steps`, … 1 (times
    `max_epsilon`) are tried in ascending order as clip(x + ε g, 0, 1). The first that changes the class is refined:
    `fine_steps` equal steps lead from the last ε that failed to it, and the first of those that succeeds is kept.
    An image that no step fools is returned as it came.

    Args:
        classifier: an `advlens.classifier.Classifier`, or another ART classifier with loss gradients.
        steps: step sizes of the first search.
        max_epsilon: the longest step, as the root mean square over pixels before clipping.
        fine_steps: step sizes of the second search.
        margin: by which another logit must be above that of the class to leave.
        batch_size: images searched at once.

    Source: `GradientAttack` of foolbox 2 (Rauber et al. 2017), which repeats its search only for images fooled
    within the first 20 steps, from zero.
    """

    steps: int = 1000
    max_epsilon: float = 1.0
    fine_steps: int = 20
    margin: float = MARGIN
    batch_size: int = 256
    _estimator_requirements = (BaseEstimator, LossGradientsMixin, ClassifierMixin)

    def _attack(self, x: Array, y: Array) -> Array:
        one_hot = np.eye(self.estimator.nb_classes, dtype=np.float32)[y]
        g = self.estimator.loss_gradient(x, one_hot)
        g = g / (np.sqrt(np.mean(g**2, axis=(1, 2, 3), keepdims=True)) + 1e-12)
        spacing = self.max_epsilon / self.steps
        coarse = np.arange(self.steps + 1) * spacing  # from 0, so that an image already misclassified stays
        ε = self._smallest(x, g, y, np.zeros(len(x)), coarse)
        refined = np.flatnonzero((ε > 0) & np.isfinite(ε))
        if len(refined):
            fine = np.arange(1, self.fine_steps + 1) * spacing / self.fine_steps
            last_failed = ε[refined] - spacing
            finer = self._smallest(x[refined], g[refined], y[refined], last_failed, fine)
            ε[refined] = np.minimum(finer, ε[refined])
        ε[~np.isfinite(ε)] = 0
        return _moved(x, g, ε)

    def _smallest(self, x: Array, g: Array, y: Array, base: Array, steps: Array) -> Array:
        """(n,) smallest ε among `base` + `steps` at which the class is no longer `y`; infinite where there is none."""
        found = np.full(len(x), np.inf)
        for block in np.split(steps, range(BLOCK, len(steps), BLOCK)):
            left = np.flatnonzero(np.isinf(found))
            if len(left) == 0:
                break
            ε = base[left, None] + block
            tried = _moved(np.repeat(x[left], len(block), axis=0), np.repeat(g[left], len(block), axis=0), ε.ravel())
            leaving = np.repeat(y[left], len(block))
            fooled = (logit_margins(self.estimator.predict(tried), leaving) >= self.margin).reshape(ε.shape)
            found[left] = np.where(fooled.any(axis=1), ε[np.arange(len(left)), fooled.argmax(axis=1)], np.inf)
        return found

    def _check_params(self) -> None:
        check_whole_number(self, "steps", "fine_steps", "batch_size")
        check_number(self, "max_epsilon")
        check_number(self, "margin", zero=True)


def _moved(x: Array, g: Array, ε: Array) -> Array:
    return np.clip(x + ε.astype(np.float32)[:, None, None, None] * g, 0, 1)
