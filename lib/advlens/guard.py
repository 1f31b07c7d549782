"""A guard: lenses on one network that need no attack to be fitted, and one verdict from all of them together."""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

import advlens
from advlens.arrays import Array, checked_images, checked_labels
from advlens.classifier import RANGES, Classifier, WrongRange, as_classifier, asked, check_range
from advlens.detectors import Detector, create, load, names
from advlens.detectors.detector import are_broken, digests
from advlens.folders import written_whole
from advlens.lenses import DeepNeighbours
from advlens.metrics import proportion
from advlens.metrics.checks import checked_rate
from advlens.metrics.curves import ROUNDING
from advlens.neighbours.conformal import p_values, p_values_among
from advlens.networks.files import open_network
from advlens.networks.parts import FULL_NAMES, weighted_layers
from advlens.progress import progress
from advlens.random import stream
from advlens.store import artifact
from advlens.store.files import changed, checksums, read_part, write_part
from advlens.templates import rendered
from advlens.uncertainty.metrics import mutual_information

LOOKS_AT = {
    "max_softmax": "how unsure the network is of the class that it predicts",
    "deep_knn": "how many of the nearest training images, in several layers, are of other classes",
    "first_layer_distance": "how far the first layer's outputs lie from those of training images",
    "local_entropy": "how disordered the map is of what speaks for the decision",
    "feature_squeezing": "how far the decision moves when the image has fewer levels, or is smoothed",
    "augmentation": "how far the decision moves when the image is shifted or turned a little",
    "total_variation": "how much neighbouring pixels differ",
}
LENSES = tuple(LOOKS_AT)
"""Names of `detectors.names()` that learn from no attack: of each family those that caught most in a first trial."""
FEWEST_ASKED, TOLD_APART = 100, 0.2  # images without labels that show a range; the information that they must give
WELL_TOLD_APART = 0.65  # what good networks give in their range; twice the contrast makes weak ones surer, too
MOST_SHARED = 0.1  # of the clean images, among the training images: a few may be twice in a data set
FITTED_SHARE = 0.6  # of the training images, where no clean images are given apart
MAX_FITTED, MAX_CLEAN = 5000, 2000  # more make a guard slower, and hardly change it
MAX_BYTES = 2**30  # of the activations that Deep kNN keeps
FUSED = "all lenses"
CARD, NETWORK, CALIBRATION, FOLDER = "card.json", "network.keras", "calibration", "lenses"


