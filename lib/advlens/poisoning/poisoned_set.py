"""A poisoned data set: what an attacker makes of some images and labels of a training set."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advlens.arrays import Array, checked_images, checked_indices, checked_labels, checked_seed, checked_whole
from advlens.poisoning.backdoor import trigger
from advlens.poisoning.svm import svm_points
from advlens.store import artifact, storable

KINDS = ("svm", "backdoor", "relabelled")
CONTROL = "control"  # marks images as the other kinds do, and changes nothing
FEWEST_ASIDE = 2  # images of a class that the SVC needs, one to be trained on and one to be judged on
RADIUS = 2.5  # L2, of the study's appendix B
ARRAYS = ("images", "labels", "true_labels", "is_poisoned", "source")


@storable
@dataclasses.dataclass(frozen=True, eq=False)
class PoisonedSet:
    """A data set in which the attacker's points stand where their clean selves were.

    Attributes:
        kind: one of `KINDS`, or `CONTROL`; parameters: how it was made.
        images: (n, h, w, channels) float32 in [0, 1].
        labels: (n,) int64, as the attacker gives them; true_labels: (n,) int64.
        is_poisoned: (n,) bool.
        source: (n,) int64, the images' places in the set that they were taken from.
    """

    kind: str
    parameters: Mapping[str, Any]
    images: Array
    labels: Array
    true_labels: Array
    is_poisoned: Array
    source: Array

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Array) -> "PoisonedSet":
        """The same for some of the images; `rows` is a (n,) bool mask or an array of row numbers."""
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in ARRAYS})

    def to_parts(self) -> dict[str, Any]:
        """Parts for the artifact store."""
        return {
            "arrays": {name: getattr(self, name) for name in ARRAYS},
            "poison": {"kind": self.kind, "parameters": dict(self.parameters)},
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "PoisonedSet":
        """The poisoned set that `to_parts` took apart."""
        return cls(**parts["poison"], **parts["arrays"])


@artifact(version=1)
def poisoned_set(
    images: Array,
    labels: Array,
    *,
    source: Array,
    kind: str,
    count: int,
    classes: Sequence[int],
    seed: int,
    target: int | None = None,
    svm_images: int = 25,
    svm_validation: int = 10,
    step: float = 0.5,
    iterations: int = 6,
    radius: float = RADIUS,
) -> PoisonedSet:
    """Poisons images of some classes, each of which gets the label of the next one, the last one's that of the first.

    Args:
        images: (n, h, w, channels) in [0, 1]; labels: (n,) true classes; source: (n,) their indices in their set.
        kind: "svm" also moves the image by ART's attack on a linear SVC of the two classes, "backdoor" also puts the
            trigger on it, "relabelled" changes the label alone; "control" marks the images that the others would
            poison with that seed and changes nothing.
        count: how many are poisoned, in equal shares of the classes; where that can't be, the first ones get one more.
        classes: two or more class numbers.
        target: the one label that all poisoned images get instead, a class that is not poisoned; not with "svm".
        seed: of which images those are, and the SVC's.
        svm_images, svm_validation: images of each of two classes that the SVC is trained on, and that its error is to
            grow on; none of them is poisoned. Where a class has too few, both are fewer, in proportion.
        step, iterations, radius: of the attack on the SVC, see `svm.svm_points`.
    Raises:
        ValueError: for bad images, labels, places, seeds, classes or parameters, or too few images of a class.
    """
    images, labels = _checked(images, labels)
    source = checked_indices(source, n=len(images), name="source")
    shares = poison_shares(labels, kind=kind, count=count, classes=classes)
    classes = list(shares)
    if target is not None and (target in classes or kind == "svm" or target not in labels):
        raise ValueError(f"target must be a class of the images that is not poisoned, got {target} for {kind}")
    attack = {"step": step, "iterations": iterations, "radius": radius}
    _check_attack(svm_images=svm_images, svm_validation=svm_validation, **attack)
    rng, wanted = np.random.default_rng(checked_seed(seed)), svm_images + svm_validation
    members = {label: np.split(rng.permutation(np.flatnonzero(labels == label)), [n]) for label, n in shares.items()}
    aside = min(wanted, *(len(others) for _, others in members.values()))
    fitted = max(aside * svm_images // wanted, 1)
    made, given = images.copy(), labels.copy()
    for place, label in enumerate(classes):
        following = classes[(place + 1) % len(classes)] if target is None else target
        rows = members[label][0]
        given[rows] = label if kind == CONTROL else following
        if kind == "backdoor":
            made[rows] = trigger(images[rows])
        elif kind == "svm":
            pair = np.stack([members[each][1][:aside] for each in (label, following)])
            parts = np.split(pair, [fitted], axis=1)
            made[rows] = _moved(images, rows, *parts, **attack, seed=int(rng.integers(2**32)))
    is_poisoned = np.isin(np.arange(len(images)), np.concatenate([rows for rows, _ in members.values()]))
    about = {"count": count, "classes": classes, "seed": seed} | ({} if target is None else {"target": target})
    about |= {"svm_images": fitted, "svm_validation": aside - fitted, **attack} if kind == "svm" else {}
    return PoisonedSet(kind, about, made, given, labels, is_poisoned, source)


def _moved(images: Array, rows: Array, train: Array, validation: Array, **attack: Any) -> Array:
    """The images of those rows after the attack on an SVC of two classes, whose rows are (2, k) each."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    parts = {"train": _two_classes(flat, train), "validation": _two_classes(flat, validation)}
    moved = svm_points(flat[rows], np.ones(len(rows), bool), **parts, **attack)
    return moved.reshape(-1, *images.shape[1:])


