"""Rows out of a file of contacts, one at a time: what can be read of each, or what is wrong with it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

CELL_MAX = 131_072  # characters, what the csv module takes by default
LINE_MAX = 2**20  # characters
COLUMNS_MAX = 1000


class BrokenFile(Exception):
    """A file that cannot be used as a whole: the `field`, and a sentence that names the row where there is one."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field, self.detail = field, detail


class RowProblem(Exception):
    """A row that cannot be used."""

    def __init__(self, code: str, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.code, self.field, self.reason = code, field, reason


class Row(msgspec.Struct, frozen=True):
    """A row by its number in the file (the header of a CSV is row 1), or what is wrong with it."""

    number: int
    values: dict[str, Any] = {}
    problem: RowProblem | None = None


def opened(path: Path) -> TextIO:
    """The file as text. Raises `BrokenFile` for what is surely not UTF-8."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BrokenFile("file", "it is UTF-16; UTF-8 is wanted, with or without a byte order mark")
    return path.open("r", encoding="utf-8-sig", newline="")


def csv_rows(file: TextIO) -> Iterator[Row]:
    """The header as row 1 (a list under the name ""), then every row by its column's header.

    Raises `BrokenFile` where the file's structure is broken: rows after that could not be told apart.
    """
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True)
    number, header = 1, None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise BrokenFile(_column_at(lines.text, header), f"row {number}: {_words(error)}") from None
        except UnicodeDecodeError:
            raise BrokenFile("file", f"row {number}: not UTF-8") from None
        lines.begin()
        if header is None:
            header = _header(cells)
            yield Row(1, {"": header})
        elif cells:
            yield _csv_row(number, header, cells)
        number += 1
    if header is None:
        raise BrokenFile("file", "it is empty: the first row must name the columns")


def _words(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return f"a cell of more than {CELL_MAX} characters"
    return {"unexpected end of data": "a quoted cell is never closed"}.get(text, text)


def _header(cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(header) == 1 and ";" in header[0]:
        raise BrokenFile("file", "the columns are separated by semicolons; commas are wanted")
    if len(header) > COLUMNS_MAX:
        raise BrokenFile("file", f"more than {COLUMNS_MAX} columns")
    for index, name in enumerate(header):
        if not name:
            raise BrokenFile("file", f"row 1: column {index + 1} has no name")
        if name in header[:index]:
            raise BrokenFile(name[:100], "row 1: the column stands twice")
    return header


def _csv_row(number: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(header):
        reason = f"{len(cells)} cells where the header has {len(header)}"
        return Row(number, problem=RowProblem("broken_row", "", reason))
    for name, cell in zip(header, cells, strict=True):
        if "\0" in cell:
            return Row(number, problem=RowProblem("invalid_value", name, "must not contain NUL"))
    return Row(number, dict(zip(header, cells, strict=True)))


def json_rows(file: TextIO) -> Iterator[Row]:
    """One object for each line; blank lines are passed over. A line that is no object is a broken row."""
    number = 0
    lines = _Lines(file)
    while True:
        number += 1
        try:
            line = next(lines)
        except StopIteration:
            return
        except csv.Error:
            raise BrokenFile("file", f"row {number}: a line of more than {LINE_MAX} characters") from None
        except UnicodeDecodeError:
            raise BrokenFile("file", f"row {number}: not UTF-8") from None
        lines.begin()
        if line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> Row:
    try:
        value = json.loads(line, object_pairs_hook=_object, parse_constant=_no_number)
        if not isinstance(value, dict):
            raise RowProblem("broken_row", "", "not an object")
        _check(value, "")
    except RowProblem as problem:
        return Row(number, problem=problem)
    except (ValueError, RecursionError) as error:
        return Row(number, problem=RowProblem("broken_row", "", f"not JSON: {str(error)[:100]}"))
    return Row(number, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RowProblem("broken_row", name[:100], "the name stands twice")
        found[name] = value
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _check(value: Any, path: str, depth: int = 0) -> None:
    """Refuse what no store takes: NUL, halves of surrogate pairs, infinite numbers, nesting without end."""
    if depth > 8:
        raise RowProblem("invalid_value", path, "nested too deeply")
    if isinstance(value, str):
        if "\0" in value:
            raise RowProblem("invalid_value", path, "must not contain NUL")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise RowProblem("invalid_value", path, "half of a surrogate pair")
        if len(value) > CELL_MAX:
            raise RowProblem("invalid_value", path, f"longer than {CELL_MAX} characters")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RowProblem("invalid_value", path, "not a number")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check(name, path, depth + 1)
            _check(item, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth + 1)


class _Lines:
    """The lines of a file, none endlessly long; `text` is what was read of the row at hand."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._read: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._read)

    def begin(self) -> None:
        """A row is complete: the next one begins."""
        self._read.clear()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LINE_MAX + 1)
        if not line:
            raise StopIteration
        self._read.append(line)
        if len(line) > LINE_MAX:
            raise csv.Error("field larger than a line may be")
        return line


def _column_at(text: str, header: Sequence[str] | None) -> str:
    """The column a broken row ends in, as far as it can be told."""
    if header is None:
        return "file"
    column, size, quoted = 0, 0, False
    for char in text:
        size += 1
        if size > CELL_MAX:
            break
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            column, size = column + 1, 0
    return header[min(column, len(header) - 1)]
