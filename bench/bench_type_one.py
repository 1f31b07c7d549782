"""Measures Type I attacks whose images walk together against the same walks one image at a time, as published.

Run from the project as `python -m bench.bench_type_one`, or by `make bench`.
"""

import advlens  # first, as it silences TensorFlow's start

# isort: split

import keras
import numpy as np
import pandas as pd

from advlens.attacks.type_one import TypeOneAttack
from advlens.classifier import Classifier
from advlens.datasets import load
from advlens.generative import Generator
from advlens.generative.networks import decoder, discriminator, encoder, latent_classifier
from advlens.networks import global_pooling_cnn
from bench.harness import report, seconds

TOGETHER, ALONE, STEPS = 128, 8, 100  # images, of which so many walk alone: the others are extrapolated
LATENT = 32


def untrained() -> Generator:
    """A generator of the study's sizes: what it has learnt changes no time."""
    shape = (28, 28, 1)
    networks = encoder(shape, LATENT), decoder(shape, LATENT), latent_classifier(LATENT, 10), discriminator(LATENT)
    return Generator(*networks, binarised=True, history=pd.DataFrame())


def main() -> None:
    keras.utils.set_random_seed(0)
    images = load("mnist").test_images[:TOGETHER]
    classifier, generator = Classifier(global_pooling_cnn()), untrained()
    aims = (classifier.predict(images).argmax(axis=1) + 1) % 10  # no image is decided so already
    together = TypeOneAttack(classifier, generator, max_iter=STEPS)
    alone = TypeOneAttack(classifier, generator, max_iter=STEPS, batch_size=1)
    ours, found = seconds(lambda: together.generate(images, aims))
    theirs, expected = seconds(lambda: alone.generate(images[:ALONE], aims[:ALONE]))
    apart = np.abs(found[:ALONE] - expected).max()
    remark = f"{TOGETHER} images, {STEPS} steps, largest difference {apart:.1e}, extrapolated from {ALONE}"
    print(f"advlens {advlens.__version__}, {'attack':25s} {'together':>8s} {'alone':>10s} {'ratio':>10s}")
    report("Type I", ours, theirs * TOGETHER / ALONE, remark)


if __name__ == "__main__":
    main()
