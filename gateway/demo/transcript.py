"""What the demo prints: plain aligned lines, in colour only on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

WIDTH = 118
_WHO, _NUMBER, _CHANNEL = 9, 5, 10
_INDENT = 2 + _WHO + _NUMBER + _CHANNEL
_COLOURS = {"chapter": "1", "customer": "36", "agent": "32", "refused": "31", "receipt": "2", "bot": "32"}


class Transcript:
    """Writes the story line by line: who, which ticket, which channel, what."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._coloured = out.isatty()

    def heading(self, words: str) -> None:
        """Lines on their own."""
        lines = [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in words.splitlines()]
        self._write("\n" + "\n".join(lines) + "\n")

    def chapter(self, title: str) -> None:
        """What comes now."""
        self._write("\n" + self._paint("chapter", title) + "\n")

    def says(self, who: str, number: int | None, channel: str, words: str) -> None:
        """One line of the story; `number` is the ticket's."""
        ticket = f"#{number}" if number is not None else ""
        head = f"  {who:<{_WHO}}{ticket:<{_NUMBER}}{channel:<{_CHANNEL - 1}} "
        first, *more = textwrap.wrap(
            words, WIDTH, initial_indent=head, subsequent_indent=" " * _INDENT, break_on_hyphens=False
        ) or [head]
        self._write("\n".join([self._paint(who, head) + first[len(head) :], *more]) + "\n")

    def refused(self, number: int | None, channel: str, verdict: Mapping[str, Any]) -> None:
        """A reply that did not leave: the rule, its reason, the way out, and where the rule comes from."""
        self.says("refused", number, channel, f"by the rule {verdict['rule']}: {verdict['reason']}")
        for name in ("remedy", "source"):
            if words := verdict.get(name):
                self.says("", None, "", f"{name}: {words}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as they must be."""
        cells = [tuple(header), *(tuple(row) for row in rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self._write(f"  {line}\n")

    def _paint(self, kind: str, words: str) -> str:
        colour = _COLOURS.get(kind)
        return f"\x1b[{colour}m{words}\x1b[0m" if self._coloured and colour else words

    def _write(self, words: str) -> None:
        self._out.write(words)
        self._out.flush()
