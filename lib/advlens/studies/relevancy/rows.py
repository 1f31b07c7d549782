"""From attack sets to rows of images to judge, and the two protocols' splits of them."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.datasets import split_groups

# The share of single images on which the study trained, the rest being both validation and test.
PUBLISHED_TRAIN_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Rows:
    """Images to judge.

    Attributes:
        images: (n, h, w, channels); is_adversarial: (n,) bool; source: (n,) int64.
        role: (n,) "clean", "noisy" or "adversarial"; success: (n,) bool, False for normal images.
    """

    images: Array
    is_adversarial: Array
    source: Array
    role: Array
    success: Array

    def select(self, rows: Array) -> "Rows":
        """The rows under a (n,) bool mask or at given places."""
        return Rows(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def published_rows(attack_set: AttackSet) -> Rows:
    """Clean images and successful attacks, without noisy twins."""
    won = attack_set.select(attack_set.success)
    return _stacked(won, {"clean": won.clean, "adversarial": won.adversarial})


def corrected_rows(attack_set: AttackSet) -> Rows:
    """Clean images, noisy twins and all adversarial images."""
    return _stacked(
        attack_set,
        {"clean": attack_set.clean, "noisy": attack_set.noisy, "adversarial": attack_set.adversarial},
    )


def _stacked(attack_set: AttackSet, parts: Mapping[str, Array]) -> Rows:
    role = np.repeat(list(parts), len(attack_set))
    return Rows(
        images=np.concatenate(list(parts.values())),
        is_adversarial=role == "adversarial",
        source=np.tile(attack_set.source, len(parts)),
        role=role,
        success=np.tile(attack_set.success, len(parts)) & (role == "adversarial"),
    )


def published_split(rows: Rows, *, seed: int) -> tuple[Rows, Rows]:
    """Single images at random: 80 % to train on, 20 % to stop by and to read the accuracy on."""
    order = np.random.default_rng(seed).permutation(len(rows.source))
    cut = int(PUBLISHED_TRAIN_SHARE * len(order))
    return rows.select(order[:cut]), rows.select(order[cut:])


def corrected_split(rows: Rows, *, seed: int) -> tuple[Rows, Rows, Rows]:
    """Train 60 %, validation 20 %, test 20 % of the source images, with all that was made of each."""
    split = split_groups(rows.source, seed=seed)
    return rows.select(split.train), rows.select(split.validation), rows.select(split.test)


def fitting_rows(rows: Rows) -> Rows:
    """Without failed attacks: those are taught neither as attacks nor as normal images."""
    return rows.select(~rows.is_adversarial | rows.success)
