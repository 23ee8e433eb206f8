"""The story the demo tells, scene by scene. Each checks that what happened is what it says."""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from adapters.sandbox.smtp import Delivered
from gateway.demo.acts import AGENT, by_mail, by_sms, by_whatsapp, log, opened, receipt, refused, reply
from gateway.demo.chats import a_day_later, five_write, in_parts, they_are_answered
from gateway.demo.platforms import TEMPLATE
from gateway.demo.public import answered_in_private, answered_in_public, not_called
from gateway.demo.transcript import Transcript
from gateway.demo.world import BEN, World, told

Scene = Callable[[World, Transcript], Awaitable[None]]

ANN = "ann@customer.test"
CLEO_MAIL = "cleo@customer.test"
NAMELESS = ("wechat",)  # WeChat tells no names
SUBJECT_MAX = 34  # characters in the table
TWO_DAYS_S = 2 * 24 * 3600.0
LABEL = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Count 0>>endobj\n%%EOF\n"


def _last_mail_to(world: World, recipient: str) -> Delivered:
    return next(mail for mail in reversed(world.on.mail.simulator.sends) if recipient in mail.recipients)


async def three_write(world: World, out: Transcript) -> None:
    """Three customers write on three channels; each message becomes a ticket."""
    tickets = [
        await by_mail(world, out, ANN, "The jacket of order 1042 is too small. Can I change it?", name="Ann Berg",
                      subject="Order 1042: wrong size"),
        await by_sms(world, out, BEN, "Is my parcel on its way?"),
        await by_whatsapp(world, out, world.cleo, "Hello, do you ship to Canada?"),
    ]  # fmt: skip
    for ticket in tickets:
        opened(out, ticket)
    told([ticket["number"] for ticket in tickets] == [1, 2, 3], "the tickets are not numbered 1, 2, 3")
    told(all(ticket["status"] == "new" for ticket in tickets), "a ticket is not new")
    told("messaging_support" in tickets[2]["tags"], "the WhatsApp ticket lacks its tag")


async def agents_answer(world: World, out: Transcript) -> None:
    """Agents answer: a text, a file, and receipts that come back."""
    one, two, three = [await world.ticket(number) for number in (1, 2, 3)]
    label = await world.upload("return-label.pdf", "application/pdf", LABEL)
    files = [{"upload": label, "filename": "return-label.pdf"}]
    text = "Of course. Send it back with this label, and the larger one leaves today."
    await reply(world, out, one, "sent", text=text, attachments=files)
    told(b"return-label.pdf" in _last_mail_to(world, ANN).raw, "the mail does not hold the file")
    await reply(world, out, two, "delivered", text="It is. You should have it tomorrow before noon.")
    dry = await world.call("POST", f"/api/v1/tickets/{three['id']}/replies?dry_run=true", {"text": "Yes, we do."})
    told(dry.status == 200 and dry.json["decision"] == "allow", "the dry run does not allow the reply")
    out.says("agent", 3, "whatsapp", "asks first (dry run): Yes, we do. -> allow")
    await reply(world, out, three, "read", text="Yes, we do. It takes five days.")
    told((await world.ticket(1))["status"] == "open", "an answered ticket is not open")


async def they_write_back(world: World, out: Transcript) -> None:
    """The customers write back; their tickets go on."""
    mail = _last_mail_to(world, ANN)
    ticket = await by_mail(world, out, ANN, "Thank you, I will post it tonight.", name="Ann Berg", answers=mail)
    told(ticket["number"] == 1 and ticket["conversation_state"] == "replied", "the mail did not find its ticket")
    ticket = await by_whatsapp(world, out, world.cleo, "Great, then I will order two.")
    told(ticket["number"] == 3, "the WhatsApp message did not find its ticket")


