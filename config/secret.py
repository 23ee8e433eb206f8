"""A secret that cannot be printed."""

from __future__ import annotations


class Secret:
    """Text that shows itself only to `reveal()`: repr, str, format, pickle and comparison give nothing away."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: to be used at once, never kept in a message or a log."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")


Secrets = tuple[Secret, ...]
"""One or more that are valid side by side during a rotation; the first is the newest."""
