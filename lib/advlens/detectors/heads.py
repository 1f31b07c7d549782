"""Heads: what makes a score, higher = more adversarial, of a lens's columns."""

import abc
import copy
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy.special import expit, log_softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController

from advlens.arrays import Array
from advlens.metrics import roc_auc
from advlens.networks import find_builder
from advlens.networks.building import Builder
from advlens.store import artifact, storable, versioned
from advlens.training import RepeatedTraining

Self = TypeVar("Self", bound="Head")


class Head(abc.ABC):
    """A cheap function of measurements. `parameters` are what it was made with, `fitted` what it learnt, as arrays.

    Attributes:
        learns: whether it needs attacked images to be fitted.
        stops_early: whether `fit` takes `validation`, (rows, truths) by which it stops.
        gives_log_odds: whether scores are log odds, so that probabilities follow from them.
    """

    learns, stops_early, gives_log_odds = True, False, False

    @abc.abstractmethod
    def fit(self: Self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> Self:
        """Learns from n rows of measurements and (n,) bool truths."""

    @abc.abstractmethod
    def score(self, measured: pd.DataFrame) -> Array:
        """(n,) float64."""

    def probability(self, measured: pd.DataFrame) -> Array | None:
        """(n,) in [0, 1], that an image is adversarial; None where scores are no log odds."""
        return expit(self.score(measured)) if self.gives_log_odds else None

    def parameters(self) -> dict[str, Any]:
        """What `__init__` was given, as JSON values."""
        return {}

    def fitted(self) -> dict[str, Any]:
        """What `fit` left, as parts for plain files, nothing before it; `restore` takes it back."""
        return {}

    def restore(self: Self, parts: dict[str, Any]) -> Self:
        """Takes over what `fitted` gave."""
        return self


def _direction(values: Array, is_adversarial: Array) -> int:
    """1 where (n,) values are higher on adversarial images by their ROC-AUC, else −1."""
    return 1 if roc_auc(values, is_adversarial) >= 0.5 else -1


class Sign(Head):
    """One column as it is, or turned around.

    Args:
        column: its name; sign: 1, −1, or None to be oriented by the ROC-AUC on the rows that it is fitted to.
    """

    learns = False

    def __init__(self, column: str, sign: int | None = None) -> None:
        if sign not in (1, -1, None):
            raise ValueError(f"sign must be 1, -1 or None, got {sign!r}")
        self.column, self.sign = column, sign

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "Sign":
        """Orients the column, where no sign was given."""
        if self.sign is None:
            self.sign = _direction(measured[self.column].to_numpy(np.float64), np.asarray(is_adversarial, bool))
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        """The column times the sign.

        Raises:
            RuntimeError: before `fit`, where no sign was given.
        """
        if self.sign is None:
            raise RuntimeError(f"the direction of {self.column!r} is not known yet: call learn(images, is_adversarial)")
        return self.sign * measured[self.column].to_numpy(np.float64)

    def parameters(self) -> dict[str, Any]:
        """Column and sign, the one found by `fit` included."""
        return {"column": self.column, "sign": self.sign}


class Logistic(Head):
    """Standardisation and logistic regression (Feinman et al. 2017, section 6)."""

    gives_log_odds = True

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "Logistic":
        """By maximum likelihood with scikit-learn's default penalty."""
        values = measured.to_numpy(np.float64)
        scaler = StandardScaler().fit(values)
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(values), np.asarray(is_adversarial, bool))
        self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        self.weights_, self.bias_ = model.coef_[0], float(model.intercept_[0])
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        """Log odds.

        Raises:
            RuntimeError: before `fit`.
        """
        if not hasattr(self, "weights_"):
            raise RuntimeError("this detector has not learnt yet: call learn(images, is_adversarial)")
        return (measured.to_numpy(np.float64) - self.mean_) / self.scale_ @ self.weights_ + self.bias_  # pyright: ignore[reportOperatorIssue]

    def fitted(self) -> dict[str, Any]:
        """Means, scales, weights and bias."""
        names = ("mean_", "scale_", "weights_")
        if not hasattr(self, "weights_"):
            return {}
        return {"regression": {name: getattr(self, name) for name in names} | {"bias_": np.array([self.bias_])}}

    def restore(self, parts: dict[str, Any]) -> "Logistic":
        """Takes over what `fitted` gave."""
        arrays = parts["regression"]
        self.mean_, self.scale_, self.weights_ = (arrays[name] for name in ("mean_", "scale_", "weights_"))
        self.bias_ = float(arrays["bias_"][0])
        return self


