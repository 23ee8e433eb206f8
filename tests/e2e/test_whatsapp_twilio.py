"""WhatsApp through Twilio there and back: the same model and the same rules as by the Cloud API."""

from __future__ import annotations

from datetime import timedelta

from adapters.sandbox.twilio import Person
from tests.support.world import CONTENT_SID, WHATSAPP_NUMBER, World, shown

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(200)


def ann() -> Person:
    return Person("+4915112345601", "DE.4915112345601", "Ann Lee", reads=True)


async def test_there_and_back(world: World) -> None:
    sid = await world.twilio.person_writes(ann(), "Where is my order?")
    assert world.twilio.posted[0][1] == 200
    ticket = await world.api.ticket()
    assert shown(ticket, "channel", "account", "tags", "subject") == (
        "whatsapp", "wa-twilio", ["whatsapp", "messaging_support"], "Where is my order?",
    )  # fmt: skip
    (message,) = await world.api.messages(ticket, 1)
    assert shown(message, "external_id", "text", "kind") == (sid, "Where is my order?", "text")
    reply = await world.api.replied(ticket, "It left today.")
    detail = await world.api.settled(reply, "read")
    (accepted,) = world.twilio.sends
    assert (accepted.to, accepted.payload.sender) == ("whatsapp:+4915112345601", f"whatsapp:{WHATSAPP_NUMBER}")
    assert accepted.external_id == detail["external_id"]
    fields = {"OriginalRepliedMessageSid": accepted.external_id, "ButtonPayload": "ok-1", "ButtonText": "Fine"}
    await world.twilio.person_writes(ann(), "Fine", fields=fields)
    thread = await world.api.messages(ticket, 3)
    assert shown(thread[2], "kind", "text", "in_reply_to") == ("interactive", "Fine", reply["id"])
    assert shown(thread[2]["content"]["interactive"], "id", "title") == ("ok-1", "Fine")
    contact = await world.api.get(f"contacts/{ticket['contact_id']}")
    assert (contact["name"], contact["attributes"]) == ("Ann Lee", {"phone": "+4915112345601"})
    assert contact["identities"][0]["window"]["open"] is True


async def test_one_person_by_both_providers_are_two_identities(world: World) -> None:
    await world.twilio.person_writes(ann(), "By one number of yours")
    await world.whatsapp.customer_writes(world.customer(), "By another")
    tickets = await world.api.items("tickets", 2)
    assert sorted(ticket["account"] for ticket in tickets) == ["wa-main", "wa-twilio"]


async def test_outside_the_window_only_a_template_leaves(world: World) -> None:
    await world.twilio.person_writes(ann(), "Hello")
    ticket = await world.api.ticket()
    world.clock.ahead = timedelta(hours=24, minutes=1)
    world.twilio.clock_ahead_s = world.clock.ahead.total_seconds()
    refused = await world.api.reply(ticket, "Too late?")
    assert (refused.status, refused.rules) == (422, ["window"])
    assert "'order_update'" in refused.json["verdicts"][0]["remedy"]
    wrong = {"name": "order_update", "language": "en", "parameters": ["Ann"]}
    assert (await world.api.reply(ticket, template=wrong)).rules == ["template"]
    assert world.twilio.calls == 0
    reply = await world.api.replied(ticket, template=wrong | {"parameters": ["Ann", "12"]})
    await world.api.settled(reply, "read")
    payload = world.twilio.sends[-1].payload
    assert (payload.content, payload.variables, payload.body) == (CONTENT_SID, '{"1":"Ann","2":"12"}', "")


async def test_a_window_that_only_the_platform_knows_to_be_closed(world: World) -> None:
    await world.twilio.person_writes(ann(), "Hello")
    ticket = await world.api.ticket()
    world.twilio.clock_ahead_s = 25 * 3600.0
    detail = await world.api.settled(await world.api.replied(ticket, "Hi"), "failed")
    assert shown(detail["error"], "code", "class") == ("63016", "window-closed")


