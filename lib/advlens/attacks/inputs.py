"""What the attacks here share around their algorithms: parameters, checked classes, and the loop over batches."""

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from art.attacks.attack import EvasionAttack

from advlens.arrays import Array, checked_images, checked_labels, checked_whole
from advlens.classifier import Classifier
from advlens.progress import progress

MARGIN = 1e-3  # of logits: float32 products in another batch or thread differ by far less, so a success stays one


class BatchAttack(EvasionAttack):
    """An attack whose parameters are the attributes that its class annotates, and that takes images by batches.

    The class's annotations are its signature after the classifier, and ART's `attack_params`. Those that have a
    default are given by keyword, and `_check_params` looks at them. A subclass attacks a batch in `_attack`, and has
    the parameters of what it derives from.
    """

    _estimator_requirements = (Classifier,)
    batch_size: int

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ours = [each for each in reversed(cls.__mro__) if issubclass(each, BatchAttack) and each is not BatchAttack]
        names = list(dict.fromkeys(name for each in ours for name in inspect.get_annotations(each)))
        cls.attack_params = [*EvasionAttack.attack_params, *names]
        kinds = inspect.Parameter
        parameters = [
            kinds(name, kinds.KEYWORD_ONLY, default=getattr(cls, name))
            if hasattr(cls, name)
            else kinds(name, kinds.POSITIONAL_OR_KEYWORD)
            for name in ("classifier", *names)
        ]
        cls.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]

    def __init__(self, *given: Any, **parameters: Any) -> None:
        bound = inspect.signature(type(self)).bind(*given, **parameters).arguments
        super().__init__(estimator=bound.pop("classifier"))
        for name, value in bound.items():
            setattr(self, name, value)
        self._check_params()

    def generate(self, x: Array, y: Array | None = None, **kwargs) -> Array:
        """The attacked images.

        Args:
            x: (n, h, w, channels) images in [0, 1].
            y: (n,) class numbers or (n, c) one-hot: the classes to leave, or to reach where `targeted`; None for the
                network's decisions.
        Returns:
            (n, h, w, channels) float32 in [0, 1].
        Raises:
            ValueError: for images or labels that are none, or no labels to reach.
        """
        x = checked_images(x, shape=self.estimator.input_shape)
        if self.targeted and y is None:
            raise ValueError("y must name the classes to reach where targeted is true, got None")
        y = attacked_labels(self.estimator, x, y)
        x_adv, attack = np.empty_like(x), self._start()
        with progress(description=type(self).__name__, unit="image", total=len(x)) as bar:
            for start in range(0, len(x), self.batch_size):
                batch = slice(start, start + self.batch_size)
                x_adv[batch] = attack(x[batch], y[batch])
                bar.update(len(x[batch]))
        return x_adv

    def _start(self) -> Callable[[Array, Array], Array]:
        """What one call of `generate` makes attacked images with, of a batch's images and classes."""
        return self._attack

    def _attack(self, x: Array, y: Array) -> Array:
        raise NotImplementedError


def check_whole_number(attack: EvasionAttack, *names: str, lowest: int = 1) -> None:
    """Raises ValueError unless those parameters of the attack are integers, `lowest` or more."""
    for name in names:
        checked_whole(getattr(attack, name), name=name, least=lowest)


def check_number(attack: EvasionAttack, name: str, *, zero: bool = False) -> None:
    """Raises ValueError unless that parameter of the attack is a positive, finite number, or 0 where `zero`."""
    value = getattr(attack, name)
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (0 < value < np.inf or (zero and value == 0)):  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"{name} must be a positive number{' or 0' if zero else ''}, got {value!r}")


def check_norm(attack: Any) -> None:
    """Stops where an attack's `norm` is neither 2 nor "inf".

    Raises:
        ValueError: naming what it is.
    """
    if attack.norm not in (2, "inf", np.inf):
        raise ValueError(f'norm must be 2 or "inf", got {attack.norm!r}')


def attacked_labels(classifier, x: Array, y: Array | None) -> Array:
    """(n,) int64 class numbers from (n,) class numbers, (n, c) one-hot labels, or None for the decisions on x.

    Raises:
        ValueError: for labels of another form or range.
    """
    if y is None:
        return classifier.predict(x).argmax(axis=1)
    if np.ndim(y) == 2 and np.shape(y)[1] not in (1, classifier.nb_classes):
        raise ValueError(f"two-dimensional labels must be (n, {classifier.nb_classes}) one-hot, got {np.shape(y)}")
    return checked_labels(y, n=len(x), num_classes=classifier.nb_classes)  # pyright: ignore[reportArgumentType]
