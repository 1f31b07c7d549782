"""The catalogue of attacks, and what crafting records."""

import dataclasses

import numpy as np
import pytest
from art.attacks.attack import EvasionAttack

from advlens.attacks import CATALOGUE, attack_images, build_attack, craft, find_attack, strengths_of
from advlens.attacks.appearance import appearance, idle, similarity
from advlens.attacks.attack_set import UNTARGETED
from advlens.attacks.catalogue import CatalogueEntry
from advlens.attacks.inputs import MARGIN
from advlens.classifier import Classifier, logit_margins
from advlens.store import Store


@pytest.fixture(scope="module")
def crafted(average_pooling_classifier, real_images, real_labels, right):
    return craft("deepfool", average_pooling_classifier, real_images[right], real_labels[right], source=right, seed=0)


def test_an_attack_set_says_what_really_happened(crafted, average_pooling_classifier, real_images, right):
    np.testing.assert_array_equal(crafted.clean, real_images[right])
    np.testing.assert_array_equal(
        crafted.predicted, average_pooling_classifier.predict(crafted.adversarial).argmax(axis=1)
    )
    np.testing.assert_array_equal(crafted.success, crafted.predicted != crafted.label)
    difference = (crafted.adversarial - crafted.clean).reshape(len(crafted), -1)
    np.testing.assert_allclose(crafted.l2, np.linalg.norm(difference, axis=1), rtol=1e-5)
    np.testing.assert_allclose(crafted.linf, np.abs(difference).max(axis=1), rtol=1e-5)
    assert crafted.success.mean() > 0.9
    assert crafted.adversarial.min() >= 0
    assert crafted.adversarial.max() <= 1


def test_noisy_twins_are_as_far_away_but_seldom_fool(crafted, average_pooling_classifier):
    distance = np.linalg.norm((crafted.noisy - crafted.clean).reshape(len(crafted), -1), axis=1)
    np.testing.assert_allclose(distance, crafted.l2, atol=2e-3)
    fooled = average_pooling_classifier.predict(crafted.noisy).argmax(axis=1) != crafted.label
    assert fooled.mean() < 0.3


def test_examples_are_the_first_successes_of_each_class(crafted):
    examples = crafted.example_of_each_class()
    assert examples.success.all()
    assert examples.label.tolist() == sorted(set(crafted.label[crafted.success]))
    for label, source in zip(examples.label, examples.source, strict=True):
        assert source == crafted.source[(crafted.label == label) & crafted.success][0]


def test_selecting_rows_keeps_them_together(crafted):
    chosen = crafted.select(np.array([3, 1]))
    np.testing.assert_array_equal(chosen.source, crafted.source[[3, 1]])
    np.testing.assert_array_equal(chosen.adversarial, crafted.adversarial[[3, 1]])
    assert (chosen.attack, chosen.parameters) == (crafted.attack, crafted.parameters)


# Parameters that make an attack quick, or strong enough to be seen at work on ten images.
FOR_TESTS = {
    "boundary": {"max_iter": 30},
    "universal": {"eps": 0.6},
    "fab": {"max_iter": 20},
    "fab_linf": {"max_iter": 20},
    "carlini_linf": {"rounds": 4},
}


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "one_pixel"])  # that one seldom succeeds
def test_every_catalogued_attack_fools_the_network(name, average_pooling_classifier, real_images, real_labels, right):
    few = right[:10]
    given = {"source": few, "seed": 0, **FOR_TESTS.get(name, {})}
    made = craft(name, average_pooling_classifier, real_images[few], real_labels[few], **given)
    assert made.success.mean() >= (0.6 if name == "universal" else 0.8)  # one perturbation for all fools fewer


def test_strengths_lie_on_the_grid_of_8_bit_images():
    largest = [each.parameters for each in CATALOGUE.values() if each.parameters.get("norm") != 2]
    given = [parameters["eps"] for parameters in largest if "eps" in parameters]
    levels = 255 * np.array([*given, *strengths_of("mnist"), *strengths_of("fashion_mnist")])
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-9)
    assert len(given) > 5


def test_a_targeted_attack_aims_at_the_least_likely_class(average_pooling_classifier, real_images, real_labels, right):
    few = right[:10]
    images, labels = real_images[few], real_labels[few]
    made = craft("bim_targeted", average_pooling_classifier, images, labels, source=few, seed=0, eps=0.6)
    np.testing.assert_array_equal(made.target, average_pooling_classifier.predict(images).argmin(axis=1))
    assert (made.predicted == made.target).mean() >= 0.5
    untargeted = craft("fgsm", average_pooling_classifier, images, labels, source=few, seed=0)
    assert (untargeted.target == UNTARGETED).all()


