"""The transfer study: its tables on made-up rows, and the whole of it on a few real images."""

import numpy as np
import pandas as pd
import pytest

from advlens.classifier import Classifier
from advlens.studies import transfer
from advlens.studies.transfer import (
    ALL_VICTIMS,
    BIM,
    CONTROL,
    FGSM,
    ILAF,
    ILAP,
    LONGER_BIM,
    METHODS,
    MOMENTUM,
    REPORT_EPS,
    RIVALS,
    SOURCES,
    VICTIMS,
    Choice,
    Study,
    find_misclassified,
    intermediate,
    plain,
)
from advlens.workbench import Workbench

N, SOURCE = 200, SOURCES[0]
PART = np.where(np.arange(N) < 40, "validation", "test")
# The share of victims that each method fools on test images; on validation images, one minus it.
SHARES = {ILAP: 0.6, ILAF: 0.9, FGSM: 0.1, BIM: 0.3, LONGER_BIM: 0.6, MOMENTUM: 0.8, CONTROL: 0.0}


@pytest.fixture(scope="module")
def fooled() -> pd.DataFrame:
    """Rows as `Study.fooled` has them, of N images at one strength; the attacked network is always fooled."""
    frames = []
    for method, share in SHARES.items():
        rank = np.where(PART == "validation", 1 - np.arange(N) / 40, (np.arange(N) - 40) / 160)
        networks = {SOURCE: True, **dict.fromkeys(VICTIMS, rank < share)}
        about = {"method": method, "layer": "", "eps": 0.2, "source": np.arange(N)[::-1], "part": PART}
        frames.append(pd.DataFrame(networks | about))
    return pd.concat(frames, ignore_index=True)


def test_success_is_that_of_the_images_that_chose_nothing(fooled):
    table = transfer.success(fooled)
    assert set(table["n"]) == {160}
    found = table.set_index(["method", "network"])
    assert found.loc[(ILAP, VICTIMS[0]), "estimate"] == pytest.approx(0.6)
    assert found.loc[(MOMENTUM, ALL_VICTIMS), "estimate"] == pytest.approx(0.8)
    assert (found.xs(SOURCE, level="network")["estimate"] == 1).all()
    assert found.loc[(BIM, SOURCE), "low"] < 1  # also where all are fooled
    assert set(table["method"]) == set(METHODS)


def test_differences_are_paired_and_have_a_sign_and_a_verdict(fooled):
    table = transfer.differences(fooled, ILAP).set_index("rival")
    assert list(table.index) == list(RIVALS)
    assert table.loc[BIM, ["estimate", "verdict"]].tolist() == [pytest.approx(0.3), "higher"]
    assert table.loc[MOMENTUM, ["estimate", "verdict"]].tolist() == [pytest.approx(-0.2), "lower"]
    assert table.loc[LONGER_BIM, ["estimate", "verdict"]].tolist() == [0, "no meaningful difference"]
    perfect = transfer.differences(fooled.assign(**dict.fromkeys(VICTIMS, True)), ILAP)
    assert ((perfect["low"] < 0) & (perfect["estimate"] == 0) & (perfect["high"] > 0)).all()
    # Pairing is by source, not by row: a rival in another order makes the same difference.
    shuffled = fooled.sample(frac=1, random_state=0)
    again = transfer.differences(shuffled, ILAP).set_index("rival")
    pd.testing.assert_series_equal(again["estimate"], table["estimate"])


def test_rivals_take_as_many_gradients_at_the_same_strength():
    follow = intermediate(Choice(ILAP, "conv2", 0.2), 0.1, iterations=10)
    assert follow.parameters["max_iter"] + follow.parameters["base_steps"] == 20
    assert follow.parameters["eps_step"] == pytest.approx(0.02)
    for rival in (LONGER_BIM, MOMENTUM):
        assert plain(rival, 0.1, iterations=10).parameters["max_iter"] == 20
    assert plain(BIM, 0.1, iterations=10).parameters["max_iter"] == 10
    names = [plain(method, eps, iterations=10).name for method in METHODS[:4] for eps in (REPORT_EPS, 0.1)]
    assert len(set(names)) == len(names)


def test_misclassification_is_judged_by_the_true_class(average_pooling_classifier, max_pooling_classifier, mnist):
    images, labels = mnist[0][:50], mnist[1][:50]
    networks = {"a": average_pooling_classifier.model, "b": max_pooling_classifier.model}
    assert find_misclassified(networks, images, (labels + 1) % 10)["a"].mean() > 0.9
    expected = Classifier(networks["b"]).predict(images).argmax(axis=1) != labels
    np.testing.assert_array_equal(find_misclassified(networks, images, labels)["b"], expected)


