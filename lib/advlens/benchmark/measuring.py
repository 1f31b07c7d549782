"""The images of a benchmark under conditions, and what lenses measure of them: each lens each image once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.benchmark.protocol import Noise, checked_word
from advlens.benchmark.samples import Samples, build_samples, noisy_twins
from advlens.benchmark.vocabulary import Condition, Role
from advlens.classifier import Classifier
from advlens.lenses import Joined, Lens


class Once:
    """What was made, by its key: the same is made once."""

    def __init__(self) -> None:
        self._made: dict[tuple, Any] = {}

    def __call__(self, key: tuple, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def forget(self, part: Any) -> None:
        """Lets go of all whose key has this part."""
        self._made = {key: made for key, made in self._made.items() if part not in key}


@dataclass(eq=False)
class Measurements:
    """Measurements of clean images, of attack sets, and of others.

    Attributes:
        keep: from a name, a lens and images to its measurements, made or looked up under that name; the others are as
            in `Benchmark`.
    """

    classifier: Classifier
    attack_sets: Mapping[str, AttackSet]
    clean_images: Array
    clean_labels: Array
    clean_source: Array
    seed: int
    succeeded: Mapping[str, Callable[[Array], Array]]
    keep: Callable[[str, Lens, Array], pd.DataFrame]
    _once: Once = field(default_factory=Once, init=False)

    def __post_init__(self) -> None:
        self.row_of_source = pd.Series(np.arange(len(self.clean_source)), index=self.clean_source)

    def samples(self, attack: str, condition: Condition | str, noise: Noise = Noise.MATCHED_NORM) -> Samples:
        """The images of an attack set with their roles, as a condition leaves them: clean, noisy, adversarial."""
        condition = checked_word(condition, Condition, name="condition")

        def make() -> Samples:
            made = self.attack_sets[attack]
            roles = {
                Role.CLEAN: made.clean,
                Role.NOISY: noisy_twins(made, noise, seed=self.seed),
                Role.ADVERSARIAL: made.adversarial,
            }
            about = {"condition": condition.value, "succeeded": self.succeeded.get(attack)}
            return build_samples(self.classifier, roles, made.label, made.source, **about)

        return self._once(("samples", attack, condition, noise), make)

    def clean_samples(self, condition: Condition) -> Samples:
        """All clean images, as a condition leaves them."""

        def make() -> Samples:
            given = {Role.CLEAN: self.clean_images}, self.clean_labels, self.clean_source
            return build_samples(self.classifier, *given, condition=condition.value)

        return self._once(("clean", condition), make)

    def of_clean(self, lens: Lens, condition: Condition) -> pd.DataFrame:
        """What a lens measures of the clean images, a row each."""

        def measured(lens: Lens) -> pd.DataFrame:
            name = f"measured.{lens.name}.clean.{condition.value}"
            make = lambda: (self.keep(name, lens, self.clean_samples(condition).images), lens)  # noqa: E731
            return self._once(("measured clean", id(lens), condition), make)[0]  # which keeps the lens's id its own

        return _side_by_side(lens, measured)

    def of(self, lens: Lens, attack: str, condition: Condition, noise: Noise = Noise.MATCHED_NORM) -> pd.DataFrame:
        """What a lens measures of `samples`, a row each; clean images are looked up."""

        def measured(lens: Lens) -> pd.DataFrame:
            def make() -> tuple[pd.DataFrame, Lens]:
                samples = self.samples(attack, condition, noise)
                n = len(self.attack_sets[attack])
                clean = self.of_clean(lens, condition).iloc[self.row_of_source.loc[samples.about["source"][:n]]]
                others = self.keep(f"measured.{lens.name}.{attack}.{condition.value}", lens, samples.images[n:])
                return pd.concat([clean, others], ignore_index=True), lens

            return self._once(("measured", id(lens), attack, condition, noise), make)[0]

        return _side_by_side(lens, measured)

    def of_others(self, lens: Lens, kind: str, images: Array) -> pd.DataFrame:
        """What a lens measures of images of another kind, a row each."""

        def measured(lens: Lens) -> pd.DataFrame:
            make = lambda: (lens, images, self.keep(f"measured.{lens.name}.{kind}", lens, images))  # noqa: E731
            return self._once(("measured others", id(lens), kind, id(images)), make)[-1]  # which keeps both ids alive

        return _side_by_side(lens, measured)


def _side_by_side(lens: Lens, measured: Callable[[Lens], pd.DataFrame]) -> pd.DataFrame:
    """What `measured` gives of a lens; joined ones are measured apart."""
    if not isinstance(lens, Joined):
        return measured(lens)
    return pd.concat([_side_by_side(each, measured) for each in lens.lenses], axis=1)
