"""WhatsApp there and back, over real sockets: customer, webhook, ticket, agent, outbox, platform, receipts."""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime, timedelta

from adapters.sandbox.meta_whatsapp import Approved
from tests.support.world import World, shown

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


async def test_there_and_back(world: World) -> None:
    ann = world.customer(reads=True)
    wamid = await world.whatsapp.customer_writes(ann, "Where is my order?")
    ticket = await world.api.ticket()
    assert shown(ticket, "number", "status", "channel", "account", "via", "subject", "conversation_state") == (
        1, "new", "whatsapp", "wa-main", "whatsapp", "Where is my order?", "started",
    )  # fmt: skip
    (message,) = await world.api.messages(ticket, 1)
    assert shown(message, "external_id", "text", "direction", "status", "kind") == (
        wamid, "Where is my order?", "inbound", "received", "text",
    )  # fmt: skip
    reply = await world.api.replied(ticket, "It left today.", status="pending")
    assert reply["status"] in ("queued", "sending", "sent", "delivered", "read")
    detail = await world.api.settled(reply, "read")
    (accepted,) = world.whatsapp.sends
    assert accepted.payload["text"]["body"] == "It left today."
    assert accepted.external_id == detail["external_id"]
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["sent"]
    assert {receipt["status"] for receipt in detail["receipts"]} == {"sent", "delivered", "read"}
    assert (await world.api.get(f"tickets/{ticket['id']}"))["status"] == "pending"
    await world.whatsapp.customer_writes(ann, "Thanks!", reply_to=accepted.external_id)
    thread = await world.api.messages(ticket, 3)
    assert [message["text"] for message in thread] == ["Where is my order?", "It left today.", "Thanks!"]
    assert thread[2]["in_reply_to"] == reply["id"]
    found = await world.api.get(f"tickets/{ticket['id']}")
    assert shown(found, "status", "conversation_state") == ("open", "replied")
    contact = await world.api.get(f"contacts/{ticket['contact_id']}")
    (identity,) = contact["identities"]
    assert (contact["name"], contact["attributes"]) == ("Ann Lee", {"phone": "+4915112345601"})
    assert identity["window"]["open"] is True
    kinds = [entry["kind"] for entry in await world.api.log(ticket)]
    assert {"ticket.created", "message.received", "reply.queued", "ticket.status_changed"} <= set(kinds)


async def test_duplicates_and_shuffled_receipts_change_nothing(world: World) -> None:
    ann = world.customer(reads=True)
    world.whatsapp.receipts.copies, world.whatsapp.receipts.shuffle = 3, True
    change = world.whatsapp.inbound(ann, "wamid.1", {"type": "text", "text": {"body": "Hello"}})
    statuses = await asyncio.gather(*(world.whatsapp.post([change]) for _ in range(5)))
    assert statuses == [200] * 5
    ticket = await world.api.ticket()
    await world.api.messages(ticket, 1)
    reply = await world.api.replied(ticket, "Hi")
    detail = await world.api.settled(reply, "read")
    await world.whatsapp.settled()
    assert (await world.api.settled(reply, "read"))["status"] == "read"
    assert len(world.whatsapp.sends_of(detail["id"]) or world.whatsapp.sends) == 1
    await world.api.messages(ticket, 2)


async def test_one_delivery_brings_several_people(world: World) -> None:
    people = [world.customer(f"P{number}", f"49151123456{number:02}") for number in range(4)]
    changes = [
        world.whatsapp.inbound(who, f"wamid.{index}", {"type": "text", "text": {"body": f"Hello {index}"}})
        for index, who in enumerate(people * 2)
    ]
    assert await world.whatsapp.post(changes) == 200
    tickets = await world.api.items("tickets", 4)
    assert sorted(ticket["number"] for ticket in tickets) == [1, 2, 3, 4]
    for ticket in tickets:
        await world.api.messages(ticket, 2)


