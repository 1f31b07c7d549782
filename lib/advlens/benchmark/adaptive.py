"""Attacks that know a detector, in the long table, and what shows that such an attack is strong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from art.attacks.attack import EvasionAttack

from advlens.arrays import Array
from advlens.attacks import AttackSet, build_attack
from advlens.attacks.crafting import generate, judged
from advlens.attacks.detector_aware import DetectorAwareAttack
from advlens.benchmark.benchmark import Benchmark
from advlens.benchmark.vocabulary import Condition
from advlens.classifier import Classifier
from advlens.detectors import Detector
from advlens.image_files import through
from advlens.random import stream, stream_seed

TOLERANCE, NEARLY_ALL, SHARE_LOST = 0.01, 0.95, 0.05
ROUNDING = 1e-9  # of a difference of shares


def adaptive_set(
    benchmark: Benchmark,
    detector: Detector,
    *,
    like: str,
    attack: Callable[..., EvasionAttack] = DetectorAwareAttack,
    **parameters: Any,
) -> AttackSet:
    """The images of one of a benchmark's attack sets, attacked by somebody who knows a detector.

    Args:
        detector: fitted, as the attack takes it; like: the name of the attack set.
        attack: `DetectorAwareAttack` or `DetectorAwareBoundary`.
        parameters: of the attack; `eps` is that of the other set where it has one.
    Returns:
        An attack set for another `Benchmark`, whose `knowledge` is then "adaptive" beside this detector, and "transfer"
        beside others and where its head is one that the benchmark fits anew.

    Source: the protocol's rule 12.
    """
    oblivious = benchmark.attack_sets[like]
    name = f"adaptive to {detector.name}, like {like}"
    seed = stream_seed(benchmark.seed, f"attack/{name}")
    if "eps" in oblivious.parameters:
        parameters = {"eps": oblivious.parameters["eps"], **parameters}
    made = attack(benchmark.classifier, detector, **{"seed": seed, **parameters})
    attacked = generate(made, oblivious.clean, oblivious.label, seed=seed)
    plain = {key: getattr(each, "name", each) for key, each in parameters.items() if not isinstance(each, np.ndarray)}
    return judged(
        benchmark.classifier, oblivious.clean, attacked, oblivious.label, name=name, source=oblivious.source,
        target=oblivious.target, parameters={**plain, "detector": detector.name},
        rng=stream(benchmark.seed, f"twins/{name}"),
    )  # fmt: skip


def evades(classifier: Classifier, detector: Detector, attacked: Array, labels: Array) -> Array:
    """(n,) bool, which attacked images are misclassified and not flagged at the committed threshold.

    Raises:
        RuntimeError: before `Detector.calibrate`.
    """
    return (classifier.predict(attacked).argmax(axis=1) != labels) & ~detector.detect(attacked)[1]


@dataclass(frozen=True)
class Strength:
    """Whether an adaptive attack's result can be trusted.

    Attributes:
        evasion: the share of images that evade; oblivious: the same of PGD in the same ball.
        checks: a row a check: check, found, wanted (text), passed.
    """

    evasion: float
    oblivious: float
    checks: pd.DataFrame

    @property
    def potentially_unreliable(self) -> str:
        """Which checks fail, in one line; empty where none does."""
        failed = self.checks[~self.checks["passed"]]
        return "; ".join(f"{row.check}: {row.found:.3g}, not {row.wanted}" for row in failed.itertuples())


def strength_checks(attack: DetectorAwareAttack, images: Array, labels: Array) -> Strength:
    """Runs an adaptive attack, and others that a strong one must compare with.

    Args:
        attack: on a calibrated detector, untargeted.
        images: (n, h, w, channels) classified correctly; labels: (n,) true classes.
    Returns:
        The shares that evade, and the checks: twice the steps, and a restart from a random place, change the share by a
        point, or an image, at most; it is not below that of PGD, which doesn't know the detector, and is rounded to 8
        bits where the attack is; the score alone can be driven under the threshold from PGD's flagged images; the share
        grows from ε/2 to ε to a ball that holds every image, where nearly all evade; few steps had no gradient. A check
        that has nothing to compare is left out: none of PGD's images flagged, or evading neither here nor there.

    Source: Carlini et al. 2019, "On evaluating adversarial robustness"; Tramèr et al. 2020.
    """
    classifier, detector = attack.estimator, attack.detector

    def share(**parameters: Any) -> float:
        made = attack.changed(**parameters).generate(images, labels)
        return float(evades(classifier, detector, made, labels).mean())

    evasion = float(evades(classifier, detector, attack.generate(images, labels), labels).mean())
    lost = attack.zero_gradients_
    name = "pgd_l2" if attack.norm == 2 else "pgd"
    pgd = generate(build_attack(name, classifier, eps=attack.eps), images, labels, seed=attack.seed)
    pgd = through(Condition.EIGHT_BIT.value, pgd) if attack.eight_bit else pgd
    oblivious = float(evades(classifier, detector, pgd, labels).mean())
    flagged = detector.detect(pgd)[1]
    longer, restarted = share(max_iter=2 * attack.max_iter), share(restarts=attack.restarts + 1)
    nearer = share(eps=attack.eps / 2)
    unbounded = share(eps=1.0 if attack.norm != 2 else float(np.sqrt(images[0].size)))
    most = max(NEARLY_ALL, evasion)
    near = max(TOLERANCE, 1 / len(images))  # one image at most
    rows = [
        (f"evasion with {more}", found, f"within {near:.2g} of {evasion:.3g}", abs(found - evasion) <= near + ROUNDING)
        for more, found in (("twice the steps", longer), ("a restart", restarted))
    ]
    if evasion or oblivious:
        rows.append(("evasion", evasion, f"at least the oblivious attack's {oblivious:.3g}", evasion >= oblivious))
    if flagged.any():
        made = attack.changed(score_alone=True).generate(pgd[flagged], labels[flagged])
        name, hidden = "flagged images whose score alone is hidden", float((~detector.detect(made)[1]).mean())
        rows.append((name, hidden, f"at least {NEARLY_ALL:g}", hidden >= NEARLY_ALL))
    if evasion or nearer:
        rows.append(("evasion at half the ε", nearer, f"at most {evasion:.3g}", nearer <= evasion))
    rows += [
        ("evasion without bounds", unbounded, f"at least {most:.3g}", unbounded >= most),
        ("steps without a gradient", lost, f"at most {SHARE_LOST:g}", lost <= SHARE_LOST),
    ]
    return Strength(evasion, oblivious, pd.DataFrame(rows, columns=["check", "found", "wanted", "passed"]))
