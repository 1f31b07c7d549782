"""The README's own words: its code runs, its headline is the reference run's."""

import re
from pathlib import Path

import numpy as np

from advlens.attacks import CATALOGUE, craft

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()


def test_the_code_runs_as_it_stands(monkeypatch, average_pooling_classifier, real_images, real_labels):
    monkeypatch.setitem(CATALOGUE, "brighten", None)  # taken out again after the test
    attack, detector = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {"clean_validation_images": real_images[:200], "images": real_images[200:]}
    exec(attack, names)
    exec(detector, names)
    assert names["is_adversarial"].shape == (200,)
    right = np.flatnonzero(average_pooling_classifier.predict(real_images).argmax(axis=1) == real_labels)[:5]
    made = craft(
        "brighten", average_pooling_classifier, real_images[right], real_labels[right], source=right, seed=0, amount=0.5
    )
    np.testing.assert_allclose(made.adversarial, np.clip(real_images[right] + 0.5, 0, 1))


def test_the_headlines_are_the_reference_run_s():
    headlines = list((PROJECT / "figures").glob("*/headline*.md"))
    assert headlines
    for headline in headlines:
        assert headline.read_text().strip() in README, headline
