"""How a text travels as SMS: which alphabet, how many segments, and where a long one may be cut.

Sources: 3GPP TS 23.038 (GSM 7-bit default alphabet and its extension), TS 23.040 (concatenation); Twilio, "How long can
a message be?" and the Message resource, 2026-09.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Segments", "count", "split"]

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = "^{}\\[~]|€\f"  # an escape and a character: two septets that stay together
_SEPTETS: Final = dict.fromkeys(_BASIC, 1) | dict.fromkeys(_EXTENDED, 2)

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
    gsm = all(char in _SEPTETS for char in text)
    tally = _Tally("gsm" if gsm else "ucs2")
    for char in text:
        tally.add(_SEPTETS[char] if gsm else _utf16(char))
    return Segments("gsm" if gsm else "ucs2", tally.units, tally.segments)


def split(text: str, *, max_chars: int = 1600, max_segments: int = 10) -> tuple[str, ...]:
    """The text, composed (NFC), as messages of at most so many characters (UTF-16 units) and segments each.

    Cut at the last blank of a message, which is dropped, else between two characters as a reader sees them; only a
    single one larger than a whole message is torn. Empty for a text of blanks. Least: two characters, one segment.
    """
    if max_chars < 2 or max_segments < 1:
        raise ValueError("a message holds at least two UTF-16 units and one segment")
    return tuple(_parts(unicodedata.normalize("NFC", text).strip(), max_chars, max_segments))


def _parts(rest: str, max_chars: int, max_segments: int) -> Iterator[str]:
    while rest:
        end = _longest(rest, max_chars, max_segments)
        if end < len(rest):
            end = _cut(rest, end)
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()


def _longest(text: str, max_chars: int, max_segments: int) -> int:
    """How many characters of the text fit into one message, at least one.

    Both alphabets are tallied until a character outside of GSM 7-bit decides; segments never shrink as a text grows,
    so the first character that does not fit is the end.
    """
    gsm, ucs2 = _Tally("gsm"), _Tally("ucs2")
    plain = True
    for index, char in enumerate(text):
        septets = _SEPTETS.get(char)
        plain = plain and septets is not None
        gsm.add(septets or 0)
        ucs2.add(_utf16(char))
        if ucs2.units > max_chars or (gsm if plain else ucs2).segments > max_segments:
            return max(index, 1)
    return len(text)


def _cut(text: str, end: int) -> int:
    """Where to cut at or before `end`: after the last blank, else at the last whole character, else at `end`."""
    if text[end].isspace():
        return end
    for index in range(end - 1, 0, -1):
        if text[index].isspace():
            return index
    return next((index for index in range(end, 0, -1) if _is_bound(text, index)), end)


def _is_bound(text: str, index: int) -> bool:
    """Whether a reader sees the characters around `index` as two. Close to Unicode's grapheme clusters (UAX #29):
    marks, joiners, skin tones, tags, pairs of flag letters, conjoining Hangul and CR LF stay together."""
    before, after = text[index - 1], text[index]
    if after == "\u200d" or before == "\u200d" or (before == "\r" and after == "\n"):
        return False
    if unicodedata.category(after).startswith("M") or "\U0001f3fb" <= after <= "\U0001f3ff":
        return False
    if "\U000e0020" <= after <= "\U000e007f" or "\u1160" <= after <= "\u11ff":
        return False
    return not (_is_flag_letter(before) and _is_flag_letter(after) and _flag_letters_before(text, index) % 2)


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_letters_before(text: str, index: int) -> int:
    start = index
    while start and _is_flag_letter(text[start - 1]):
        start -= 1
    return index - start
