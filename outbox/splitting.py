"""A long text in several messages: cut where a reader would cut it, and never inside what belongs together.

Best at a paragraph, then a line, a sentence, a blank; where there is none, between two characters as a reader sees them
(grapheme clusters, UAX #29). An address of the web stays whole if it fits into one message at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

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
_PIECE = regex.compile(
    r"(?P<url>(?:https?://|www\.)[^\s<>\"“”。！？、，]+)|\X",
    regex.IGNORECASE,
)
_LONG = 4  # shorter than any address
_MOST_DIGITS = 6
_AT_ONCE = 256  # pieces measured together at first, then twice as many

Fits = Callable[[str], bool]


def split(text: str, limits: Limits, *, counter: bool = False) -> tuple[str, ...]:
    """The text in parts that each fit. Blanks around a cut are dropped; nothing else is.

    `counter` puts "(1/3) " before each part. A single character larger than a whole message is torn, between the code
    points it is made of; a code point never is.
    """
    if not counter:
        return tuple(_parts(text, lambda part: measure.fits(part, limits)))
    for digits in range(1, _MOST_DIGITS):
        longest = f"({'9' * digits}/{'9' * digits}) "
        parts = list(_parts(text, lambda part, mark=longest: measure.fits(mark + part, limits)))  # type: ignore[misc]
        if len(parts) < 10**digits:
            return tuple(f"({number}/{len(parts)}) {part}" for number, part in enumerate(parts, 1))
    return split(text, limits)  # a million messages need no numbers


def _parts(text: str, fits: Fits) -> Iterator[str]:
    start = _skip_blank(text, 0)
    stop = len(text.rstrip())
    while start < stop:
        ends = _fitting(text, start, stop, fits)
        end = ends[-1] if ends[-1] == stop else _cut(text, start, ends, fits)
        yield text[start:end].rstrip()
        start = _skip_blank(text, end)


def _fitting(text: str, start: int, stop: int, fits: Fits) -> list[int]:
    """Where the pieces that stay whole end, as far as they fit together; at least one code point.

    Measured at those ends only: half a character or half an address may count for more than the whole.
    """
    pieces, found = _pieces(text, start, stop, fits), list[int]()
    while True:
        more = list(islice(pieces, max(len(found), _AT_ONCE)))
        found += more
        if not more or not fits(text[start : found[-1]]):
            break
    if fits(text[start : found[-1]]):
        return found
    low, high = 0, len(found) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(text[start : found[middle]]) else (low, middle)
    return found[:low] or [_torn(text, start, found[0], fits)]


def _pieces(text: str, start: int, stop: int, fits: Fits) -> Iterator[int]:
    """The ends of characters as a reader sees them, and of addresses that fit into a message."""
    for piece in _PIECE.finditer(text, start, stop):
        begin, end = piece.span()
        if end - begin > _LONG and piece.lastgroup == "url" and not fits(piece[0]):
            yield from (part.end() for part in _GRAPHEME.finditer(text, begin, end))
        else:
            yield end


def _torn(text: str, start: int, stop: int, fits: Fits) -> int:
    """The end of what fits of a single character that is larger than a message; at least one code point."""
    return next((end for end in range(stop - 1, start, -1) if fits(text[start:end])), start + 1)


def _cut(text: str, start: int, ends: list[int], fits: Fits) -> int:
    """The best place for a cut among `ends`. What is before it fits, even where a shorter text counts for more."""
    possible, end = set(ends), ends[-1]
    for pattern, share in _BREAKS:
        least = start + (end - start) * share
        cuts = [found.start() for found in pattern.finditer(text, start, end + 1) if found.start() >= least]
        for cut in reversed(cuts):
            if cut > start and cut in possible and fits(text[start:cut].rstrip()):
                return cut
    return next((cut for cut in reversed(ends) if fits(text[start:cut].rstrip())), end)


def _skip_blank(text: str, start: int) -> int:
    """The next character that is not blank; a blank that a mark sits on is one character with it."""
    end = start
    while end < len(text) and text[end].isspace():
        end += 1
    while end > start and (whole := _GRAPHEME.match(text, end - 1)) is not None and whole.end() > end:
        end -= 1
    return end
