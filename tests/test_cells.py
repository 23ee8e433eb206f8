"""Cells of a CSV file: none begins as a formula, and reading gives back what was written."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transfer.cells import cell_of, guarded, line_of, plain, values_of

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
SHARP = st.sampled_from(["=", "+", "-", "@", "\t", "\r", "'", "''", "'=", '"', ",", "\n", "["])
NASTY = st.builds(str.__add__, SHARP, TEXT) | TEXT
STARTS = tuple("=+-@\t\r\0")


@given(NASTY)
def test_no_cell_begins_as_a_formula(text: str) -> None:
    assert not cell_of(text).startswith(STARTS)
    assert not cell_of([text, text]).startswith(STARTS)


@given(NASTY)
def test_reading_takes_off_what_writing_put_on(text: str) -> None:
    assert plain(guarded(text)) == text


@given(st.lists(NASTY, max_size=4))
def test_several_values_come_back(values: list[str]) -> None:
    assert values_of(cell_of(values)) == values


@given(st.lists(NASTY, min_size=1, max_size=5).filter(lambda cells: cells != [""]))
def test_lines_are_read_back_by_any_reader(cells: list[str]) -> None:
    line = line_of(guarded(cell) for cell in cells)
    (row,) = csv.reader(io.StringIO(line, newline=""), strict=True)
    assert [plain(cell) for cell in row] == cells


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"), ("+4915112345678", "'+4915112345678"), ("'=x", "''=x"),
        ("O'Brien", "O'Brien"), ("'tis", "'tis"), (True, "true"), (None, ""), ([], ""), (["a"], "a"),
        (["a", "b"], '["a", "b"]'), (["[a"], '["[a"]'), ([""], '[""]'), (["=a"], "'=a"), (7, "7"),
    ],
)  # fmt: skip
def test_cells(value: object, cell: str) -> None:
    assert cell_of(value) == cell
