"""Japanese mail as Microsoft's programs and their imitators write it: ISO-2022-JP with the characters of Windows.

Circled digits, ㈱ and many names (髙) stand in rows of the table that the standard leaves empty, so that Python's
codecs refuse the whole text. Here the rows are read by Windows' own table. Sources: RFC 1468; Microsoft, code pages
50220 and 932.
"""

from __future__ import annotations

import re

_SHIFT = re.compile(rb"\x1b(\$[@B]|\([BIJ])|\n")
_FOREIGN = re.compile(rb"\x1b(?!\$[@B]|\([BIJ])")  # other tables: not Windows'


def windows_japanese(raw: bytes) -> str | None:
    """The text, None where it is nothing of the kind. What is broken in it is replaced."""
    if _FOREIGN.search(raw) or not re.search(rb"\x1b\$[@B]", raw):
        return None
    out: list[str] = []
    mode, position = b"(B", 0
    for shift in _SHIFT.finditer(raw):
        out.append(_run(raw[position : shift.start()], mode))
        mode = shift[1] or b"(B"  # a new line begins in ASCII
        out.append("" if shift[1] else "\n")
        position = shift.end()
    out.append(_run(raw[position:], mode))
    return "".join(out)


def _run(raw: bytes, mode: bytes) -> str:
    if mode in (b"(B", b"(J"):
        return raw.decode("ascii", "replace")
    if mode == b"(I":  # katakana of half width: one byte each
        return bytes(byte | 0x80 for byte in raw).decode("cp932", "replace")
    pairs = bytearray()
    for row, cell in zip(raw[::2], raw[1::2], strict=False):
        lead = (row - 0x21) // 2 + 0x81
        pairs.append(lead if lead <= 0x9F else lead + 0x40)
        pairs.append((cell + 0x1F + (cell >= 0x60)) if row % 2 else cell + 0x7E)
    return pairs.decode("cp932", "replace") + ("\ufffd" if len(raw) % 2 else "")
