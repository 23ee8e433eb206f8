"""How long a text is in a channel's own unit, and where a long one may be cut."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from adapters import Limits
from adapters._segments import count as sms_count
from adapters._segments import split as sms_split
from adapters._weighted import weight

_WIDTH: dict[str, Callable[[str], int]] = {
    "chars": lambda char: 1,
    "utf16": lambda char: 1 if char <= "\uffff" else 2,
    "bytes": lambda char: len(char.encode("utf-8", "replace")),
}
_LENGTH: dict[str, Callable[[str], int]] = {
    "chars": len,
    "utf16": lambda text: len(text.encode("utf-16-le", "replace")) // 2,
    "bytes": lambda text: len(text.encode("utf-8", "replace")),
    "gsm": lambda text: len(text.encode("utf-16-le", "replace")) // 2,
    "weighted": weight,
}
# The best place for a cut, best first: a paragraph, a line, a sentence (of any script), a blank.
_BREAKS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？｡])"),
    re.compile(r"\s+"),
)
_LEAST = 0.5  # of the room a part must fill for a better kind of break to be taken


def length(text: str, unit: str) -> int:
    """The length in `unit`. "gsm" counts as SMS platforms limit a request: in UTF-16 units."""
    return _LENGTH[unit](text)


def segments(text: str) -> int:
    """How many SMS segments the text takes."""
    return sms_count(text).segments


def fits(text: str, limits: Limits) -> bool:
    """Whether the text may leave in one message."""
    if length(text, limits.text_unit) > limits.text_max:
        return False
    return limits.segment_max is None or segments(text) <= limits.segment_max


def split(text: str, limits: Limits) -> tuple[str, ...]:
    """The text in parts that each fit, cut at a paragraph, a sentence or a blank, and never inside a character.

    Blanks around a cut are dropped; nothing else is.
    """
    if limits.text_unit == "gsm":
        return sms_split(text, max_chars=limits.text_max, max_segments=limits.segment_max or 255)
    width = _WIDTH.get(limits.text_unit)
    parts: list[str] = []
    rest = text.strip()
    while rest:
        end = _room(rest, limits.text_max, width) if width else _weighted_room(rest, limits.text_max)
        if end < len(rest):
            end = _cut(rest, end)
            while end > 1 and not fits(rest[:end].rstrip(), limits):
                end -= 1  # half a link may weigh more than the whole
        parts.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return tuple(parts)


def _room(text: str, most: int, width: Callable[[str], int]) -> int:
    """How many characters fit into `most` units; at least one."""
    used = 0
    for index, char in enumerate(text):
        used += width(char)
        if used > most:
            return max(index, 1)
    return len(text)


def _weighted_room(text: str, most: int) -> int:
    """The same by weight, which only the whole tells."""
    end = min(len(text), most)
    while end > 1 and weight(text[:end]) > most:
        end //= 2
    step = end
    while step:
        while end + step <= len(text) and weight(text[: end + step]) <= most:
            end += step
        step //= 2
    return end


def _cut(text: str, end: int) -> int:
    """Where to cut at or before `end`: the best break that leaves a well filled part, else between two characters."""
    window = text[: end + 1]
    for pattern in _BREAKS:
        last = 0
        for found in pattern.finditer(window):
            if found.start() <= end:
                last = min(found.end(), end) if found.start() < found.end() else found.start()
        if last >= end * _LEAST:
            return last
    return next((index for index in range(end, 0, -1) if _bound(text, index)), end)


def _bound(text: str, index: int) -> bool:
    """Whether a reader sees two characters around `index`. Close to Unicode's grapheme clusters (UAX #29)."""
    before, after = text[index - 1], text[index]
    if "\u200d" in (before, after) or before + after == "\r\n":
        return False
    if unicodedata.category(after)[0] == "M" or "\U0001f3fb" <= after <= "\U0001f3ff":
        return False
    if "\U000e0020" <= after <= "\U000e007f" or "\u1160" <= after <= "\u11ff":
        return False
    if not (_flag(before) and _flag(after)):
        return True
    start = index
    while start and _flag(text[start - 1]):
        start -= 1
    return (index - start) % 2 == 0


def _flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
