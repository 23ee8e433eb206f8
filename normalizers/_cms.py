"""The mail inside an opaque S/MIME signature (`smime-type=signed-data`). Sources: RFC 5652 (5.1), X.690 (8.1).

The signature itself is not checked: who a mail is from is the mail server's word, as with all other mail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
DEPTH_MAX = 12
ELEMENTS_MAX = 100_000
_SEQUENCE, _EXPLICIT, _OID, _OCTETS, _OCTETS_IN_PIECES = 0x30, 0xA0, 0x06, 0x04, 0x24


class _Element(NamedTuple):
    tag: int
    start: int
    stop: int
    after: int


class _Broken(Exception):
    """Not the structure it should be."""


def signed_content(raw: bytes) -> bytes | None:
    """What was signed; None for anything else (encrypted, signed apart, broken)."""
    try:
        return _Reader(raw).content()
    except (_Broken, IndexError):
        return None


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw, self._left = raw, ELEMENTS_MAX

    def content(self) -> bytes:
        """ContentInfo { type, [0] SignedData { version, algorithms, { type, [0] OCTET STRING } } }."""
        kind, wrapped = self._some(self._element(0, DEPTH_MAX), 2)
        if kind.tag != _OID or self._raw[kind.start : kind.stop] != SIGNED_DATA:
            raise _Broken
        (signed,) = self._some(wrapped, 1)
        _version, _algorithms, inner = self._some(signed, 3)
        _type, held = self._some(inner, 2)
        (octets,) = self._some(held, 1)
        return b"".join(self._octets(octets, 3))

    def _octets(self, element: _Element, depth: int) -> Iterator[bytes]:
        if element.tag == _OCTETS:
            yield self._raw[element.start : element.stop]
        elif element.tag == _OCTETS_IN_PIECES and depth:
            for piece in self._inside(element):
                yield from self._octets(piece, depth - 1)
        else:
            raise _Broken

    def _some(self, element: _Element, count: int) -> list[_Element]:
        """The first elements of a constructed one."""
        found: list[_Element] = []
        for inner in self._inside(element):
            found.append(inner)
            if len(found) == count:
                return found
        raise _Broken

    def _inside(self, element: _Element) -> Iterator[_Element]:
        if not element.tag & 0x20:
            raise _Broken
        position = element.start
        while position < element.stop:
            inner = self._element(position, DEPTH_MAX)
            yield inner
            position = inner.after

    def _element(self, position: int, depth: int) -> _Element:
        self._left -= 1
        if not depth or self._left < 0:
            raise _Broken
        tag, size = self._raw[position], self._raw[position + 1]
        if tag & 0x1F == 0x1F:
            raise _Broken  # tags of several bytes stand in none of these
        start = position + 2
        if size == 0x80:  # until an end mark: how streams are written
            inner = start
            while self._raw[inner : inner + 2] != b"\0\0":
                inner = self._element(inner, depth - 1).after
            return _Element(tag, start, inner, inner + 2)
        if size > 0x80:
            width = size & 0x7F
            if width > 8:
                raise _Broken
            size = int.from_bytes(self._raw[start : start + width], "big")
            start += width
        if start + size > len(self._raw):
            raise _Broken
        return _Element(tag, start, start + size, start + size)
