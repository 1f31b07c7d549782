"""How nbval compares the notebooks' baselines: words exactly, numbers within a tolerance.

Another processor, another number of threads or another kernel library rounds differently, and training amplifies
that; so a printed number may move a little. `TOLERANCE` is wider than such differences were measured to be and
narrower than what a flipped sign, a swapped label or a wrong neuron does.
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
