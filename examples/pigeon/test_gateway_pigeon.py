"""What Pigeon sends and what becomes of it, and the contract every adapter keeps."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from gateway_pigeon import PigeonAdapter

from adapters.kit import (
    Account,
    Address,
    Callback,
    DeliveryUpdate,
    Event,
    Ignored,
    InboundMessage,
    OutboundMessage,
    Person,
    Received,
    Unreadable,
    Unsupported,
)
from adapters.testing import AdapterCase, check

SECRET = "signing-canary"
AT = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
NOTE = {"id": "n1", "type": "note", "from": "ring-7", "name": "Ann", "text": "Is the loft open?", "at": AT.timestamp()}
ANN = Person((Address("pigeon", "ring", "ring-7"),), name="Ann")
HERE = "$.events[0]"


def posted(*events: object) -> bytes:
    return json.dumps({"events": events}).encode()


def signed(body: bytes) -> Callback:
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    where = "/webhooks/pigeon-main"
    return Callback("POST", f"https://gateway.example{where}", where, {}, {"x-pigeon-signature": (signature,)}, body)


INBOUND: dict[str, tuple[bytes, tuple[Event, ...]]] = {  # name of the case -> (body, events)
    "a note": (
        posted(NOTE),
        (InboundMessage(id="n1", at=AT, channel="pigeon", path=HERE, sender=ANN, text="Is the loft open?"),),
    ),
    "a kind nobody knows yet": (
        posted(NOTE | {"kind": "egg", "text": ""}),
        (
            InboundMessage(
                id="n1", at=AT, channel="pigeon", path=HERE, sender=ANN, kind="unsupported", content=Unsupported("egg")
            ),
        ),
    ),
    "a note that arrived": (
        posted({"id": "e2", "type": "arrived", "note": "p7"}),
        (DeliveryUpdate(id="e2", at=AT, channel="pigeon", path=HERE, status="delivered", target="p7"),),
    ),
    "an event nobody knows yet": (
        posted({"id": "e3", "type": "moulting"}),
        (Ignored(id="e3", at=AT, channel="pigeon", path=HERE, reason="event 'moulting'"),),
    ),
}


@pytest.mark.parametrize(("body", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(body: bytes, events: tuple[Event, ...]) -> None:
    assert PigeonAdapter.normalize(Received(body, {}, {}, AT, Account("pigeon-main", "pigeon"))) == events


def test_a_note_from_nobody_is_kept_for_later() -> None:
    (event,) = PigeonAdapter.normalize(
        Received(posted({"id": "n1", "type": "note"}), {}, {}, AT, Account("pigeon-main", "pigeon"))
    )
    assert isinstance(event, Unreadable)
    assert (event.path, event.problem) == ("$.events[0].from", "missing")


def test_contract() -> None:
    asyncio.run(
        check(
            AdapterCase(
                adapter=PigeonAdapter,
                settings={"signing_secret": SECRET, "token": "token-canary", "api_base": "{base}"},
                sign=signed,
                message=posted(NOTE),
                unknown_kind=posted(NOTE | {"kind": "egg"}),
                unknown_event=posted({"id": "e3", "type": "moulting"}),
                broken_item=posted(NOTE, {"id": "n2", "type": "note"}),
                outbound=OutboundMessage(
                    id="o1",
                    key="00000000-0000-0000-0000-000000000001",
                    account="pigeon-main",
                    channel="pigeon",
                    to=ANN.addresses,
                    text="It is, until six.",
                ),
                success=b'{"id": "p7"}',
                external_id="p7",
            )
        )
    )
