"""The heads of a benchmark's detectors: from which attacks, in which rows they learn; each is fitted once."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.benchmark.measuring import Measurements, Once
from advlens.benchmark.protocol import Protocol
from advlens.benchmark.samples import chosen_rows, is_adversarial, part_masks
from advlens.benchmark.vocabulary import Condition, Part, Role, TrainedOn
from advlens.detectors import Detector, Head
from advlens.random import stream_seed


@dataclass(frozen=True)
class Case:
    """What a detector is fitted to and judged on: one attack under one protocol and condition.

    Attributes:
        learnt_from: the one attack that is learnt from instead of what `trained_on` says; "" for none.
    """

    attack: str
    protocol: Protocol
    condition: Condition
    trained_on: TrainedOn
    learnt_from: str = ""


@dataclass(eq=False)
class Heads:
    """Fits heads to the measurements of attack sets.

    Attributes:
        parts: for each training seed, source → part.
        train: from a detector's name, a head and what its `fit` takes to that head, fitted, made or looked up.
        families, seed, elsewhere: as in `Benchmark`; once: the heads that were made.
    """

    measurements: Measurements
    families: Mapping[str, str]
    parts: Sequence[pd.Series]
    seed: int
    train: Callable[..., Head]
    elsewhere: Mapping[str, Sequence[Head]]
    once: Once = field(default_factory=Once, init=False)

    def of(self, detector: Detector, case: Case) -> list[Head]:
        """The fitted heads, one for each training seed if they learn; fewer where the rows to fit one lack a class."""
        if case.trained_on is TrainedOn.OTHER_DATA:
            return list(self.elsewhere.get(detector.name, ()))
        heads = (self.fitted(detector, case, number) for number in range(self.count(detector)))
        return [head for head in heads if head is not None]

    def count(self, detector: Detector) -> int:
        """How many training seeds a detector has: one where it does not learn."""
        return len(self.parts) if detector.head.learns else 1

    def masks(self, about: pd.DataFrame, protocol: Protocol, number: int) -> dict[Part, Array]:
        """Part → which rows are in it, for one of the training seeds."""
        return part_masks(about, protocol.split, self.parts[number], seed=self.seed, number=number)

    def fitted(self, detector: Detector, case: Case, number: int) -> Head | None:
        """A head of the detector, fitted; None where the rows to fit it lack a class.

        Cases that learn from the same attacks share it: strengths of one attack, attacks of one family.
        """
        self.once(("kept alive", id(detector)), lambda: detector)  # its id is a key
        attacks = tuple(self.attacks_for(case))
        key = ("head", id(detector), attacks, case.protocol, case.condition, number)
        return self.once(key, lambda: self._fit(detector, attacks, case, number)) if attacks else None

    def attacks_for(self, case: Case) -> list[str]:
        """The attack sets that are learnt from; another strength of the same attack is no other attack."""
        if case.learnt_from:
            return [case.learnt_from]
        attack_sets = self.measurements.attack_sets
        kind = {name: re.split(r"[ ,]", made.attack)[0] for name, made in attack_sets.items()}
        family = {name: self.families.get(kind[name], kind[name]) for name in kind}
        left_out = {
            TrainedOn.ALL: lambda name: False,
            TrainedOn.OTHER_DATA: lambda name: True,
            TrainedOn.OTHER_ATTACKS: lambda name: kind[name] == kind[case.attack],
            TrainedOn.OTHER_FAMILIES: lambda name: family[name] == family[case.attack],
        }.get(case.trained_on, lambda name: name != case.attack)
        return [name for name in attack_sets if not left_out(name)]

    def _fit(self, detector: Detector, attacks: Sequence[str], case: Case, number: int) -> Head | None:
        head = copy.copy(detector.head)
        parts = case.protocol.learnt_from if head.learns else (Part.VALIDATION,)
        measured, truth = self._rows(detector, attacks, case, number, parts)
        if truth.all() or not truth.any():
            return None if head.learns or getattr(head, "sign", 1) is None else head
        seed = stream_seed(self.seed, f"benchmark/head {number}")
        if not head.stops_early:
            return head.fit(measured, truth, seed=seed)
        validation = self._rows(detector, attacks, case, number, case.protocol.stopped_by)
        about = {"measured": measured, "is_adversarial": truth, "validation": validation, "seed": seed}
        return self.train(detector.name, head, **about)

    def _rows(
        self, detector: Detector, attacks: Sequence[str], case: Case, number: int, parts: Sequence[Part]
    ) -> tuple[pd.DataFrame, Array]:
        """The measurements and truths of some parts of some attacks, each clean image once."""
        condition, noise = case.protocol.fitted_in or case.condition, case.protocol.noise
        key = (tuple(attacks), condition, case.protocol, number, tuple(parts))
        chosen, kept, truth = self.once(("rows", *key), lambda: self._chosen(*key))
        columns = columns_of(detector)

        def values_of(attack: str) -> Array:
            make = lambda: self.measurements.of(detector.lens, attack, condition, noise)[columns].to_numpy()  # noqa: E731
            return self.once(("values", id(detector), attack, condition, noise), make)

        values = np.concatenate([values_of(attack)[rows] for attack, rows in zip(attacks, chosen, strict=True)])[kept]
        return pd.DataFrame(values, columns=columns, index=kept), truth

    def _chosen(
        self, attacks: Sequence[str], condition: Condition, protocol: Protocol, number: int, parts: Sequence[Part]
    ) -> tuple[list[Array], Array, Array]:
        """The rows of each attack, which of all these are kept, and their truths: the same for all detectors."""
        chosen, abouts = [], []
        for attack in attacks:
            about = self.measurements.samples(attack, condition, protocol.noise).about
            masks = self.masks(about, protocol, number)
            within = np.logical_or.reduce([masks[part] for part in parts])
            rows = chosen_rows(about, within, stratum=protocol.positives, negatives=protocol.negatives)
            chosen.append(np.flatnonzero(rows))
            abouts.append(about[rows])
        about = pd.concat(abouts, ignore_index=True)
        kept = ((about["role"] != Role.CLEAN.value) | ~about.duplicated(["role", "source"])).to_numpy()
        return chosen, np.flatnonzero(kept), is_adversarial(about)[kept]


def columns_of(detector: Detector) -> list[str]:
    """The columns of its lens that a detector's head sees: all of them unless it names some."""
    return list(detector.columns or detector.lens.columns)
