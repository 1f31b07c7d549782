"""What every lens offers: measurements of how a network decided, one row per image, one column per measurement."""

import abc
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from advlens.arrays import Array

Self = TypeVar("Self", bound="Lens")


class Lens(abc.ABC):
    """An expensive measurement of decisions; a detector's head makes a score of its columns.

    A subclass stores its parameters untouched and sets `name`, `family` and `columns` before it measures. The row of an
    image depends on no other image. `to_parts` is what the artifact store knows it by.

    Attributes:
        name: as the store lists it; family: one of `benchmark.Family`'s values.
        columns: the names of what it measures, in order.
    """

    name: str
    family: str
    columns: tuple[str, ...]

    def fit(self: Self, images: Array, labels: Array) -> Self:
        """Takes over the task network's training images, (n, h, w, channels), and classes, (n,); mostly nothing."""
        return self

    def fitted(self) -> dict[str, Array]:
        """What `fit` took over, as arrays for plain files; empty where that is nothing."""
        return {}

    def take_over(self: Self, arrays: dict[str, Array]) -> Self:
        """As `fit`, from what `fitted` gave."""
        return self

    def release(self: Self) -> Self:
        """Lets go of what `measure` keeps at hand and can make again; mostly nothing."""
        return self

    @abc.abstractmethod
    def measure(self, images: Array) -> pd.DataFrame:
        """(n rows) of finite floats, the columns `columns`, of (n, h, w, channels) images in [0, 1]."""

    @abc.abstractmethod
    def to_parts(self) -> dict[str, Any]:
        """All that the measurements depend on: the network, parameters, and what `fit` took over."""


class Joined(Lens):
    """Several lenses side by side.

    Raises:
        ValueError: for no lens, or two that measure a column of one name.
    """

    name, family = "joined", "fused"

    def __init__(self, lenses: Sequence[Lens]) -> None:
        self.lenses = list(lenses)
        self.columns = tuple(column for lens in self.lenses for column in lens.columns)
        twice = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if twice or not self.lenses:
            raise ValueError(f"lenses must be one or more with different columns, got {', '.join(twice) or 'none'}")

    def fit(self, images: Array, labels: Array) -> "Joined":
        """Fits each lens."""
        for lens in self.lenses:
            lens.fit(images, labels)
        return self

    def fitted(self) -> dict[str, Array]:
        """That of each lens, by its place."""
        return {f"{i} {name}": part for i, lens in enumerate(self.lenses) for name, part in lens.fitted().items()}

    def take_over(self, arrays: dict[str, Array]) -> "Joined":
        """Gives each lens its own."""
        for i, lens in enumerate(self.lenses):
            own = {name.split(" ", 1)[1]: part for name, part in arrays.items() if name.startswith(f"{i} ")}
            if own:
                lens.take_over(own)
        return self

    def release(self) -> "Joined":
        """Has each lens let go."""
        for lens in self.lenses:
            lens.release()
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """The columns of all lenses."""
        return pd.concat([lens.measure(images) for lens in self.lenses], axis=1)

    def to_parts(self) -> dict[str, Any]:
        """The lenses, each by its own version and parts."""
        return {lens.name: lens for lens in self.lenses}


def frame_of(values: Array, prefix: str) -> pd.DataFrame:
    """(n, …) arrays as rows of float32 columns "<prefix> 0", "<prefix> 1", …, without a copy."""
    flat = np.ascontiguousarray(values, np.float32).reshape(len(values), -1)
    return pd.DataFrame(flat, columns=names_of(prefix, flat.shape[1]), copy=False)


def names_of(prefix: str, count: int) -> list[str]:
    """The columns of `frame_of`."""
    return [f"{prefix} {number}" for number in range(count)]


def fit_first(lens: Lens, attribute: str) -> None:
    """Stops where a lens lacks what `fit` gives it.

    Raises:
        RuntimeError: where it has not seen training images.
    """
    if not hasattr(lens, attribute):
        raise RuntimeError(f"{lens.name} has seen no training images yet: call fit(images, labels) first")