async def test_an_idempotency_key_sends_once(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    answers = await asyncio.gather(*(world.api.reply(ticket, "Once", key="k1") for _ in range(4)))
    assert {answer.status for answer in answers} == {202}
    (reply,) = {answer.json["id"] for answer in answers}
    await world.api.settled({"id": reply}, "delivered")
    assert len(world.whatsapp.sends) == 1
    assert (await world.api.reply(ticket, "Twice", key="k1")).status == 409


# --- refused, with the reason ---


async def test_outside_the_window_only_a_template_leaves(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    world.clock.ahead = timedelta(hours=24, minutes=1)
    world.whatsapp.clock_ahead_s = world.clock.ahead.total_seconds()
    refused = await world.api.reply(ticket, "Too late?")
    assert (refused.status, refused.json["code"], refused.rules) == (422, "outbox_denied", ["window"])
    assert refused.json["verdicts"][0]["remedy"]
    last = (await world.api.log(ticket))[-1]
    assert (last["kind"], last["data"]["rule"], last["data"]["reason"]) == (
        "reply.refused", "window", refused.json["verdicts"][0]["reason"],
    )  # fmt: skip
    assert len((await world.api.get(f"tickets/{ticket['id']}/messages"))["items"]) == 1
    template = {"name": "order_update", "language": "en", "parameters": ["Ann", "12"]}
    reply = await world.api.replied(ticket, template=template)
    await world.api.settled(reply, "delivered")
    assert world.whatsapp.sends[-1].payload["template"]["name"] == "order_update"
    contact = await world.api.get(f"contacts/{ticket['contact_id']}")
    assert contact["identities"][0]["window"]["open"] is False


async def test_a_template_with_the_wrong_number_of_parameters_is_refused_here(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    refused = await world.api.reply(ticket, template={"name": "order_update", "language": "en", "parameters": ["Ann"]})
    assert (refused.status, refused.rules) == (422, ["template"])
    assert world.whatsapp.calls == 0


async def test_a_dry_run_writes_nothing(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    log = await world.api.log(ticket)
    answer = await world.api.call("POST", f"tickets/{ticket['id']}/replies?dry_run=true", json={"text": "Hello?"})
    assert (answer.status, answer.json["verdicts"]) == (200, [])
    assert await world.api.log(ticket) == log
    assert world.whatsapp.calls == 0


async def test_a_closed_ticket_is_answered_in_a_new_one(world: World) -> None:
    ann = world.customer()
    await world.whatsapp.customer_writes(ann, "My order")
    ticket = await world.api.ticket()
    await world.api.patch(f"tickets/{ticket['id']}", status="closed")
    assert (await world.api.call("PATCH", f"tickets/{ticket['id']}", json={"priority": "high"})).status == 409
    refused = await world.api.reply(ticket, "Hello?")
    assert (refused.status, refused.rules) == (422, ["closed_ticket"])
    assert (await world.api.reply(ticket, "A note to us", visibility="note")).status == 202
    await world.whatsapp.customer_writes(ann, "It broke again")
    newest, closed = await world.api.items("tickets", 2)
    assert shown(newest, "via", "channel", "follow_up_of", "status") == (
        "closed_ticket",
        "whatsapp",
        ticket["id"],
        "new",
    )
    assert shown(closed, "status", "follow_ups") == ("closed", [newest["id"]])
    await world.api.settled(await world.api.replied(newest, "We look into it"), "delivered")


# --- the platform in trouble ---


async def test_a_lost_answer_is_unknown_and_its_receipt_tells_the_truth(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    world.whatsapp.receipts.hold = True
    world.whatsapp.fail_next("reset_after_accept")
    reply = await world.api.replied(ticket, "Did you get it?")
    detail = await world.api.settled(reply, "unknown")
    assert detail["error"]["class"] == "unknown"
    world.whatsapp.release()
    await world.api.settled(reply, "delivered")
    assert len(world.whatsapp.sends) == 1


async def test_a_failure_reported_later_fails_the_message(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(fails_with=131026), "Hello")
    ticket = await world.api.ticket()
    reply = await world.api.replied(ticket, "Hi")
    detail = await world.api.settled(reply, "failed")
    assert shown(detail["error"], "code", "class") == ("131026", "bad-recipient")
    (letter,) = await world.api.items("dead", 1)
    assert letter["message_id"] == reply["id"]


async def test_a_dead_token_holds_what_waits_until_it_works_again(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    token, world.whatsapp.access_token = world.whatsapp.access_token, "another"
    reply = await world.api.replied(ticket, "Hi")
    held = await world.api.settled(reply, "held")
    assert held["error"]["class"] == "auth"
    world.whatsapp.access_token = token
    world.clock.ahead = timedelta(minutes=6)
    await world.api.settled(reply, "delivered")


async def test_throttled_messages_go_later(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    world.whatsapp.fail_next("429")
    reply = await world.api.replied(ticket, "Hi")
    waiting = await world.api.until(
        f"messages/{reply['id']}", lambda detail: bool(detail["attempts"]) and detail["error"]
    )
    assert shown(waiting, "status") == ("queued",)
    assert waiting["error"]["class"] == "throttle"
    world.clock.ahead = timedelta(minutes=2)
    world.whatsapp.clock_ahead_s = 120
    await world.api.settled(reply, "delivered")
    assert len(world.whatsapp.sends) == 1


# --- files ---


async def test_files_down_and_up(world: World) -> None:
    ann = world.customer()
    await world.whatsapp.customer_sends_file(ann, PNG, "image/png", caption="Broken, see?")
    ticket = await world.api.ticket()
    path = f"tickets/{ticket['id']}/messages"
    found = await world.api.until(path, lambda page: page["items"][0]["attachments"][0]["state"] == "stored")
    message = found["items"][0]
    (file,) = message["attachments"]
    assert shown(message, "kind", "text") == ("image", "Broken, see?")
    assert shown(file, "kind", "media_type", "size") == ("image", "image/png", len(PNG))
    answer = await world.api.call("GET", file["url"])
    assert (answer.status, answer.body) == (200, PNG)
    assert (await world.api.call("GET", file["url"], headers={"Authorization": ""})).status == 401
    upload = await world.api.upload(PNG, "label.png", "image/png")
    reply = await world.api.replied(ticket, "Your label", attachments=[{"upload": upload}])
    await world.api.settled(reply, "delivered")
    sent = [accepted.payload for accepted in world.whatsapp.sends]
    assert [payload["type"] for payload in sent] == ["image"]
    assert sent[0]["image"]["caption"] == "Your label"


async def test_a_file_that_is_not_the_one_announced_is_not_shown(world: World) -> None:
    world.whatsapp.behaviour.corrupt_media = True
    await world.whatsapp.customer_sends_file(world.customer(), PNG, "image/png")
    ticket = await world.api.ticket()
    path = f"tickets/{ticket['id']}/messages"
    found = await world.api.until(path, lambda page: bool(page["items"][0]["attachments"][0]["reason"]))
    (file,) = found["items"][0]["attachments"]
    assert file["state"] == "pending"  # it is tried again
    assert (await world.api.call("GET", file["url"])).status == 409


# --- what else happens ---


async def test_reaction_marketing_stop_new_number_and_native_app(world: World) -> None:
    ann = world.customer()
    wamid = await world.whatsapp.customer_writes(ann, "Hello")
    ticket = await world.api.ticket()
    await world.whatsapp.customer_writes(ann, type="reaction", reaction={"message_id": wamid, "emoji": "👍"})
    path = f"tickets/{ticket['id']}/messages"
    found = await world.api.until(path, lambda page: bool(page["items"][0]["reactions"]))
    (reaction,) = found["items"][0]["reactions"]
    assert shown(reaction, "emoji", "contact_id") == ("👍", ticket["contact_id"])
    assert datetime.fromisoformat(reaction["at"]).tzinfo is not None
    await world.whatsapp.customer_sets_marketing(ann, stop=True)
    contact = await world.api.until(
        f"contacts/{ticket['contact_id']}", lambda contact: bool(contact["identities"][0]["opted_out_of"])
    )
    assert shown(contact["identities"][0], "state", "opted_out_of") == ("active", ["marketing"])
    await world.whatsapp.business_writes(ann, "From my phone")
    thread = await world.api.messages(ticket, 2)
    assert shown(thread[1], "direction", "text", "status") == ("outbound", "From my phone", "sent")
    await world.whatsapp.customer_changes_number(ann, "4915112345699", "DE.99")
    await world.whatsapp.customer_writes(ann, "My new number")
    await world.api.until(path, lambda page: page["items"][-1]["text"] == "My new number")
    assert (await world.api.ticket())["id"] == ticket["id"]
    reply = await world.api.replied(ticket, "Noted")
    await world.api.settled(reply, "delivered")
    assert world.whatsapp.sends[-1].to == "4915112345699"


async def test_the_handshake(world: World) -> None:
    assert await world.whatsapp.handshake("hello") == (200, "1158201444")
    assert (await world.whatsapp.handshake("wrong"))[0] == 403


async def test_long_texts_go_in_parts_and_count_as_one_message(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    words = " ".join(f"word{number}" for number in range(1500))
    reply = await world.api.replied(ticket, words)
    detail = await world.api.settled(reply, "delivered")
    bodies = [accepted.payload["text"]["body"] for accepted in world.whatsapp.sends]
    assert len(bodies) == len(detail["parts"]) > 1
    assert " ".join(bodies).split() == words.split()


# --- templates as the platform lists them ---


async def test_a_template_is_there_in_its_languages_only(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    template = {"name": "order_update", "parameters": ["Ann", "12"]}
    sent = await world.api.settled(await world.api.replied(ticket, template=template), "delivered")
    assert (sent["text"], sent["content"]["template"]["language"]) == ("[order_update] | Ann | 12", "en")
    refused = await world.api.reply(ticket, template=template | {"language": "de"})
    assert (refused.status, refused.rules) == (422, ["template"])
    assert refused.json["verdicts"][0]["remedy"] == "use a language it is there in: en"
    for texts in ({"body": "Ann"}, {"header": {"image": {"link": "https://x.test/i"}}}, ["Ann"], []):
        wrong = template | {"parameters": texts}
        assert (await world.api.reply(ticket, template=wrong)).rules == ["template"]
    by_part = template | {"parameters": {"body": ["Ann", "12"], "buttons": [{"sub_type": "url", "text": "42"}]}}
    shown = await world.api.replied(ticket, template=by_part)
    assert shown["text"] == "[order_update] | Ann | 12 | 42"


async def test_the_platforms_list_of_templates_rules(world: World) -> None:
    bill = Approved("bill_ready", "de", parameters=1, header="document", buttons=("url",))
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    await world.whatsapp.template_judged(bill, "APPROVED")
    unfit = {"name": "bill_ready", "language": "de", "parameters": ["Ann", "12"]}

    async def verdicts() -> list[str]:
        answer = await world.api.call("POST", f"tickets/{ticket['id']}/replies?dry_run=true", json={"template": unfit})
        return [verdict["reason"] for verdict in answer.json["verdicts"]]

    async def until(reason: str) -> None:
        async with asyncio.timeout(15):
            while reason not in await verdicts():  # noqa: ASYNC110 - it happens in the gateway's own time
                await asyncio.sleep(0.05)

    assert await verdicts() == []  # the webhook does not tell how many texts it takes
    world.clock.ahead = timedelta(seconds=21)
    world.gateway.core.bus.wake("templates")
    await until("the template 'bill_ready' takes 1 parameters, not 2")
    upload = await world.api.upload(b"%PDF-1.7", "bill.pdf", "application/pdf")
    fitting = {"name": "bill_ready", "language": "de", "parameters": {"body": ["Ann"], "buttons": ["42"]}}
    reply = await world.api.replied(ticket, template=fitting, attachments=[{"upload": upload}])
    await world.api.settled(reply, "delivered")
    (accepted,) = world.whatsapp.sends
    kinds = [component["type"] for component in accepted.payload["template"]["components"]]
    assert (kinds, world.whatsapp.uploads) == (["header", "body", "button"], 1)
    await world.whatsapp.template_judged(bill, "PAUSED")
    await until("the template 'bill_ready' is paused")
    refused = await world.api.reply(ticket, template=fitting)
    assert (refused.status, refused.rules) == (422, ["template"])


# --- structured answers ---


async def test_structured_content_and_quotes(world: World) -> None:
    wamid = await world.whatsapp.customer_writes(world.customer(), "Where are you?")
    ticket = await world.api.ticket()
    (question,) = await world.api.messages(ticket, 1)
    place = {"kind": "location", "latitude": 52.5, "longitude": 13.4, "name": "Shop"}
    reply = await world.api.replied(ticket, content=place, in_reply_to=question["id"])
    shown_reply = await world.api.settled(reply, "delivered")
    assert shown(shown_reply, "kind", "text", "in_reply_to") == ("location", "Shop", question["id"])
    assert shown_reply["content"]["location"]["latitude"] == 52.5
    buttons = {"kind": "interactive", "values": {"buttons": [{"id": "y", "title": "Yes"}, "No"]}}
    await world.api.settled(await world.api.replied(ticket, "Shall we wait?", content=buttons), "delivered")
    first, second = [accepted.payload for accepted in world.whatsapp.sends]
    assert (first["context"], first["location"]["name"]) == ({"message_id": wamid}, "Shop")
    assert second["interactive"]["action"]["buttons"][0]["reply"] == {"id": "y", "title": "Yes"}


async def test_content_that_cannot_go_is_refused_with_its_field(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    place = {"kind": "location", "latitude": 52.5, "longitude": 13.4}
    asked = (
        ({"content": place, "visibility": "note"}, "content"),
        ({"content": place, "template": {"name": "order_update", "language": "en"}}, "content"),
        ({"content": place, "text": "x" * 1025}, "text"),
        (
            {
                "template": {"name": "order_update"},
                "attachments": [{"url": "https://x.test/a"}, {"url": "https://x.test/b"}],
            },
            "attachments",
        ),
        ({"content": place | {"latitude": 90.1}}, "content.latitude"),
        ({"content": place | {"longitude": -181}}, "content.longitude"),
        ({"content": place, "text": "my words"}, "text"),
        ({"content": place, "html": "<p>my words</p>"}, "html"),
        ({"content": {"kind": "contacts", "contacts": [{"name": "Bo"}]}, "text": "my words"}, "text"),
        ({"template": {"name": "order_update"}, "text": "my words"}, "text"),
        ({"template": {"name": "order_update"}, "html": "<p>my words</p>"}, "html"),
        ({"template": {"name": "order_update"}, "text": "my words", "visibility": "note"}, "text"),
        *(
            ({"template": {"name": "order_update", "language": "en", "parameters": unfit}}, "template.parameters")
            for unfit in ({"nope": ["x"]}, {"buttons": [1, 2]}, {"body": ["a", "b"], "header": 5}, {"body": [None]})
        ),
        ({"text": "Hi", "in_reply_to": "0" * 32}, "in_reply_to"),
        ({"content": {"kind": "sticker"}}, "content"),
        ({"content": {"kind": "order"}}, "content.kind"),
        (
            {"text": "Well?", "content": {"kind": "interactive", "values": {"buttons": ["a", "b", "c", "d"]}}},
            "content.values.buttons",
        ),
        (
            {"text": "Well?", "content": {"kind": "interactive", "values": {"rows": ["a", {"title": "x" * 25}]}}},
            "content.values.rows[1].title",
        ),
    )
    for body, field in asked:
        for path in (f"tickets/{ticket['id']}/replies", f"tickets/{ticket['id']}/replies?dry_run=true"):
            answer = await world.api.call("POST", path, json=body)
            assert (answer.status, answer.json["field"]) == (422, field), body
    await world.twilio.customer_writes("Hello", sender="+15550100001")
    (text_ticket,) = [one for one in await world.api.items("tickets", 2) if one["channel"] == "sms"]
    for more, field in (({"content": place}, "content"), ({"text": "Hi", "in_reply_to": "0" * 32}, "in_reply_to")):
        answer = await world.api.call("POST", f"tickets/{text_ticket['id']}/replies", json=more)
        assert (answer.status, answer.json["field"]) == (422, field), more
    assert world.whatsapp.calls == world.twilio.calls == 0


async def test_a_template_the_platform_paused_is_not_tried_again(world: World) -> None:
    """Known from the refusal itself, before any list or webhook tells."""
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    template = {"name": "order_update", "language": "en", "parameters": ["Ann", "12"]}
    await world.api.settled(await world.api.replied(ticket, template=template), "delivered")
    world.whatsapp.add_template(Approved("order_update", "en", parameters=2, status="PAUSED"))
    failed = await world.api.settled(await world.api.replied(ticket, template=template), "failed")
    assert failed["error"]["code"] == "132015"
    refused = await world.api.reply(ticket, template=template)
    assert (refused.status, refused.rules[0]) == (422, "template")
    assert "paused" in refused.json["verdicts"][0]["reason"]
