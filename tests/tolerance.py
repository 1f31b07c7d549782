"""Texts that are equal where their words are and their numbers are close.

Words that only say on which side of a bound a number lies, bold type that says the same, and names of what was chosen
by its figure follow the numbers: where these are close, any may stand.
"""

import math
import re
from difflib import SequenceMatcher

# Numbers within either of these of each other count as equal; shares, AUCs and correlations lie within ±1.
SHARE, OTHER, RELATIVE = 0.10, 0.15, 0.10
LONG, ALIKE = 15, 0.9  # words from which on some may be others on another processor, and the share that may not
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
    r"(?<=%) \([^()=:%]+\)|(?<=; most for )[^()]+(?= \()|(?<=The last to fall is )[^:]+(?=:)"
)
CHECK = (
    r"(?:evasion(?: with twice the steps| with a restart| at half the ε| without bounds)?|"
    r"flagged images whose score alone is hidden|steps without a gradient|(?:inverted )?binarisation|none)"
)
FAILED = re.compile(rf"(?<=\| ){CHECK}(?:; {CHECK})*(?= *\|)")  # a cell of a table that lists the checks that fail
SETTING = re.compile(r"^chosen setting: .+$", re.MULTILINE)
PADDING = re.compile(r"[ \-]{2,}")  # tables are padded to their widest cell


class TolerantText(str):
    """A text whose equality allows its numbers a tolerance; percentages count as the shares that they are."""

    share, other = SHARE, OTHER

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        own, others = self._told(self), self._told(other)
        if _words(own) != _words(others):
            return False
        return all(self._close(a, b) for a, b in zip(_numbers(own), _numbers(others), strict=True))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def _told(self, text: str) -> str:
        """The text without what follows the numbers."""
        return FAILED.sub("checks", VERDICT.sub("verdict", CHOSEN.sub(" (chosen)", text).replace("**", "")))

    def _close(self, a: float, b: float) -> bool:
        is_share = isinstance(a, float) and max(abs(a), abs(b)) <= 1
        return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=self.share if is_share else self.other)


class FewImages(TolerantText):
    """A text about so few images that one more or less moves a share by several hundredths.

    Counts may differ by one; a table's rows are compared by their names, since they are sorted by such shares.
    """

    share, other = 0.20, 1.0

    def _told(self, text: str) -> str:
        told = super()._told(text).splitlines()
        if text.startswith("|"):
            told[2:] = sorted(told[2:], key=_words)
        return "\n".join(told)


class WordsAlone(FewImages):
    """A text that another kind of processor wrote: at smoke size it comes to other numbers, and chooses other names."""

    def _told(self, text: str) -> str:
        return SETTING.sub("chosen setting", super()._told(text))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        own, others = (_words(self._told(text)) for text in (self, other))
        if own == others:
            return True
        pair = own.split(), others.split()
        return min(map(len, pair)) >= LONG and SequenceMatcher(None, *pair, autojunk=False).ratio() >= ALIKE

    __hash__ = str.__hash__


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
