"""How nbval compares the notebooks' baselines: words exactly, numbers within a tolerance.

Another processor, another number of threads or another kernel library rounds differently, and training amplifies that;
so a printed number may move, and the tolerance is wider than such differences were measured to be. On another kind of
processor than the baselines were made on (or where that is not known) numbers are not compared, words are. At these
sizes detectors are little better than chance, so that a flipped sign can hide in it: signs, labels and neurons are the
unit tests' business. What is compared here is that each cell runs and says the same of the same things; where that is
chance (a dozen images), a cell is tagged `nbval-ignore-output`.
"""

import os
from pathlib import Path

from nbval.plugin import IPyNbCell

from advlens.publishing import PROCESSOR, processor
from tests.tolerance import TolerantText, WordsAlone

os.environ["ADVLENS_PROGRESS"] = "off"

made_on = Path(__file__).with_name(PROCESSOR)
KIND = TolerantText if made_on.exists() and made_on.read_text().strip() == processor() else WordsAlone
_exactly_sanitized = IPyNbCell.sanitize


def _sanitize(self: IPyNbCell, text: object) -> object:
    text = _exactly_sanitized(self, text)
    return KIND(text) if isinstance(text, str) else text


IPyNbCell.sanitize = _sanitize
