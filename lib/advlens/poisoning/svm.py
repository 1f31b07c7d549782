"""Points that ART's attack on a linear support vector machine moves, kept within a distance of where they started."""

import numpy as np
from art.attacks.poisoning import PoisoningAttackSVM
from art.estimators.classification.scikitlearn import ScikitlearnSVC
from sklearn.svm import SVC

from advlens.arrays import Array
from advlens.progress import progress
from advlens.random import numpy_seeded

CLASSES = 2


class LinearMachine(ScikitlearnSVC):
    """ART's estimator of a linear SVC whose kernel matrix is one product: the same values, without two Python loops.

    Args:
        inputs: (n, d) floats in [0, 1]; labels: (n,) bool.
    """

    def __init__(self, inputs: Array, labels: Array) -> None:
        super().__init__(SVC(kernel="linear").fit(inputs, labels.astype(int)), clip_values=(0.0, 1.0))

    def q_submatrix(self, rows: Array, cols: Array) -> Array:
        """(r, c) products of (r, d) rows and (c, d) columns, negative where the machine parts the two."""
        signs = [np.where(self.model.predict(vectors) == 0, -1, 1) for vectors in (rows, cols)]
        return (rows @ cols.T) * np.outer(*signs)


def one_hot(labels: Array) -> Array:
    """(n, 2) floats of (n,) bool labels."""
    return np.eye(CLASSES)[np.asarray(labels).astype(int)]


def svm_points(
    starts: Array,
    targets: Array,
    *,
    train: tuple[Array, Array],
    validation: tuple[Array, Array],
    step: float,
    iterations: int,
    radius: float,
    seed: int,
) -> Array:
    """Where ART's attack moves points that are to be added to a linear SVC's training data.

    Args:
        starts: (n, d) in [0, 1], left as they are; targets: (n,) bool, the labels under which they will be added.
        train, validation: (m, d) inputs and (m,) bool labels of the machine, and of whom its error is to grow on.
        step: length of a step; iterations: how many are taken.
        radius: L2 distance from its start to which a point is brought back at the end.
        seed: of the noise that ART adds to a singular matrix, in NumPy's global state, which stays as it was.
    Returns:
        (n, d) float64 in [0, 1].

    Notes:
        ART's walk stops at the first step by which its objective rises by at least `eps`, mostly the first or second;
        here nothing stops it. The objective, the sum of negative decision values, knows no labels; each point is found
        as if it were the only one; there is no radius in ART; and the estimator's success rate, which `poison`
        logs, needs probabilities that a plain SVC does not have: so points are asked for one by one.
    Source: Biggio, Nelson & Laskov 2012.
    """
    with numpy_seeded(seed):
        attack = PoisoningAttackSVM(
            LinearMachine(*train),
            step=step,
            eps=np.inf,  # the rise of its objective that would stop its walk
            x_train=train[0],
            y_train=one_hot(train[1]),
            x_val=validation[0],
            y_val=one_hot(validation[1]),
            max_iter=iterations,
            verbose=False,
        )
        found = [
            attack.generate_attack_point(start.copy(), label)
            for start, label in progress(
                list(zip(starts, one_hot(targets), strict=True)), description="poisoning", unit="point"
            )
        ]
    return within(np.concatenate(found), starts, radius=radius)


def within(points: Array, centres: Array, *, radius: float) -> Array:
    """(n, d) points, brought back to at most the L2 distance `radius` from their (n, d) centres, straight."""
    moved = points - centres
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return centres + moved * np.minimum(1, radius / np.maximum(lengths, np.finfo(float).tiny))
