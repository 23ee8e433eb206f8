"""Values as the cells of a CSV file, and back. No cell begins as a formula. Pure.

A program that opens the file may run what begins with = + - @, a tab, a carriage return or NUL (OWASP ASVS 5.0,
1.2.10): such a cell gets ' before it. One that already looks so behind its quotes gets one more, so that reading takes
off exactly what writing put on.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r\0]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\0]")


def guarded(text: str) -> str:
    """The text as a cell that is no formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def plain(cell: str) -> str:
    """The text of a cell: what `guarded` was given."""
    return cell[1:] if _GUARDED.match(cell) else cell


def cell_of(value: Any) -> str:
    """A value as a cell. Nothing, and no values, is empty; several, or one that looks like several, are JSON."""
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        one = value[0] if len(value) == 1 else None
        lone = isinstance(one, str) and one and not one.startswith("[")
        return guarded(str(one) if lone else json.dumps(value, ensure_ascii=False))
    return guarded(str(value))


def values_of(cell: str) -> list[Any]:
    """The values of a cell that may have several. Raises `ValueError` for JSON that is no list of texts."""
    text = plain(cell)
    if not text:
        return []
    if not text.startswith("["):
        return [text]
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise ValueError("not a list of texts")
    return found


def line_of(cells: Iterable[str]) -> str:
    """One line of a CSV file (RFC 4180)."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\r\n").writerow(cells)
    return target.getvalue()
