"""What autoencoders of clean images and maps reconstruct: MagNet, and Ko and Lim's maps, by their formulas."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from advlens import detectors
from advlens.explanations import explain
from advlens.lenses import MagNet, MapReconstruction
from advlens.lenses.autoencoders import convolutional_autoencoder, reconstruct, train_autoencoders
from advlens.metrics import roc_auc
from advlens.store import digest


@pytest.fixture(scope="module")
def magnet(max_pooling_classifier, real_images, real_labels):
    return MagNet(max_pooling_classifier, epochs=15).fit(real_images[:300], real_labels[:300])


@pytest.fixture(scope="module")
def of_maps(max_pooling_classifier, real_images, real_labels):
    return MapReconstruction(max_pooling_classifier).fit(real_images[:300], real_labels[:300])


@pytest.fixture(scope="module")
def noisy(real_images):
    noise = np.random.default_rng(0).choice([-0.2, 0.2], real_images[300:].shape)
    return np.clip(real_images[300:] + noise, 0, 1).astype(np.float32)


def test_an_autoencoder_learns_pictures_of_any_sides_and_the_same_ones_from_one_seed(real_images):
    pictures = real_images[:64, :13, 7:20]
    about = {"epochs": 12, "seed": 3, "batch_size": 8}
    groups = {"one": pictures, "other": pictures[:32]}
    trained = train_autoencoders(convolutional_autoencoder, groups, **about)
    rebuilt = reconstruct(trained["one"], pictures)
    assert rebuilt.shape == pictures.shape
    assert ((rebuilt - pictures) ** 2).mean() < ((pictures.mean(axis=0) - pictures) ** 2).mean() / 2
    assert np.abs(rebuilt - reconstruct(trained["other"], pictures)).max() > 0.01
    (alone,) = train_autoencoders(convolutional_autoencoder, {"alone": pictures}, **about).values()
    np.testing.assert_allclose(rebuilt, reconstruct(alone, pictures), atol=1e-5)


def test_magnet_by_hand(magnet, max_pooling_classifier, real_images):
    image = real_images[300:301]
    rebuilt = reconstruct(magnet.networks_["autoencoder"], image)
    logits = [max_pooling_classifier.predict(each)[0].astype(float) for each in (image, rebuilt)]
    found = magnet.measure(image).iloc[0]
    assert found["reconstruction L1"] == pytest.approx(np.abs(image - rebuilt).sum(), rel=1e-4)
    assert found["reconstruction L2"] == pytest.approx(np.linalg.norm(image - rebuilt), rel=1e-4)
    for t in (10, 40):
        distance = jensenshannon(softmax(logits[0] / t), softmax(logits[1] / t))
        assert found[f"divergence at T = {t}"] == pytest.approx(distance**2, rel=1e-3, abs=1e-9)
    values = found.to_numpy()[:4]
    p = min((1 + (magnet.normal_[:, i] >= values[i]).sum()) / (1 + len(magnet.normal_)) for i in range(4))
    assert found["−log smallest p-value"] == pytest.approx(-np.log(p))


def test_magnet_holds_a_tenth_of_the_training_images_out(magnet):
    assert magnet.normal_.shape == (30, 4)


def test_noisy_images_are_reconstructed_worse_than_clean_ones(magnet, real_images, noisy):
    rows = magnet.measure(np.concatenate([real_images[300:], noisy]))
    truth = np.arange(200) >= 100
    assert roc_auc(rows["reconstruction L2"].to_numpy(), truth) > 0.9
    assert roc_auc(rows["−log smallest p-value"].to_numpy(), truth) > 0.8


def test_a_map_by_hand_with_the_autoencoder_of_the_class_decided_for(of_maps, max_pooling_classifier, real_images):
    image = real_images[300:301]
    relevances = explain(max_pooling_classifier.model, image).astype(float)
    scaled = relevances / np.sqrt((relevances**2).mean())
    network = of_maps.networks_[str(max_pooling_classifier.predict(image).argmax())]
    error = np.sqrt(((scaled - network(scaled.astype(np.float32)).numpy()) ** 2).mean())
    assert of_maps.measure(image).iloc[0, 0] == pytest.approx(error, rel=1e-3)


def test_maps_of_another_class_are_reconstructed_worse(of_maps, max_pooling_classifier, real_images):
    maps, decided = of_maps._maps(real_images[300:])
    own, other = (np.concatenate([
        of_maps._errors(of_maps.networks_[str((each + shift) % 10)], maps[decided == each]) for each in range(10)
    ]) for shift in (0, 1))  # fmt: skip
    assert roc_auc(np.concatenate([own, other]), np.arange(2 * len(own)) >= len(own)) > 0.7


def test_a_class_that_no_training_image_was_decided_for_takes_the_worst_error(of_maps, max_pooling_classifier):
    some = MapReconstruction(max_pooling_classifier)
    some.networks_ = {"99": of_maps.networks_["0"], "98": of_maps.networks_["1"]}
    image = np.random.default_rng(0).random((1, 28, 28, 1), dtype=np.float32)
    maps, _ = some._maps(image)
    worst = max(float(some._errors(network, maps)[0]) for network in some.networks_.values())
    assert some.measure(image).iloc[0, 0] == pytest.approx(worst)


@pytest.mark.filterwarnings("ignore:.*score exactly the threshold")  # few p-values of few held-out images
@pytest.mark.parametrize("name", ["magnet", "map_reconstruction"])
def test_they_are_detectors_that_are_saved_and_loaded(name, max_pooling_classifier, real_images, real_labels, tmp_path):
    detector = detectors.create(name, max_pooling_classifier, epochs=2).fit(real_images[:200], real_labels[:200])
    detector.calibrate(real_images[300:360])
    again = detectors.load(detector.save(tmp_path / "saved"), max_pooling_classifier)
    np.testing.assert_allclose(again.scores(real_images[360:]), detector.scores(real_images[360:]), rtol=1e-5)
    assert digest(again.lens) == digest(detector.lens)
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".npz", ".json"}


def test_the_store_knows_a_lens_by_the_images_that_it_learnt_from(max_pooling_classifier, real_images, real_labels):
    made = [MagNet(max_pooling_classifier, epochs=1).fit(real_images[:n], real_labels[:n]) for n in (100, 100, 99)]
    assert digest(made[0]) == digest(made[1]) != digest(made[2])
    assert digest(made[0]) != digest(MagNet(max_pooling_classifier, epochs=1))


@pytest.mark.parametrize("kind", [MagNet, MapReconstruction])
def test_what_has_seen_no_training_images_says_so(kind, max_pooling_classifier, real_images):
    with pytest.raises(RuntimeError, match="call fit"):
        kind(max_pooling_classifier).measure(real_images[:2])