class Fisher(Head):
    """Fisher's combination of the columns' p-values among normal images: −2 Σ log p.

    Each column is oriented by its ROC-AUC on the rows that it is fitted to; its p-value is the share of their normal
    images that are as extreme, itself counted. Orienting it is learning: it never sees the attack that is left out.

    Source: Fisher 1925. Columns are not independent, so that the sum is a score and no χ² statistic.
    """

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "Fisher":
        """Orients the columns and takes over the normal images' values."""
        values, truth = measured.to_numpy(np.float64), np.asarray(is_adversarial, bool)
        self.signs_ = np.array([float(_direction(column, truth)) for column in values.T])
        self.normal_ = np.sort(values[~truth] * self.signs_, axis=0)
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        """The combination, ≥ 0.

        Raises:
            RuntimeError: before `fit`.
        """
        if not hasattr(self, "normal_"):
            raise RuntimeError("this detector has not learnt yet: call learn(images, is_adversarial)")
        values, n = measured.to_numpy(np.float64) * self.signs_, len(self.normal_)
        below = np.stack([np.searchsorted(*pair) for pair in zip(self.normal_.T, values.T, strict=True)], axis=1)
        return -2 * np.log((1 + n - below) / (1 + n)).sum(axis=1)

    def fitted(self) -> dict[str, Any]:
        """Signs and the normal images' values."""
        return {"reference": {"signs": self.signs_, "normal": self.normal_}} if hasattr(self, "normal_") else {}

    def restore(self, parts: dict[str, Any]) -> "Fisher":
        """Takes over what `fitted` gave."""
        self.signs_, self.normal_ = parts["reference"]["signs"], parts["reference"]["normal"]
        return self


class Boosting(Head):
    """Gradient-boosted trees, scikit-learn's histogram kind: 100 trees, otherwise its defaults.

    Stored as the rows that it learnt from: fitting them again with the same seed gives the same trees.
    """

    gives_log_odds = True

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "Boosting":
        """Fits the trees."""
        self.rows_, self.truth_, self.seed_ = measured.to_numpy(np.float64), np.asarray(is_adversarial, bool), seed
        self.model_ = HistGradientBoostingClassifier(max_iter=100, random_state=seed % 2**31)
        with _one_thread():
            self.model_.fit(self.rows_, self.truth_)
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        """Log odds."""
        with _one_thread():
            return self.model_.decision_function(measured.to_numpy(np.float64))

    def fitted(self) -> dict[str, Any]:
        """The rows, their truths and the seed."""
        if not hasattr(self, "rows_"):
            return {}
        return {"rows": {"rows": self.rows_, "truth": self.truth_, "seed": np.array([self.seed_])}}

    def restore(self, parts: dict[str, Any]) -> "Boosting":
        """Fits the same rows again."""
        arrays = parts["rows"]
        rows = pd.DataFrame(arrays["rows"])
        return self.fit(rows, arrays["truth"], seed=int(arrays["seed"][0]))


def _one_thread() -> AbstractContextManager:
    """For trees on a few columns: more threads wait for each other, a hundred times as long on a busy machine."""
    return _thread_pools().limit(limits=1, user_api="openmp")


@cache
def _thread_pools() -> ThreadpoolController:
    """All loaded libraries are looked through for them, which takes longer than a small tree."""
    return ThreadpoolController()


