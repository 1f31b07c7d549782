"""The attacks by name, with the studies' parameters; and `craft`, which runs one and records how it went."""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import BasicIterativeMethod, CarliniL2Method, FastGradientMethod, ProjectedGradientDescent

from advlens.arrays import Array, checked_images, checked_labels, checked_seed
from advlens.attacks.attack_set import AttackSet
from advlens.attacks.deepfool import DeepFool
from advlens.attacks.gradient import GradientAttack
from advlens.attacks.lbfgs import LBFGS
from advlens.attacks.noise import gaussian_twin
from advlens.classifier import Classifier, checked_classifier


@dataclasses.dataclass(frozen=True)
class CatalogueEntry:
    """An attack's class and the parameters under which the catalogue runs it.

    Attributes:
        step: for an attack that walks, its step as a share of `eps`, unless `eps_step` is given.
    """

    attack: type[EvasionAttack]
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: float | None = None

    def with_parameters(self, **given: Any) -> dict[str, Any]:
        """The catalogue's parameters, those given, and the step that follows from them."""
        parameters = {**self.parameters, **given}
        if self.step is not None:
            parameters.setdefault("eps_step", self.step * parameters["eps"])
        return parameters


CATALOGUE: dict[str, CatalogueEntry] = {
    # The relevancy-map study's three attacks.
    "lbfgs": CatalogueEntry(LBFGS),
    "deepfool": CatalogueEntry(DeepFool),
    "gradient": CatalogueEntry(GradientAttack),
    # The closeness-and-uncertainty study's three, by their strength eps, and the two of its later version.
    "fgsm": CatalogueEntry(FastGradientMethod, {"eps": 0.3, "batch_size": 512}),
    "bim": CatalogueEntry(BasicIterativeMethod, {"eps": 0.3, "max_iter": 10, "batch_size": 512}, step=0.2),
    "pgd": CatalogueEntry(
        ProjectedGradientDescent,
        {"eps": 0.3, "max_iter": 40, "num_random_init": 1, "batch_size": 512},
        step=1 / 30,
    ),
    "carlini_l2": CatalogueEntry(
        CarliniL2Method,
        {"max_iter": 50, "binary_search_steps": 6, "initial_const": 1.0, "learning_rate": 0.1, "batch_size": 512},
    ),
}


def find_attack(name: str) -> CatalogueEntry:
    """The catalogue's entry of that name, or any evasion attack of ART by its class name.

    Raises:
        ValueError: for a name that neither the catalogue nor `art.attacks.evasion` knows.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    attack = getattr(importlib.import_module("art.attacks.evasion"), name, None)
    if not (inspect.isclass(attack) and issubclass(attack, EvasionAttack)):
        raise ValueError(
            f"no attack is called {name!r}: choose one of {', '.join(CATALOGUE)}, "
            "or the class name of an attack in art.attacks.evasion, such as FastGradientMethod"
        )
    return CatalogueEntry(attack)


def build_attack(name: str, classifier: Classifier, **parameters: Any) -> EvasionAttack:
    """The attack of that name on a classifier; `parameters` override the catalogue's.

    Raises:
        ValueError: for an unknown name, or a parameter that the attack does not have or does not accept.
    """
    entry = find_attack(name)
    known = entry.attack.attack_params
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}: it takes {', '.join(known)}")
    accepted = inspect.signature(entry.attack).parameters
    quiet = {"verbose": False} if "verbose" in accepted else {}
    return entry.attack(classifier, **quiet, **entry.with_parameters(**parameters))


def craft(
    name: str,
    classifier: Classifier,
    images: Array,
    labels: Array,
    *,
    source: Array,
    seed: int,
    **parameters: Any,
) -> AttackSet:
    """Attacks images that the task network classifies correctly, and makes their noisy twins.

    Args:
        name: the catalogue's or ART's name of the attack.
        images: (n, h, w, channels) float in [0, 1].
        labels: (n,) true classes.
        source: (n,) the images' places in the test set.
        seed: governs ART attacks' random starts and the noisy twins.
        parameters: override the catalogue's, by ART's names.
    Returns:
        The attack set, in the order of the images.
    Raises:
        TypeError: for a classifier that is none.
        ValueError: for bad images, labels, seeds, names or parameters, and for images that are classified wrongly.
    """
    images = checked_images(images, shape=checked_classifier(classifier).input_shape)
    rng = np.random.default_rng(checked_seed(seed))
    labels = checked_labels(labels, n=len(images), num_classes=classifier.nb_classes)
    source = np.asarray(source)
    if source.shape != (len(images),) or not np.issubdtype(source.dtype, np.integer):
        raise ValueError(f"source must have shape ({len(images)},) and be integers, got {source.dtype} {source.shape}")
    if source.min() < 0 or len(np.unique(source)) < len(source):
        raise ValueError("source must hold each image's own place in the test set, ≥ 0, none of them twice")
    if parameters.get("targeted"):
        raise ValueError("craft makes only untargeted attacks, which leave the true class: drop targeted=True")
    attack = build_attack(name, classifier, **parameters)
    wrong = int((classifier.predict(images).argmax(axis=1) != labels).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(images)} images are misclassified as they are: attack only correct ones")
    adversarial = generated(attack, images, labels, seed=rng.integers(2**31))
    perturbation = (adversarial - images).reshape(len(images), -1)
    l2 = np.linalg.norm(perturbation, axis=1)
    predicted = classifier.predict(adversarial).argmax(axis=1)
    return AttackSet(
        attack=name,
        parameters=find_attack(name).with_parameters(**parameters),
        source=source.astype(np.int64),
        clean=images,
        noisy=gaussian_twin(images, l2, rng=rng),
        adversarial=adversarial,
        label=labels,
        predicted=predicted,
        success=predicted != labels,
        l2=l2.astype(np.float32),
        linf=np.abs(perturbation).max(axis=1).astype(np.float32),
    )


def generated(attack: EvasionAttack, images: Array, labels: Array, *, seed: int) -> Array:
    """What the attack makes of images, clipped to [0, 1]; NumPy's global state, from which ART's draw, stays as it was.

    Args:
        images: (n, h, w, channels) float32; labels: (n,) classes.
    Raises:
        ValueError: for an attack that does not return one finite image for each.
    """
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        adversarial = np.asarray(attack.generate(images, _one_hot(labels, attack.estimator.nb_classes)))
    finally:
        np.random.set_state(state)  # noqa: NPY002
    if adversarial.shape != images.shape or not np.isfinite(adversarial).all():
        raise ValueError(
            f"{type(attack).__name__} must return one finite image for each of {images.shape}, got "
            f"{adversarial.shape}, {np.isnan(adversarial).sum()} values of it NaN: mend the attack"
        )
    return np.clip(adversarial, 0.0, 1.0).astype(np.float32)


def _one_hot(labels: Array, num_classes: int) -> Array:
    return np.eye(num_classes, dtype=np.float32)[labels]