@dataclass(frozen=True, eq=False)
class Guard:
    """Judges images by how strange a network's decisions on them are among decisions on clean images.

    Each lens's score becomes a conformal p-value: the share of clean calibration images that score as high, the image
    itself counted, so that none is below 1/(m + 1). The verdict combines them by Fisher's −2 Σ log p, whose own p-value
    again comes from the calibration images, each of which is compared with all others. An image is flagged where it is
    at most the false-positive rate.

    Attributes:
        classifier: the network; lenses: fitted detectors, higher scores = stranger.
        calibration: (m, lenses) scores of the calibration images, a column a lens.
        card: what it was made of and what it did on other clean images, as JSON values.

    Source: Fisher 1925; p-values as in Vovk et al. 2005, section 2.2. Lenses depend on each other, so that no χ²
        distribution is assumed.
    """

    classifier: Classifier
    lenses: list[Detector]
    calibration: pd.DataFrame
    card: dict[str, Any]

    def scores(self, images: Array) -> pd.DataFrame:
        """(n, lenses) float64 scores of (n, h, w, channels) images in [0, 1]."""
        images = checked_images(images, shape=self.classifier.input_shape)
        bar = progress(self.lenses, description="screening", unit="lens")
        return pd.DataFrame({lens.name: lens.scores(images) for lens in bar})

    def __call__(self, images: Array) -> Array:
        """(n,) combined scores, as `al.evaluate` wants them: higher = more adversarial, NaN where one is not finite."""
        return self._combined(self.scores(images))[1]

    def screen(
        self, images: Array, *, fpr: float | None = None, image_names: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """A verdict on each image.

        Args:
            images: (n, h, w, channels) in [0, 1]; image_names: n of them, 0 to n − 1 by default.
            fpr: the share of clean images that may be flagged; by default the one that the guard was fitted for.
        Returns:
            A row an image: image, predicted, confidence (softmax), flagged, p-value and score of all lenses together,
            strangest lens, and for each lens "<lens> score" and "<lens> p-value". Where a lens's score is NaN or
            infinite, the image is flagged, with the smallest p-value and the score NaN; a warning says how many are.
        Raises:
            ValueError: for other images, or a rate that so few calibration images can't promise.
        """
        given = self.card["calibration_images"] + self.card["check_images"]
        fpr = _checked_promise(self.card["fpr"] if fpr is None else fpr, n=len(self.calibration), given=given)
        scores = self.scores(images)
        shares, combined = self._combined(scores)
        p_value = p_values(combined, self._calibration_combined)
        probabilities = softmax(self.classifier.logits(images).astype(np.float64), axis=1)
        verdict = {
            "image": range(len(images)) if image_names is None else list(image_names),
            "predicted": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
            "flagged": (p_value <= fpr + ROUNDING) | are_broken(combined),
            "p-value": p_value,
            "score": combined,
            "strangest lens": shares.idxmin(axis=1),
        }
        for name in scores:
            verdict |= {f"{name} score": scores[name], f"{name} p-value": shares[name]}
        return pd.DataFrame(verdict)

    def nearest(self, images: Array, *, n: int) -> tuple[Array, Array]:
        """Of each of k images, the n nearest training images in the last hidden layer, and their classes.

        Returns:
            (k, n, h, w, channels) and (k, n), nearest first; without Deep kNN among the lenses, n = 0 of them.
        """
        found = next((each.lens for each in self.lenses if isinstance(each.lens, DeepNeighbours)), None)
        if found is None:
            return np.empty((len(images), 0, *images.shape[1:]), np.float32), np.empty((len(images), 0), np.int64)
        rows = found.knn.neighbours(images).indices[:, -2:][:, 0, :n]
        return tuple(each[rows] for each in found.training_)  # pyright: ignore[reportReturnType]

    @property
    def clean_scores(self) -> pd.DataFrame:
        """(m, lenses + 1) scores of the calibration images, those of all lenses together in the last column."""
        return self.calibration.assign(**{FUSED: self._calibration_combined})

    def _combined(self, scores: pd.DataFrame) -> tuple[pd.DataFrame, Array]:
        """(n, lenses) p-values, the smallest where a score is not finite, and their (n,) combination, there NaN."""
        scores = scores.where(np.isfinite(scores))  # what is NaN ranks above all numbers
        shares = {name: p_values(scores[name].to_numpy(), self.calibration[name].to_numpy()) for name in scores}
        combined = -2 * np.log(np.stack(list(shares.values()))).sum(axis=0)
        return pd.DataFrame(shares), np.where(scores.isna().any(axis=1), np.nan, combined)

    @cached_property
    def _calibration_combined(self) -> Array:
        """(m,) combinations of the calibration images, each among all others."""
        own = self.calibration.to_numpy().T
        return -2 * np.log([p_values_among(each[:, None], each)[:, 0] for each in own]).sum(axis=0)

    def describe(self) -> str:
        """The card as Markdown."""
        table = pd.DataFrame(self.card["verdicts"]).round(3).to_markdown(index=False)
        return rendered("guard.md", table=table, **self.card)

    def save(self, folder: str | Path) -> Path:
        """Writes card.json, README.md, the network and all lenses as plain files into a new folder.

        Raises:
            FileExistsError: where the folder exists.
        """
        with written_whole(folder) as place:
            self.classifier.model.save(place / NETWORK)
            for name, lens in zip(self.card["lenses"], self.lenses, strict=True):
                lens.save(place / FOLDER / name)
            write_part(place, CALIBRATION, self.calibration)
            card = self.card | {"sha256": checksums(place)}
            (place / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False))
            (place / "README.md").write_text(self.describe())
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, network: keras.Model | None = None) -> "Guard":
        """The guard that `save` wrote.

        Args:
            network: what the folder's network.keras holds, where opening that file would run code, as of a Lambda.
        Raises:
            ValueError: for a folder that holds none, or a damaged one, or such a network's without it.
        """
        folder = Path(folder)
        if not is_guard(folder):
            lacking = f"it has no {CARD}" if folder.is_dir() else "there is no such folder"
            raise ValueError(f"{folder} holds no guard, as {lacking}: pass a folder that `advlens fit` made")
        try:
            card = json.loads((folder / CARD).read_text())
            damaged = changed(folder, card.pop("sha256"))
        except (ValueError, KeyError, TypeError, AttributeError):  # no JSON, or no card
            damaged = [CARD]
        if damaged:
            raise ValueError(f"{folder / damaged[0]} is damaged: fit the guard again")
        network = open_network(folder / NETWORK) if network is None else network
        setattr(network, FULL_NAMES, card["layer_names"])  # a file does not hold them, and lenses know layers by them
        classifier = Classifier(network)
        classifier.input_range = card.get("input_range")  # which the network has inside: as stated, it isn't doubted
        lenses = [load(folder / FOLDER / name, classifier) for name in card["lenses"]]
        return cls(classifier, lenses, read_part(folder / f"{CALIBRATION}.csv"), card)


