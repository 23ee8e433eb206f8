"""Raw mail to a tree of parts, whatever was sent: linear, bounded, never raising.

The standard library's parser is not used for the tree: it recurses for nested parts, tests every open boundary on every
line (10 MB of blank lines in 50 open multiparts take a minute and a half), and loses bodies whose boundary never comes.
Here parts are slices of the raw bytes, decoded on demand. Source: RFC 2045, 2046.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from normalizers._mime_text import base64_bytes, decode_bytes, header_text, parameters, safe_filename

PARTS_MAX = 1000
DEPTH_MAX = 50
HEADER_BLOCK_MAX = 256 * 1024  # bytes
HEADERS_MAX = 1000  # of one part
ALL_HEADERS_MAX = 20_000
CANDIDATES_MAX = 100_000  # places in one mail that look like a boundary
UU_LINES_MAX = 1_000_000
FOOTER_MAX = 64 * 1024  # bytes at the end in which a list's footer is looked for
SCAN_MAX = 512 * 2**20  # bytes searched for boundaries, over all levels

_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")
_BLANK = re.compile(rb"\r?\n(?=\r?\n)")
_BASE64_LINES = re.compile(rb"\s*+((?:[A-Za-z0-9+/]++[ \t]*+\r?\n)*+(?:[A-Za-z0-9+/]*+={1,2}[ \t]*+(?:\r?\n|\Z))?+)")
_LONG_BASE64_LINE = re.compile(rb"^[A-Za-z0-9+/]{57,}={0,2}\r?$", re.MULTILINE)
_WORDS = re.compile(rb"\S[ \t]+\S")
_ANY_BOUNDARY = re.compile(rb"(?:\A|\n)--([!-~][ -~]{0,199}?)[ \t]*\r?(?=\n)")


@dataclass(frozen=True, slots=True)
class Headers:
    """The fields of one part in order; names are lower case, values one line, encoded words as they came."""

    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """The first value, or ""."""
        return next((value for key, value in self.fields if key == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self.fields if key == name)

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.fields)


@dataclass(slots=True)
class Part:
    """One part of a mail. `path` is its number ("1.2"; a mail of one part: "1"; the outermost multipart: "")."""

    path: str
    headers: Headers
    body: bytes  # as it came
    media_type: str
    params: dict[str, str]
    disposition: str = ""
    filename: str = ""
    children: list[Part] = field(default_factory=list)

    @property
    def content_id(self) -> str:
        return self.headers.get("content-id").strip().strip("<>").strip()[:998]

    @property
    def is_text(self) -> bool:
        return self.media_type in ("text/plain", "text/html")

    def walk(self) -> Iterator[Part]:
        """This part and all below, in order."""
        open_parts = [self]
        while open_parts:
            part = open_parts.pop()
            yield part
            open_parts.extend(reversed(part.children))

    def leaves(self) -> Iterator[Part]:
        return (part for part in self.walk() if not part.children)

    def decoded(self) -> bytes:
        """The content without its transfer encoding; never longer than what came."""
        match self.headers.get("content-transfer-encoding").split(";")[0].strip().strip("\"'").lower():
            case "base64":
                return base64_bytes(self.body[: len(self.body) - len(self.footer)])
            case "quoted-printable":
                return binascii.a2b_qp(self.body)
            case "x-uuencode" | "uuencode" | "x-uue" | "uue":
                return uudecoded(self.body)
            case _:
                return self.body

    @property
    def footer(self) -> bytes:
        """What a mailing list has written in plain below a text in base64; it is no part of what was sent."""
        encoding = self.headers.get("content-transfer-encoding").lower()
        if not self.is_text or "base64" not in encoding or not _WORDS.search(self.body, len(self.body) - FOOTER_MAX):
            return b""
        encoded = _BASE64_LINES.match(self.body)
        rest = self.body[encoded.end() :] if encoded is not None and encoded[1] else b""
        return rest if _WORDS.search(rest) and not _LONG_BASE64_LINE.search(rest) else b""

    def text(self, limit: int) -> str:
        """The decoded text, at most `limit` bytes of it, with plain line ends; a list's footer stands below it."""
        text = _plain_lines(self.decoded()[:limit], self.params.get("charset", ""))
        footer = _plain_lines(self.footer[:limit], "").strip()
        if footer and self.media_type == "text/html":
            return f"{text}<pre>{escape(footer)}</pre>"
        return f"{text.rstrip()}\n\n{footer}" if footer else text


def _plain_lines(raw: bytes, charset: str) -> str:
    return decode_bytes(raw, charset).replace("\r\n", "\n").replace("\r", "\n")


def parse(raw: bytes) -> Part:
    """The mail as a tree. Past the limits a part stays whole: nothing is lost, only not taken apart."""
    raw = raw.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if b"\n" not in raw[:HEADER_BLOCK_MAX]:
        raw = raw.replace(b"\r", b"\n")
    return _Parser().parse(raw)


