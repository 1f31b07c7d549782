"""What attacks of ART outside the catalogue need: targets, probabilities, packages; and which can't run here.

ART's own attacks that the catalogue names need none of this.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from art.attacks.attack import EvasionAttack
from art.estimators.classification import TensorFlowV2Classifier

from advlens.classifier import Classifier

TARGETED_ONLY = ("SaliencyMapMethod", "TargetedUniversalPerturbation")  # they read `y` as the classes to reach
ON_PROBABILITIES = ("SimBA", "VirtualAdversarialMethod")
PATCHES = ("AdversarialPatch", "AdversarialPatchNumpy", "AdversarialPatchPyTorch", "AdversarialPatchTensorFlowV2")


def is_of_art(attack: type[EvasionAttack]) -> bool:
    """Whether an attack's class is ART's own."""
    return attack.__module__.startswith("art.")


def is_targeted(attack: EvasionAttack) -> bool:
    """Whether the labels that an attack takes are the classes to reach."""
    kind = type(attack)
    return bool(attack.targeted) or (is_of_art(kind) and kind.__name__ in TARGETED_ONLY)


def victim_of(attack: type[EvasionAttack], classifier: Classifier) -> TensorFlowV2Classifier:
    """The estimator that an attack of that class is given: one of probabilities where the attack insists on them."""
    if not is_of_art(attack) or attack.__name__ not in ON_PROBABILITIES:
        return classifier
    return TensorFlowV2Classifier(
        model=keras.Sequential([classifier.model, keras.layers.Softmax()]),
        nb_classes=classifier.nb_classes,
        input_shape=classifier.input_shape,
        loss_object=keras.losses.CategoricalCrossentropy(reduction="sum"),
        clip_values=classifier.clip_values,
    )


@contextmanager
def named_faults(attack: type[EvasionAttack]) -> Iterator[None]:
    """Names the attack of ART that fails inside, and what to do.

    Raises:
        ModuleNotFoundError: where it needs a package that is not installed.
        ValueError: for a patch, and in place of any other error of an attack of ART.
    """
    if not is_of_art(attack):
        yield
        return
    name = attack.__name__
    if name in PATCHES:
        raise ValueError(f"{name} makes one patch for all images, not an image for each: it can't be run here")
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{name} needs the package {error.name!r}: python -m pip install {error.name}"
        raise ModuleNotFoundError(message, name=error.name) from error
    except Exception as error:
        raise ValueError(f"ART's {name} can't be run so: {type(error).__name__}: {error}") from error
