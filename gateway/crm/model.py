"""What every CRM is asked and answers, whatever its own API looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class Key(msgspec.Struct, frozen=True):
    """An attribute a person may be known by, with our name of it, the CRM's, and the values we know."""

    attribute: str
    name: str
    values: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """What the CRM knows: how many records fit, and of the one that does its id and its fields."""

    matches: int
    id: str = ""
    fields: Mapping[str, Any] = {}


NOBODY = Answer(0)


class Question(msgspec.Struct, frozen=True):
    """Whom we ask about. `keys` are tried in order; `fields` is what we want to know; `about` is for the CRM's logs.

    `errand` and `at` (microseconds) stay the same over all tries.
    """

    errand: str
    at: int
    contact_id: str
    keys: Sequence[Key]
    fields: Sequence[str] = ()
    about: Mapping[str, Any] = {}


class Crm(Protocol):
    """A CRM. All of it may be called twice with the same question. Raises `adapters.SendError`."""

    async def lookup(self, question: Question) -> Answer:
        """The record that fits the first key that fits any."""
        ...

    async def write(self, question: Question, remote_id: str, changes: Mapping[str, str | None], by: str) -> Answer:
        """Change fields of a record, known by its id, else found by the keys. None: the field is emptied."""
        ...

    async def probe(self) -> None:
        """Whether we are let in."""
        ...
