"""Photographs and a network of keras.applications, as the any-model section uses them."""

import keras
import numpy as np
import pytest
from PIL import Image

from advlens.networks import imagenet
from advlens.photographs import EXAMPLES, load_photographs


def test_the_examples_are_there_without_a_network():
    names, images = load_photographs(size=32)
    assert names == list(EXAMPLES)
    assert images.shape == (len(EXAMPLES), 32, 32, 3)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1


def test_a_folder_s_pictures_are_cropped_to_their_middle(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (255, 128, 0)
    Image.fromarray(wide).save(tmp_path / "b.png")
    Image.fromarray(wide[..., 0]).save(tmp_path / "a.PNG")  # grey
    (tmp_path / "notes.txt").write_text("no picture")
    names, images = load_photographs(tmp_path, size=10)
    assert names == ["a.PNG", "b.png"]
    np.testing.assert_allclose(images[1, 5, 5], [1, 128 / 255, 0], atol=1e-6)
    np.testing.assert_allclose(images[0, 5, 5], 1)


def test_wrong_folders_and_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no pictures"):
        load_photographs(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no pictures"):
        load_photographs(tmp_path / "none")
    (tmp_path / "broken.jpg").write_bytes(b"no jpeg")
    with pytest.raises(ValueError, match=r"broken\.jpg is no picture"):
        load_photographs(tmp_path)
    (tmp_path / "broken.jpg").unlink()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has more than 8 bits a channel"):
        load_photographs(tmp_path)
    with pytest.raises(TypeError, match="folder must be a path"):
        load_photographs(None)


def test_vgg19_takes_images_in_0_to_1_and_decides_as_keras_own():
    photographs = load_photographs()[1][:2]
    network = imagenet.vgg19(weights=None, seed=3)
    keras.utils.set_random_seed(3)
    original = keras.applications.VGG19(weights=None, classifier_activation=None)
    prepared = keras.applications.vgg19.preprocess_input(photographs * 255)
    np.testing.assert_allclose(network(photographs), original(prepared), rtol=1e-3, atol=1e-5)


def test_weights_that_cannot_be_had_are_named():
    with pytest.raises(OSError, match=r"VGG-19's weights 'nowhere\.h5' cannot be had"):
        imagenet.vgg19(weights="nowhere.h5")
