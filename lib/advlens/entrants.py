"""Detectors of a user's own, found by `module:name`. How one is judged is the suite's business."""

import inspect
from collections.abc import Mapping
from typing import Any

from art.defences.detector.evasion import EvasionDetector

from advlens.arrays import Array
from advlens.benchmark.evaluation import as_detector, told_error
from advlens.classifier import Classifier
from advlens.detectors import Detector
from advlens.own_modules import imported

GIVEN = ("classifier", "train_images", "train_labels")


def find(path: str) -> Any:
    """What a module holds under a name; modules of the current folder are found too.

    Args:
        path: as `my_module:MyDetector`.
    Raises:
        ValueError: where there is no such module or name, or the module fails as it is imported.
    """
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueError(
            f"a detector is named as my_module:MyDetector, or as the folder of a guard, got {path!r}, which is neither"
        )
    found = imported(module)
    if not hasattr(found, name):
        known = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"{module} has no {name!r}: it has {', '.join(known) or 'no class or function'}")
    return _checked(getattr(found, name), path)


def make(found: Any, classifier: Classifier, images: Array, labels: Array, *, name: str) -> Detector:
    """A detector of what a user wrote, tried on two images.

    A class, or a function that takes arguments of `GIVEN` alone, or none, is called with those that it names; any other
    function gives scores. A `Detector` is fitted to the training images; one of ART's, or a function, comes as it is.

    Args:
        found: a `Detector`, an ART `EvasionDetector`, a function from (n, h, w, channels) images to (n,) scores, or a
            class or function that makes one of these.
        classifier: the task network; images, labels: its training images, (m, h, w, channels), and classes, (m,).
        name: what tables call it, unless it has a name of its own.
    Raises:
        ValueError: where it is none of these, or fails.
    """
    given: dict[str, Any] = dict(zip(GIVEN, (classifier, images, labels), strict=True))
    try:
        detector = as_detector(_checked(_called(found, name, given), name), name=name)
        detector.fit(images, labels)
        detector.scores(images[:2])
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{name} fails: {told_error(error)}") from error
    return detector


def _checked(found: Any, name: str) -> Any:
    if not isinstance(found, EvasionDetector) and not callable(found):
        raise ValueError(
            f"{name} must be a Detector, an EvasionDetector of ART, a function scores(images), or a class or function "
            f"that makes one, got {type(found).__name__}"
        )
    return found


def _called(found: Any, name: str, given: Mapping[str, Any]) -> Any:
    """The instance of a class, or what a function makes that takes nothing but what is given; all else as it is."""
    if not inspect.isclass(found) and not inspect.isfunction(found):
        return found
    parameters = inspect.signature(found).parameters.values()
    named = {each.name: given[each.name] for each in parameters if each.name in given}
    fixed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unknown = [
        each.name
        for each in parameters
        if each.name not in given and each.default is each.empty and each.kind not in fixed
    ]
    if not unknown:
        return found(**named)
    if inspect.isclass(found) or named:
        raise ValueError(f"{name} needs {', '.join(unknown)}, which nobody gives: it can have {', '.join(GIVEN)}")
    return found
