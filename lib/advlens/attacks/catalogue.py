"""The attacks by name, with the studies' parameters. How one is run is `crafting`'s business."""

import importlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import (
    AutoProjectedGradientDescent,
    BasicIterativeMethod,
    ElasticNet,
    FastGradientMethod,
    HopSkipJump,
    ProjectedGradientDescent,
    SaliencyMapMethod,
    SquareAttack,
    UniversalPerturbation,
)
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_numpy import (
    ProjectedGradientDescentNumpy,
)

from advlens.arrays import Array, checked_images
from advlens.attacks.attack_set import AttackSet
from advlens.attacks.boundary import BoundaryAttack
from advlens.attacks.crafting import CatalogueEntry, attack_images, build, warn_of_idle
from advlens.attacks.deepfool import DeepFool
from advlens.attacks.fab import FAB
from advlens.attacks.gradient import GradientAttack
from advlens.attacks.inputs import attacked_labels
from advlens.attacks.intermediate import IntermediateLevelAttack
from advlens.attacks.lbfgs import LBFGS
from advlens.attacks.minimum_norm import DDN, CarliniWagnerL2, CarliniWagnerLinf
from advlens.attacks.pixel import PixelAttack
from advlens.attacks.spatial import SpatialAttack
from advlens.classifier import Classifier, as_classifier, check_range

EPS = 77 / 255  # of attacks that have one: 0.3 on the grid of 8-bit images
CATALOGUE: dict[str, CatalogueEntry] = {
    # The relevancy-map study's three attacks.
    "lbfgs": CatalogueEntry(LBFGS),
    "deepfool": CatalogueEntry(DeepFool),
    "gradient": CatalogueEntry(GradientAttack),
    # The closeness-and-uncertainty study's three, by their strength eps, and the two of its later version.
    "fgsm": CatalogueEntry(FastGradientMethod, {"eps": EPS, "batch_size": 512}),
    "bim": CatalogueEntry(BasicIterativeMethod, {"eps": EPS, "max_iter": 10, "batch_size": 512}, step=0.2),
    "pgd": CatalogueEntry(
        ProjectedGradientDescent,
        {"eps": EPS, "max_iter": 40, "num_random_init": 1, "batch_size": 512},
        step=1 / 30,
    ),
    # The nearest image of another class; ART's Carlini-Wagner hardly moves black and white pixels.
    "carlini_l2": CatalogueEntry(CarliniWagnerL2),
    "carlini_linf": CatalogueEntry(CarliniWagnerLinf),
    "ddn": CatalogueEntry(DDN),
    "fab": CatalogueEntry(FAB),
    "fab_linf": CatalogueEntry(FAB, {"norm": "inf"}),
    "pgd_l2": CatalogueEntry(
        ProjectedGradientDescent,
        {"norm": 2, "eps": 2.0, "max_iter": 40, "num_random_init": 1, "batch_size": 512},
        step=0.1,
    ),
    # AutoAttack's two (Croce & Hein 2020), whose step adapts itself.
    "apgd_ce": CatalogueEntry(
        AutoProjectedGradientDescent,
        {"eps": EPS, "max_iter": 50, "nb_random_init": 1, "loss_type": "cross_entropy", "batch_size": 512},
        step=2.0,
    ),
    "apgd_dlr": CatalogueEntry(
        AutoProjectedGradientDescent,
        {"eps": EPS, "max_iter": 50, "nb_random_init": 1, "loss_type": "difference_logits_ratio", "batch_size": 512},
        step=2.0,
    ),
    # Few pixels, few of them much, and none at all but their places.
    "jsma": CatalogueEntry(SaliencyMapMethod, {"theta": 1.0, "gamma": 0.15, "batch_size": 512}),
    "elastic_net": CatalogueEntry(
        ElasticNet, {"max_iter": 50, "binary_search_steps": 5, "initial_const": 1.0, "batch_size": 512}
    ),
    "spatial": CatalogueEntry(SpatialAttack),
    # The feature-response study's two searches, which see the network's outputs alone.
    "one_pixel": CatalogueEntry(PixelAttack),
    "boundary": CatalogueEntry(BoundaryAttack),
    # The attacks that the deep-k-nearest-neighbours study wanted, at the last convolution unless told another layer.
    "ilap": CatalogueEntry(IntermediateLevelAttack, {"variant": "projection", "eps": EPS}),
    "ilaf": CatalogueEntry(IntermediateLevelAttack, {"variant": "flexible", "eps": EPS}),
    # With momentum, the rival of these; ART's own entry to it, MomentumIterativeMethod, refuses TensorFlow.
    "mi_fgsm": CatalogueEntry(
        ProjectedGradientDescentNumpy, {"eps": EPS, "max_iter": 10, "decay": 1.0, "batch_size": 512}, step=0.2
    ),
    # The other scenarios of the feature-response study: a target class, a black box with and without scores, one
    # perturbation for all.
    "bim_targeted": CatalogueEntry(
        BasicIterativeMethod, {"eps": EPS, "max_iter": 10, "targeted": True, "batch_size": 512}, step=0.2
    ),
    "hop_skip_jump": CatalogueEntry(HopSkipJump, {"max_iter": 10, "max_eval": 1000, "init_eval": 100}),
    "square": CatalogueEntry(SquareAttack, {"eps": EPS, "max_iter": 500, "batch_size": 512}),
    "universal": CatalogueEntry(
        UniversalPerturbation, {"attacker": "fgsm", "eps": EPS, "max_iter": 5, "batch_size": 512}
    ),
}


