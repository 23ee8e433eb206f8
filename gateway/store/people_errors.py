"""What is wrong with a change of a contact."""

from __future__ import annotations


class PeopleError(Exception):
    """A change of a contact that cannot be made: a stable `code`, the `field` it concerns, and a sentence."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.field, self.detail = code, field, detail