async def solved_and_closed(world: World, out: Transcript) -> None:
    """A solved ticket is reopened; a closed one is not: its customer gets a follow-up ticket."""
    one = await world.ticket(1)
    await reply(world, out, one, "sent", text="Good. I have marked this as solved.", status="solved")
    told((await world.ticket(1))["status"] == "solved", "the ticket is not solved")
    mail = _last_mail_to(world, ANN)
    ticket = await by_mail(world, out, ANN, "One more thing: who pays the postage?", name="Ann Berg", answers=mail)
    told(ticket["number"] == 1 and ticket["status"] == "open", "the solved ticket was not reopened")
    out.says("ticket", 1, "email", "solved -> open again")
    await reply(world, out, one, "sent", text="We do.")
    closed = await world.call("PATCH", f"/api/v1/tickets/{one['id']}", {"status": "closed"})
    told(closed.status == 200 and closed.json["status"] == "closed", "the ticket could not be closed")
    out.says("ticket", 1, "email", "closed by Mia")
    await refused(world, out, one, "closed_ticket", "And here is a voucher.")
    mail = _last_mail_to(world, ANN)
    ticket = await by_mail(world, out, ANN, "The larger one has a broken zip.", name="Ann Berg", answers=mail)
    old = await world.ticket(1)
    told(ticket["follow_up_of"] == old["id"] and ticket["id"] in old["follow_ups"], "the tickets are not linked")
    told(ticket["via"] == "closed_ticket" and old["status"] == "closed", "the follow-up does not say what it is")
    out.says("ticket", ticket["number"], "email", "made via closed_ticket: a follow-up of #1, each linked to the other")


async def one_person(world: World, out: Transcript) -> None:
    """One person on several channels is one contact, by the matching attribute."""
    sms = await world.ticket(2)
    ticket = await by_whatsapp(world, out, world.ben, "It came! One cup is broken, though.")
    told(ticket["contact_id"] == sms["contact_id"], "the phone number did not link SMS and WhatsApp")
    out.says("contact", ticket["number"], "", f"{await _identities(world, ticket)}: the phone number is the same")
    mail = await by_mail(world, out, CLEO_MAIL, "My invoice for the two shirts?", name="Cleo Park", subject="Invoice")
    whatsapp = await world.ticket(3)
    told(mail["contact_id"] != whatsapp["contact_id"], "mail and WhatsApp were linked by nothing")
    number = f"+{world.cleo.wa_id}"
    set_ = await world.call("PATCH", f"/api/v1/contacts/{mail['contact_id']}", {"attributes": {"phone": number}})
    told(set_.status == 200, f"the phone number could not be set: {set_.json}")
    out.says("agent", mail["number"], "email", f"Mia enters Cleo's phone number: {number}")
    mail, whatsapp = await world.ticket(mail["number"]), await world.ticket(3)
    told(mail["contact_id"] == whatsapp["contact_id"], "the number an agent entered did not link the contacts")
    out.says("contact", mail["number"], "", await _identities(world, mail))


async def _identities(world: World, ticket: Mapping[str, Any]) -> str:
    contact = await world.get(f"/api/v1/contacts/{ticket['contact_id']}")
    return " + ".join(sorted(f"{one['channel']} {one['external_id']}" for one in contact["identities"]))


async def window_closed(world: World, out: Transcript) -> None:
    """WhatsApp's 24-hour window: a text is refused, an approved template passes."""
    whatsapp = world.on.whatsapp.simulator
    whatsapp.clock_ahead_s = -TWO_DAYS_S  # the platform's own timestamp counts, not when we heard of it
    ticket = await by_whatsapp(world, out, world.dana, "Please tell me when the red lamp is back.")
    whatsapp.clock_ahead_s = 0.0
    out.says("", None, "", "(written two days ago; the platform delivers it only now)")
    await refused(world, out, ticket, "window", "It is back since this morning!", dry=True)
    await refused(world, out, ticket, "window", "It is back since this morning!")
    template = {"name": TEMPLATE.name, "language": TEMPLATE.language, "parameters": ["Dana", "the red lamp"]}
    await reply(world, out, ticket, "delivered", template=template)


async def instead_by_sms(world: World, out: Transcript) -> None:
    """WhatsApp is closed: the reply itself asks for a text message instead."""
    sms = await by_sms(world, out, f"+{world.dana.wa_id}", "Or text me, I rarely look at WhatsApp.")
    ticket = next(one for one in await world.tickets("whatsapp") if one["contact_id"] == sms["contact_id"])
    text = "The red lamp is back. Shall I keep one for you?"
    body = {"author": AGENT, "text": text, "fallback": [{"channel": "sms"}]}
    answer = await world.call("POST", f"/api/v1/tickets/{ticket['id']}/replies", body)
    told(answer.status == 202, f"a reply with a fallback is answered {answer.status}")
    out.says("agent", ticket["number"], "whatsapp", f"Mia: {text} (else by sms)")
    (line,) = [event["data"] for event in await log(world, ticket) if event["kind"] == "reply.fell_back"]
    went = line["went_to"]
    told((went["ticket_id"], went["channel"]) == (sms["id"], "sms"), "the reply did not go by text message")
    out.says(
        "fallback", ticket["number"], "whatsapp", f"{line['rule']}: {line['reason']}; sent by sms on #{sms['number']}"
    )
    receipt(out, sms, await world.message_is(went["message_id"], "delivered"))


