"""What numbers an order takes: the same on the command line, behind its socket and over the API."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """From `low` to `high`, both included; whole numbers unless `fractions`."""

    low: float
    high: float
    fractions: bool = False

    def read(self, given: object) -> float:
        """The number. Raises `ValueError` with a sentence."""
        kind = "number" if self.fractions else "whole number"
        words = f"must be a {kind} from {self.low:g} to {int(self.high)}"
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise ValueError(words)
        try:
            number = float(given) if self.fractions else int(given)
        except (ValueError, OverflowError):
            raise ValueError(words) from None
        if not self.low <= number <= self.high or (isinstance(given, float) and number != given):
            raise ValueError(words)  # not a number is not within them either
        return number

    def nearest(self, number: float) -> int:
        """The whole number within them that is nearest to one kept from before there were bounds."""
        return int(min(max(number, self.low), self.high))


PER_SECOND = Bounds(1, 1000)
"""Dead letters a job handles in a second."""
AGE_S = Bounds(0, 10**9)
SUPPRESSED_DAYS = Bounds(0.001, 36_500, fractions=True)
LISTED = Bounds(0, 100_000)
"""Merges and conflicts that are listed."""


def argument(bounds: Bounds) -> Callable[[str], float]:
    """The type of an option that takes what is within them."""

    def read(given: str) -> float:
        try:
            return bounds.read(given)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
