"""SMS there and back: Twilio's webhooks, media, STOP and START, receipts."""

from __future__ import annotations

from datetime import timedelta

from tests.support.world import ANN, NUMBER, World, shown

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(200)


async def test_there_and_back(world: World) -> None:
    sid = await world.twilio.customer_writes("Is it open today?", sender=ANN)
    assert world.twilio.posted[0][1] == 200
    ticket = await world.api.ticket()
    assert shown(ticket, "channel", "account", "tags", "subject") == ("sms", "sms-us", ["sms"], "Is it open today?")
    (message,) = await world.api.messages(ticket, 1)
    assert shown(message, "external_id", "text") == (sid, "Is it open today?")
    reply = await world.api.replied(ticket, "Until six.")
    detail = await world.api.settled(reply, "delivered")
    (accepted,) = world.twilio.sends
    assert (accepted.to, accepted.payload.body, accepted.payload.sender) == (ANN, "Until six.", NUMBER)
    assert accepted.external_id == detail["external_id"]
    await world.twilio.customer_writes("Thanks", sender=ANN)
    assert len(await world.api.messages(ticket, 3)) == 3


async def test_two_people_are_two_tickets(world: World) -> None:
    await world.twilio.customer_writes("One", sender=ANN)
    await world.twilio.customer_writes("Two", sender="+15550100002")
    await world.twilio.customer_writes("One again", sender=ANN)
    first, second = sorted(await world.api.items("tickets", 2), key=lambda ticket: str(ticket["subject"]))
    await world.api.messages(first, 2)
    await world.api.messages(second, 1)


