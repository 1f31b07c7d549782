"""What an attack leaves behind: the attacked images with their sources, their noisy twins and how it went.

How an attack set is made is `craft`'s business.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from advlens.arrays import Array
from advlens.store import storable

UNTARGETED = -1  # the target of an attack that only wants to leave the true class


@storable
@dataclasses.dataclass(frozen=True)
class AttackSet:
    """One attack on n images of a test set.

    Attributes:
        attack: the attack's name in the catalogue, or ART's class name.
        parameters: the attack's parameters.
        source: (n,) int64, the images' places in the test set.
        clean, noisy, adversarial: (n, h, w, channels) float32 in [0, 1]; `noisy` is Gaussian noise of the
            perturbation's own norm.
        label: (n,) int64, the true classes.
        target: (n,) int64, the classes that the attack aims at, `UNTARGETED` where it only leaves the true one.
        predicted: (n,) int64, what the task network says of the adversarial images.
        success: (n,) bool, whether that is another class than for the clean image.
        margin: (n,) float32, of the adversarial images' logits the largest of another class minus the true class's.
        l2, linf: (n,) float32, norms of adversarial − clean.
        zero_gradient: (n,) bool, whether the loss gradient at the clean image is zero in every pixel.
    """

    attack: str
    parameters: Mapping[str, Any]
    source: Array
    clean: Array
    noisy: Array
    adversarial: Array
    label: Array
    target: Array
    predicted: Array
    success: Array
    margin: Array
    l2: Array
    linf: Array
    zero_gradient: Array

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if not isinstance(value, np.ndarray) or value.ndim == 0 or len(value) != len(self.source):
                raise ValueError(f"{field.name} must be an array with a row for each of {len(self.source)} images")
        for name in ("clean", "noisy", "adversarial"):
            low, high = (getattr(getattr(self, name), end)(initial=0.5) for end in ("min", "max"))
            if not 0 <= low <= high <= 1:  # not so for NaN either
                raise ValueError(f"{name} images must lie in [0, 1], got [{low:g}, {high:g}]: clip them")
        untargeted = self.target == UNTARGETED  # a targeted attack may mean something else by success
        wrong = int((untargeted & (self.success != (self.predicted != self.label))).sum())
        if wrong:
            raise ValueError(f"success contradicts predicted and label for {wrong} images: predict them again")

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r:.30}" for name, value in self.parameters.items())
        return f"AttackSet({self.attack}: {self.success.sum()} of {len(self)} images fool the network; {given})"

    def __len__(self) -> int:
        return len(self.source)

    @property
    def unchanged(self) -> Array:
        """(n,) bool, whether the attack returned the image as it was."""
        return self.linf == 0

    def select(self, rows: Array) -> "AttackSet":
        """The same attack on some of the images; `rows` is a (n,) bool mask or an array of row numbers."""
        return dataclasses.replace(self, **{name: array[rows] for name, array in self._arrays().items()})

    def example_of_each_class(self) -> "AttackSet":
        """The first successful attack on each class that has one, in the order of the classes."""
        won = self.select(self.success)
        return won.select(np.unique(won.label, return_index=True)[1])

    def to_parts(self) -> dict[str, Any]:
        """Parts for the artifact store: every array in one file, the attack's name and parameters in another."""
        return {
            "arrays": self._arrays(),
            "attack": {"name": self.attack, "parameters": dict(self.parameters)},
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "AttackSet":
        """The attack set that `to_parts` took apart."""
        return cls(attack=parts["attack"]["name"], parameters=parts["attack"]["parameters"], **parts["arrays"])

    def _arrays(self) -> dict[str, Array]:
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }
