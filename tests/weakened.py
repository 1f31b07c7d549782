"""Attacks that know a detector, weakened on purpose: each must fail a check of strength."""

from advlens.attacks.detector_aware import DetectorAwareAttack
from advlens.benchmark.binarisation import inverted
from advlens.detectors.differentiable import DifferentiableScore


class WrongSign(DetectorAwareAttack):
    """It sees the score with the other sign; its detector, by which others judge it, is as it was."""

    def _check_params(self):
        super()._check_params()
        self._score = DifferentiableScore(inverted(self.detector))

    def _attack(self, *batch, **options):
        own, self.detector = self.detector, inverted(self.detector)
        try:
            return super()._attack(*batch, **options)
        finally:
            self.detector = own


WEAKENED = {
    "short steps": lambda attack: attack.changed(eps_step=attack.eps / 1000),
    "one step": lambda attack: attack.changed(max_iter=1),
    "wrong sign": lambda attack: WrongSign(attack.estimator, **attack.given),
}
