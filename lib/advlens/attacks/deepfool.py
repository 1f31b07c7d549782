"""DeepFool on whole batches: images that are fooled drop out, the others go on."""

import numpy as np

from advlens.arrays import Array
from advlens.attacks.inputs import MARGIN, BatchAttack, check_number, check_whole_number
from advlens.classifier import logit_margins
from advlens.store import versioned


@versioned(2)
class DeepFool(BatchAttack):
    """Steps to the nearest linearised decision boundary, until the class changes by a margin, L2 and untargeted.

    With w_k = ∇f_k − ∇f_y and f'_k = f_k − f_y over the `nb_grads` most likely classes k, each iteration adds
    r = (|f'_l − κ| / ‖w_l‖ + 10⁻⁴) w_l / ‖w_l‖ for l = argmin |f'_k − κ| / ‖w_k‖, and asks for the logits of
    clip(x + (1 + η) Σr, 0, 1), as the authors' own code does for κ = 0. The images still at work are padded to a power
    of two, so that a GPU meets few shapes.

    Args:
        classifier: the network attacked.
        max_iter: iterations at most; where they don't suffice, the last iterate is returned.
        epsilon: the overshoot η (ART's own DeepFool: 10⁻⁶, applied once at the end).
        nb_grads: classes k considered, among them the one to leave.
        margin: the κ by which another logit must be above that of the class to leave; the default is what keeps a
            success one in any batch, a larger one asks for confident errors.
        batch_size: images attacked at once.

    Source: Moosavi-Dezfooli et al. 2016, algorithm 2.
    """

    max_iter: int = 100
    epsilon: float = 0.02
    nb_grads: int = 10
    margin: float = MARGIN
    batch_size: int = 512

    def _attack(self, x: Array, y: Array) -> Array:
        x_adv, r = x.copy(), np.zeros_like(x)
        classes = _candidates(self.estimator.predict(x), y, self.nb_grads)
        left = np.arange(len(x))
        for _ in range(self.max_iter):
            padded = np.resize(left, 1 << (len(left) - 1).bit_length())
            f, gradients = (
                each[: len(left)] for each in self.estimator.logits_and_class_gradients(x_adv[padded], classes[padded])
            )
            still = logit_margins(f, y[left]) < self.margin
            left, f, gradients = left[still], f[still], gradients[still]
            if len(left) == 0:
                break
            f = np.take_along_axis(f, classes[left], axis=1)
            r[left] += _to_nearest_boundary(f, gradients, margin=self.margin)
            x_adv[left] = np.clip(x[left] + (1 + self.epsilon) * r[left], 0, 1)
        return x_adv

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "batch_size")
        check_whole_number(self, "nb_grads", lowest=2)
        for name in ("epsilon", "margin"):
            check_number(self, name, zero=True)


def _candidates(logits: Array, y: Array, k: int) -> Array:
    """(n, k) classes: first the one to leave, then the most likely others."""
    logits = logits.copy()
    logits[np.arange(len(y)), y] = np.inf
    return np.argsort(-logits, axis=1)[:, :k]


def _to_nearest_boundary(f: Array, gradients: Array, *, margin: float) -> Array:
    """(n, *shape) step to where another logit of the linearised network is first above by the margin.

    Args:
        f: (n, k) logits, that of the class to leave first.
        gradients: (n, k, *shape) their gradients.
    """
    w = gradients[:, 1:] - gradients[:, :1]
    norm = np.sqrt(np.sum(w**2, axis=(2, 3, 4))) + 1e-8
    distance = np.abs(f[:, 1:] - f[:, :1] - margin) / norm
    nearest = (np.arange(len(f)), distance.argmin(axis=1))
    length = (distance[nearest] + 1e-4) / norm[nearest]
    return length[:, None, None, None] * w[nearest]
