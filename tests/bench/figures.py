"""Rounds in random order, and what came of them as a table of ratios."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Side = Callable[[], Awaitable[float]]
"""One measurement: work per second, or seconds per work; all sides of a comparison measure the same."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run may take."""

    rounds: int
    quick: bool
    order: random.Random


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was compared with what, the figures of all rounds, and what is aimed at."""

    name: str
    against: str
    values: Sequence[float]
    aim: str = ""
    unit: str = "x"


@dataclass(slots=True)
class Report:
    """What one benchmark found: lines of the table, and sentences about how it was measured."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def play(plan: Plan, sides: Mapping[str, Side]) -> dict[str, list[float]]:
    """Every side once a round, in another order each time; the figures by side, aligned by round."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(plan.rounds):
        names = list(sides)
        plan.order.shuffle(names)
        for name in names:
            found[name].append(await sides[name]())
    return found


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Figure by figure of the same round."""
    return [one / other for one, other in zip(over, under, strict=True) if other]


def render(report: Report) -> str:
    """The report as a table in plain text."""
    header = ("measured", "against", "median", "range", "aim")
    cells = [header, *(_cells(row) for row in report.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([f"== {report.title}", *lines, *(f"   {note}" for note in report.notes)])


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if not row.values:
        return (row.name, row.against, "-", "-", row.aim)
    low, high = min(row.values), max(row.values)
    return (row.name, row.against, _figure(median(row.values), row.unit), f"{_plain(low)}-{_plain(high)}", row.aim)


def _figure(value: float, unit: str) -> str:
    return f"{_plain(value)}x" if unit == "x" else f"{_plain(value)} {unit}"


def _plain(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
