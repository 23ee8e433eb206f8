"""What the simulated Twilio knows of WhatsApp: people, templates, the window, and the fields its webhooks add.

Sources: Twilio, "Twilio's request to your incoming message Webhook URL", error pages 63016, 63024 and 63028, 2026-09.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "whatsapp:"
WINDOW_S: Final = 24 * 3600


@dataclass(slots=True)
class Person:
    """Somebody on WhatsApp. `last_wrote`: Unix time of their last message to us, None before the first."""

    number: str  # E.164
    user_id: str
    name: str = "Mara Lind"
    hide_phone: bool = False  # a username holder whose number is kept back
    reads: bool = False  # read receipts are on
    last_wrote: float | None = None

    @property
    def address(self) -> str:
        """How webhooks name them."""
        return PREFIX + (self.user_id if self.hide_phone else self.number)

    def fields(self) -> dict[str, str]:
        """What each webhook of theirs tells of them."""
        known = {"ProfileName": self.name, "ExternalUserId": PREFIX + self.user_id, "From": self.address}
        return known | ({} if self.hide_phone else {"WaId": self.number.removeprefix("+")})


@dataclass(frozen=True, slots=True)
class ContentTemplate:
    """A template of the Content API, as WhatsApp has judged it."""

    sid: str
    variables: int = 0
    status: str = "approved"


@dataclass(slots=True)
class WhatsAppWorld:
    """The numbers, people and templates of one account on WhatsApp."""

    numbers: Sequence[str] = ()
    people: dict[str, Person] = field(default_factory=dict)  # by number and by user id
    templates: dict[str, ContentTemplate] = field(default_factory=dict)  # by sid

    def add(self, person: Person) -> Person:
        """Make somebody known by both ids."""
        self.people[PREFIX + person.number] = self.people[PREFIX + person.user_id] = person
        return person

    def refuse(self, to: str, sender: str, content: str, variables: str) -> int:
        """The code of the refusal at once, 0 for none."""
        if not (to.startswith(PREFIX + "+") and to[len(PREFIX) + 1 :].isdecimal()) and "." not in to:
            return 21211
        if sender and sender.removeprefix(PREFIX) not in self.numbers:
            return 63007
        return 21656 if content and _variables(variables) is None else 0

    def failure(self, to: str, content: str, variables: str, now: float) -> int:
        """The code by which delivery fails later, 0 for none: what WhatsApp itself decides."""
        person = self.people.get(to)
        if person is None:
            return 63024
        if not content:
            is_open = person.last_wrote is not None and now - person.last_wrote < WINDOW_S
            return 0 if is_open else 63016
        template = self.templates.get(content)
        if template is None:
            return 63027
        if template.status != "approved":
            return {"paused": 63041}.get(template.status, 63040)
        return 0 if len(_variables(variables) or {}) == template.variables else 63028


def _variables(given: str) -> Mapping[str, object] | None:
    """The variables by name, None when they are no JSON object."""
    try:
        found = json.loads(given) if given else {}
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
