"""Detectors of a user's own: found by `module:name`, made, and refused in one sentence."""

import sys

import numpy as np
import pytest
from art.defences.detector.evasion import EvasionDetector

from advlens import entrants
from advlens.detectors import Detector
from advlens.lenses import Outputs

MODULE = """
import numpy as np
from art.defences.detector.evasion import EvasionDetector
from advlens.detectors import Detector, Sign
from advlens.lenses import Outputs

NUMBER, LIST = 3, (lambda images: images.mean(axis=(1, 2, 3)).tolist())

def brightness(images):
    return images.mean(axis=(1, 2, 3))

class Art(EvasionDetector):
    def fit(self, x, y, batch_size=128, nb_epochs=20, **kwargs):
        raise NotImplementedError
    def detect(self, x, batch_size=128, **kwargs):
        return {"scores": brightness(x)}, brightness(x) > 0.5

ready = Art()

def energy(classifier):
    return Detector(Outputs(classifier), Sign("energy", 1), name="my energy")

class Distance:
    def __init__(self, train_images, train_labels, *, power=2):
        assert len(train_images) == len(train_labels)
        self.mean, self.power = train_images.mean(axis=0), power
    def __call__(self, images):
        return (np.abs(images - self.mean) ** self.power).mean(axis=(1, 2, 3))

class Needy:
    def __init__(self, classifier, threshold): ...

def needy(classifier, threshold): ...
def nothing(): ...
def fails(images):
    return images.no_such_thing()
def one(images):
    return images.mean()
def words(images):
    return np.array(["high"] * len(images))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A folder to stand in, with a module of detectors and one that can't be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "of_mine.py").write_text(MODULE)
    (tmp_path / "broken_mine.py").write_text("import numpy\n\nnumpy.no_such_thing()\n")
    (tmp_path / "typo_mine.py").write_text("def it(:\n")
    (tmp_path / "lacking_mine.py").write_text("import no_such_library\n")
    yield
    for name in ("of_mine", "broken_mine", "lacking_mine"):
        sys.modules.pop(name, None)


def made(name, classifier, images, labels) -> Detector:
    return entrants.make(entrants.find(f"of_mine:{name}"), classifier, images, labels, name=name)


@pytest.mark.parametrize("name", ["brightness", "Art", "ready", "LIST"])
def test_a_function_and_a_detector_of_art_give_their_scores(
    module, name, average_pooling_classifier, real_images, real_labels
):
    detector = made(name, average_pooling_classifier, real_images, real_labels)
    assert detector.name == name
    np.testing.assert_allclose(detector.scores(real_images[:9]), real_images[:9].mean(axis=(1, 2, 3)), rtol=1e-6)
    assert isinstance(detector, EvasionDetector)


def test_what_makes_a_detector_is_given_what_it_names(module, average_pooling_classifier, real_images, real_labels):
    about = (average_pooling_classifier, real_images, real_labels)
    energy = made("energy", *about)
    assert energy.name == "my energy"
    expected = Outputs(average_pooling_classifier).measure(real_images[:9])["energy"]
    np.testing.assert_array_equal(energy.scores(real_images[:9]), expected)
    distances = ((real_images[:9] - real_images.mean(axis=0)) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(made("Distance", *about).scores(real_images[:9]), distances, rtol=1e-5)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("of_mine", "a detector is named as my_module:MyDetector, or as the folder of a guard, got 'of_mine'"),
        ("of_mine:", "a detector is named as my_module:MyDetector"),
        ("../of_mine:brightness", "a detector is named as my_module:MyDetector"),
        ("not_mine:brightness", "no module is called 'not_mine': looked in"),
        ("of_mine.deeper:brightness", "no module is called 'of_mine.deeper'"),
        ("of_mine:darkness", "of_mine has no 'darkness': it has .*brightness.*, energy"),
        ("of_mine:NUMBER", "of_mine:NUMBER must be a Detector, .* got int"),
        ("broken_mine:it", r"broken_mine can't be imported: AttributeError: .*\(broken_mine.py, line 3\)"),
        ("typo_mine:it", r"typo_mine can't be imported: SyntaxError: .*\(typo_mine.py, line 1\)$"),
        ("lacking_mine:it", r"lacking_mine can't be imported: ModuleNotFoundError: No module named 'no_such_library'"),
    ],
)
def test_what_can_t_be_found_is_named(module, path, said):
    with pytest.raises(ValueError, match=said):
        entrants.find(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Needy", "Needy needs threshold, which nobody gives: it can have classifier, train_images, train_labels"),
        ("needy", "needy needs threshold"),
        ("nothing", "nothing must be a Detector, .* got NoneType"),
        ("fails", r"fails fails: AttributeError: .*no_such_thing.*\(of_mine.py, line \d+\)"),
        ("one", r"one must give one score for each of 2 images, got float32 \(\)"),
        ("words", "words must give one score for each of 2 images, got <U4"),
    ],
)
def test_what_is_no_detector_is_refused_before_anything_is_attacked(
    module, name, said, average_pooling_classifier, real_images, real_labels
):
    with pytest.raises(ValueError, match=said):
        made(name, average_pooling_classifier, real_images, real_labels)
