"""The detectors by name, with the studies' parameters."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from advlens.classifier import Classifier, as_classifier
from advlens.detectors.art_head import ArtBinary
from advlens.detectors.detector import FILE, Detector, restore
from advlens.detectors.heads import Boosting, Head, Logistic, Network, Sign
from advlens.lenses import (
    BASELINES,
    Augmented,
    Baselines,
    Closeness,
    DeepNeighbours,
    Features,
    FeatureSqueezing,
    Joined,
    KernelMeans,
    LeaveOneOut,
    Lens,
    LocalDimensionality,
    LocalEntropy,
    MagNet,
    Mahalanobis,
    MapReconstruction,
    MapUnderDenoising,
    NaturalScenes,
    NoiseReduction,
    Outputs,
    Pixels,
    Relevancy,
    Sensitivity,
    ShapSignature,
    SubsetScanning,
    Uncertainty,
)
from advlens.lenses.neighbours import CREDIBILITY
from advlens.networks.parts import weighted_layers
from advlens.store.files import changed

SIX = ("variance", "entropy", "mutual information", "confidence", "KDE", "KL divergence")
Made = tuple[Lens, Head, str | None]


def _uncertain_and_close(classifier: Classifier, *, passes: int = 50, bandwidth: float = 1.0, seed: int = 0) -> Made:
    lenses = [Uncertainty(classifier, passes=passes, seed=seed), Closeness(classifier, bandwidth=bandwidth)]
    return Joined(lenses), Logistic(), None


def _deep_knn(classifier: Classifier, **parameters: Any) -> Made:
    return DeepNeighbours(classifier, **parameters), Sign(CREDIBILITY, 1), None


def _local_entropy(classifier: Classifier, *, direction: int | None = None, **parameters: Any) -> Made:
    lens = LocalEntropy(classifier, **parameters)
    return lens, Sign(lens.columns[0], direction), None


def _first_layer_distance(classifier: Classifier) -> Made:
    lens = Mahalanobis(classifier, layers=list(weighted_layers(classifier.model))[:1])
    return lens, Sign(lens.columns[0], 1), None


def _input(classifier: Classifier, **parameters: Any) -> Made:
    lens = Pixels(classifier.input_shape)  # pyright: ignore[reportArgumentType]
    return lens, Network(lens.shape, **parameters), None  # pyright: ignore[reportArgumentType]


def _relevancy(classifier: Classifier, *, method: str = "deep_taylor", coloured: bool = False, **more: Any) -> Made:
    lens = Relevancy(classifier, method=method, coloured=coloured)
    return lens, Network(lens.shape, unit_scale=not coloured, **more), None  # pyright: ignore[reportArgumentType]


def _lens(kind: Callable[..., Lens], head: Head) -> Callable[..., Made]:
    """A detector of a lens of the network and a fresh head."""
    return lambda classifier, **parameters: (kind(classifier, **parameters), copy.copy(head), None)


def _natural_scenes(classifier: Classifier) -> Made:
    return NaturalScenes(classifier.input_shape), Boosting(), None  # pyright: ignore[reportArgumentType]


def _art_input(classifier: Classifier, **parameters: Any) -> Made:
    lens = Pixels(classifier.input_shape)  # pyright: ignore[reportArgumentType]
    return lens, ArtBinary(lens.shape, prefix="pixel", **parameters), None


def _art_activation(classifier: Classifier, **parameters: Any) -> Made:
    lens = Features(classifier)
    return lens, ArtBinary((len(lens.columns) - 1,), prefix="feature", **parameters), None


def _baseline(column: str) -> Callable[..., Made]:
    return lambda classifier, sign=1: (Baselines(classifier), Sign(column, sign), None)


CATALOGUE: dict[str, tuple[Callable[..., Made], tuple[str, ...] | None]] = {
    "all_six": (_uncertain_and_close, SIX),
    "deep_knn": (_deep_knn, (CREDIBILITY,)),
    "local_entropy": (_local_entropy, None),
    "entropy": (_lens(Uncertainty, Sign("entropy", 1)), ("entropy",)),  # Gal & Ghahramani 2016
    "density": (_lens(Closeness, Sign("KDE", -1)), ("KDE",)),  # Feinman et al. 2017, alone
    "input_classifier": (_input, None),
    "relevancy_classifier": (_relevancy, None),
    # What others published; heads that learn from attacks do so here by the protocol's rules, not by theirs.
    "energy": (_lens(Outputs, Sign("energy", 1)), ("energy",)),  # Liu et al. 2020
    "max_logit": (_lens(Outputs, Sign("−max logit", 1)), ("−max logit",)),  # Hendrycks et al. 2022
    "feature_squeezing": (_lens(FeatureSqueezing, Sign("largest", 1)), ("largest",)),  # Xu et al. 2018
    "augmentation": (_lens(Augmented, Sign("mean", 1)), ("mean",)),  # Tian et al. 2018
    "kd_bu": (_uncertain_and_close, ("variance", "KDE")),  # Feinman et al. 2017
    "lid": (_lens(LocalDimensionality, Logistic()), None),  # Ma et al. 2018
    "mahalanobis": (_lens(Mahalanobis, Logistic()), None),  # Lee et al. 2018
    "first_layer_distance": (_first_layer_distance, None),  # Lee et al. 2018, of one layer: learns from no attack
    "natural_scenes": (_natural_scenes, None),  # Kherchouche et al. 2020
    "pasa": (_lens(Sensitivity, Logistic()), None),  # Bhusal et al. 2024
    "ml_loo": (_lens(LeaveOneOut, Logistic()), None),  # Yang et al. 2020
    "shap_signature": (_lens(ShapSignature, Boosting()), None),  # Fidel et al. 2020
    "magnet": (_lens(MagNet, Sign("−log smallest p-value", 1)), None),  # Meng & Chen 2017
    "noise_reduction": (_lens(NoiseReduction, Sign("softmax distance", 1)), ("softmax distance",)),  # Liang et al. 2021
    "map_reconstruction": (_lens(MapReconstruction, Sign("map reconstruction error", 1)), None),  # Ko & Lim 2021
    "kernel_means": (_lens(KernelMeans, Sign("squared MMD", 1)), None),  # Grosse et al. 2017 test groups so
    "subset_scanning": (_lens(SubsetScanning, Sign("Berk–Jones score", 1)), None),  # ART; Speakman et al. 2018
    "art_input": (_art_input, None),  # ART; Gong et al. 2017
    "art_activation": (_art_activation, None),  # ART; Metzen et al. 2017
    "map_under_denoising": (_lens(MapUnderDenoising, Sign("1 − rank correlation", 1)), None),
    "baselines_logistic": (lambda classifier: (Baselines(classifier), Logistic(), None), BASELINES),
    "baselines_boosting": (lambda classifier: (Baselines(classifier), Boosting(), None), BASELINES),
    **{column.replace(" ", "_").replace("-", "_"): (_baseline(column), (column,)) for column in BASELINES},
}


def names() -> list[str]:
    """The detectors' names.

    >>> "deep_knn" in names()
    True
    """
    return list(CATALOGUE)


def create(name: str, model: Classifier | keras.Model | str | Path, **parameters: Any) -> Detector:
    """A detector by its name, not fitted yet.

    Args:
        name: one of `names()`; model: the task network; parameters: see the lens's and the head's.
    Raises:
        ValueError: for an unknown name; TypeError: for a parameter that it does not have.
    """
    if name not in CATALOGUE:
        raise ValueError(f"no detector is called {name!r}: choose one of {', '.join(CATALOGUE)}")
    build, columns = CATALOGUE[name]
    lens, head, family = build(as_classifier(model), **parameters)
    recipe = {"name": name, "parameters": parameters}
    return Detector(lens, head, columns=columns, name=name.replace("_", " "), family=family, recipe=recipe)


def load(folder: str | Path, model: Classifier | keras.Model | str | Path) -> Detector:
    """The detector that `Detector.save` wrote, on the same task network.

    Raises:
        ValueError: for a folder that holds none, or a damaged one, or a network whose opening would run code.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / FILE).read_text())
        recipe, sums = about["recipe"], about["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no detector ({error}): pass a folder that save made") from error
    if damaged := changed(folder, sums):
        raise ValueError(f"{folder / damaged[0]} is damaged: fit and save the detector again")
    return restore(create(recipe["name"], model, **recipe["parameters"]), folder, about)


def trivial_baselines(classifier: Classifier) -> list[Detector]:
    """The five trivial scores, each oriented by `learn`, and all of them combined by regression and by boosting.

    The one rule for baselines: these stand beside every detector, and the best of them on validation images is the one
    to beat.
    """
    lens = Baselines(classifier)
    single = [Detector(lens, Sign(column), columns=(column,), name=column) for column in BASELINES]
    both = (("baselines, logistic", Logistic()), ("baselines, boosting", Boosting()))
    return [*single, *(Detector(lens, head, columns=BASELINES, name=name) for name, head in both)]
