"""How nbval compares the notebooks' baselines: words exactly, numbers within a tolerance.

Another number of threads or another kernel library rounds differently, and training amplifies that; so a printed number
may move a little, and the tolerance is wider than such differences were measured to be. At these sizes detectors are
little better than chance, so that a flipped sign can hide in it: signs, labels and neurons are for the unit tests.
A cell tagged `few-images` tells of so few that its tolerance is twice as wide. On another kind of processor than the
baselines were made on, or where that is not known, words are compared and numbers are not: they were seen to move by
more than any tolerance that would still tell something.
"""

import os
from pathlib import Path

from nbval.plugin import IPyNbCell

from advlens.publishing import PROCESSOR, processor
from tests.tolerance import FewImages, TolerantText, WordsAlone

os.environ["ADVLENS_PROGRESS"] = "off"

made_on = Path(__file__).with_name(PROCESSOR)
SAME_KIND = made_on.exists() and made_on.read_text().strip() == processor()
_exactly_sanitized = IPyNbCell.sanitize


def _sanitize(self: IPyNbCell, text: object) -> object:
    text = _exactly_sanitized(self, text)
    kind = FewImages if "few-images" in self.cell.metadata.get("tags", []) else TolerantText
    kind = kind if SAME_KIND else WordsAlone
    return kind(text) if isinstance(text, str) else text


IPyNbCell.sanitize = _sanitize