def _checked(images: Array, labels: Array) -> tuple[Array, Array]:
    """Validate images and (n,) class numbers of any range."""
    images, labels = checked_images(images), np.asarray(labels)
    highest = max(int(labels.max(initial=0)), 0) if np.issubdtype(labels.dtype, np.integer) else 0
    return images, checked_labels(labels, n=len(images), num_classes=highest + 1)


def _check_attack(*, svm_images: int, svm_validation: int, iterations: int, step: float, radius: float) -> None:
    sizes = {"svm_images": svm_images, "svm_validation": svm_validation, "iterations": iterations}
    for name, value in sizes.items():
        checked_whole(value, name=name, least=2 if name == "iterations" else 1)
    for name, value in {"step": step, "radius": radius}.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < np.inf:
            raise ValueError(f"{name} must be a positive number, got {value!r}")


def poison_shares(labels: Array, *, kind: str, count: int, classes: Sequence[int]) -> dict[int, int]:
    """Class → how many of its images `poisoned_set` poisons, as soon as there are enough of them.

    Args:
        labels: (n,) int64 true classes; kind, count, classes: see there.
    Raises:
        ValueError: for an unknown kind, classes that are none or that no image is of, or too few images of one.
    """
    if kind not in (*KINDS, CONTROL):
        raise ValueError(f"kind must be one of {', '.join((*KINDS, CONTROL))}, got {kind!r}")
    classes = _checked_classes(classes, labels)
    if checked_whole(count, name="count") < len(classes):
        raise ValueError(f"count must be at least {len(classes)}, one a class, got {count}")
    spare = FEWEST_ASIDE if kind == "svm" else 0
    shares = {label: count // len(classes) + (place < count % len(classes)) for place, label in enumerate(classes)}
    for label, share in shares.items():
        images = int((labels == label).sum())
        if images < share + spare:
            raise ValueError(
                f"class {label} has {images} images, too few to poison {share} and keep {spare} for the SVC: "
                "poison fewer, or give more images"
            )
    return shares


def _two_classes(flat: Array, pair: Array) -> tuple[Array, Array]:
    """(2m, d) inputs and (2m,) bool labels of (2, m) rows, those of a class and of the next."""
    return flat[pair.ravel()], np.repeat([False, True], pair.shape[1])


def _checked_classes(classes: Sequence[int], labels: Array) -> list[int]:
    if isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray):
        raise ValueError(f"classes must be two or more different class numbers, got {classes!r}")
    classes = [checked_whole(each, name="each of classes", least=0) for each in classes]
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be two or more different class numbers, got {classes}")
    missing = sorted(set(classes) - set(labels.tolist()))
    if missing:
        raise ValueError(f"no image is of class {missing[0]}: choose among {np.unique(labels).tolist()}")
    return classes
