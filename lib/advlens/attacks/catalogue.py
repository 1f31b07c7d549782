"""The attacks by name, with the studies' parameters. How one is run is `crafting`'s business."""

import importlib
import inspect
from typing import Any

from art.attacks.attack import EvasionAttack
from art.attacks.evasion import (
    BasicIterativeMethod,
    CarliniL2Method,
    FastGradientMethod,
    HopSkipJump,
    ProjectedGradientDescent,
    SquareAttack,
    UniversalPerturbation,
)
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_numpy import (
    ProjectedGradientDescentNumpy,
)

from advlens.arrays import Array
from advlens.attacks.attack_set import AttackSet
from advlens.attacks.boundary import BoundaryAttack
from advlens.attacks.crafting import CatalogueEntry, built, crafted
from advlens.attacks.deepfool import DeepFool
from advlens.attacks.gradient import GradientAttack
from advlens.attacks.intermediate import IntermediateLevelAttack
from advlens.attacks.lbfgs import LBFGS
from advlens.attacks.pixel import PixelAttack
from advlens.classifier import Classifier

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
    # The feature-response study's two searches, which see the network's outputs alone.
    "one_pixel": CatalogueEntry(PixelAttack),
    "boundary": CatalogueEntry(BoundaryAttack),
    # The attacks that the deep-k-nearest-neighbours study wanted, at the last convolution unless told another layer.
    "ilap": CatalogueEntry(IntermediateLevelAttack, {"variant": "projection", "eps": 0.3}),
    "ilaf": CatalogueEntry(IntermediateLevelAttack, {"variant": "flexible", "eps": 0.3}),
    # With momentum, the rival of these; ART's own entry to it, MomentumIterativeMethod, refuses TensorFlow.
    "mi_fgsm": CatalogueEntry(
        ProjectedGradientDescentNumpy, {"eps": 0.3, "max_iter": 10, "decay": 1.0, "batch_size": 512}, step=0.2
    ),
    # The other scenarios of the feature-response study: a target class, a black box with and without scores, one
    # perturbation for all.
    "bim_targeted": CatalogueEntry(
        BasicIterativeMethod, {"eps": 0.3, "max_iter": 10, "targeted": True, "batch_size": 512}, step=0.2
    ),
    "hop_skip_jump": CatalogueEntry(HopSkipJump, {"max_iter": 10, "max_eval": 1000, "init_eval": 100}),
    "square": CatalogueEntry(SquareAttack, {"eps": 0.3, "max_iter": 500, "batch_size": 512}),
    "universal": CatalogueEntry(
        UniversalPerturbation, {"attacker": "fgsm", "eps": 0.3, "max_iter": 5, "batch_size": 512}
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
    return built(find_attack(name), classifier, name=name, **parameters)


def craft(
    name: str, classifier: Classifier, images: Array, labels: Array, *, source: Array, seed: int, **parameters: Any
) -> AttackSet:
    """`crafting.crafted` of the attack of that name: see there.

    Raises:
        TypeError: for a classifier that is none.
        ValueError: for an unknown name, and whatever `crafted` refuses.
    """
    return crafted(find_attack(name), classifier, images, labels, name=name, source=source, seed=seed, **parameters)
