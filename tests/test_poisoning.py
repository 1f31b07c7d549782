"""Poisoned sets: who is poisoned and how, beside ART's own attacks, and what the SVM's points really do to it."""

import numpy as np
import pytest
from art.attacks.poisoning import PoisoningAttackSVM
from art.attacks.poisoning.perturbations import add_pattern_bd
from art.estimators.classification.scikitlearn import ScikitlearnSVC
from sklearn.svm import SVC

from advlens.poisoning import CONTROL, KINDS, PoisonedSet, poisoned_set, trigger
from advlens.poisoning.svm import LinearMachine, one_hot, svm_points, within
from advlens.store import Store

SMALL = {"svm_images": 8, "svm_validation": 4, "iterations": 3}


def poisoned(images, labels, **changed):
    given = {"source": np.arange(len(images)), "kind": "svm", "count": 9, "classes": [1, 9], "seed": 3, **SMALL}
    return poisoned_set(images, labels, **(given | changed))


@pytest.fixture(scope="module")
def sets(real_images, real_labels):
    return {kind: poisoned(real_images, real_labels, kind=kind) for kind in KINDS}


@pytest.fixture(scope="module")
def machine(real_images, real_labels):
    """Two classes as flat images and bool labels: for training, for validation, and the rest."""
    rows = np.flatnonzero(np.isin(real_labels, [1, 9]))
    flat, labels = real_images[rows].reshape(len(rows), -1).astype(np.float64), real_labels[rows] == 9
    of_class = [np.flatnonzero(labels == label) for label in (False, True)]
    return [
        (flat[part], labels[part])
        for part in (
            np.concatenate([each[start:end] for each in of_class]) for start, end in ((0, 10), (10, 15), (15, 35))
        )
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_equal_and_labels_go_to_the_next_class(sets, real_images, real_labels, kind):
    made = sets[kind]
    assert made.is_poisoned.sum() == 9
    assert [int((made.is_poisoned & (real_labels == label)).sum()) for label in (1, 9)] == [5, 4]
    np.testing.assert_array_equal(made.labels[made.is_poisoned & (real_labels == 1)], 9)
    np.testing.assert_array_equal(made.labels[made.is_poisoned & (real_labels == 9)], 1)
    np.testing.assert_array_equal(made.true_labels, real_labels)
    clean = ~made.is_poisoned
    np.testing.assert_array_equal(made.images[clean], real_images[clean])
    np.testing.assert_array_equal(made.labels[clean], real_labels[clean])


def test_with_ten_labels_each_goes_to_the_next_and_the_last_to_the_first(real_images, real_labels):
    made = poisoned(real_images, real_labels, kind="relabelled", count=30, classes=list(range(10)))
    changed = made.is_poisoned
    np.testing.assert_array_equal(made.labels[changed], (real_labels[changed] + 1) % 10)
    assert np.bincount(real_labels[changed]).tolist() == [3] * 10
    np.testing.assert_array_equal(made.images, real_images)


def test_all_kinds_poison_the_same_images(sets):
    for made in sets.values():
        np.testing.assert_array_equal(made.is_poisoned, sets["svm"].is_poisoned)


def test_the_control_marks_them_and_changes_nothing(sets, real_images, real_labels):
    control = poisoned(real_images, real_labels, kind=CONTROL)
    np.testing.assert_array_equal(control.is_poisoned, sets["svm"].is_poisoned)
    np.testing.assert_array_equal(control.images, real_images)
    np.testing.assert_array_equal(control.labels, real_labels)


def test_where_a_class_is_small_the_svm_sees_fewer_images_in_proportion(real_images, real_labels):
    least = min(np.count_nonzero(real_labels == label) for label in (1, 9))
    made = poisoned(real_images, real_labels, count=8, svm_images=100, svm_validation=50)
    sizes = made.parameters["svm_images"], made.parameters["svm_validation"]
    assert sum(sizes) == least - 4
    assert sizes[0] == sum(sizes) * 100 // 150


def test_svm_points_keep_to_the_radius_and_the_bounds(real_images, real_labels, sets):
    for made, radius in ((sets["svm"], 2.5), (poisoned(real_images, real_labels, radius=0.4), 0.4)):
        moved = np.linalg.norm((made.images - real_images).reshape(len(made), -1), axis=1)
        assert moved.max() <= radius + 1e-5
        assert (moved[made.is_poisoned] > 0).any()
        assert made.images.dtype == np.float32
        assert 0 <= made.images.min() <= made.images.max() <= 1


def test_the_seed_settles_everything_and_the_global_state_stays(real_images, real_labels, sets):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    before = real_images.copy()
    again = poisoned(real_images, real_labels)
    assert np.random.random() == expected  # noqa: NPY002
    np.testing.assert_array_equal(real_images, before)
    np.testing.assert_array_equal(again.images, sets["svm"].images)
    other = poisoned(real_images, real_labels, seed=4)
    assert (other.is_poisoned != again.is_poisoned).any()


def test_the_backdoor_is_art_s_pattern(sets, real_images):
    made = sets["backdoor"]
    np.testing.assert_array_equal(made.images[made.is_poisoned], add_pattern_bd(real_images[made.is_poisoned]))
    np.testing.assert_array_equal(trigger(real_images[:5]), add_pattern_bd(real_images[:5]))
    assert set(map(tuple, np.argwhere((trigger(np.zeros((1, 28, 28, 1))) > 0)[0, ..., 0]))) == {
        (26, 26), (25, 25), (26, 24), (24, 26)
    }  # fmt: skip


def test_the_kernel_matrix_is_art_s(machine):
    (inputs, labels), (others, _), _ = machine
    slow = ScikitlearnSVC(SVC(kernel="linear"), clip_values=(0.0, 1.0))
    slow.fit(inputs, one_hot(labels))
    fast = LinearMachine(inputs, labels)
    np.testing.assert_allclose(fast.q_submatrix(others, inputs), slow.q_submatrix(others, inputs))


def test_svm_points_are_art_s_where_nothing_holds_them(machine):
    train, validation, (starts, labels) = machine
    about = {"step": 0.5, "eps": np.inf, "max_iter": 3, "verbose": False}
    about |= {"x_train": train[0], "y_train": one_hot(train[1])}
    about |= {"x_val": validation[0], "y_val": one_hot(validation[1])}
    np.random.seed(0)  # noqa: NPY002
    slow = ScikitlearnSVC(SVC(kernel="linear"), clip_values=(0.0, 1.0))
    slow.fit(train[0], one_hot(train[1]))
    expected = PoisoningAttackSVM(slow, **about).generate_attack_point(starts[0].copy(), one_hot(~labels[:1])[0])
    found = svm_points(
        starts[:1], ~labels[:1], train=train, validation=validation, step=0.5, iterations=3, radius=99.0, seed=0
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_svm_points_hurt_the_svm_less_than_relabelling_alone(machine):
    """ART's objective knows no labels: what it finds is no worse for the SVM than the images as they were."""
    train, validation, (starts, labels) = machine
    found = svm_points(
        starts[5:20], ~labels[5:20], train=train, validation=validation, step=0.5, iterations=6, radius=2.5, seed=0
    )

    def hinge(extra):
        model = SVC(kernel="linear").fit(np.vstack([train[0], extra]), np.append(train[1], ~labels[5:20]))
        return np.maximum(0, 1 - np.where(validation[1], 1, -1) * model.decision_function(validation[0])).mean()

    clean = SVC(kernel="linear").fit(*train)
    without = np.maximum(0, 1 - np.where(validation[1], 1, -1) * clean.decision_function(validation[0])).mean()
    assert without < hinge(found) < hinge(starts[5:20])


def test_points_come_back_straight_to_the_ball():
    np.testing.assert_allclose(within(np.array([[3.0, 4], [0, 0]]), np.zeros((2, 2)), radius=1.0), [[0.6, 0.8], [0, 0]])


def test_a_poisoned_set_is_stored_and_selected_whole(tmp_path, real_images, real_labels, sets):
    kept = Store(tmp_path).keep(
        "poison", poisoned_set, images=real_images, labels=real_labels, source=np.arange(400), kind="relabelled",
        count=9, classes=[1, 9], seed=3,
    )  # fmt: skip
    assert isinstance(kept, PoisonedSet)
    np.testing.assert_array_equal(kept.labels, sets["relabelled"].labels)
    some = kept.select(kept.is_poisoned)
    assert len(some) == 9
    np.testing.assert_array_equal(some.source, np.flatnonzero(kept.is_poisoned))


def test_bad_input_is_named(real_images, real_labels):
    for wrong, message in (
        ({"kind": "collision"}, "kind must be one of svm, backdoor, relabelled, control, got 'collision'"),
        ({"count": 1}, "count must be at least 2, one a class, got 1"),
        ({"count": 300}, r"class 1 has \d+ images, too few to poison 150 and keep 2 for the SVC"),
        ({"classes": [1]}, r"classes must be two or more different class numbers, got \[1\]"),
        ({"classes": 3}, "classes must be two or more different class numbers, got 3"),
        ({"classes": "19"}, "classes must be two or more different class numbers, got '19'"),
        ({"classes": [1, 1]}, "two or more different class numbers"),
        ({"classes": [1, 12]}, "no image is of class 12: choose among"),
        ({"radius": 0}, "radius must be a positive number, got 0"),
        ({"step": np.nan}, "step must be a positive number, got nan"),
        ({"iterations": 1}, "iterations must be a whole number, 2 or more, got 1"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"source": np.arange(3)}, r"source must have shape \(400,\) and be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            poisoned(real_images, real_labels, **wrong)
    with pytest.raises(ValueError, match="images must have 5×5 pixels or more"):
        trigger(np.zeros((1, 4, 4, 1), np.float32))
