"""How long a post is: X weighs it. Source: X, Counting characters (twitter-text configuration v3), 2026-08."""

from __future__ import annotations

import re
import unicodedata

LINK_WEIGHT = 23  # of every link, whatever its length
_LIGHT = ((0x0000, 0x10FF), (0x2000, 0x200D), (0x2010, 0x201F), (0x2032, 0x2037))  # code points that weigh 1, not 2

_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]\ufe0f?[\U0001f3fb-\U0001f3ff]?"
)
_EMOJI = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}|[0-9#*]\ufe0f?\u20e3"
    rf"|{_PICTURE}(?:\u200d{_PICTURE})*[\U000e0020-\U000e007f]*"
)  # flags, key caps, and pictures with tone, joined pictures and tags: each weighs 2

# The platform knows which endings are real. Here two letters and more count: rather too heavy than refused over there.
_NAME = "a-z0-9\u00c0-\u024f"  # of a host; other scripts end a link, as they do for X
_REST = r"!-'*-~\u00a1-\u024f\u0400-\u04ff"  # of an address, but brackets: those belong to it in pairs
_LINK = re.compile(
    rf"(?<![{_NAME}@#$./_-])(?:https?://)?(?:[{_NAME}](?:[{_NAME}_-]{{0,61}}[{_NAME}])?\.){{1,10}}[a-z]{{2,24}}"
    rf"(?![{_NAME}@_-])(?::\d{{1,5}})?(?:[/?](?:(?:[{_REST}]|\([{_REST}]*\))*(?:[{_NAME}\u0400-\u04ff/=#&%+~_-]"
    rf"|\([{_REST}]*\)))?)?",
    re.IGNORECASE,
)
_CASHTAG = re.compile(r"(?<![\w$])\$[A-Za-z]{1,6}(?![\w$])")


def weight(text: str) -> int:
    """The weight of a post's text. Linear in its length, whatever it holds."""
    words, links = _LINK.subn("", unicodedata.normalize("NFC", text.replace("\r\n", "\n")))
    words, emoji = _EMOJI.subn("", words)
    return links * LINK_WEIGHT + emoji * 2 + sum(_weight(char) for char in words)


def _weight(char: str) -> int:
    point = ord(char)
    return 1 if any(low <= point <= high for low, high in _LIGHT) else 2


def cashtags(text: str) -> int:
    """How many stock symbols ($ABC) the text names."""
    return len(_CASHTAG.findall(text))
