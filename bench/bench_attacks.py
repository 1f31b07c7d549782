"""Measures the attacks against the libraries' own, each pair in this one process: ratios count, not seconds.

Run from the project as `python -m bench.bench_attacks`, or by `make bench`.
"""

import advlens  # first, as it silences TensorFlow's start

# isort: split

from functools import partial
from pathlib import Path

import keras
import numpy as np
from art.attacks.evasion import BasicIterativeMethod, CarliniL2Method, FastGradientMethod, ProjectedGradientDescent
from art.attacks.evasion import BoundaryAttack as ArtBoundary
from art.attacks.evasion import DeepFool as ArtDeepFool
from art.attacks.evasion import PixelAttack as ArtPixel
from art.estimators.classification import TensorFlowV2Classifier

from advlens import networks
from advlens.attacks.boundary import BoundaryAttack
from advlens.attacks.deepfool import DeepFool
from advlens.attacks.gradient import GradientAttack
from advlens.attacks.lbfgs import LBFGS
from advlens.attacks.pixel import PixelAttack
from advlens.classifier import Classifier
from bench.harness import report, seconds
from tests.scipy_lbfgs import scipy_lbfgs

DATA = Path(__file__).parents[1] / "tests" / "data" / "mnist.npz"
QUIET = {"verbose": False}
ART_ATTACKS = {  # name: (attack on an estimator, images, repeats)
    "FGSM": (lambda c: FastGradientMethod(c, eps=0.2, batch_size=64), 400, 5),
    "BIM": (
        lambda c: BasicIterativeMethod(c, eps=0.2, eps_step=0.04, max_iter=10, batch_size=64, **QUIET), 400, 3
    ),
    "PGD": (
        lambda c: ProjectedGradientDescent(c, eps=0.2, eps_step=0.2 / 30, max_iter=40, batch_size=64, **QUIET),
        400, 2,
    ),
    "DeepFool": (lambda c: ArtDeepFool(c, max_iter=20, batch_size=64, **QUIET), 64, 1),
    "Carlini-L2": (lambda c: CarliniL2Method(c, max_iter=10, binary_search_steps=2, batch_size=64, **QUIET), 64, 1),
}  # fmt: skip


def trained(name: str, images: np.ndarray, labels: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(7)
    network = networks.build(name)
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, labels, batch_size=32, epochs=15, verbose=0)
    return network


def stock_of(classifier: Classifier) -> TensorFlowV2Classifier:
    """ART's own estimator of the same network."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    return TensorFlowV2Classifier(classifier.model, 10, (28, 28, 1), loss_object=loss, clip_values=(0, 1))


def median_l2(attacked: np.ndarray, images: np.ndarray) -> float:
    return float(np.median(np.linalg.norm((attacked - images).reshape(len(images), -1), axis=1)))


def main() -> None:
    with np.load(DATA) as archive:
        images, labels = archive["x"][..., None].astype(np.float32) / 255, archive["y"]
    network = trained("two_conv_cnn", images, labels)
    compiled = Classifier(network)
    stock = stock_of(compiled)
    print(f"advlens {advlens.__version__}, {'attack':25s} {'advlens':>8s} {'library':>10s} {'ratio':>10s}")

    for name, (attack, n, repeats) in ART_ATTACKS.items():
        attacks = attack(compiled), attack(stock)
        for warmed in attacks:
            warmed.generate(images[:4])
        ours, theirs = (seconds(partial(a.generate, images[:n]), repeats)[0] for a in attacks)
        report(f"ART's {name} on Classifier", ours, theirs, f"{n} images")

    x = images[:100]
    ours, ours_adv = seconds(lambda: DeepFool(compiled).generate(x), 2)
    art = ArtDeepFool(stock, epsilon=0.02, batch_size=100, **QUIET)
    theirs, theirs_adv = seconds(lambda: art.generate(x))
    report("DeepFool against ART's on its own", ours, theirs,
           f"100 images, median L2 {median_l2(ours_adv, x):.3f} and {median_l2(theirs_adv, x):.3f}")  # fmt: skip

    classifier = Classifier(trained("average_pooling_cnn", images, labels))
    t = np.argsort(classifier.predict(images), axis=1)[:, -2]
    few = 6
    ours, ours_adv = seconds(lambda: LBFGS(classifier, targeted=True).generate(images, t))
    theirs, theirs_adv = seconds(lambda: scipy_lbfgs(classifier.model, images[:few], t[:few]))
    scale = len(images) / few
    l2s = median_l2(ours_adv[:few], images[:few]), median_l2(np.array(theirs_adv), images[:few])
    report("L-BFGS against SciPy one by one", ours, theirs * scale,
           f"400 images, SciPy extrapolated from {few}, median L2 of those {l2s[0]:.3f} and {l2s[1]:.3f}")  # fmt: skip

    x, y, few = images[:200], labels[:200], 10  # searches that are bound by how many images the network takes a second
    searches = {
        "Boundary, 100 steps": (
            BoundaryAttack(classifier, max_iter=100),
            ArtBoundary(stock_of(classifier), targeted=False, max_iter=100, **QUIET),
        ),
        "One pixel, 20 generations": (
            PixelAttack(classifier, max_iter=20), ArtPixel(stock_of(classifier), th=1, max_iter=20)
        ),
    }  # fmt: skip
    for name, (own, art) in searches.items():
        ours, ours_adv = seconds(lambda attack=own: attack.generate(x, y))
        theirs, theirs_adv = seconds(lambda attack=art: attack.generate(x[:few], y[:few]))
        said = [np.mean(classifier.predict(made).argmax(axis=1) != y[: len(made)]) for made in (ours_adv, theirs_adv)]
        report(f"{name} against ART's", ours, theirs * len(x) / few,
               f"200 images, ART extrapolated from {few}, success {said[0]:.2f} and {said[1]:.2f}")  # fmt: skip

    blocks, _ = seconds(lambda: GradientAttack(classifier).generate(images))
    print(f"gradient attack, 400 images: {blocks:.2f} s")


if __name__ == "__main__":
    main()