async def test_files_down_and_up(world: World) -> None:
    await world.twilio.person_writes(ann(), "Look", media=[("image/jpeg", JPEG)])
    ticket = await world.api.ticket()
    path = f"tickets/{ticket['id']}/messages"
    found = await world.api.until(path, lambda page: page["items"][0]["attachments"][0]["state"] == "stored")
    (file,) = found["items"][0]["attachments"]
    assert (await world.api.call("GET", file["url"])).body == JPEG
    upload = await world.api.upload(JPEG, "label.jpg", "image/jpeg")
    reply = await world.api.replied(ticket, "Your label", attachments=[{"upload": upload}])
    await world.api.settled(reply, "read")
    payload = world.twilio.sends[-1].payload
    assert payload.body == "Your label"
    assert len(payload.media) == 1


async def test_stop_forbids_marketing_and_no_answer(world: World) -> None:
    person = ann()
    await world.twilio.person_writes(person, "STOP")
    ticket = await world.api.ticket()
    contact = await world.api.until(
        f"contacts/{ticket['contact_id']}", lambda contact: bool(contact["identities"][0]["opted_out_of"])
    )
    assert shown(contact["identities"][0], "state", "opted_out_of") == ("active", ["marketing"])
    await world.api.settled(await world.api.replied(ticket, "No more news, then."), "read")


async def test_a_lost_answer_is_settled_by_the_callback(world: World) -> None:
    await world.twilio.person_writes(ann(), "Hello")
    ticket = await world.api.ticket()
    world.twilio.receipts.hold = True
    world.twilio.fail_next("500_after_accept")
    reply = await world.api.replied(ticket, "Once")
    await world.api.settled(reply, "unknown")
    world.twilio.release()
    await world.api.settled(reply, "read")
    assert world.twilio.calls == 1


async def test_writing_first_takes_a_template(world: World) -> None:
    body = {"account": "wa-twilio", "to": "+49 151 12345601", "text": "Hello?"}
    refused = await world.api.call("POST", "messages", json=body)
    assert (refused.status, [verdict["rule"] for verdict in refused.json["verdicts"]]) == (422, ["window"])
    world.twilio.whatsapp.add(ann())
    template = {"name": "order_update", "language": "en", "parameters": ["Ann", "12"]}
    message = await world.api.post("messages", {"account": "wa-twilio", "to": "+4915112345601", "template": template})
    await world.api.settled(message, "read")
    ticket = await world.api.ticket()
    assert shown(ticket, "status", "via", "account") == ("pending", "api", "wa-twilio")


async def test_one_messaging_service_for_both_channels_posts_to_one_address(world: World) -> None:
    world.twilio.whatsapp_url = world.twilio.webhook_url  # that of the account sms-us
    await world.twilio.person_writes(ann(), "On WhatsApp")
    ticket = await world.api.ticket()
    assert shown(ticket, "channel", "account", "subject") == ("whatsapp", "wa-twilio", "On WhatsApp")
    await world.api.settled(await world.api.replied(ticket, "Hello"), "read")
    assert world.twilio.sends[0].payload.sender == f"whatsapp:{WHATSAPP_NUMBER}"
    world.twilio.webhook_url = "https://support.shop.test/webhooks/wa-twilio"
    await world.twilio.customer_writes("By text", sender="+15550100001")
    found = {one["channel"]: one["account"] for one in await world.api.items("tickets", 2)}
    assert found == {"whatsapp": "wa-twilio", "sms": "sms-us"}


async def test_an_opt_out_told_by_twilio_covers_everything(world: World) -> None:
    """Unlike the person's own STOP: Twilio lets nothing more through."""
    person = ann()
    await world.twilio.person_writes(person, "Hello")
    ticket = await world.api.ticket()
    world.twilio.opted_out.add((f"whatsapp:{WHATSAPP_NUMBER}", f"whatsapp:{person.number}"))
    detail = await world.api.settled(await world.api.replied(ticket, "Hello"), "failed")
    assert detail["error"]["code"] == "21610"
    contact = await world.api.get(f"contacts/{ticket['contact_id']}")
    assert contact["identities"][0]["state"] == "opted_out"
    assert (await world.api.reply(ticket, "And now?")).rules[0] == "opt_out"