async def opted_out(world: World, out: Transcript) -> None:
    """Who says STOP is left alone."""
    before = len(world.on.sms.simulator.sends)
    ticket = await by_sms(world, out, BEN, "STOP")
    told(ticket["number"] == 2, "STOP did not find its ticket")
    await refused(world, out, ticket, "opt_out", "We are sorry to see you go!")
    told(len(world.on.sms.simulator.sends) == before, "a text message left after STOP")


async def twice_and_over_the_api(world: World, out: Transcript) -> None:
    """A webhook that comes twice changes nothing; and a ticket over the API channel."""
    text = "Can I pick it up in your shop?"
    content = {"type": "text", "text": {"body": text}}
    whatsapp = world.on.whatsapp.simulator
    webhook = whatsapp.delivery([whatsapp.inbound(world.cleo, "wamid.demo.twice", content)])
    statuses = [await whatsapp.post_webhook(webhook.url, webhook.body, webhook.headers) for _ in range(2)]
    told(statuses == [200, 200], f"the webhooks are answered {statuses}")
    ticket, _ = await world.filed("whatsapp", text)
    out.says("customer", ticket["number"], "whatsapp", f"{world.cleo.name}: {text}")
    body = {
        "direction": "inbound",
        "from": {"name": "Eve Lang", "email": "eve@customer.test"},
        "text": "Do you have vouchers?",
    }
    answer = await world.call("POST", "/api/v1/messages", body)
    told(answer.status == 202 and answer.json["ticket_id"], f"the API is answered {answer.status}")
    made = await world.get(f"/api/v1/tickets/{answer.json['ticket_id']}")
    same = [message for message in await world.messages(ticket) if message["text"] == text]
    told(len(same) == 1, f"the message stands {len(same)} times in its ticket")
    out.says(
        "repeat", ticket["number"], "whatsapp", "the same webhook again, answered 200 both times: still one message"
    )
    out.says("customer", made["number"], "api", f"Eve Lang: {body['text']}")
    told(made["channel"] == "api", "the ticket is not of the API channel")
    dead = (await world.get("/api/v1/dead"))["items"]
    told(not dead, f"{len(dead)} dead letters were made")


SCENES: tuple[Scene, ...] = (
    three_write,
    agents_answer,
    they_write_back,
    solved_and_closed,
    one_person,
    window_closed,
    instead_by_sms,
    opted_out,
    five_write,
    they_are_answered,
    in_parts,
    a_day_later,
    answered_in_public,
    answered_in_private,
    not_called,
    twice_and_over_the_api,
)


def _short(subject: str) -> str:
    return textwrap.shorten(subject, SUBJECT_MAX, placeholder=" ...")


async def _named(world: World) -> list[dict[str, Any]] | None:
    """All tickets, None while a name is being asked for: that is done beside the story."""
    tickets = await world.tickets()
    return tickets if all(one["contact_name"] for one in tickets if one["channel"] not in NAMELESS) else None


async def table_of_tickets(world: World, out: Transcript) -> None:
    """Every ticket as it stands now, once the platforms that tell names have told them."""
    tickets = await world.until(lambda: _named(world), "a customer's name is still unknown")
    numbers = {ticket["id"]: f"#{ticket['number']}" for ticket in tickets}
    rows = []
    for ticket in tickets:
        messages = await world.messages(ticket)
        links = [f"follow-up of {numbers[ticket['follow_up_of']]}"] if ticket["follow_up_of"] else []
        links += [f"followed by {numbers[follower]}" for follower in ticket["follow_ups"]]
        counts = [str(sum(one["direction"] == way for one in messages)) for way in ("inbound", "outbound")]
        facts = [ticket["status"], ticket["channel"], ticket["via"], ticket["contact_name"] or "-"]
        rows.append((f"#{ticket['number']}", *facts, *counts, _short(ticket["subject"]), ", ".join(links)))
    out.table(("ticket", "status", "channel", "via", "contact", "in", "out", "subject", ""), rows)
