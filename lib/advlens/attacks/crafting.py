"""Running an attack: an entry of the catalogue on images, and the record of how it went.

Which attacks there are, and under which names, is the catalogue's business: this module imports none of them, so that
a stored attack set is keyed by its own attack's code alone.
"""

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from art.attacks.attack import EvasionAttack

from advlens.arrays import Array, checked_images, checked_indices, checked_labels, checked_seed
from advlens.attacks.art_attacks import is_targeted, named_faults, victim_of
from advlens.attacks.attack_set import UNTARGETED, AttackSet
from advlens.attacks.noise import gaussian_twin
from advlens.classifier import Classifier, checked_classifier, logit_margins
from advlens.random import numpy_seeded
from advlens.store import artifact

SHARE_TOLD = 0.05  # of images without a gradient, or unchanged, from which on it is said


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


def build(entry: CatalogueEntry, classifier: Classifier, *, name: str, **parameters: Any) -> EvasionAttack:
    """Build the entry's attack on a classifier; `parameters` override the catalogue's.

    Raises:
        ValueError: for a parameter that the attack does not have or does not accept, or an attack of ART that can't
            be run here.
    """
    known = entry.attack.attack_params
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}: it takes {', '.join(known)}")
    accepted = inspect.signature(entry.attack).parameters
    quiet = {"verbose": False} if "verbose" in accepted else {}
    with named_faults(entry.attack):
        return entry.attack(victim_of(entry.attack, classifier), **quiet, **entry.with_parameters(**parameters))  # pyright: ignore[reportCallIssue]


@artifact(version=1)
def attack_images(
    entry: CatalogueEntry,
    classifier: Classifier,
    images: Array,
    labels: Array,
    *,
    name: str,
    source: Array,
    seed: int,
    **parameters: Any,
) -> AttackSet:
    """Attack images that the network classifies correctly, and make their noisy twins.

    Args:
        entry: what to run; name: what tables call it.
        images: (n, h, w, channels) float in [0, 1].
        labels: (n,) true classes.
        source: (n,) the images' indices in the test set; seed: of the attacks' random draws and the noisy twins.
        parameters: override the entry's, by ART's names. With `targeted=True`, and by an attack that knows no other
            way, each image is driven to the class that the network thinks least likely (Kurakin et al. 2017).
    Returns:
        The attack set, in the order of the images.
    Raises:
        TypeError: for a classifier that is none.
        ValueError: for bad images, labels, seeds or parameters, and for images that are classified wrongly.
    """
    images = checked_images(images, shape=checked_classifier(classifier).input_shape)
    rng = np.random.default_rng(checked_seed(seed))
    labels = checked_labels(labels, n=len(images), num_classes=classifier.nb_classes)
    source = _checked_source(source, n=len(images))
    drawn = int(rng.integers(2**31))
    if "seed" in entry.attack.attack_params:  # of this package; ART's draw from NumPy's global state
        parameters.setdefault("seed", drawn)
    attack = build(entry, classifier, name=name, **parameters)
    logits = classifier.predict(images)
    wrong = int((logits.argmax(axis=1) != labels).sum())
    if wrong and not classifier.is_random:  # means of random passes may differ from those by which images were chosen
        raise ValueError(f"{wrong} of {len(images)} images are misclassified as they are: attack only correct ones")
    targeted = is_targeted(attack)
    target = logits.argmin(axis=1) if targeted else np.full(len(images), UNTARGETED)
    adversarial = generate(attack, images, target if targeted else labels, seed=drawn)
    about = {"name": name, "parameters": entry.with_parameters(**parameters), "source": source, "rng": rng}
    return judged(classifier, images, adversarial, labels, target=target.astype(np.int64), **about)


def judged(
    classifier: Classifier,
    images: Array,
    adversarial: Array,
    labels: Array,
    *,
    name: str,
    parameters: Mapping[str, Any],
    source: Array,
    target: Array,
    rng: np.random.Generator,
) -> AttackSet:
    """The attack set of attacked images, whoever made them: what the network says of them, and their noisy twins.

    Args:
        images, adversarial: (n, h, w, channels) in [0, 1], before and after; labels: (n,) true classes.
        name, parameters, source, target: as in `AttackSet`; rng: draws the twins.
    """
    perturbation = (adversarial - images).reshape(len(images), -1)
    l2, attacked_logits = np.linalg.norm(perturbation, axis=1), classifier.predict(adversarial)
    predicted = attacked_logits.argmax(axis=1)
    return AttackSet(
        attack=name,
        parameters=parameters,
        source=source,
        clean=images,
        noisy=gaussian_twin(images, l2, rng=rng),
        adversarial=adversarial,
        label=labels,
        target=target,
        predicted=predicted,
        success=predicted != labels,
        margin=logit_margins(attacked_logits, labels).astype(np.float32),
        l2=l2.astype(np.float32),
        linf=np.abs(perturbation).max(axis=1).astype(np.float32),
        zero_gradient=without_gradient(classifier, images, labels),
    )


def _checked_source(source: Array, *, n: int) -> Array:
    """Validate (n,) different indices of images, and return them as int64."""
    source = checked_indices(source, n=n, name="source")
    if source.min() < 0 or len(np.unique(source)) < len(source):
        raise ValueError("source must hold each image's own place in the test set, ≥ 0, none of them twice")
    return source


def without_gradient(classifier: Classifier, images: Array, labels: Array) -> Array:
    """(n,) bool, whether the gradient of the cross-entropy with respect to the image is zero in every pixel."""
    return ~classifier.loss_gradient(images, labels).reshape(len(images), -1).any(axis=1)


def warn_of_idle(attacked: AttackSet) -> None:
    """Warns where 5 % of the images or more have no gradient, or came back as they were."""
    n = len(attacked)
    for rows, what in (
        (attacked.zero_gradient, "have a loss gradient of zero: attacks that follow it can't move them"),
        (attacked.unchanged, f"are left unchanged by {attacked.attack}"),
    ):
        if rows.mean() >= SHARE_TOLD:
            warnings.warn(f"{rows.sum()} of {n} images ({rows.mean():.0%}) {what}", stacklevel=3)


def generate(attack: EvasionAttack, images: Array, labels: Array, *, seed: int) -> Array:
    """Run an attack and clip its images to [0, 1]; NumPy's global state, from which ART's draw, stays as it was.

    Args:
        images: (n, h, w, channels) float32; labels: (n,) classes.
    Raises:
        ValueError: for an attack that does not return one finite image for each.
    """
    with numpy_seeded(seed), named_faults(type(attack)):
        adversarial = np.asarray(attack.generate(images, _one_hot(labels, attack.estimator.nb_classes)))
    if adversarial.shape != images.shape or not np.isfinite(adversarial).all():
        raise ValueError(
            f"{type(attack).__name__} must return one finite image for each of {images.shape}, got "
            f"{adversarial.shape}, {np.isnan(adversarial).sum()} values of it NaN: mend the attack"
        )
    return np.clip(adversarial, 0.0, 1.0).astype(np.float32)


def _one_hot(labels: Array, num_classes: int) -> Array:
    return np.eye(num_classes, dtype=np.float32)[labels]
