"""How long a text is in a channel's own unit, and whether there is anything to see of it.

SMS leaves composed (NFC), so it is counted composed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import regex

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

# Not blank, no control or format character, nothing that is shown as nothing (joiners and selectors of emoji, fillers).
_SEEN = regex.compile(r"[^\s\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]")


def visible(text: str) -> bool:
    """Whether a reader sees anything of the text."""
    return "!" <= text[:1] <= "~" or _SEEN.search(text) is not None


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
