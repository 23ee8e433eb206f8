"""How long a text is in a channel's own unit. SMS leaves composed (NFC), so it is counted composed."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from adapters import Limits
from adapters._segments import count as sms_count
from adapters._weighted import weight

_LENGTH: dict[str, Callable[[str], int]] = {
    "chars": len,
    "utf16": lambda text: len(text.encode("utf-16-le", "replace")) // 2,
    "bytes": lambda text: len(text.encode("utf-8", "replace")),
    "gsm": lambda text: len(_composed(text).encode("utf-16-le", "replace")) // 2,
    "weighted": weight,
}


def length(text: str, unit: str) -> int:
    """The length in `unit`. "gsm" counts as SMS platforms limit a request: in UTF-16 units."""
    return _LENGTH[unit](text)


def segments(text: str) -> int:
    """How many SMS segments the text takes."""
    return sms_count(_composed(text)).segments


def fits(text: str, limits: Limits) -> bool:
    """Whether the text may leave in one message."""
    if length(text, limits.text_unit) > limits.text_max:
        return False
    return limits.segment_max is None or segments(text) <= limits.segment_max


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
