"""Texts that are equal where their words are and their numbers are close.

Words that only say on which side of a bound a number lies, bold type that says the same, and names of what was chosen
by its figure follow the numbers: where these are close, any may stand.
"""

import math
import re
from difflib import SequenceMatcher

# Numbers within either of these of each other count as equal; shares, AUCs and correlations lie within ±1. As wide as
# two processors were seen to differ at smoke size, where training amplifies the last digit: counts of successes by
# four in fifteen, shares by 0.2, differences by ten percentage points.
SHARE, OTHER, RELATIVE, COUNT = 0.25, 0.3, 0.35, 12
LONG, ALIKE = 15, 0.9  # words from which on some may differ, and the share that may not
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
VERDICT = re.compile(
    r"\b(confirmed|refuted|open|carries over|does not carry over|higher|lower|no meaningful difference|undecided|"
    r"supported|contradicted|hardly misleads|misleads|(?:perhaps )?as often as|(?:more|less) often than|"
    r"(?<=: )(?:yes to both|yes|no|partly|only partly)(?=[.,])|(?<=it detects )(?:mostly|only)(?= that))\b"
)
# In parentheses behind its figure, or the subject of a superlative.
CHOSEN = re.compile(
    r"(?<=\]) \((?:[^()=]|\([^()]*\))+\)|(?<=\]): [^\]]+?(?=\. )|(?<=Attack by attack, )[^.]+?(?= is above)|"
    r"(?<=Of hard normal images ).+?(?= flags up)|(?<=fail there: against ).+?(?= the best lens)|"
    r"(?<=detectors) \([^()]+\)|"
    r"[^.]+(?= is evaded least:)|(?<=so far: )[^,]+(?=,)| \(its attack fails [^)]+\)|"
    r"(?<=%) \([^()=:%]+\)|(?<=\d) \((?:max softmax|median|total|off-grid|trivial scores)[^()]*\)|"
    r"(?<=ckprop to )(?:the target class's|the source class's|neither)|"
    r"(?<=; most for )[^()]+(?= \()|(?<=The last to fall is )[^:]+(?=:)"
)
CHECK = (
    r"(?:evasion(?: with twice the steps| with a restart| at half the ε| without bounds)?|"
    r"flagged images whose score alone is hidden|steps without a gradient|(?:inverted )?binarisation|none)"
)
FAILED = re.compile(rf"(?<=\| ){CHECK}(?:; {CHECK})*(?= *\|)")  # a cell of a table that lists the checks that fail
PADDING = re.compile(r"[ \-]{2,}")  # tables are padded to their widest cell


class TolerantText(str):
    """A text whose equality allows its numbers a tolerance; percentages count as the shares that they are."""

    compares_numbers = True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        own, others = self._told(self), self._told(other)
        if _words(own) != _words(others):
            return _alike(_words(own).split(), _words(others).split())
        return not self.compares_numbers or all(
            self._close(a, b) for a, b in zip(_numbers(own), _numbers(others), strict=True)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def _told(self, text: str) -> str:
        """The text without what follows the numbers; a table's rows by their names, as figures sort them."""
        told = FAILED.sub("checks", VERDICT.sub("verdict", CHOSEN.sub(" (chosen)", text).replace("**", "")))
        if not text.startswith("|"):
            return told
        lines = told.splitlines()
        return "\n".join([*lines[:2], *sorted(lines[2:], key=_words)])

    def _close(self, a: float, b: float) -> bool:
        is_share = isinstance(a, float) and max(abs(a), abs(b)) <= 1
        near = COUNT if isinstance(a, int) and isinstance(b, int) else SHARE if is_share else OTHER
        return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=near)


class WordsAlone(TolerantText):
    """A text that another kind of processor wrote: at smoke size it may come to other numbers, but to numbers."""

    compares_numbers = False


def _alike(own: list[str], others: list[str]) -> bool:
    """Whether two longer texts differ in a few words, as in the names of what was chosen by figures."""
    return min(len(own), len(others)) >= LONG and SequenceMatcher(None, own, others, autojunk=False).ratio() >= ALIKE


def _words(text: str) -> str:
    return PADDING.sub(" ", NUMBER.sub("#", text))


def _numbers(text: str) -> list[float]:
    """The numbers, counts as int."""
    values = []
    for match in NUMBER.finditer(text):
        digits, is_percentage = match.group().replace(",", "").replace("−", "-"), text[match.end() :].startswith("%")
        value = float(digits)
        values.append(value / 100 if is_percentage else value if set(digits) & set(".e") else int(digits))
    return values
