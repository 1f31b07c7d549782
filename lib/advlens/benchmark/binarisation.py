"""The binarisation test: whether an attack finds an image that is known to exist. Other checks of it: `adaptive`."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from advlens.arrays import Array, checked_images, checked_whole
from advlens.attacks.detector_aware import DetectorAwareAttack
from advlens.attacks.inputs import MARGIN
from advlens.benchmark.adaptive import NEARLY_ALL
from advlens.classifier import Classifier
from advlens.detectors import Detector, Head, Sign
from advlens.detectors.differentiable import head_score
from advlens.networks.parts import last_layer, name_in, tensors_of
from advlens.random import stream

TESTS = ("binarisation", "inverted binarisation")  # the image that exists is not flagged; is flagged
MAX_RANDOM = 0.25  # the share of images that random search may solve, or the test says little
GAP = 0.05  # between inner images and the boundary, as a share of ε
GRAINS, MAX_POWER = (1, 2, 4), 8.0  # of noise: the side of its cells in pixels; from corners of the cube (0) to peaks
DRAWS = 100  # of an image at the boundary, until one is flagged and one is not


@dataclass(frozen=True)
class Binarised:
    """Images, each with a binary readout of a network's last hidden features, and an image of class 1 within ε.

    Attributes:
        classifier: images → leads, whose column i is image i's readout, positive in class 1.
        known: (n, h, w, channels), of class 1; exists, random: (n,) bool, whether it is, and random search finds one.
    """

    classifier: Classifier
    known: Array
    exists: Array
    random: Array


def binarisation_test(attack: DetectorAwareAttack, images: Array, *, n_inner: int = 999, seed: int = 0) -> pd.DataFrame:
    """Runs an attack where it must succeed: on binary networks with an image of the other class within ε.

    For each image, a linear readout of the network's last hidden features separates it, and noisy ones within 0.95 ε,
    from one at ε, which is just of class 1. In the plain test that one is not flagged, and the attack must find one
    that is of class 1 and not flagged; in the inverted test that one is flagged, and the attack, which sees the score
    with the other sign, must find one that is flagged. Random search with as many queries as it has steps must fail.

    Args:
        attack: on a calibrated detector; its class and parameters are kept, but its margin.
        images: (n, h, w, channels) in [0, 1]; n_inner: noisy images around each.
    Returns:
        A row a test: check, found, wanted, passed as in `Strength.checks`, found being the share of images solved, of
        those with a test; random, the share that random search solves; lacking, how many images have no test, since
        noise was always flagged, or never, or no readout separates it.
    Raises:
        ValueError: for bad images or numbers; RuntimeError: before `Detector.calibrate`.

    Source: Zimmermann et al. 2022; noise is of several grains here, so that a detector flags some, and not all of it.
    """
    images = checked_images(images, shape=attack.estimator.input_shape)
    rows, tests = [], binarised(attack, images, n_inner=checked_whole(n_inner, name="n_inner"), seed=seed)
    for flagged, (name, test) in enumerate(zip(TESTS, tests, strict=True)):
        n = int(test.exists.sum())
        found, random = (_solved(attack, images, test, flagged), test.random.sum() / n) if n else (np.nan, np.nan)
        lacking, passed = len(images) - n, found >= NEARLY_ALL and random <= MAX_RANDOM
        wanted = f"at least {NEARLY_ALL:g} (random search {random:.2g}, no test of {lacking} of {len(images)} images)"
        rows.append((name, found, wanted, passed, random, lacking))
    return pd.DataFrame(rows, columns=["check", "found", "wanted", "passed", "random", "lacking"])


def binarised(attack: DetectorAwareAttack, images: Array, *, n_inner: int, seed: int) -> list[Binarised]:
    """The plain and the inverted test of (n, h, w, channels) images: see `binarisation_test`."""
    classifier, detector = attack.estimator, attack.detector
    queries = attack.restarts * len(attack.strategies) * (attack.max_iter + 1)
    tests = [[], []]
    for i, image in enumerate(images):
        rng = stream(seed, f"binarisation/{i}")
        inner = np.concatenate([image[None], _noisy(attack, image, n_inner, rng=rng, share=1 - GAP)])
        drawn, tried = (_noisy(attack, image, n, rng=rng) for n in (DRAWS, queries))
        if attack.eight_bit:
            drawn = attack._rounded(tf.constant(image[None]), tf.constant(drawn)).numpy()
        is_flagged = detector.detect(drawn)[1]
        features = classifier.features(np.concatenate([inner, tried, drawn])).astype(np.float64)
        of_inner, of_tried, of_drawn = np.split(features, [len(inner), len(inner) + queries])
        for flagged in (0, 1):
            first = (is_flagged == flagged).argmax()
            fits = is_flagged[first] == flagged
            readout = _readout(of_inner, of_drawn[first]) if fits else np.zeros(features.shape[1] + 1)
            is_one = of_tried @ readout[:-1] + readout[-1] > 0
            random = is_one.any() and (detector.detect(tried[is_one])[1] == flagged).any()
            tests[flagged].append((drawn[first], readout, random))
    return [
        Binarised(_with_readouts(classifier, readouts), known, np.any(readouts, axis=1), random)
        for known, readouts, random in ((np.array(part) for part in zip(*test, strict=True)) for test in tests)
    ]


def _noisy(attack: DetectorAwareAttack, image: Array, n: int, *, rng: np.random.Generator, share: float = 1.0) -> Array:
    """(n, h, w, channels) of an image with noise, at a share of ε before it is cut off at the box."""
    noise, (height, width, channels) = np.empty((n, *image.shape)), image.shape
    for rows, grain in zip(np.array_split(rng.permutation(n), len(GRAINS)), GRAINS, strict=True):
        cells = rng.uniform(-1, 1, (len(rows), -(-height // grain), -(-width // grain), channels))
        cells = np.sign(cells) * np.abs(cells) ** rng.uniform(0, MAX_POWER, (len(rows), 1, 1, 1))
        noise[rows] = cells.repeat(grain, axis=1).repeat(grain, axis=2)[:, :height, :width]
    lengths = np.linalg.norm(noise.reshape(n, -1), ord=2 if attack.norm == 2 else np.inf, axis=1)
    noise *= (share * attack.eps / lengths)[:, None, None, None]
    return np.clip(image + noise, 0, 1).astype(np.float32)


def _readout(inner: Array, boundary: Array) -> Array:
    """(d + 1,) weights and a bias, by which (d,) features are just of class 1, (m, d) are not; zeros if there are none.

    The lead is twice the attack's margin at the boundary, and lower by 1 where it is highest of the others.
    """
    model = LogisticRegression(C=np.inf, max_iter=1000).fit([*inner, boundary], [0] * len(inner) + [1])
    own = boundary @ model.coef_[0]
    apart = own - (inner @ model.coef_[0]).max()
    return np.append(model.coef_[0], 2 * MARGIN * apart - own) / apart if apart > 0 else np.zeros(len(boundary) + 1)


def _with_readouts(classifier: Classifier, readouts: Array) -> Classifier:
    """The network up to its last hidden features, and (n, d + 1) readouts of them; one of zeros beside a single one."""
    tensors = tensors_of(classifier.model)
    entry = tensors.inputs[name_in(classifier.model, last_layer(classifier.model))]
    dense = keras.layers.Dense(max(len(readouts), 2), name="readouts")
    network = keras.Model(tensors.image, dense(keras.layers.Flatten(name="last_hidden")(entry)), name="binarised")
    readouts = np.pad(readouts, ((0, dense.units - len(readouts)), (0, 0)))
    dense.set_weights([readouts[:, :-1].T, readouts[:, -1]])
    return Classifier(network, batch_size=classifier.batch_size)


def _solved(attack: DetectorAwareAttack, images: Array, test: Binarised, flagged: int) -> float:
    """The share of images with a test of which the attack finds one of class 1 that is flagged, or one that is not."""

    def own_column(_: DetectorAwareAttack, leads: tf.Tensor, y: tf.Tensor, **_largest: object) -> tf.Tensor:
        return tf.gather(leads, y, batch_dims=1)

    kind = type(f"Binarised{type(attack).__name__}", (type(attack),), {"_lead": own_column})
    about, rows = {"detector": attack.detector}, np.flatnonzero(test.exists)
    if flagged:
        about = {"detector": inverted(attack.detector), "stand_in": attack.stand_in and _negated(attack.stand_in)}
    made = kind(test.classifier, **attack.given | about | {"margin": MARGIN}).generate(images[rows], rows)
    is_one = test.classifier.predict(made)[np.arange(len(rows)), rows] > 0
    return float((is_one & (attack.detector.detect(made)[1] == flagged)).mean())


class _Negated(Head):
    """A head that has learnt, with the other sign."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "_Negated":
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        return -self.head.score(measured)


@head_score.register
def _(head: _Negated, measured: tf.Tensor) -> tf.Tensor:
    return -head_score(head.head, measured)


def _negated(detector: Detector) -> Detector:
    columns = (detector.head.column,) if isinstance(detector.head, Sign) else detector.columns
    return Detector(detector.lens, _Negated(detector.head), columns=columns, name=f"inverted {detector.name}")


def inverted(detector: Detector) -> Detector:
    """What flags the images that a calibrated detector does not flag.

    Raises:
        ValueError: for one that draws lots at its threshold.
    """
    if detector.tie_share_:
        raise ValueError(f"{detector.name} draws lots at its threshold: calibrate it without tie_seed")
    made = _negated(detector)
    made.threshold_ = float(np.nextafter(-detector.threshold_, -np.inf))  # pyright: ignore[reportOptionalOperand]
    made.observed_fpr_ = 1 - detector.observed_fpr_
    return made
