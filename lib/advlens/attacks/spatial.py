"""An attack that only turns and shifts: for each image the transformation, of a grid, that leads farthest away."""

import itertools

import numpy as np
from scipy.ndimage import rotate, shift

from advlens.arrays import Array
from advlens.attacks.inputs import BatchAttack, check_number, check_whole_number
from advlens.classifier import logit_margins
from advlens.store import versioned


@versioned(1)
class SpatialAttack(BatchAttack):
    """The worst of a grid of rotations and translations, searched for each image; ART's takes one for all images.

    Args:
        classifier: the network attacked.
        max_rotation: degrees to either side; rotations: how many angles, evenly between, 0 among them where odd.
        max_shift: pixels to each side; shifts: how many places along each axis.
        batch_size: images attacked at once.

    Source: Engstrom et al. 2019, "grid search" (±30°, ±3 pixels).
    """

    max_rotation: float = 30.0
    rotations: int = 9
    max_shift: int = 3
    shifts: int = 5
    batch_size: int = 512

    def _attack(self, x: Array, y: Array) -> Array:
        angles = np.linspace(-self.max_rotation, self.max_rotation, self.rotations)
        places = np.linspace(-self.max_shift, self.max_shift, self.shifts)
        worst, most = x, np.full(len(x), -np.inf)
        for angle in angles:
            turned = rotate(x, angle, axes=(1, 2), reshape=False, order=1, mode="nearest")
            for down, right in itertools.product(places, places):
                moved = np.clip(shift(turned, (0, down, right, 0), order=1, mode="nearest"), 0, 1)
                margins = logit_margins(self.estimator.predict(moved), y)
                better = margins > most
                most = np.where(better, margins, most)
                worst = np.where(better[:, None, None, None], moved, worst)
        return worst

    def _check_params(self) -> None:
        check_whole_number(self, "rotations", "shifts", "batch_size")
        check_number(self, "max_rotation", zero=True)
        check_number(self, "max_shift", zero=True)