# ---------------------------------------------------------------- the whole on real images

SIZES = {
    **{"deep_knn_epochs": 15, "task_epochs": 15, "dropout_epochs": 15, "transfer_images": 50, "iterations": 5},
    **{"threshold_images": 40, "neighbours": 5, "held_out": 40, "strengths": (0.3,)},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of 400 digits, as small as it can be."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Study(bench, **SIZES)


def test_no_image_has_two_uses_and_all_networks_classify_the_attacked_ones_correctly(study):
    data = study.bench.data
    assert len(np.unique(np.concatenate([study.attacked, study.for_thresholds]))) == 90
    assert study.is_test.sum() == 40
    assert list(study.classifiers) == [SOURCE, *VICTIMS]
    for classifier in study.classifiers.values():
        for indices in (study.attacked, study.for_thresholds):
            assert (classifier.predict(data.test_images[indices]).argmax(axis=1) == data.test_labels[indices]).all()


def test_attacks_keep_to_their_strength_and_are_read_as_they_are(study):
    methods = study.methods(0.3)
    assert [method.method for method in methods] == list(METHODS)
    assert methods[-1].parameters["guide"] == "random"
    assert methods[-1].layer == study.choice.layer
    for method in methods:
        made = study.attack_set(method)
        assert np.abs(made.adversarial - made.clean).max() <= method.eps + 1e-6
        own = study.fooled[(study.fooled["method"] == method.method) & (study.fooled["eps"] == method.eps)]
        np.testing.assert_array_equal(own[SOURCE], made.success)
        np.testing.assert_array_equal(own["source"], study.attacked)


def test_settings_are_chosen_on_validation_images_by_the_victims(study):
    tried = study.tried
    validation = tried[tried["part"] == "validation"]
    shares = validation.assign(share=validation[list(VICTIMS)].mean(axis=1)).groupby(["method", "layer", "step_share"])
    best = shares["share"].mean()
    choice = study.choice
    assert best[choice.variant, choice.layer, choice.step_share] == best.max()
    assert len(best) == 2 * 4 * len(transfer.STEP_SHARES)
    assert set(study.choices["n"]) == {10}


def test_an_attack_fools_its_own_network_more_often_than_a_random_guide_does(study):
    success = transfer.success(study.fooled)
    own = success[(success["network"] == SOURCE) & (success["eps"] == 0.3)].set_index("method")["estimate"]
    assert own[BIM] > own[CONTROL] + 0.2


def test_each_victim_judges_by_its_own_deep_knn_the_images_that_fool_it(study):
    benchmark = study.benchmark("two_conv_cnn")
    assert len(benchmark.attack_sets) == 3
    for name, made in benchmark.attack_sets.items():
        about = benchmark.samples(name, "8-bit").about.query("role == 'adversarial'")
        assert not set(about["source"]) & set(study.attacked[~study.is_test])
        rounded = (np.round(made.adversarial * 255) / 255).astype(np.float32)
        predicted = study.classifiers["two_conv_cnn"].predict(rounded).argmax(axis=1)
        np.testing.assert_array_equal(about["success"], predicted != made.label)
    table = study.detection
    assert set(table["victim"]) == set(VICTIMS)
    assert {"Deep kNN", "max softmax"} <= set(table["detector"])


def test_wrong_sizes_are_named_before_work_starts(study):
    for wrong, message in (
        ({"source": "vgg19"}, "source must be one of deep_knn_cnn, fashion_dropout_cnn, got 'vgg19'"),
        ({"transfer_images": 39}, "transfer_images must be a whole number, 40 or more, got 39"),
        ({"transfer_images": 400}, "transfer_images and threshold_images must be at most"),
        ({"iterations": 4}, "transfer_iterations must be a whole number, 5 or more, got 4"),
        ({"task_epochs": 0}, "epochs must be a whole number, 1 or more, got 0"),
        ({"strengths": [0.2, 0.1]}, r"transfer_strengths must be .* that rise in \(0, 1\], got \[0.2, 0.1\]"),
        ({"strengths": [1.5]}, "transfer_strengths must be"),
        ({"strengths": 0.1}, "transfer_strengths must be a list of numbers that rise in .*, got 0.1"),
        ({"strengths": ["0.1"]}, "transfer_strengths must be"),
        ({"strengths": [True]}, "transfer_strengths must be"),
    ):
        with pytest.raises(ValueError, match=message):
            Study(study.bench, **(SIZES | wrong))
