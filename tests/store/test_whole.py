"""The whole gateway on each store: what customers, agents and receipts do, and every way the API looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.runtime import Gateway
from tests.store.conftest import STORES
from tests.support.postgres import Postgres
from tests.support.world import ANN, World, read, shown


@pytest.fixture(params=STORES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world on one store or the other."""
    more = 'matching_attribute = "phone"\nsecret_key = "a key of the tests only"\n'
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        address = server.database().set(drivername="postgresql").render_as_string(hide_password=False)
        more += f'database = "{address}"\n'
    async with World.open(tmp_path, more=more) as found:
        yield found


FOUND = {  # how a ticket of Ann's is found
    "number": {"q": "#1"},
    "subject": {"q": "ORDER"},
    "text": {"q": "blue shoes"},
    "phone as dialled": {"q": "(555) 010-0001"},
    "phone": {"q": ANN},
    "a beginning": {"q": "blue sho"},
    "a phrase": {"q": '"blue shoes"'},
    "Japanese": {"q": "荷物"},
    "a field": {"q": "size-forty"},
    "status": {"status": "new,open"},
    "channel": {"channel": "sms"},
    "account": {"account": "sms-us"},
    "tag": {"tag": "shoes"},
    "assignee": {"assignee": "kim"},
}
LOST = {
    "text": {"q": "red shoes"},
    "a phrase the other way round": {"q": '"shoes blue"'},
    "the signs of a query language": {"q": "'blue' & !shoes:* \"x"},
    "wildcards are no wildcards": {"q": "%_%"},
    "status": {"status": "solved"},
    "channel": {"channel": "email"},
    "tag": {"tag": "sho"},
    "assignee": {"assignee": "lee"},
}


async def test_tickets_are_found_by_what_is_known_of_them(world: World) -> None:
    await world.twilio.customer_writes("My order\nof blue shoes: 100% late 荷物番号", sender=ANN)
    ticket = await world.api.ticket()
    await world.api.patch(f"tickets/{ticket['id']}", tags=["shoes"], assignee="kim", fields={"size": "size-forty"})
    for name, query in FOUND.items():
        assert len((await world.api.get("tickets", **query))["items"]) == 1, name
    for name, query in LOST.items():
        assert (await world.api.get("tickets", **query))["items"] == [], name
    changed = await world.api.get(f"tickets/{ticket['id']}")
    assert shown(changed, "tags", "assignee", "fields") == (["shoes"], "kim", {"size": "size-forty"})
    for field, operator, value in (
        ("text", "matches", "blue shoes"), ("tags", "has", "shoes"), ("status", "in", ["new", "open"]),
        ("created_at", "within_days", 1), ("subject", "contains", "ORDER"), ("assignee", "is", "kim"),
        ("priority", "at_most", "normal"), ("vip", "is", False),
    ):  # fmt: skip
        conditions = {"all": [{"field": field, "operator": operator, "value": value}]}
        for sort in ("updated_at", "priority", "solved_at"):
            shown_ = await world.api.post("views/preview", {"conditions": conditions, "sort": {"by": sort}})
            assert shown_["count"] == len(shown_["items"]) == 1, field
    sequence = [entry["sequence"] for entry in await world.api.log(ticket)]
    assert sequence == list(range(1, len(sequence) + 1))


async def test_there_and_back_on_two_channels_and_one_person(world: World) -> None:
    ann = world.customer(wa_id=ANN.lstrip("+"), reads=True)
    await world.twilio.customer_writes("By SMS", sender=ANN)
    await world.api.items("tickets", 1)
    await world.whatsapp.customer_writes(ann, "By WhatsApp")
    by_whatsapp, by_sms = await world.api.items("tickets", 2)
    assert by_whatsapp["contact_id"] == by_sms["contact_id"]
    for ticket, status in ((by_whatsapp, "read"), (by_sms, "delivered")):
        reply = await world.api.replied(ticket, "Hello")
        await world.api.settled(reply, status)
    contact = by_sms["contact_id"]
    for query in ({"q": "Ann"}, {"q": ANN}, {"attribute.phone": ANN}):
        assert [entry["id"] for entry in (await world.api.get("contacts", **query))["items"]] == [contact]
    await world.api.patch(f"contacts/{contact}", vip=True, organization="ACME")
    assert len((await world.api.get("contacts", vip="true"))["items"]) == 1
    await world.api.post("attributes", {"name": "plan", "type": "choice", "choices": ["gold", "silver"]})
    await world.api.patch(f"contacts/{contact}", attributes={"plan": "gold"})
    assert len((await world.api.get("contacts", **{"attribute.plan": "gold"}))["items"]) == 1
    assert (await world.api.get("contacts", **{"attribute.plan": "silver"}))["items"] == []
    page = await world.api.get("tickets", limit="1")
    rest = await world.api.get("tickets", limit="1", cursor=page["next"])
    assert [ticket["id"] for ticket in (*page["items"], *rest["items"])] == [by_whatsapp["id"], by_sms["id"]]
    assert rest["next"] is None
    assert (await world.api.call("DELETE", f"contacts/{contact}")).status in (200, 204)
    await world.api.items("tickets", 0)
    await world.api.items("deletions", 1)


async def test_refusals_dead_letters_and_lost_answers(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    world.twilio.receipts.hold = True
    world.twilio.fail_next("500_after_accept")
    lost = await world.api.replied(ticket, "Lost")
    await world.api.settled(lost, "unknown")
    waiting = await world.api.replied(ticket, "Behind it")
    assert {entry["state"] for entry in (await world.api.get("outbox", state="queued,unknown"))["items"]} >= {"unknown"}
    world.twilio.receipts.hold = False
    world.twilio.release()
    await world.api.settled(lost, "delivered")
    await world.api.settled(waiting, "delivered")
    world.twilio.refusals[ANN] = 21211
    failed = await world.api.replied(ticket, "Refused")
    await world.api.settled(failed, "failed")
    (letter,) = await world.api.items("dead", 1)
    world.twilio.refusals.clear()
    await world.api.post(f"dead/{letter['id']}/replay")
    await world.api.settled(failed, "delivered")
    assert [accepted.payload.body for accepted in world.twilio.sends] == ["Lost", "Behind it", "Refused"]


@pytest.mark.postgres
async def test_roles_apart_on_one_store(postgres: Postgres, tmp_path: Path) -> None:
    """Three gateways, one role each, do together what one does alone."""
    address = postgres.database().set(drivername="postgresql").render_as_string(hide_password=False)
    more = f'secret_key = "a key of the tests only"\ndatabase = "{address}"\n'
    async with World.platforms(tmp_path, more=more) as world:
        settings = read(world.file)
        helpers = [Gateway(settings, ("worker",)), Gateway(settings, ("sender",))]
        for helper in helpers:
            await helper.start()
        world.roles = ("web",)
        await world.start()
        try:
            await world.whatsapp.customer_writes(world.customer(), "Hello")
            ticket = await world.api.ticket()
            await world.api.settled(await world.api.replied(ticket, "Hi"), "delivered")
        finally:
            await world.stop()
            for helper in helpers:
                await helper.stop()
