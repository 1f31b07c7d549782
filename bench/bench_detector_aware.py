"""Measures the attack that knows a detector against plain PGD, on 500 digits and the benchmark's own task network.

Run from the project as `python -m bench.bench_detector_aware`, or by `make bench`; the first run trains the network.
"""

from advlens.workbench import Workbench  # first: it starts TensorFlow quietly

# isort: split

import numpy as np
from art.attacks.evasion import ProjectedGradientDescent

from advlens.attacks import build_attack
from advlens.attacks.detector_aware import DetectorAwareAttack
from advlens.benchmark import evades
from advlens.detectors import create
from advlens.networks import dropout_network
from bench.harness import report, seconds

DIGITS, LEARNT, CLEAN = 500, 200, 500
EPS, STEPS = 31 / 255, 100


def main() -> None:
    bench = Workbench(run="bench", dataset="mnist", seed=0)
    classifier = bench.classifier(dropout_network("mnist"), epochs=8)
    images = bench.data.test_images[bench.correct_sources(classifier)[: DIGITS + LEARNT + CLEAN]]
    x, learnt, clean = np.split(images, (DIGITS, DIGITS + LEARNT))
    y = classifier.predict(x).argmax(axis=1)
    detector = create("relevancy_classifier", classifier, epochs=20)
    attacked = build_attack("pgd", classifier, eps=77 / 255).generate(learnt)
    detector.learn(np.concatenate([learnt, attacked]), np.arange(2 * LEARNT) >= LEARNT).calibrate(clean)
    known = DetectorAwareAttack(classifier, detector, eps=EPS, max_iter=STEPS, strategies=("selective",))
    plain = ProjectedGradientDescent(
        classifier, eps=EPS, eps_step=EPS / 10, max_iter=STEPS, batch_size=known.batch_size, verbose=False
    )
    (ours, found), (theirs, other) = (seconds(lambda attack=each: attack.generate(x, y)) for each in (known, plain))
    shares = [evades(classifier, detector, each, y).mean() for each in (found, other)]
    remark = f"{DIGITS} images, {STEPS} steps each, compiled meanwhile; evade {shares[0]:.3f} and {shares[1]:.3f}"
    report("knows the relevancy classifier, against ART's PGD", ours, theirs, remark)


if __name__ == "__main__":
    main()
