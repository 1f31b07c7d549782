"""The deep-k-nearest-neighbours study's detector: decisions that the training data do not support."""

from advlens.arrays import Array
from advlens.detectors.base import Detector
from advlens.neighbours import DeepKNN


class DeepKNNDetector(Detector):
    """Scores images by one minus the credibility of their decision.

    Args:
        deep_knn: fitted to the training set and calibrated on held-out images. `calibrate` of this detector takes
            other clean images than those, and commits the threshold.
    Raises:
        TypeError: for anything else.

    Notes:
        Under the conformal convention the true label's p-value is super-uniform and the credibility is never below
        it: of clean images at most a share of ε has a score of 1 − ε or more, whatever the network.

    Source: Papernot & McDaniel 2018, section VI.
    """

    defence_params = ("deep_knn",)

    def __init__(self, deep_knn: DeepKNN) -> None:
        super().__init__()
        if not isinstance(deep_knn, DeepKNN):
            raise TypeError(f"deep_knn must be a DeepKNN, got {type(deep_knn).__name__}: fit and calibrate one")
        self.deep_knn = deep_knn

    def scores(self, images: Array) -> Array:
        """(n,) in [0, 1].

        Raises:
            RuntimeError: before the Deep kNN is fitted and calibrated.
        """
        return 1 - self.deep_knn.judge(images).credibility
