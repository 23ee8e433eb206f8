"""winmail.dat: what Outlook wraps files in when it believes to talk to Exchange. Source: [MS-OXTNEF], 2.1 and 2.2.

One pass over the bytes, each looked at once: the library for this copies the rest for every object and believes counts
of billions. Only what a person needs is taken: the files with their names, and the text where the mail has no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import unpack_from

from normalizers._mime_text import decode_bytes

SIGNATURE = b"\x78\x9f\x3e\x22"
FILES_MAX = 500
OBJECTS_MAX = 100_000
_LONG_NAME, _MEDIA_TYPE, _CONTENT, _TEXT, _HTML = 0x3707, 0x370E, 0x3701, 0x1000, 0x1013  # properties
_FIXED = {0x02: 4, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8, 0x48: 16}
_TEXTS, _BYTES = {0x1E: "cp1252", 0x1F: "utf-16-le"}, {0x0D, 0x102}


class _Object(IntEnum):
    FILE_BEGINS = 0x9002
    TITLE = 0x8010
    CONTENT = 0x800F
    FILE_PROPERTIES = 0x9005
    BODY = 0x800C
    PROPERTIES = 0x9003


@dataclass(slots=True)
class WrappedFile:
    """One file in the envelope."""

    name: str = ""
    media_type: str = ""
    content: bytes = b""


@dataclass(slots=True)
class Unwrapped:
    """What is in a winmail.dat."""

    files: list[WrappedFile]
    text: str = ""
    html: bytes = b""


def unwrap(raw: bytes) -> Unwrapped | None:
    """The files and texts, as far as the bytes make sense; None when it is no winmail.dat."""
    if not raw.startswith(SIGNATURE):
        return None
    found = Unwrapped([])
    for name, content in _objects(raw):
        match name:
            case _Object.FILE_BEGINS if len(found.files) < FILES_MAX:
                found.files.append(WrappedFile())
            case _Object.TITLE if found.files:
                found.files[-1].name = found.files[-1].name or decode_bytes(content.split(b"\0")[0], "cp1252")
            case _Object.CONTENT if found.files:
                found.files[-1].content = content
            case _Object.FILE_PROPERTIES if found.files:
                told = dict(_properties(content, {_LONG_NAME, _MEDIA_TYPE, _CONTENT}))
                found.files[-1].name = _text(told.get(_LONG_NAME)) or found.files[-1].name
                found.files[-1].media_type = _text(told.get(_MEDIA_TYPE)).lower()
                found.files[-1].content = found.files[-1].content or _bytes(told.get(_CONTENT))
            case _Object.BODY:
                found.text = decode_bytes(content.rstrip(b"\0"), "cp1252")
            case _Object.PROPERTIES:
                told = dict(_properties(content, {_TEXT, _HTML}))
                found.text = _text(told.get(_TEXT)) or found.text
                found.html = _bytes(told.get(_HTML)) or _text(told.get(_HTML)).encode("utf-8", "replace")
            case _:
                pass
    found.files = [file for file in found.files if file.content]
    return found


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else ""


def _bytes(value: str | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def _objects(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(name, content) of each object: level, name, type, length, content, checksum."""
    position = 6
    for _ in range(OBJECTS_MAX):
        if position + 11 > len(raw):
            return
        name, _type, length = unpack_from("<HHI", raw, position + 1)
        start = position + 9
        yield name, raw[start : start + length]
        position = start + length + 2


def _properties(raw: bytes, wanted: set[int]) -> Iterator[tuple[int, str | bytes]]:
    """The wanted MAPI properties. What does not fit ends the list."""
    position = 4
    while position + 4 <= len(raw):
        kind, name = unpack_from("<HH", raw, position)
        position += 4
        if name >= 0x8000:
            position = _past_name(raw, position)
        kind, many = kind & 0xEFFF, bool(kind & 0x1000)
        count = 1
        if many or kind in _TEXTS or kind in _BYTES:
            if position + 4 > len(raw):
                return
            (count,) = unpack_from("<I", raw, position)
            position += 4
        if kind in _FIXED:
            position += _FIXED[kind] * count
        elif kind in _TEXTS or kind in _BYTES:
            for _ in range(min(count, len(raw))):
                if position + 4 > len(raw):
                    return
                (length,) = unpack_from("<I", raw, position)
                value = raw[position + 4 : position + 4 + length]
                if name in wanted:
                    codec = _TEXTS.get(kind)
                    yield name, value if codec is None else value.decode(codec, "replace").rstrip("\0")
                position += 4 + length + -length % 4
        elif kind != 0x01:
            return


def _past_name(raw: bytes, position: int) -> int:
    """Behind the name of a named property: a set's id, then a number or a text."""
    if position + 24 > len(raw):
        return len(raw)
    kind, length = unpack_from("<II", raw, position + 16)
    return position + 24 + (length + -length % 4 if kind else 0)