async def test_stop_and_start(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    await world.twilio.customer_writes("STOP", sender=ANN)
    contact_path = f"contacts/{ticket['contact_id']}"
    await world.api.until(contact_path, lambda contact: contact["identities"][0]["state"] == "opted_out")
    refused = await world.api.reply(ticket, "Are you there?")
    assert (refused.status, refused.rules) == (422, ["opt_out"])
    assert world.twilio.calls == 0
    thread = await world.api.messages(ticket, 2)
    assert shown(thread[1], "text", "flags") == ("STOP", ["opt_out"])
    await world.twilio.customer_writes("START", sender=ANN)
    await world.api.until(contact_path, lambda contact: contact["identities"][0]["state"] == "active")
    await world.api.settled(await world.api.replied(ticket, "Welcome back"), "delivered")


async def test_an_opt_out_the_platform_knows_of_is_learned(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    world.twilio.opted_out.add((NUMBER, ANN))
    reply = await world.api.replied(ticket, "Hi")
    detail = await world.api.settled(reply, "failed")
    assert shown(detail["error"], "code", "class") == ("21610", "opted-out")
    contact = await world.api.get(f"contacts/{ticket['contact_id']}")
    assert contact["identities"][0]["state"] == "opted_out"
    assert (await world.api.reply(ticket, "Again")).rules == ["opt_out"]


async def test_a_file_that_is_late_on_the_platforms_side(world: World) -> None:
    await world.twilio.customer_writes("Look", sender=ANN, media=[("image/jpeg", JPEG)])
    ticket = await world.api.ticket()
    path = f"tickets/{ticket['id']}/messages"
    found = await world.api.until(path, lambda page: page["items"][0]["attachments"][0]["state"] == "stored")
    (file,) = found["items"][0]["attachments"]
    assert (await world.api.call("GET", file["url"])).body == JPEG


async def test_receipts_in_any_order_move_forward_only(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    world.twilio.receipts.shuffle, world.twilio.receipts.copies = True, 2
    replies = [await world.api.replied(ticket, f"Part {number}") for number in range(3)]
    for reply in replies:
        await world.api.settled(reply, "delivered")
    await world.twilio.settled()
    for reply in replies:
        await world.api.settled(reply, "delivered")
    assert [accepted.payload.body for accepted in world.twilio.sends] == ["Part 0", "Part 1", "Part 2"]


async def test_undelivered_fails_with_the_platforms_code(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    world.twilio.failures[ANN] = 30005
    detail = await world.api.settled(await world.api.replied(ticket, "Hi"), "failed")
    assert detail["error"]["code"] == "30005"
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["sent"]


async def test_a_lost_answer_is_settled_by_the_callback(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    world.twilio.receipts.hold = True
    world.twilio.fail_next("500_after_accept")
    reply = await world.api.replied(ticket, "Once")
    await world.api.settled(reply, "unknown")
    world.twilio.release()
    await world.api.settled(reply, "delivered")
    assert world.twilio.calls == 1


async def test_a_wrong_signature_stores_nothing(world: World) -> None:
    token, world.twilio.auth_token = world.twilio.auth_token, "another"
    await world.twilio.customer_writes("Forged", sender=ANN)
    assert world.twilio.posted[-1][1] == 401
    world.twilio.auth_token = token
    await world.twilio.customer_writes("Real", sender=ANN)
    ticket = await world.api.ticket()
    (message,) = await world.api.messages(ticket, 1)
    assert message["text"] == "Real"


async def test_writing_first(world: World) -> None:
    body = {"channel": "sms", "to": "+1 (555) 010-0009", "text": "Your order is ready"}
    message = await world.api.post("messages", body)
    await world.api.settled(message, "delivered")
    ticket = await world.api.ticket()
    assert shown(ticket, "status", "via", "channel", "account") == ("pending", "api", "sms", "sms-us")
    await world.twilio.customer_writes("On my way", sender="+15550100009")
    thread = await world.api.messages(ticket, 2)
    assert [entry["text"] for entry in thread] == ["Your order is ready", "On my way"]
    assert (await world.api.get(f"tickets/{ticket['id']}"))["status"] == "open"


async def test_a_word_that_only_twilio_knows(world: World) -> None:
    world.twilio.advanced_opt_out, world.twilio.custom_keywords = True, {"genug": "STOP", "los": "START"}
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    await world.twilio.customer_writes("Genug", sender=ANN)
    contact_path = f"contacts/{ticket['contact_id']}"
    await world.api.until(contact_path, lambda contact: contact["identities"][0]["state"] == "opted_out")
    thread = await world.api.messages(ticket, 2)
    assert shown(thread[1], "text", "flags") == ("Genug", ["answered_by_platform"])
    assert (await world.api.reply(ticket, "Are you there?")).rules == ["opt_out"]
    await world.twilio.customer_writes("Los", sender=ANN)
    await world.api.until(contact_path, lambda contact: contact["identities"][0]["state"] == "active")
    await world.api.settled(await world.api.replied(ticket, "Welcome back"), "delivered")


async def test_a_lost_answer_is_found_in_the_platforms_list(world: World) -> None:
    await world.twilio.customer_writes("Hello", sender=ANN)
    ticket = await world.api.ticket()
    world.twilio.receipts.mute = True
    world.twilio.fail_next("reset_after_accept")
    reply = await world.api.replied(ticket, "Once")
    await world.api.settled(reply, "unknown")
    world.clock.ahead = timedelta(seconds=10)
    detail = await world.api.settled(reply, "sent")
    assert detail["external_id"] == world.twilio.sends[0].external_id
    assert world.twilio.calls == 1


async def test_a_picture_where_there_is_no_mms_goes_as_a_link(world: World) -> None:
    await world.twilio.customer_writes("Hallo", sender="+491701234567")
    ticket = await world.api.ticket()
    upload = await world.api.upload(JPEG, "label.jpg", "image/jpeg")
    reply = await world.api.replied(ticket, "Your label", attachments=[{"upload": upload}])
    await world.api.settled(reply, "delivered")
    payload = world.twilio.sends[-1].payload
    assert payload.media == ()
    text, _, link = payload.body.partition("\n")
    assert text == "Your label"
    assert link.startswith("https://support.shop.test/media/")
