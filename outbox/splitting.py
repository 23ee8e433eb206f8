"""A long text in several messages: cut where a reader would cut it, and never inside what belongs together.

Best at a paragraph, then a line, a sentence, a blank; where there is none, between two characters as a reader sees them
(grapheme clusters, UAX #29). An address of the web stays whole if it fits into one message at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import regex

from adapters import Limits
from outbox import measure

_CLOSING = r"[\"'”’»)\]」』）】]"
# (where a cut may be, the least share of the room that must be filled for it), the best kind first.
_BREAKS: tuple[tuple[regex.Pattern[str], float], ...] = (
    (regex.compile(r"\r?\n[^\S\n]*\n"), 0.5),
    (regex.compile(r"\r?\n"), 0.5),
    (regex.compile(rf"(?<=[.!?…]{_CLOSING}*)\s+|(?<=[。！？｡]{_CLOSING}*)(?!{_CLOSING}|\s)"), 0.5),
    (regex.compile(r"\s+"), 0.25),
)
_GRAPHEME = regex.compile(r"\X")
_URL = regex.compile(r"(?:https?://|www\.)[^\s<>\"“”。！？、，]+", regex.IGNORECASE)
_MOST_DIGITS = 6

Fits = Callable[[str], bool]


def split(text: str, limits: Limits, *, counter: bool = False) -> tuple[str, ...]:
    """The text in parts that each fit. Blanks around a cut are dropped; nothing else is.

    `counter` puts "(1/3) " before each part. A single character larger than a whole message is torn, between the code
    points it is made of; a code point never is.
    """
    if not counter:
        return tuple(_parts(text, lambda part: measure.fits(part, limits), limits.text_max))
    for digits in range(1, _MOST_DIGITS):
        longest = f"({'9' * digits}/{'9' * digits}) "
        room = limits.text_max - len(longest)
        parts = list(_parts(text, lambda part, mark=longest: measure.fits(mark + part, limits), max(room, 1)))  # type: ignore[misc]
        if len(parts) < 10**digits:
            return tuple(f"({number}/{len(parts)}) {part}" for number, part in enumerate(parts, 1))
    return split(text, limits)  # a million messages need no numbers


def _parts(text: str, fits: Fits, most: int) -> Iterator[str]:
    start = _skip_blank(text, 0)
    stop = len(text.rstrip())
    while start < stop:
        end = _longest(text, start, stop, fits, max(most, 1))
        if end < stop:
            end = _cut(text, start, end, fits)
        yield text[start:end].rstrip()
        start = _skip_blank(text, end)


def _longest(text: str, start: int, stop: int, fits: Fits, most: int) -> int:
    """The end of the longest piece that fits; at least one code point."""
    step = most
    while start + step < stop and fits(text[start : start + step]):
        step *= 2
    low, high = start + 1, min(start + step, stop)
    if fits(text[start:high]):
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[start:middle]) else (low, middle)
    return low


def _cut(text: str, start: int, end: int, fits: Fits) -> int:
    """Where to cut at or before `end`. The piece fits whatever is chosen, even where a shorter text counts for more."""
    bounds = [found.start() for found in _GRAPHEME.finditer(text, start, end + 1)]
    possible = {bound for bound in bounds if start < bound <= end}
    for pattern, share in _BREAKS:
        least = start + (end - start) * share
        cuts = [found.start() for found in pattern.finditer(text, start, end + 1) if found.start() >= least]
        for cut in reversed(cuts):
            if cut in possible and fits(text[start:cut]):
                return cut
    for cut in sorted(possible - _inside_urls(text, start, end, fits), reverse=True):
        if fits(text[start:cut]):
            return cut
    return end


def _inside_urls(text: str, start: int, end: int, fits: Fits) -> set[int]:
    found: set[int] = set()
    for url in _URL.finditer(text, start):
        if url.start() > end:
            break
        if url.start() > start or fits(url[0]):
            found.update(range(url.start() + 1, min(url.end(), end + 1)))
    return found


def _skip_blank(text: str, start: int) -> int:
    """The next character that is not blank; a blank that a mark sits on is one character with it."""
    end = start
    while end < len(text) and text[end].isspace():
        end += 1
    while end > start and (whole := _GRAPHEME.match(text, end - 1)) is not None and whole.end() > end:
        end -= 1
    return end
