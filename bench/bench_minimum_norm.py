"""Measures the attacks that look for the nearest image, on 200 digits and the benchmark's own task network.

Run from the project as `python -m bench.bench_minimum_norm`, or by `make bench`; the first run trains the network.
"""

from advlens.workbench import Workbench  # first: it starts TensorFlow quietly

# isort: split

import numpy as np
from art.attacks.evasion import CarliniL2Method

from advlens.attacks import build_attack
from advlens.networks import dropout_network
from bench.harness import report, seconds

DIGITS, FEW = 200, 40  # ART's is timed on few of them, and ours beside it
SETTINGS = {"max_iter": 60, "binary_search_steps": 6, "initial_const": 1.0, "learning_rate": 0.1, "batch_size": FEW}
NORMS = {"carlini_l2": 2, "ddn": 2, "fab": 2, "fab_linf": np.inf, "carlini_linf": np.inf}


def main() -> None:
    bench = Workbench(run="bench", dataset="mnist", seed=0)
    classifier = bench.classifier(dropout_network("mnist"), epochs=8)
    x = bench.data.test_images[bench.correct_sources(classifier)[:DIGITS]]
    y = classifier.predict(x).argmax(axis=1)

    def told(made: np.ndarray, norm: float) -> str:
        """The median distance of successes, and their share."""
        won = classifier.predict(made).argmax(axis=1) != y[: len(made)]
        lengths = np.linalg.norm((made - x[: len(made)]).reshape(len(made), -1), ord=norm, axis=1)
        return f"median L{'2' if norm == 2 else '∞'} {np.median(lengths[won]):.3f}, success {won.mean():.3f}"

    art = CarliniL2Method(classifier, **SETTINGS, verbose=False)
    theirs, found = seconds(lambda: art.generate(x[:FEW], y[:FEW]))
    for name, norm in NORMS.items():
        attack = build_attack(name, classifier)
        attack.generate(x[:FEW], y[:FEW])  # compiled once
        ours, _ = seconds(lambda attack=attack: attack.generate(x[:FEW], y[:FEW]))
        remark = f"{FEW} images; of {DIGITS}: {told(attack.generate(x, y), norm)}; ART's of {FEW}: {told(found, 2)}"
        report(f"{name} against ART's Carlini-Wagner", ours, theirs, remark)


if __name__ == "__main__":
    main()
