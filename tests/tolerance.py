"""Texts that are equal where their words are and their numbers are close.

Words that only say on which side of a bound a number lies, bold type that says the same, and the name in parentheses of
what was chosen by its figure, which stands before it with its interval, follow the numbers: where these are close, any
may stand.
"""

import math
import re

# Numbers within either of these of each other count as equal; shares, AUCs and correlations lie within ±1.
SHARE, OTHER, RELATIVE = 0.10, 0.15, 0.10
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
VERDICT = re.compile(
    r"\b(confirmed|refuted|open|carries over|does not carry over|higher|lower|no meaningful difference|undecided|"
    r"supported|contradicted)\b"
)
CHOSEN = re.compile(r"(?<=\]) \([^()=]+\)")
PADDING = re.compile(r"[ \-]{2,}")  # tables are padded to their widest cell


class TolerantText(str):
    """A text whose equality allows its numbers a tolerance; percentages count as the shares that they are."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        if _words(self) != _words(other):
            return False
        return all(_close(a, b) for a, b in zip(_numbers(self), _numbers(other), strict=True))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def _words(text: str) -> str:
    return PADDING.sub(" ", NUMBER.sub("#", VERDICT.sub("verdict", _unnamed(text).replace("**", ""))))


def _unnamed(text: str) -> str:
    return CHOSEN.sub(" (chosen)", text)


def _numbers(text: str) -> list[float]:
    values, text = [], _unnamed(text)
    for match in NUMBER.finditer(text):
        value = float(match.group().replace(",", "").replace("−", "-"))
        values.append(value / 100 if text[match.end() : match.end() + 1] == "%" else value)
    return values


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=SHARE if max(abs(a), abs(b)) <= 1 else OTHER)
