"""Any detector through the whole protocol in one call: this package's, ART's, or a function that scores images."""

import sysconfig
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from art.defences.detector.evasion import EvasionDetector

import advlens
from advlens.arrays import Array, checked_images, checked_labels, checked_whole
from advlens.attacks import AttackSet, craft
from advlens.benchmark.benchmark import Benchmark
from advlens.benchmark.protocol import CORRECTED, Protocol
from advlens.benchmark.table import doubts
from advlens.benchmark.vocabulary import Family, Negatives
from advlens.classifier import Classifier, as_classifier, check_range
from advlens.detectors import Detector, Sign
from advlens.lenses import Lens
from advlens.random import stream, stream_seed

ATTACKED_SHARE = 0.75  # of the correct images, at most: the others give thresholds
MAX_ATTACKED = 1000
LOOKED_AT, SHARE_TOLD = 100, 0.05  # images of a given attack set, and of other decisions than recorded, to be said


class GivenScores(Lens):
    """The scores of a function as a lens of one column, `score`."""

    family, columns = Family.INPUT.value, ("score",)

    def __init__(self, scores: Callable[[Array], Array], *, name: str) -> None:
        self.scores, self.name = scores, name

    def measure(self, images: Array) -> pd.DataFrame:
        """The scores, higher = more adversarial.

        Raises:
            ValueError: where the function fails, or does not give one number an image.
        """
        try:
            scores = np.asarray(self.scores(images))
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"{self.name} fails: {told_error(error)}") from error
        if scores.shape != (len(images),) or scores.dtype.kind not in "biuf":
            raise ValueError(
                f"{self.name} must give one score for each of {len(images)} images, got {scores.dtype} {scores.shape}"
            )
        return pd.DataFrame({"score": scores.astype(np.float64)})

    def to_parts(self) -> dict[str, Any]:
        """Raises TypeError: a function has no content to be kept by."""
        raise TypeError(f"the measurements of {self.name} can't be kept in a store: evaluate it without one")


def told_error(error: Exception) -> str:
    """An error of the user's code in one line, with the last line of that code where it is known."""
    told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    libraries = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), str(Path(advlens.__file__).parent), "<")
    own = [step for step in traceback.extract_tb(error.__traceback__) if not step.filename.startswith(libraries)]
    return f"{told} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else told


