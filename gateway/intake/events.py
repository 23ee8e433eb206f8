"""From kept deliveries to event rows: normalise, route by the platform's own key, and give each event a lane."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from adapters import Callback, SharedAddress, VerificationError
from gateway.accounts import Accounts, BoundAccount, family_of
from gateway.ids import moment, new_id
from gateway.intake import keys
from gateway.intake.records import EventRow
from normalizers.model import (
    DeliveryUpdate,
    Echo,
    Event,
    Ignored,
    InboundMessage,
    MessageDeleted,
    MessageEdited,
    Reaction,
    Received,
)

log = logging.getLogger(__name__)
EVENTS_MAX = 2000  # normalised together, unless one delivery alone has more
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


@dataclass(slots=True)
class Normalised:
    """What a batch of deliveries became."""

    events: list[dict[str, Any]] = field(default_factory=list)
    rows: list[EventRow] = field(default_factory=list)  # those of `events` that somebody may have
    done: list[str] = field(default_factory=list)
    broken: list[tuple[str, str, str]] = field(default_factory=list)  # delivery id, account, problem
    unroutable: int = 0


def normalise(rows: Sequence[RowMapping], accounts: Accounts) -> Normalised:
    """Event rows of a batch of deliveries, in order. A delivery whose normaliser fails is set aside, not lost."""
    result = Normalised()
    for row in rows:
        account = accounts.get(row["account"])
        if account is None:
            result.broken.append((row["id"], row["account"], "no account with this id is configured"))
            continue
        try:
            reader, received = account, received_of(row, account)
            found = account.adapter.normalize(received)
            if all(isinstance(event, Ignored) for event in found):
                reader = sibling(account, received, accounts)
                if reader is not account:
                    received = received_of(row, reader)
                    found = reader.adapter.normalize(received)
            made = _rows(row, received, account, reader, found, accounts)
        except Exception as error:
            log.exception("intake.normaliser_failed", extra={"account": account.id, "delivery": row["id"]})
            result.broken.append((row["id"], account.id, f"the normaliser failed: {type(error).__name__}"))
            continue
        for event, columns, owner in made:
            result.events.append(columns)
            if owner:
                result.rows.append(EventRow(columns["id"], row["id"], owner, row["received_at"], 0, event))
            else:
                result.unroutable += 1
        result.done.append(row["id"])
        if len(result.events) >= EVENTS_MAX:
            break  # the other deliveries wait for the next round
    return result


def _rows(
    row: RowMapping, received: Received, account: BoundAccount, reader: BoundAccount, found: Sequence[Event],
    accounts: Accounts,
) -> list[tuple[Event, dict[str, Any], str]]:  # fmt: skip
    """The events of a delivery, each with its row and the account it goes to. One that cannot be written raises."""
    routes: dict[str, str] = {}
    made: list[tuple[Event, dict[str, Any], str]] = []
    for event in found:
        key = event.routing_key
        if key not in routes:
            routes[key] = route(row, received, account, reader, key, accounts)
        payload = _encode(event)
        fits = event if len(payload) <= keys.KEY_BYTES else keys.within(event)  # ids are part of the payload
        payload = payload if fits is event else _encode(fits)
        made.append((fits, event_row(row, fits, routes[key], payload), routes[key]))
    return made


def received_of(row: RowMapping, account: BoundAccount) -> Received:
    """A kept delivery as its normaliser reads it."""
    headers: dict[str, Any] = msgspec.json.decode(row["headers"])
    return Received(
        body=bytes(row["body"]),
        headers={name: value[0] if isinstance(value, list) else value for name, value in headers.items()},
        query=msgspec.json.decode(row["query"]),
        received_at=moment(row["received_at"]),
        account=account.adapter.account,
    )


def sibling(account: BoundAccount, received: Received, accounts: Accounts) -> BoundAccount:
    """An account that can read what came to this one's webhook and is in another adapter's format; else this one."""
    if isinstance(account.adapter, SharedAddress):
        wanted = account.adapter.meant_for(received)
        for other in accounts if wanted != account.adapter.name else ():
            if other.adapter.name == wanted and isinstance(other.adapter, SharedAddress):
                return other
    return account


def route(
    row: RowMapping, received: Received, account: BoundAccount, reader: BoundAccount, key: str, accounts: Accounts
) -> str:
    """The account an event goes to; "" when nobody may have it. `reader` normalised what came to `account`.

    The key decides, whichever account's webhook received it: but only if the delivery also verifies with a secret of
    the account that the key names. Several keys, the best first, stand with blanks between them.
    """
    if reader is account and (not key or key in account.adapter.routing_keys()):
        return account.id
    family = family_of(reader.adapter)
    for named in (found for one in key.split(" ") for found in accounts.named(family, one)):
        try:
            named.adapter.verify(_callback(row, received))
        except VerificationError:
            continue
        return named.id
    return ""


def _callback(row: RowMapping, received: Received) -> Callback:
    headers = {
        name: tuple(value) if isinstance(value, list) else (value,)
        for name, value in msgspec.json.decode(row["headers"]).items()
    }
    return Callback("POST", row["url"], "", received.query, headers, received.body)


def event_row(row: RowMapping, event: Event, account: str, payload: bytes) -> dict[str, Any]:
    """An event as a row. An event for an account nobody configured is kept under the delivery's own, never filed."""
    return {
        "id": new_id(),
        "delivery_id": row["id"],
        "account": account or row["account"],
        "kind": event.__struct_config__.tag,
        "dedupe_key": event.id if account else f"{event.routing_key} {event.id}",
        "lane": lane(account, event),
        "payload": payload.decode(),
        "received_at": row["received_at"],
        "state": "new" if account else "unroutable",
    }


def lane(account: str, event: Event) -> int:
    """A hash of account and conversation: what shares a lane is filed in order."""
    match event:
        case InboundMessage():
            who = event.sender.addresses[0].value if event.sender.addresses else event.id
            name = event.thread.key or (event.thread.references[-1] if event.thread.references else who)
        case Reaction():
            name = event.thread.key or (event.sender.addresses[0].value if event.sender.addresses else "")
        case Echo():
            name = event.thread.key or (event.recipient.addresses[0].value if event.recipient else event.id)
        case DeliveryUpdate():
            name = event.recipient.value if event.recipient else event.target
        case MessageEdited() | MessageDeleted():
            name = event.thread.key or event.target
        case _:
            name = event.id
    return int.from_bytes(hashlib.blake2b(f"{account}\0{name}".encode(), digest_size=7).digest(), "big")


def decode(payload: str) -> Event:
    """The event of a row."""
    return _decoder.decode(payload)