@pytest.mark.parametrize("name", ["one_pixel", "boundary"])
def test_a_search_of_this_package_follows_the_seed(name, average_pooling_classifier, real_images, real_labels, right):
    few = right[:3]
    given = {"source": few, "pixels": 5, "population": 20} if name == "one_pixel" else {"source": few}
    images, labels = real_images[few], real_labels[few]
    sets = [
        craft(name, average_pooling_classifier, images, labels, seed=seed, max_iter=8, **given) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(sets[0].adversarial, sets[1].adversarial)
    if name == "boundary":
        assert np.abs(sets[0].adversarial - sets[2].adversarial).max() > 0


def test_any_attack_of_art_runs_by_its_class_name(average_pooling_classifier, real_images, real_labels, right):
    few = right[:10]
    made = craft(
        "ProjectedGradientDescent",
        average_pooling_classifier,
        real_images[few],
        real_labels[few],
        source=few,
        seed=0,
        eps=0.3,
        max_iter=20,
    )
    assert made.linf.max() <= 0.3 + 1e-6
    assert made.parameters == {"eps": 0.3, "max_iter": 20}
    assert made.success.mean() > 0.8


def test_the_same_seed_crafts_the_same_attack(average_pooling_classifier, real_images, real_labels, right):
    few = right[:5]
    given = {"source": few, "eps": 0.2, "max_iter": 2, "num_random_init": 1}
    images, labels = real_images[few], real_labels[few]
    sets = [
        craft("ProjectedGradientDescent", average_pooling_classifier, images, labels, seed=seed, **given)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(sets[0].adversarial, sets[1].adversarial)
    np.testing.assert_array_equal(sets[0].noisy, sets[1].noisy)
    assert np.abs(sets[0].adversarial - sets[2].adversarial).max() > 0


class Half(EvasionAttack):
    """Makes something of the images."""

    _estimator_requirements = (Classifier,)

    def __init__(self, classifier):
        super().__init__(estimator=classifier)

    def generate(self, x, y=None, **kwargs):
        return self.made(x)


def test_crafting_leaves_numpy_s_global_state_alone(average_pooling_classifier, real_images, real_labels, right):
    np.random.seed(7)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    craft(
        "deepfool", average_pooling_classifier, real_images[right[:2]], real_labels[right[:2]], source=right[:2], seed=0
    )
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_an_attack_set_s_fields_have_a_row_an_image(crafted):
    with pytest.raises(ValueError, match="label must be an array with a row for each of"):
        dataclasses.replace(crafted, label=crafted.label.tolist())
    with pytest.raises(ValueError, match="noisy must be an array with a row"):
        dataclasses.replace(crafted, noisy=crafted.noisy[:1])


@pytest.mark.parametrize("wrong", [-0.5, 1.5, np.nan])
def test_an_attack_set_refuses_pixels_that_are_none(crafted, wrong):
    broken = crafted.adversarial.copy()
    broken[1, 3, 4] = wrong
    with pytest.raises(ValueError, match=r"adversarial images must lie in \[0, 1\]"):
        dataclasses.replace(crafted, adversarial=broken)


def test_an_attack_set_refuses_a_success_that_its_decisions_contradict(crafted):
    with pytest.raises(ValueError, match=f"success contradicts predicted and label for {len(crafted)} images"):
        dataclasses.replace(crafted, success=~crafted.success)


def test_unknown_names_and_parameters_are_named(average_pooling_classifier):
    with pytest.raises(ValueError, match="no attack is called 'deepfoul': choose one of lbfgs"):
        find_attack("deepfoul")
    with pytest.raises(ValueError, match="deepfool has no parameter steps: it takes"):
        build_attack("deepfool", average_pooling_classifier, steps=3)


def test_bad_images_are_named(average_pooling_classifier, real_images, real_labels, right):
    few = right[:5]
    images, labels, given = real_images[few], real_labels[few], {"source": few, "seed": 0}
    swapped = labels.copy()
    swapped[2] = (swapped[2] + 1) % 10
    with pytest.raises(ValueError, match="all 5 images are misclassified as they are"):
        craft("deepfool", average_pooling_classifier, images, (labels + 1) % 10, **given)
    with pytest.raises(ValueError, match="1 of 5 images are misclassified as they are: attack only correct ones"):
        attack_images(find_attack("fgsm"), average_pooling_classifier, images, swapped, name="fgsm", **given)
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 .* got None"):
        craft("deepfool", average_pooling_classifier, images, labels, source=few, seed=None)
    with pytest.raises(TypeError, match="network must be a Keras 3 model, got int"):
        craft("deepfool", 3, images, labels, **given)
    for broken in (lambda x: x[:1], lambda x: x * np.nan):
        CATALOGUE["broken"] = CatalogueEntry(type("Broken", (Half,), {"made": staticmethod(broken)}))
        with pytest.raises(ValueError, match="Broken must return one finite image for each of"):
            craft("broken", average_pooling_classifier, images, labels, **given)
        del CATALOGUE["broken"]
    with pytest.raises(ValueError, match="source must have shape"):
        craft("deepfool", average_pooling_classifier, images, labels, source=few[:4], seed=0)


def test_misclassified_images_are_left_out_and_counted(average_pooling_classifier, real_images, real_labels, right):
    few = right[:5]
    swapped = real_labels[few].copy()
    swapped[2] = (swapped[2] + 1) % 10
    with pytest.warns(UserWarning, match="1 of 5 images are misclassified: left out"):
        made = craft("fgsm", average_pooling_classifier, real_images[few], swapped)
    np.testing.assert_array_equal(made.source, [0, 1, 3, 4])
    np.testing.assert_array_equal(made.clean, real_images[few[[0, 1, 3, 4]]])
    with pytest.warns(UserWarning, match="left out"):
        np.testing.assert_array_equal(
            craft("fgsm", average_pooling_classifier, real_images[few], swapped, source=few).source, few[[0, 1, 3, 4]]
        )


def test_a_network_its_file_and_one_hot_labels_give_the_same_attack(
    average_pooling_classifier, real_images, real_labels, right, tmp_path
):
    few, network = right[:5], average_pooling_classifier.model
    network.save(tmp_path / "network.keras")
    one_hot = np.eye(10)[real_labels[few]]
    expected = craft("fgsm", average_pooling_classifier, real_images[few], real_labels[few])
    for model in (network, tmp_path / "network.keras"):
        np.testing.assert_array_equal(craft("fgsm", model, real_images[few], one_hot).adversarial, expected.adversarial)


def test_similarity_is_one_for_equal_images_and_falls_with_noise(real_images):
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(real_images[:5] + rng.normal(0, s, real_images[:5].shape), 0, 1).astype(np.float32) for s in (0.05, 0.3)
    ]
    np.testing.assert_allclose(similarity(real_images[:5], real_images[:5]), 1)
    assert (similarity(real_images[:5], noisy[0]) > similarity(real_images[:5], noisy[1])).all()


def test_appearance_is_of_successful_attacks(crafted):
    row = appearance({"deepfool": crafted}, seed=0).iloc[0]
    won = crafted.select(crafted.success)
    assert row["success_rate"] == crafted.success.mean()
    assert row["l2"] == pytest.approx(np.median(won.l2))
    assert row["l2_low"] < row["l2"] < row["l2_high"]


def test_images_that_an_attack_left_alone_are_counted(crafted):
    n, nudge = len(crafted), np.where(np.arange(len(crafted)) % 2, np.float32(1e-3), 0)[:, None, None, None]
    moved = np.clip(crafted.clean + nudge, 0, 1)  # half of them by less than half a level
    moved[:4] = crafted.adversarial[:4]
    linf = np.abs(moved - crafted.clean).max(axis=(1, 2, 3))
    zero = np.arange(n) < n // 4
    made = dataclasses.replace(crafted, adversarial=moved, linf=linf, zero_gradient=zero)
    shown = idle({"one": made, "two": dataclasses.replace(made, attack="boundary, margin 2")})
    one, two = shown.set_index("attack").loc[["one", "two"]].to_dict("records")
    assert one["n"] == n
    assert (one["unchanged"], one["unchanged_8_bit"]) == (np.mean(linf == 0), (n - 4) / n)
    assert 0 < one["unchanged"] < one["unchanged_8_bit"]
    assert (one["success"], one["zero_gradient"]) == (crafted.success.mean(), zero.mean())
    assert np.isnan(two["zero_gradient"])  # it never asks for one


def test_the_step_follows_from_the_strength_unless_it_is_given(average_pooling_classifier):
    assert build_attack("bim", average_pooling_classifier, eps=0.2).eps_step == pytest.approx(0.04)
    assert build_attack("pgd", average_pooling_classifier, eps=0.3).eps_step == pytest.approx(0.01)
    assert build_attack("pgd", average_pooling_classifier).num_random_init == 1
    assert build_attack("bim", average_pooling_classifier, eps=0.2, eps_step=0.1).eps_step == 0.1
    assert find_attack("bim").with_parameters(eps=0.2)["max_iter"] == 10


AT_A_MARGIN = ("deepfool", "gradient", "lbfgs", "ddn", "carlini_l2", "carlini_linf", "fab", "fab_linf", "boundary")


@pytest.mark.parametrize("name", AT_A_MARGIN)
def test_a_stored_set_scores_the_same_again_at_any_batch_size(
    name, max_pooling_classifier, real_images, real_labels, tmp_path
):
    decided = max_pooling_classifier.predict(real_images).argmax(axis=1)
    few = np.flatnonzero(decided == real_labels)[:60]
    about = {"name": name, "entry": find_attack(name), "classifier": max_pooling_classifier, "source": few, "seed": 0}
    about |= {"images": real_images[few], "labels": real_labels[few], **FOR_TESTS.get(name, {})}
    made = Store(tmp_path).keep(f"attack.{name}", attack_images, **about)
    assert made.success.mean() > 0.7
    assert made.margin[made.success].min() >= 0.9 * MARGIN
    for size in (1, 37, 512):
        logits = Classifier(max_pooling_classifier.model, batch_size=size).predict(made.adversarial)
        np.testing.assert_array_equal(logits.argmax(axis=1), made.predicted)
        np.testing.assert_allclose(logit_margins(logits, made.label), made.margin, atol=1e-4)