def as_detector(detector: Any, *, name: str | None = None) -> Detector:
    """A detector of this package as it is; one of ART's or a function as a detector of its scores.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(detector, Detector):
        return detector
    if not isinstance(detector, EvasionDetector) and not callable(detector):
        raise TypeError(f"detector must be a detector or a function scores(images), got {type(detector).__name__}")
    title = name or getattr(detector, "__name__", type(detector).__name__)
    scores = partial(_art_scores, detector) if isinstance(detector, EvasionDetector) else detector
    return Detector(GivenScores(scores, name=title), Sign("score", 1), name=title)  # pyright: ignore[reportArgumentType]


def _art_scores(detector: EvasionDetector, images: Array) -> Array:
    """The scores in the report of an ART detector; its decisions where the report has none."""
    report, flags = detector.detect(images)
    if "scores" in report:
        return np.asarray(report["scores"])
    if "predictions" in report and np.ndim(report["predictions"]) == 2:
        return np.asarray(report["predictions"])[:, 1] - np.asarray(report["predictions"])[:, 0]
    return np.asarray(flags).reshape(len(images)).astype(np.float64)


def evaluate(
    detector: Any,
    model: Any,
    x: Array,
    y: Array,
    attacks: Sequence[str] | Mapping[str, AttackSet],
    *,
    seed: int = 0,
    n_seeds: int = 5,
    attacked_images: int | None = None,
    protocols: Sequence[Protocol] = (CORRECTED,),
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    baselines: Sequence[Detector] | None = None,
) -> pd.DataFrame:
    """The whole protocol on any detector: attacks, noisy twins, thresholds, trivial baselines, intervals.

    Args:
        detector: a detector of this package, a fitted `EvasionDetector` of ART, a function from (n, h, w, channels)
            images to (n,) scores, higher = more adversarial, or a mapping of names to such.
        model: the task network, a Keras model or a `Classifier`.
        x, y: (m, h, w, channels) in [0, 1] and (m,), test images that neither the network nor the detector learnt from.
        attacks: names of the catalogue, or attack sets whose sources number the images of `x`.
        attacked_images: how many images each attack is run on; by default three quarters of the correct ones, at most
            1,000; where there are fewer than asked for, these, and it is said. The others give thresholds and
            false-positive rates.
        parameters: attack → its parameters.
    Returns:
        The long table, the hard-image control included: see `LONG_TABLE`, and `leaderboard` for a short view. A warning
        says where scores look turned, are all equal, or tie at the threshold, and where an attack set was made on
        another network.
    Raises:
        TypeError, ValueError: for arguments that are none, naming them.
    """
    if attacked_images is not None:
        checked_whole(attacked_images, name="attacked_images")
    classifier = as_classifier(model)
    x = checked_images(x, shape=classifier.input_shape)
    y = checked_labels(y, n=len(x), num_classes=classifier.nb_classes)
    check_range(classifier, x, y)
    if isinstance(attacks, str):
        raise TypeError(f"attacks must be a sequence of names, got {attacks!r}: pass [{attacks!r}]")
    entries = detector if isinstance(detector, Mapping) else {None: detector}
    entrants = [as_detector(each, name=name) for name, each in entries.items()]
    made = dict(attacks) if isinstance(attacks, Mapping) else {}
    _warn_of_other_networks(classifier, made)
    if not made:
        source = _attacked_sources(classifier, x, y, attacked_images, seed=seed)
        for name in attacks:
            about = {"source": source, "seed": stream_seed(seed, f"evaluate/{name}")}
            made[name] = craft(name, classifier, x[source], y[source], **about | dict((parameters or {}).get(name, {})))
    benchmark = Benchmark(
        classifier, made, clean_images=x, clean_labels=y, seed=seed, n_seeds=n_seeds, baselines=baselines
    )
    own = [*dict.fromkeys(protocol.negatives for protocol in protocols), Negatives.HARD_IMAGES]
    table = benchmark.run(entrants, protocols=protocols, negatives=own)
    for each in entrants:
        if told := doubts(table, each.name):
            warnings.warn(f"{each.name}: {told}", stacklevel=2)
        if told := benchmark.said_of_ties(each, protocols=protocols):
            warnings.warn(f"{each.name}: {told}", stacklevel=2)
    return table


def _warn_of_other_networks(classifier: Classifier, attack_sets: Mapping[str, AttackSet]) -> None:
    for name, made in attack_sets.items():
        some = made.select(np.arange(min(LOOKED_AT, len(made))))
        other = int((classifier.predict(some.adversarial).argmax(axis=1) != some.predicted).sum())
        if other > SHARE_TOLD * len(some) and not classifier.is_random:
            told = f"attack set {name!r} was made on another network: this one decides otherwise than was recorded on"
            warnings.warn(f"{told} {other} of {len(some)} images. Its transfer to this one is judged", stacklevel=3)


def _attacked_sources(classifier: Classifier, x: Array, y: Array, n: int | None, *, seed: int) -> Array:
    """The numbers of n correct images, in a random order."""
    correct = np.flatnonzero(classifier.predict(x).argmax(axis=1) == y)
    most = int(ATTACKED_SHARE * len(correct))
    n = min(most, MAX_ATTACKED) if n is None else n
    if most < 1:
        raise ValueError(f"x holds {len(correct)} images that are classified correctly, too few to attack: give more")
    if n > most:
        told = f"{most} images are attacked, not {n}: three quarters of the {len(correct)} correctly classified"
        warnings.warn(f"{told} ones, as the others give thresholds", stacklevel=3)
        n = most
    return np.sort(stream(seed, "evaluate/attacked images").permutation(correct)[:n])
