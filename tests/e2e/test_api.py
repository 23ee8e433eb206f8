"""The API channel, contacts over channels, and what a key may see: against the whole gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.control import create_key
from tests.support.api import Api
from tests.support.world import ANN, World, eventually, shown


async def test_a_customer_writes_over_the_api_and_is_answered_there(world: World) -> None:
    body = {"direction": "inbound", "from": {"id": "u1", "name": "Ann"}, "text": "Hello", "subject": "A question"}
    message = await world.api.post("messages", body)
    ticket = await world.api.ticket()
    assert shown(ticket, "channel", "account", "via", "subject", "tags") == ("api", "api", "api", "A question", ["api"])
    assert message["ticket_id"] == ticket["id"]
    reply = await world.api.replied(ticket, "Hi Ann")
    await world.api.settled(reply, "sent")
    await world.api.post("messages", body | {"text": "Again"})
    thread = await world.api.messages(ticket, 3)
    assert [entry["text"] for entry in thread] == ["Hello", "Hi Ann", "Again"]


async def test_an_inbound_message_with_a_key_is_taken_once(world: World) -> None:
    body = {"direction": "inbound", "from": {"id": "u1"}, "text": "Hello"}
    headers = {"Idempotency-Key": "k1"}
    calls = (world.api.call("POST", "messages", json=body, headers=headers) for _ in range(5))
    assert {answer.status for answer in await asyncio.gather(*calls)} == {202}
    await world.api.messages(await world.api.ticket(), 1)
    other = await world.api.call("POST", "messages", json=body | {"text": "Other"}, headers=headers)
    assert (other.status, other.json["code"]) == (409, "idempotency_conflict")


async def test_live_events_tell_what_happens(world: World) -> None:
    import aiohttp

    headers = {"Authorization": f"Bearer {world.api.key}"}
    seen: list[str] = []
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{world.api.base}/api/v1/events", headers=headers) as stream,
    ):

        async def listen() -> None:
            async for line in stream.content:
                if line.startswith(b"event:"):
                    seen.append(line.split(b":", 1)[1].strip().decode())

        listening = asyncio.create_task(listen())
        await world.whatsapp.customer_writes(world.customer(), "Hello")
        await eventually(lambda: {"ticket.created", "message.received"} <= set(seen))
        await world.api.replied(await world.api.ticket(), "Hi")
        await eventually(lambda: "message.updated" in seen)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_histories_are_linked_by_the_matching_attribute_and_taken_apart_again(tmp_path: Path) -> None:
    async with World.open(tmp_path, more='matching_attribute = "phone"') as world:
        await world.twilio.customer_writes("By SMS", sender=ANN)
        await world.api.items("tickets", 1)
        await world.whatsapp.customer_writes(world.customer(wa_id=ANN.lstrip("+")), "By WhatsApp")
        first, second = await world.api.items("tickets", 2)
        assert first["contact_id"] == second["contact_id"]
        contact = await world.api.get(f"contacts/{first['contact_id']}")
        assert sorted(identity["channel"] for identity in contact["identities"]) == ["sms", "whatsapp"]
        await world.api.items("tickets", 2, contact=contact["id"])
        identity = next(entry for entry in contact["identities"] if entry["channel"] == "whatsapp")
        await world.api.post(f"contacts/{contact['id']}/unmerge", {"identity": identity["id"]})
        await world.api.items("contacts", 2)
        await world.whatsapp.customer_writes(world.customer(wa_id=ANN.lstrip("+")), "Still me")
        await world.api.until(f"tickets/{first['id']}/messages", lambda page: len(page["items"]) == 2)
        await world.api.items("contacts", 2)  # it is not linked again by itself


async def test_contacts_merged_by_hand_share_their_tickets(world: World) -> None:
    await world.twilio.customer_writes("By SMS", sender=ANN)
    await world.mailed()
    one, other = await world.api.items("contacts", 2)
    await world.api.post(f"contacts/{one['id']}/merge", {"into": other["id"]})
    await world.api.items("contacts", 1)
    await world.api.items("tickets", 2, contact=other["id"])
    assert (await world.api.get(f"contacts/{one['id']}"))["id"] == other["id"]


async def test_a_deleted_contact_leaves_a_line_in_the_log_and_comes_back_as_somebody_new(world: World) -> None:
    ann = world.customer()
    wamid = await world.whatsapp.customer_writes(ann, "My secret")
    ticket = await world.api.ticket()
    assert (await world.api.call("DELETE", f"contacts/{ticket['contact_id']}")).status in (200, 204)
    assert (await world.api.call("GET", f"contacts/{ticket['contact_id']}")).status == 404
    assert (await world.api.call("GET", f"tickets/{ticket['id']}")).status == 404
    (entry,) = await world.api.items("deletions", 1)
    assert shown(entry, "contact_id", "deleted_by", "channels") == (ticket["contact_id"], "tests", ["whatsapp"])
    late = world.whatsapp.inbound(ann, wamid, {"type": "text", "text": {"body": "My secret"}})
    assert await world.whatsapp.post([late]) == 200
    await world.whatsapp.customer_writes(ann, "Hello again")
    again = await world.api.ticket()
    assert again["contact_id"] != ticket["contact_id"]
    (message,) = await world.api.messages(again, 1)
    assert message["text"] == "Hello again"


async def test_a_key_sees_its_own_accounts_only(world: World) -> None:
    await world.twilio.customer_writes("By SMS", sender=ANN)
    await world.mailed()
    tickets = await world.api.items("tickets", 2)
    foreign = next(ticket for ticket in tickets if ticket["account"] == "mail")
    key = await create_key(world.gateway.core, {"name": "sms", "scope": "admin", "accounts": ["sms-us"]})
    limited = Api(world.api.base, key["key"])
    try:
        assert (await limited.ticket())["account"] == "sms-us"
        for path in (
            f"tickets/{foreign['id']}",
            f"tickets/{foreign['id']}/messages",
            f"contacts/{foreign['contact_id']}",
        ):
            assert (await limited.call("GET", path)).status == 404
        assert (await limited.reply(foreign, "Mine?")).status == 404
    finally:
        await limited.close()


async def test_a_failed_message_is_replayed_from_the_dead_letters(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    world.twilio.refusals[ANN] = 21211
    reply = await world.api.replied(ticket, "Hi")
    await world.api.settled(reply, "failed")
    (letter,) = await world.api.items("dead", 1)
    world.twilio.refusals.clear()
    assert (await world.api.call("POST", f"dead/{letter['id']}/replay")).status < 300
    await world.api.settled(reply, "delivered")
    await world.api.items("dead", 0)


async def test_restarting_loses_nothing(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    world.whatsapp.fail_next("429")
    reply = await world.api.replied(ticket, "Hi")
    await world.api.until(f"messages/{reply['id']}", lambda detail: bool(detail["error"]))
    await world.stop()
    await world.start()
    world.clock.ahead = type(world.clock.ahead)(minutes=2)
    await world.api.settled(reply, "delivered")
    assert len(world.whatsapp.sends) == 1