def is_guard(folder: str | Path) -> bool:
    """Whether a folder looks like one that `Guard.save` made."""
    return (Path(folder) / CARD).is_file()


@artifact(version=1)
def fit(
    model: Classifier | keras.Model | str | Path,
    images: Array,
    labels: Array | None = None,
    *,
    clean: Array | None = None,
    fpr: float = 0.05,
    lenses: Sequence[str] = LENSES,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Guard:
    """A guard of a network, from clean images alone. A lens that does not work on the network is left out, and said.

    Args:
        model: the network; images, labels: its training images, (n, h, w, channels) in [0, 1], and classes, (n,); by
            default the classes that it predicts.
        clean: (m, h, w, channels) images that the network has not learnt from: half of them calibrate, half check. By
            default two fifths of the training images, on which decisions are surer than on new ones: then more new
            images are flagged than `fpr` says.
        fpr: the share of clean images that may be flagged.
        lenses: names of `detectors.names()` whose heads learn nothing; class_names: one a class, for reports.
        seed: of the parts.
    Raises:
        ValueError: for bad images, labels or names, too few images, a network that does not know half of the labels,
            clean images that are the training images, or a network on which no lens works.
        WrongRange: where the network takes other values than [0, 1], by its decisions on the training images.
    """
    classifier = as_classifier(model)
    images = checked_images(images, shape=classifier.input_shape)
    clean = None if clean is None else checked_images(clean, shape=classifier.input_shape)
    decided, agreeing = _decided(classifier, images, labels, class_names)
    if clean is not None:
        _check_apart(clean, images)
    if class_names and len(class_names) != classifier.nb_classes:
        raise ValueError(f"class_names must be {classifier.nb_classes} names, got {len(class_names)}")
    if unknown := [name for name in lenses if name not in names()]:
        raise ValueError(f"no lens is called {unknown[0]!r}: choose among {', '.join(names())}")
    fitted, calibration, check = _parts(images, clean, seed=seed)
    fpr = _checked_promise(fpr, n=len(calibration), given=len(calibration) + len(check))
    kept, left_out = _fitted(classifier, images[fitted], decided[fitted], lenses)
    scores = _clean_scores(kept, np.concatenate([calibration, check]), left_out)
    card = {"network": classifier.model.name, "input_shape": list(classifier.input_shape)}
    card |= {"layer_names": getattr(classifier.model, FULL_NAMES, {})}
    stated = classifier.input_range and [np.asarray(end, np.float64).tolist() for end in classifier.input_range]
    card |= {"input_range": stated, "bgr": classifier.bgr, "passes": classifier.passes}
    card |= {"classes": classifier.nb_classes, "labels": "given" if labels is not None else "the network's own"}
    card |= {"classified_as_labelled": agreeing, "class_names": list(class_names or ())}
    card |= {"lenses": list(scores), "lenses_left_out": left_out, "fitted_images": len(fitted)}
    card |= {"fpr": fpr, "seed": seed}
    card |= {"clean_images": "held out of the training images" if clean is None else "given apart"}
    card |= {"calibration_images": len(calibration), "check_images": len(check), "version": advlens.__version__}
    table = pd.DataFrame({kept[name].name: found for name, found in scores.items()})
    guard = Guard(classifier, [kept[name] for name in scores], table[: len(calibration)], card)
    card["verdicts"] = _verdicts(guard, table[len(calibration) :])
    return guard


def _decided(
    classifier: Classifier, images: Array, labels: Array | None, class_names: Sequence[str] | None
) -> tuple[Array, float | None]:
    """(n,) classes that the lenses learn by, and the share of given labels that the network predicts as well."""
    logits = classifier.predict(images)
    predicted = logits.argmax(axis=1)
    if labels is None:
        _check_spread(classifier, images, logits)
        return predicted, None
    labels = checked_labels(labels, n=len(images), num_classes=classifier.nb_classes)
    check_range(classifier, images, labels)
    agreeing = float((predicted == labels).mean())
    if agreeing < 0.5:
        listed = ", ".join(f"{name}: {number}" for number, name in enumerate(class_names or ()))
        raise ValueError(
            f"the network classifies {100 * agreeing:.0f} % of the training images as labelled, expected half or more: "
            "number the classes as the network's outputs are, where folders count in the order of their names"
            f"{listed and f' ({listed})'}, and state what values it takes for black and white (--input-range 0 255)"
        )
    return labels, agreeing


def _check_spread(classifier: Classifier, images: Array, logits: Array) -> None:
    """Stops where images without labels show that a network takes other values than [0, 1], or says that it may.

    Other than a network that takes [0, 1], it tells the images far better apart in its own range, is surer there, and
    decides differently. Of [-1, 1] this often does not show: it is said where a network tells them well apart there.

    Raises:
        WrongRange: where the network's range was not stated and is another.
    """
    rows = asked(len(images))
    own, n = logits[rows].argmax(axis=1), len(rows)
    if classifier.input_range is not None or n < FEWEST_ASKED:
        return
    told_apart, sureness = _told_apart(logits[rows])
    for low, high in RANGES:
        other = classifier.predict(low + (high - low) * images[rows])
        better, surer = _told_apart(other)
        same = (other.argmax(axis=1) == own).mean()
        if better > max(TOLD_APART, 3 * told_apart) and surer > sureness and same < 0.75:
            most = np.bincount(own).argmax()
            shown = f"the network says class {most} of {(own == most).sum()} of {n} images in [0, 1], and tells "
            raise WrongRange(f"{shown}them apart far better in [{low}, {high}]", (low, high))
        if low < 0 and better > max(WELL_TOLD_APART, told_apart + TOLD_APART):
            warnings.warn(
                f"the network tells the images better apart in [-1, 1] than in [0, 1] ({better:.0%} and "
                f"{told_apart:.0%} of what it could): say which it takes, by Classifier(network, input_range=...) or "
                "--input-range",
                stacklevel=5,
            )


def _told_apart(logits: Array) -> tuple[float, float]:
    """The mutual information of image and class over its largest value, and the mean largest probability.

    Args:
        logits: (n, c) of n images, which stand in the place of passes.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    information = mutual_information(probabilities[:, None]).item() / np.log(logits.shape[1])
    return information, float(probabilities.max(axis=1).mean())


def _check_apart(clean: Array, images: Array) -> None:
    shared = len(digests(clean) & digests(images))
    if shared > MOST_SHARED * len(clean):
        raise ValueError(
            f"clean images must not be training images, of which the network is surer than of new ones, and {shared} "
            f"of {len(clean)} are: give others (--clean), as of a validation set"
        )


def _fitted(
    classifier: Classifier, images: Array, labels: Array, lenses: Sequence[str]
) -> tuple[dict[str, Detector], dict[str, str]]:
    """The lenses that work on the network, and why the others don't."""
    kept, left_out = {}, {}
    for name in progress(lenses, description="fitting lenses", unit="lens"):
        try:
            kept[name] = _lens(name, classifier, len(images)).fit(images, labels)
            kept[name].scores(images[:2])
        except WrongRange:
            raise
        except Exception as error:  # any of the libraries below may refuse a network: the other lenses go on
            kept.pop(name, None)
            left_out[name] = " ".join(str(error).split()) or type(error).__name__
    return kept, left_out


def _clean_scores(kept: dict[str, Detector], judged: Array, left_out: dict[str, str]) -> dict[str, Array]:
    """The (n,) scores of clean images by each lens whose scores are numbers; the others are added to `left_out`."""
    scores = {}
    for name, lens in progress(list(kept.items()), description="calibrating", unit="lens"):
        found = lens.scores(judged)
        if np.isfinite(found).all():
            scores[name] = found
        else:
            left_out[name] = f"it gives NaN or infinity for {(~np.isfinite(found)).sum()} of {len(judged)} clean images"
    if not scores:
        raise ValueError(f"no lens works on this network: {'; '.join(map(': '.join, left_out.items()))}")
    return scores


def _lens(name: str, classifier: Classifier, n: int) -> Detector:
    """A detector of the catalogue as it suits n training images.

    Raises:
        ValueError: where it would have to learn from attacks.
    """
    parameters: dict[str, Any] = {}
    if name == "deep_knn":
        parameters = {"layers": _last_layers(classifier, n)}
        parameters |= {"k": min(75, n // 20), "conformal_images": min(750, n // 5)}
    elif name == "local_entropy":
        parameters = {"direction": 1}  # attacks raise it, Amirian et al. 2018
    elif name == "feature_squeezing":
        parameters = {"bits": 1 if classifier.input_shape[-1] == 1 else 5}  # Xu et al. 2018 on digits and on colours
    detector = create(name, classifier, **parameters)
    if detector.head.learns:
        raise ValueError("it learns from attacks, and a guard is fitted to clean images alone")
    return detector


def _last_layers(classifier: Classifier, n: int) -> list[str]:
    """The last layers with weights, as many as hold at most `MAX_BYTES` of activations of n images, one at least."""
    found = weighted_layers(classifier.model)
    sizes = np.cumsum([4 * n * math.prod(layer.output.shape[1:]) for layer in reversed(found.values())])  # pyright: ignore[reportAttributeAccessIssue]
    return list(found)[-max(int((sizes <= MAX_BYTES).sum()), 1) :]


def _parts(images: Array, clean: Array | None, *, seed: int) -> tuple[Array, Array, Array]:
    """Which images the lenses are fitted to, (n,) rows, and the clean images that calibrate and that check."""
    rng = stream(seed, "guard/parts")
    order = rng.permutation(len(images))
    if clean is None:
        order, rest = np.split(order, [round(FITTED_SHARE * len(images))])
        clean = images[rest[: 2 * MAX_CLEAN]]
    else:
        clean = clean[rng.permutation(len(clean))[: 2 * MAX_CLEAN]]
    half = (len(clean) + 1) // 2
    return order[:MAX_FITTED], clean[:half], clean[half:]


def _checked_promise(fpr: float, *, n: int, given: int) -> float:
    """Validate a false-positive rate that n calibration images, of those clean ones given, can promise."""
    fewest = math.ceil(1 / checked_rate(fpr) - ROUNDING) - 1
    if n < fewest:
        raise ValueError(
            f"a false-positive rate of {fpr:g} needs {2 * fewest:,} clean images (half of them calibrate), got "
            f"{given:,}: fit with more, or choose a higher rate"
        )
    return float(fpr)


def _verdicts(guard: Guard, check: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a lens, and one for all together: its threshold, and the share of the check's images above it."""
    rank = int((1 + len(guard.calibration)) * guard.card["fpr"] + ROUNDING)
    families = {lens.name: lens.family for lens in guard.lenses} | {FUSED: "fused"}
    clean = guard.clean_scores
    new, rows = check.assign(**{FUSED: guard._combined(check)[1]}), []
    for name, family in families.items():
        threshold = float(np.sort(clean[name])[-rank])
        row = {"lens": name, "looks at": family, "threshold": threshold, "ties": int((clean[name] == threshold).sum())}
        rows.append(row)
        if len(new):
            found = proportion((new[name] > threshold).to_numpy(), np.arange(len(new)))
            row |= {"flagged clean images": found.estimate, "low": found.low, "high": found.high}
    return rows