def read_headers(raw: bytes, limit: int = HEADERS_MAX) -> tuple[Headers, int]:
    """The header block at the start of `raw`, and where the body begins.

    A line that is no header ends the block and belongs to the body, as if the blank line before it had been lost.
    """
    fields: list[tuple[str, str]] = []
    position = 0
    if raw.startswith((b"From ", b">From ")):  # a mailbox file's separator
        position = raw.find(b"\n") + 1 or len(raw)
    block = raw[: position + HEADER_BLOCK_MAX]
    while len(fields) < limit and (match := _FIELD.match(block, position)) is not None:
        fields.append((match[1].decode("ascii").lower(), header_text(match[2].strip())))
        position = match.end()
    if len(fields) >= limit or position >= HEADER_BLOCK_MAX:
        end = _BLANK.search(raw, max(position - 2, 0))
        position = end.end() if end is not None else len(raw)
    if raw[position : position + 2] == b"\r\n":
        return Headers(tuple(fields)), position + 2
    return Headers(tuple(fields)), position + (raw[position : position + 1] == b"\n")


class _Parser:
    def __init__(self) -> None:
        self.parts, self.headers, self.candidates, self.scanned = 0, 0, 0, 0

    def parse(self, raw: bytes) -> Part:
        root = self._part("", raw, "text/plain")
        open_parts = [(root, 0)]
        while open_parts:
            parent, depth = open_parts.pop(0)
            if not parent.media_type.startswith("multipart/") or depth >= DEPTH_MAX:
                continue
            default = "message/rfc822" if parent.media_type == "multipart/digest" else "text/plain"
            prefix = f"{parent.path}." if parent.path else ""
            for index, piece in enumerate(self._pieces(parent), 1):
                parent.children.append(self._part(f"{prefix}{index}", piece, default))
            if parent.children:
                parent.body = b""  # the children hold it
            open_parts.extend((child, depth + 1) for child in parent.children)
        if not root.children:
            root.path = "1"
        return root

    def _part(self, path: str, raw: bytes, default: str) -> Part:
        self.parts += 1
        headers, start = read_headers(raw, min(HEADERS_MAX, max(ALL_HEADERS_MAX - self.headers, 20)))
        self.headers += len(headers.fields)
        media_type, params = parameters(headers.get("content-type"))
        if not re.fullmatch(r"[!#$&^_.+a-z0-9-]{1,100}/[!#$&^_.+a-z0-9-]{1,100}", media_type):
            media_type = {"text": "text/plain", "html": "text/html"}.get(media_type, default)
        disposition, more = parameters(headers.get("content-disposition"))
        filename = safe_filename(more.get("filename") or params.get("name", ""))
        return Part(path, headers, raw[start:], media_type, params, disposition, filename)

    def _pieces(self, part: Part) -> list[bytes]:
        """The raw parts between boundaries; none when no boundary is found, and then the body counts as text."""
        body = part.body
        self.scanned += len(body)
        boundary = part.params.get("boundary", "").rstrip().encode("utf-8", "replace")[:200]
        if not boundary or b"--" + boundary not in body:
            guessed = _ANY_BOUNDARY.search(body, 0, 64 * 1024)
            boundary = guessed[1].removesuffix(b"--") if guessed is not None else b""
        if not boundary or self.scanned > SCAN_MAX:
            return []
        pieces: list[bytes] = []
        start = -1
        for line_start, line_end, closing in self._boundaries(body, b"--" + boundary):
            if start >= 0:
                pieces.append(body[start : max(_before_line_end(body, line_start), start)])
                if self.parts + len(pieces) >= PARTS_MAX:
                    closing = True
            start = line_end
            if closing:
                return pieces
        if start >= 0:  # never closed
            pieces.append(body[start:])
        return pieces

    def _boundaries(self, body: bytes, needle: bytes) -> Iterator[tuple[int, int, bool]]:
        """(start, start of the next line, closing) of each boundary line."""
        position = -1
        while self.candidates < CANDIDATES_MAX:
            position = body.find(needle, position + 1)
            if position < 0:
                return
            self.candidates += 1
            if position and body[position - 1] != 0x0A:
                continue
            after = position + len(needle)
            newline = body.find(b"\n", after, after + 200)
            rest = body[after : newline if newline >= 0 else after + 200].strip()
            if rest in (b"", b"--"):
                yield position, newline + 1 if newline >= 0 else len(body), rest == b"--"


def _before_line_end(body: bytes, position: int) -> int:
    """The line end before a boundary belongs to the boundary."""
    position -= body[position - 1 : position] == b"\n"
    return position - (body[position - 1 : position] == b"\r")


def uudecoded(raw: bytes) -> bytes:
    """The file between `begin` and `end`."""
    out: list[bytes] = []
    inside = False
    for line in raw.split(b"\n", UU_LINES_MAX)[:UU_LINES_MAX]:
        if not inside:
            inside = line.startswith(b"begin ")
        elif line.strip() in (b"end", b"`", b""):
            break
        else:
            try:
                out.append(binascii.a2b_uu(line))
            except binascii.Error:  # a longer line than it says: cut it, as others do
                size = (((line[0] - 32) & 63) * 4 + 5) // 3
                try:
                    out.append(binascii.a2b_uu(line[:size]))
                except binascii.Error:
                    break
    return b"".join(out)
