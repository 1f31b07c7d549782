"""Attacks that know a detector, weakened on purpose: each must fail a check of strength."""

import numpy as np

from advlens.attacks.detector_aware import DetectorAwareAttack
from advlens.detectors import Detector, Logistic
from advlens.lenses import Outputs


class WrongSign(DetectorAwareAttack):
    """It follows the score's gradient the wrong way; what judges its images is as it was."""

    def _way(self, to_leave, to_hide, won, strategy):
        return super()._way(to_leave, -to_hide, won, strategy)


def without_gradient(attack):
    """It follows a stand-in whose score is the same everywhere."""
    head, lens = Logistic(), Outputs(attack.estimator)
    n = len(lens.columns)
    head.mean_, head.scale_, head.weights_, head.bias_ = np.zeros(n), np.ones(n), np.zeros(n), 0.0
    return attack.changed(stand_in=Detector(lens, head, name="the same everywhere"))


WEAKENED = {
    "short steps": lambda attack: attack.changed(eps_step=attack.eps / 1000),
    "one step": lambda attack: attack.changed(max_iter=1),
    "wrong sign": lambda attack: WrongSign(attack.estimator, **attack.given),
}