@storable
@versioned(1)
class Network(Head):
    """A convolutional network that judges pictures (Gong et al. 2017; the relevancy study's slides).

    Args:
        shape: (h, w, channels) that the columns are brought to.
        network: the builder's name, "slide_detector_cnn" or "vgg_like_detector_cnn".
        epochs, batch_size, learning_rate, patience: of SGD with momentum 0.9, stopped by the validation loss.
        unit_scale: bring the pictures to a root mean square of 1, as relevances, which are tiny, need.
    """

    stops_early = gives_log_odds = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        network: str = "slide_detector_cnn",
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 0.01,
        patience: int = 50,
        unit_scale: bool = False,
    ) -> None:
        self.builder = find_builder(network)
        self.shape, self.network, self.epochs, self.batch_size = tuple(shape), network, epochs, batch_size
        self.learning_rate, self.patience, self.unit_scale = learning_rate, patience, unit_scale

    def fit(
        self,
        measured: pd.DataFrame,
        is_adversarial: Array,
        *,
        seed: int = 0,
        validation: tuple[pd.DataFrame, Array] | None = None,
    ) -> "Network":
        """Trains the network; without validation rows for all epochs."""
        pictures = self._pictures(measured)
        self.scale_ = 1.0
        if self.unit_scale:
            self.scale_ = 1 / max(float(np.sqrt(np.square(pictures, dtype=np.float64).mean())), 1e-30)
        trained = _training(self.builder, self.shape, self.learning_rate, self.batch_size).train(
            pictures * np.float32(self.scale_),
            np.asarray(is_adversarial).astype(np.int64),
            epochs=self.epochs,
            seed=seed % 2**32,
            validation=None if validation is None else self._validation(*validation),
            patience=None if validation is None else self.patience,
        )
        self.model_, self.history_ = trained.network, trained.history
        return self

    def _validation(self, measured: pd.DataFrame, is_adversarial: Array) -> tuple[Array, Array]:
        truth = np.asarray(is_adversarial).astype(np.int64)
        return self._pictures(measured) * np.float32(self.scale_), truth

    def _pictures(self, measured: pd.DataFrame) -> Array:
        return measured.to_numpy(np.float32).reshape(len(measured), *self.shape)

    def score(self, measured: pd.DataFrame) -> Array:
        """Log odds.

        Raises:
            RuntimeError: before `fit`.
        """
        if not hasattr(self, "model_"):
            raise RuntimeError("this detector has not learnt yet: call learn(images, is_adversarial)")
        pictures = self._pictures(measured) * np.float32(self.scale_)
        # Called as it is: `predict` would compile each of many networks anew.
        logits = [self.model_(pictures[i : i + 512], training=False) for i in range(0, len(pictures), 512)]
        return np.diff(log_softmax(np.concatenate(logits).astype(np.float64), axis=1), axis=1)[:, 0]

    def parameters(self) -> dict[str, Any]:
        """As given."""
        about = {"network": self.network, "epochs": self.epochs, "batch_size": self.batch_size}
        about |= {"learning_rate": self.learning_rate, "patience": self.patience, "unit_scale": self.unit_scale}
        return {"shape": list(self.shape)} | about

    def fitted(self) -> dict[str, Any]:
        """The trained network and the scale of its inputs."""
        return {"network": self.model_, "scale": self.scale_} if hasattr(self, "model_") else {}

    def to_parts(self) -> dict[str, Any]:
        """Parameters and, after `fit`, what was learnt and how the training went."""
        trained = self.fitted() | {"history": self.history_} if hasattr(self, "model_") else {}
        return {"parameters": self.parameters()} | trained

    @classmethod
    def from_parts(cls, parts: dict[str, Any]) -> "Network":
        """The head that `to_parts` took apart."""
        head = cls(**parts["parameters"]).restore(parts)
        head.history_ = parts["history"]
        return head

    def restore(self, parts: dict[str, Any]) -> "Network":
        """Takes over what `fitted` gave."""
        self.model_, self.scale_ = parts["network"], parts["scale"]
        return self


@cache
def _training(builder: Builder, shape: tuple[int, int, int], learning_rate: float, batch_size: int) -> RepeatedTraining:
    """One compiled training for all networks of a kind."""
    about = {"learning_rate": learning_rate, "batch_size": batch_size}
    return RepeatedTraining(builder, shape, num_classes=2, **about)


@artifact(version=1, libraries=("tensorflow", "keras"))
def train_head(
    head: Network, measured: pd.DataFrame, is_adversarial: Array, *, validation: tuple[pd.DataFrame, Array], seed: int
) -> Network:
    """A fitted copy of a network head."""
    return copy.copy(head).fit(measured, is_adversarial, seed=seed, validation=validation)


HEADS: dict[str, type[Head]] = {each.__name__: each for each in (Sign, Logistic, Fisher, Boosting, Network)}
