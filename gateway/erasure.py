"""Erasing a person: what is theirs is looked for without holding anybody up, and then removed in one transaction."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable

import msgspec
from sqlalchemy import Connection

from gateway.core import Core
from gateway.ids import micros
from gateway.intake import events as stage
from gateway.store import dialect, erasure, merging
from gateway.store.erasure import Person, Receipt
from normalizers.model import (
    Address,
    CallEvent,
    ConsentChange,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    IdentityChange,
    InboundMessage,
    MessageDeleted,
    MessageEdited,
    Reaction,
)

log = logging.getLogger(__name__)


def concerns(payload: str, who: Person) -> bool:
    """Whether an event is the person's: they did it, it happened to them, or it is about a message of theirs.

    An event of somebody else that only mentions their number in a text is not theirs.
    """
    if payload == "{}" or not (any(value in payload for value in who.values) or _names_a_message(payload, who)):
        return False
    try:
        event = stage.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError):  # of another version, and it holds their address
        return True
    people = _people_of(event)
    if people is None:
        return True  # of a kind that names nobody in particular
    if any((address.kind, address.value) in who.addresses for address in people):
        return True
    target = getattr(event, "target", "")
    return bool(target) and target in who.refs


def _names_a_message(payload: str, who: Person) -> bool:
    start = payload.find('"target":"')
    return start >= 0 and payload[start + 10 : payload.find('"', start + 10)] in who.refs


def _people_of(event: Event) -> Iterable[Address] | None:
    match event:
        case InboundMessage() | Reaction():
            return event.sender.addresses
        case Echo():
            return event.recipient.addresses if event.recipient else ()
        case ConsentChange() | Engagement() | CallEvent():
            return event.person.addresses if event.person else ()
        case IdentityChange():
            return (*event.old, *event.new)
        case DeliveryUpdate():
            return (*event.learned, *((event.recipient,) if event.recipient else ()))
        case MessageEdited() | MessageDeleted():
            return ()
        case _:
            return None


async def erase(
    core: Core, contact_id: str, deleted_by: str, check: Callable[[Connection], object] = lambda connection: None
) -> Receipt:
    """Remove a person with everything of theirs, files too; what was removed. `check` has the last word, by raising,
    when nobody can change any more whose the contact is. Raises `PeopleError` "not_found".

    What is accepted and not filed yet counts as written afterwards: by somebody new.
    """
    who = await core.database.read(lambda connection: erasure.person(connection, contact_id))
    found: list[str] = []
    place, scanned_to = "", ""
    while True:
        start = place

        def look(connection: Connection, start: str = start) -> tuple[list[str], str]:
            return erasure.scan(connection, who, concerns, start)

        some, place = await core.database.read(look)
        found += some
        if not place:
            break
        scanned_to = place

    def job(connection: Connection) -> Receipt:
        merging.alone(connection)
        check(connection)
        now, keyed_hash = micros(core.clock()), core.tokens.keyed_hash
        return erasure.erase(connection, contact_id, found, scanned_to, concerns, deleted_by, now, keyed_hash)

    receipt = await core.database.bulk(job)
    for path in receipt.paths:
        try:
            core.blobs.remove(path)
        except (OSError, ValueError) as error:
            log.error("contact.file_left", extra={"contact": contact_id, "error": type(error).__name__})
    first = True
    while await core.database.bulk(functools.partial(dialect.settle_words, first=first)):
        first = False
    await core.database.scrub()
    return receipt
