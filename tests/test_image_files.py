"""Codecs and the study's JPEG export."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advlens import image_files
from advlens.image_files import CODECS, export, export_names, read_export, through, wrapped_eight_bit


@pytest.fixture(scope="module")
def images():
    with np.load(Path(__file__).parent / "data" / "mnist.npz") as file:
        return file["x"][:20, ..., None].astype(np.float32) / 255


def test_wrapping_turns_mid_grey_into_white_and_the_next_level_into_black():
    levels = wrapped_eight_bit(np.array([0.0, 0.25, 0.5, 0.503, 1.0]).reshape(1, 1, 5, 1))
    assert levels.ravel().tolist() == [0, 127, 255, 0, 254]


def test_the_lossless_codecs_round_and_nothing_more(images):
    perturbed = np.clip(images + 0.003, 0, 1)
    np.testing.assert_array_equal(through("float", perturbed), perturbed)
    np.testing.assert_array_equal(through("8-bit", perturbed), through("png", perturbed))
    assert np.abs(through("png", perturbed) - perturbed).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(through("png", images), images, atol=1e-7)


def test_jpeg_changes_little_and_wrapped_jpeg_much(images):
    faint = np.clip(images * 0.6, 0, 1)
    assert 0 < np.abs(through("jpeg", faint) - faint).mean() < 0.02
    assert np.abs(through("wrapped jpeg", faint) - faint).mean() > 0.05


def test_min_max_scaling_makes_a_faint_image_full_scale(images):
    faint = images * 0.1
    assert through("jpeg", faint).max() < 0.2
    assert through("min-max jpeg", faint).max() > 0.9


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_keeps_shape_and_range_in_grey_and_colour(codec, images):
    for pictures in (images, np.repeat(images, 3, axis=-1)):
        coded = through(codec, pictures)
        assert coded.shape == pictures.shape
        assert coded.dtype == np.float32
        assert 0 <= coded.min() <= coded.max() <= 1


def test_an_image_s_codec_does_not_depend_on_its_neighbours(images):
    for codec in CODECS:
        np.testing.assert_array_equal(through(codec, images)[3:4], through(codec, images[3:4]))


def test_export_names_are_the_study_s():
    assert export_names([7], [2]) == ["test_7_2.jpeg"]
    assert export_names([7], [2], [3]) == ["adv_test_7_2_3.jpeg"]
    assert export_names([7], [2], [3], maps=True) == ["adv_rel_test_7_2_3.jpeg"]


def test_an_export_reads_back_as_the_wrapped_codec(tmp_path, images):
    names = export_names(range(20), np.arange(20) % 10)
    export(tmp_path / "digits", dict(zip(names, images, strict=True)))
    np.testing.assert_array_equal(read_export(tmp_path / "digits", names), through("wrapped jpeg", images))


def test_an_interrupted_export_leaves_the_old_one(tmp_path, images, monkeypatch):
    names = export_names(range(20), np.zeros(20, int))
    export(tmp_path / "digits", dict(zip(names, images, strict=True)))
    monkeypatch.setattr(image_files, "_encode", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export(tmp_path / "digits", dict(zip(names, 1 - images, strict=True)))
    monkeypatch.undo()
    np.testing.assert_array_equal(read_export(tmp_path / "digits", names), through("wrapped jpeg", images))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no codec is called 'gif'"):
        through("gif", np.zeros((1, 4, 4, 1), np.float32))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got \[0, 255\]: divide by 255"):
        through("png", np.full((1, 4, 4, 1), 255.0) * np.array([0, 1]).reshape(1, 1, 1, 2))


def test_jpegs_are_of_pillow_s_own_quality(real_images):
    levels = np.rint(real_images[:3, ..., 0] * 255).astype(np.uint8)
    for image, seen in zip(levels, through("jpeg", real_images[:3]), strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "jpeg")
        np.testing.assert_allclose(seen[..., 0], np.asarray(Image.open(file)) / 255, atol=1e-6)


def test_min_max_scales_each_image_by_its_own_extremes(real_images):
    faint = real_images[:2] * np.array([1, 0.25], np.float32)[:, None, None, None]
    assert through("min-max jpeg", faint).max(axis=(1, 2, 3)).min() > 0.9


def test_an_export_replaces_nothing_but_exports(tmp_path, real_images):
    pictures = {"test_1_2.jpeg": real_images[0]}
    (tmp_path / "mine.txt").write_text("notes")
    with pytest.raises(ValueError, match="holds more than an export"):
        export(tmp_path, pictures)
    with pytest.raises(ValueError, match=r"plain names that end in .jpeg, got '../evil.jpeg'"):
        export(tmp_path / "out", {"../evil.jpeg": real_images[0]})
    with pytest.raises(ValueError, match="must lie in"):
        export(tmp_path / "out", {**pictures, "second.jpeg": real_images[0] * 255})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]
    export(str(tmp_path / "out"), pictures)
    export(tmp_path / "out", pictures)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test_1_2.jpeg"]


def test_channels_that_no_file_holds_are_named(real_images):
    with pytest.raises(ValueError, match="image files hold 1 or 3 channels, got 4"):
        through("png", np.repeat(real_images[:1], 4, axis=-1))
