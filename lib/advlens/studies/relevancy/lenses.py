"""What the study's detector networks look at: images or maps, of which kind, through which image file."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from advlens.classifier import Classifier
from advlens.detectors.cnn import InputClassifier, RelevancyClassifier

MAIN_NETWORK = "slide_detector_cnn"


@dataclasses.dataclass(frozen=True)
class Lens:
    """What a detector network looks at.

    Attributes:
        family: "input" or "relevancy", which colours its figures.
        network: the detector network's name.
        options: keyword arguments of the detector beyond those of training.
    """

    family: str
    network: str = MAIN_NETWORK
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_variant(self) -> bool:
        """Whether the study only tried it beside its two main classifiers: another network, or another layer's map."""
        return self.network != MAIN_NETWORK or "from_layer" in self.options

    def detector(self, classifier: Classifier, **training: Any) -> InputClassifier:
        """The untrained detector behind this lens."""
        if self.family == "input":
            return InputClassifier(network=self.network, **self.options, **training)
        return RelevancyClassifier(classifier, network=self.network, **self.options, **training)

    def through(self, codec: str) -> "Lens":
        """The same lens on what an image file leaves; maps are coloured for that."""
        coloured = {} if self.family == "input" else {"coloured": True}
        return dataclasses.replace(self, options={**self.options, **coloured, "codec": codec})


STUDY_MAP = {"method": "lrp.z", "neuron": "all"}  # what the study's code computes under the name Deep Taylor
LAST_LAYER = {"from_layer": "last"}
_WRAPPED = {"codec": "wrapped jpeg"}
_FLOAT = {"codec": "float"}
_STUDY = STUDY_MAP | _WRAPPED | {"coloured": True}
_DEEP_TAYLOR = {"method": "deep_taylor", "coloured": False} | _FLOAT
_Z_RULE = {"method": "lrp.z", "coloured": False} | _FLOAT
_COLOURED = {"coloured": True}

PUBLISHED_LENSES = {
    "input": Lens("input", options=_WRAPPED),
    "relevancy": Lens("relevancy", options=_STUDY),
    "relevancy, VGG-like": Lens("relevancy", "vgg_like_detector_cnn", _STUDY),
    "relevancy, last layer": Lens("relevancy", options=_STUDY | LAST_LAYER),
}
CORRECTED_LENSES = {
    "input": Lens("input", options=_FLOAT),
    "Deep Taylor": Lens("relevancy", options=_DEEP_TAYLOR),
    "z-rule": Lens("relevancy", options=_Z_RULE),
    "Deep Taylor, coloured": Lens("relevancy", options=_DEEP_TAYLOR | _COLOURED),
    "z-rule, coloured": Lens("relevancy", options=_Z_RULE | _COLOURED),
    "Deep Taylor, VGG-like": Lens("relevancy", "vgg_like_detector_cnn", _DEEP_TAYLOR),
    "Deep Taylor, last layer": Lens("relevancy", options=_DEEP_TAYLOR | LAST_LAYER),
}


def family_of(detector: str) -> str:
    """The family that colours a detector's figures, by its name in the corrected tables."""
    if detector in CORRECTED_LENSES:
        return CORRECTED_LENSES[detector].family
    return "combined" if " + " in detector else "baseline"
