"""Real images and small networks trained on them, made once a session."""

import os
import shutil
from pathlib import Path

os.environ["ADVLENS_PROGRESS"] = "off"  # before advlens: libraries read it at their import
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # threads that wait for a core spin, and take it
    # TensorFlow's number stays: with another one, networks are trained to other weights than the baselines'.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from advlens import networks
from advlens.classifier import Classifier

DATA = Path(__file__).parent / "data"
# Notebooks and files of tests, the longest first: two processes then end at about the same time.
LONGEST = ("13", "04", "07", "12", "09", "adaptive_suite", "15", "06", "11", "binarisation", "deep_knn_study", "10")
LONGEST += ("site", "transfer_study", "type_one_attack", "suite", "runs", "detector_aware", "type_one_study")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; notebook 8, which reads what 7 makes and would wait for it, among the others."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        name = name[:2] if item.path.suffix == ".ipynb" else name
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    """400 images (n, 28, 28, 1) float32 in [0, 1] and their classes, half of each of MNIST's sets."""
    with np.load(DATA / "mnist.npz") as archive:
        return archive["x"][..., None].astype(np.float32) / 255, archive["y"]


def _trained(name: str, images: np.ndarray, labels: np.ndarray) -> Classifier:
    keras.utils.set_random_seed(7)
    network = networks.build(name)
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, labels, batch_size=32, epochs=15, verbose=0)
    return Classifier(network, batch_size=128)


@pytest.fixture(scope="session")
def max_pooling_classifier(mnist) -> Classifier:
    """`two_conv_cnn`, trained for a few seconds."""
    return _trained("two_conv_cnn", *mnist)


@pytest.fixture(scope="session")
def average_pooling_classifier(mnist) -> Classifier:
    """`average_pooling_cnn`, trained for a few seconds."""
    return _trained("average_pooling_cnn", *mnist)


@pytest.fixture(scope="session")
def real_images(mnist) -> np.ndarray:
    """The 400 images alone."""
    return mnist[0]


@pytest.fixture(scope="session")
def real_labels(mnist) -> np.ndarray:
    """Their classes alone."""
    return mnist[1]


@pytest.fixture(scope="session")
def right(average_pooling_classifier, real_images, real_labels) -> np.ndarray:
    """The places of the first 40 images that `average_pooling_classifier` gets right."""
    return np.flatnonzero(average_pooling_classifier.predict(real_images).argmax(axis=1) == real_labels)[:40]


@pytest.fixture
def browser():
    """Chromium without a window, for the pages that open from disk."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    if CHROMIUM is None:
        pytest.skip("the browser test needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])


@pytest.fixture(autouse=True)
def _no_figure_is_left_open():
    """A test that only draws leaves none to the next."""
    yield
    plt.close("all")
