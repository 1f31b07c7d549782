"""How nbval compares the notebooks' baselines: words exactly, numbers within a tolerance.

Another processor, another number of threads or another kernel library rounds differently, and training amplifies
that; so a printed number may move a little, and the tolerance is wider than such differences were measured to be. At
these sizes detectors are little better than chance, so that a flipped sign can hide in it: signs, labels and neurons
are the unit tests' business. What is compared here is that each cell runs and says the same of the same things; where
that is chance (a dozen images), a cell is tagged `nbval-ignore-output`.
"""

import os

from nbval.plugin import IPyNbCell

from tests.tolerance import TolerantText

os.environ["ADVLENS_PROGRESS"] = "off"

_exactly_sanitized = IPyNbCell.sanitize


def _sanitize(self: IPyNbCell, text: object) -> object:
    text = _exactly_sanitized(self, text)
    return TolerantText(text) if isinstance(text, str) else text


IPyNbCell.sanitize = _sanitize