def strengths_of(dataset: str) -> tuple[float, float]:
    """The weaker and the stronger ε of FGSM, BIM and PGD on a data set: those of Tuna et al. 2020 on the 1/255 grid.

    Digits are black and white and bear more; so, for want of better knowledge, is any other data set taken to be.
    """
    return (8 / 255, 31 / 255) if dataset == "fashion_mnist" else (31 / 255, 77 / 255)


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


def names() -> tuple[str, ...]:
    """The names of the catalogue, in its order; `craft` takes those of ART's evasion attacks as well.

    >>> "deepfool" in names()
    True
    """
    return tuple(CATALOGUE)


def build_attack(name: str, model: Classifier | keras.Model, **parameters: Any) -> EvasionAttack:
    """Build the attack of that name on a network; `parameters` override the catalogue's.

    Raises:
        ValueError: for an unknown name, or a parameter that the attack does not have or does not accept.
    """
    return build(find_attack(name), as_classifier(model), name=name, **parameters)


def craft(
    name: str,
    model: Classifier | keras.Model | str | Path,
    images: Array,
    labels: Array,
    *,
    source: Array | None = None,
    seed: int = 0,
    **parameters: Any,
) -> AttackSet:
    """Attack the images that a network classifies correctly, and make their noisy twins.

    Args:
        name: one of `names()`, or the class name of an attack in `art.attacks.evasion`.
        model: a Keras network of images in [0, 1], the path of its .keras file, or a `Classifier`.
        images: (n, h, w, channels) in [0, 1].
        labels: (n,) true classes, or (n, c) one-hot.
        source: (n,) an index ≥ 0 for each image, by which splits keep its versions together; None for 0 to n − 1.
        seed: governs the attack's random draws and the noisy twins.
        parameters: of the attack; they override the catalogue's.
    Returns:
        The attack set of the images classified correctly, in their order. Warnings count those left out, and those
        that have no gradient or come back as they were, where these are 5 % or more.
    Raises:
        ValueError: for an unknown name, bad parameters, images, labels or sources, or where no image is left.

    >>> import keras, numpy as np
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> images = np.random.default_rng(0).random((5, 4, 4, 1), dtype=np.float32)
    >>> attacked = craft("fgsm", network, images, network(images).numpy().argmax(axis=1), eps=51 / 255)
    >>> attacked.source
    array([0, 1, 2, 3, 4])
    >>> bool((attacked.linf <= 0.2 + 1e-6).all())
    True
    """
    entry, classifier = find_attack(name), as_classifier(model)
    images = checked_images(images, shape=classifier.input_shape)
    labels = attacked_labels(classifier, images, labels)
    check_range(classifier, images, labels)
    source = np.arange(len(images)) if source is None else np.asarray(source)
    correct = np.flatnonzero(classifier.predict(images).argmax(axis=1) == labels)
    left_out = len(images) - len(correct)
    if len(correct) == 0:
        raise ValueError(f"all {len(images)} images are misclassified as they are: none is left to attack")
    if left_out and source.shape == labels.shape:
        images, labels, source = images[correct], labels[correct], source[correct]
        warnings.warn(f"{left_out} of {left_out + len(correct)} images are misclassified: left out", stacklevel=2)
    made = attack_images(entry, classifier, images, labels, name=name, source=source, seed=seed, **parameters)
    warn_of_idle(made)
    return made
