"""How a text travels as SMS: which alphabet, and how many segments.

Sources: 3GPP TS 23.038 (GSM 7-bit default alphabet and its extension), TS 23.040 (concatenation); Twilio, "How long can
a message be?" and the Message resource, 2026-09.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Segments", "count"]

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = "^{}\\[~]|€\f"  # an escape and a character: two septets that stay together
_SEPTETS: Final = dict.fromkeys(_BASIC, 1) | dict.fromkeys(_EXTENDED, 2)

_ONE_SEPTET = frozenset(_BASIC)

Alphabet = Literal["gsm", "ucs2"]
_SINGLE: Final[dict[Alphabet, int]] = {"gsm": 160, "ucs2": 70}  # units of a message that is one segment
_PART: Final[dict[Alphabet, int]] = {"gsm": 153, "ucs2": 67}  # units of one among several: six bytes tell them apart


@dataclass(frozen=True, slots=True)
class Segments:
    """`units` are septets ("gsm") or UTF-16 code units ("ucs2")."""

    alphabet: Alphabet
    units: int
    segments: int


class _Tally:
    """Counts a text in one alphabet, character by character. No pair is torn: a part may end one unit early."""

    __slots__ = ("_alphabet", "_filled", "_parts", "units")

    def __init__(self, alphabet: Alphabet) -> None:
        self._alphabet: Alphabet = alphabet
        self.units, self._parts, self._filled = 0, 1, 0

    def add(self, width: int) -> None:
        self.units += width
        if self._filled + width > _PART[self._alphabet]:
            self._parts, self._filled = self._parts + 1, 0
        self._filled += width

    @property
    def segments(self) -> int:
        if not self.units:
            return 0
        return 1 if self.units <= _SINGLE[self._alphabet] else self._parts


def _utf16(char: str) -> int:
    return 1 if char <= "\uffff" else 2


def count(text: str) -> Segments:
    """The segments the text takes as it stands; one character outside of GSM 7-bit makes the whole of it UCS-2."""
    chars = set(text)
    alphabet: Alphabet = "gsm" if chars <= _SEPTETS.keys() else "ucs2"
    if chars <= _ONE_SEPTET or (alphabet == "ucs2" and max(chars) <= "\uffff"):  # nothing that must not be torn
        size = len(text)
        return Segments(alphabet, size, -(-size // _PART[alphabet]) if size > _SINGLE[alphabet] else min(size, 1))
    tally = _Tally(alphabet)
    for char in text:
        tally.add(_SEPTETS[char] if alphabet == "gsm" else _utf16(char))
    return Segments(alphabet, tally.units, tally.segments)
