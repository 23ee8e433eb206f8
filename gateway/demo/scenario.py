"""The story the demo tells, scene by scene. Each checks that what happened is what it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from adapters.sandbox.meta_whatsapp import Customer
from adapters.sandbox.smtp import Delivered
from gateway.demo.transcript import Transcript
from gateway.demo.world import BEN, SUPPORT, TEMPLATE, World, told

Scene = Callable[[World, Transcript], Awaitable[None]]

ANN = "ann@customer.test"
CLEO_MAIL = "cleo@customer.test"
AGENT = {"type": "agent", "id": "mia", "name": "Mia"}
TWO_DAYS_S = 2 * 24 * 3600.0
LABEL = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Count 0>>endobj\n%%EOF\n"


# --- what people do ---------------------------------------------------------------------------------------------------


async def by_mail(
    world: World,
    out: Transcript,
    sender: str,
    text: str,
    *,
    name: str,
    subject: str = "",
    answers: Delivered | None = None,
) -> dict[str, Any]:
    """A customer writes a mail; the ticket it is on."""
    await world.mail.customer_writes(
        world.smtp_port, sender, SUPPORT, name=name, subject=subject, text=text, reply_to=answers
    )
    ticket, _ = await world.filed("email", text)
    out.says("customer", ticket["number"], "email", f"{name}: {text}")
    return ticket


async def by_sms(world: World, out: Transcript, sender: str, text: str) -> dict[str, Any]:
    """A customer writes a text message; the ticket it is on."""
    await world.sms.customer_writes(text, sender=sender)
    ticket, _ = await world.filed("sms", text)
    out.says("customer", ticket["number"], "sms", f"{sender}: {text}")
    return ticket


async def by_whatsapp(world: World, out: Transcript, customer: Customer, text: str) -> dict[str, Any]:
    """A customer writes on WhatsApp; the ticket it is on."""
    await world.whatsapp.customer_writes(customer, text)
    ticket, _ = await world.filed("whatsapp", text)
    out.says("customer", ticket["number"], "whatsapp", f"{customer.name}: {text}")
    return ticket


async def reply(world: World, out: Transcript, ticket: Mapping[str, Any], *until: str, **words: Any) -> dict[str, Any]:
    """An agent replies, and the message comes as far as one of `until`."""
    answer = await world.call("POST", f"/api/v1/tickets/{ticket['id']}/replies", {"author": AGENT, **words})
    told(answer.status == 202, f"a reply on #{ticket['number']} is answered {answer.status}: {answer.json}")
    template = words.get("template")
    said = f"template {template['name']} {template['parameters']}" if template else words["text"]
    files = [f"[{file['filename']}]" for file in words.get("attachments", ())]
    out.says("agent", ticket["number"], ticket["channel"], " ".join([f"Mia: {said}", *files]))
    message = await world.message_is(answer.json["id"], *until)
    steps = dict.fromkeys(receipt["status"] for receipt in message["receipts"])
    trail = ["queued", "sent", *(step for step in steps if step not in ("sent", "queued"))]
    out.says("receipt", ticket["number"], ticket["channel"], " -> ".join(trail))
    return message


async def refused(
    world: World, out: Transcript, ticket: Mapping[str, Any], rule: str, text: str, *, dry: bool = False
) -> None:
    """An agent's reply is refused by `rule`; with `dry` the agent only asks."""
    path = f"/api/v1/tickets/{ticket['id']}/replies{'?dry_run=true' if dry else ''}"
    answer = await world.call("POST", path, {"author": AGENT, "text": text})
    told(answer.status == (200 if dry else 422), f"a reply that should be refused is answered {answer.status}")
    verdicts: Sequence[Mapping[str, Any]] = answer.json["verdicts"]
    told(verdicts and verdicts[0]["rule"] == rule and verdicts[0]["decision"] == "deny", f"{rule} does not refuse")
    asks = "asks first (dry run)" if dry else "Mia"
    out.says("agent", ticket["number"], ticket["channel"], f"{asks}: {text}")
    out.refused(ticket["number"], ticket["channel"], verdicts[0])
    if not dry:
        events = (await world.get(f"/api/v1/tickets/{ticket['id']}/events"))["items"]
        told(any(event["kind"] == "reply.refused" for event in events), "the refusal is not in the ticket's log")


def _opened(out: Transcript, ticket: Mapping[str, Any]) -> None:
    out.says("ticket", ticket["number"], ticket["channel"], f"made: {ticket['subject']!r}, {ticket['status']}")


def _last_mail_to(world: World, recipient: str) -> Delivered:
    return next(mail for mail in reversed(world.mail.sends) if recipient in mail.recipients)


# --- the scenes -------------------------------------------------------------------------------------------------------


async def three_write(world: World, out: Transcript) -> None:
    """Three customers write on three channels; each message becomes a ticket."""
    tickets = [
        await by_mail(world, out, ANN, "The jacket of order 1042 is too small. Can I change it?", name="Ann Berg",
                      subject="Order 1042: wrong size"),
        await by_sms(world, out, BEN, "Is my parcel on its way?"),
        await by_whatsapp(world, out, world.cleo, "Hello, do you ship to Canada?"),
    ]  # fmt: skip
    for ticket in tickets:
        _opened(out, ticket)
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
    world.whatsapp.clock_ahead_s = -TWO_DAYS_S  # the platform's own timestamp counts, not when we heard of it
    ticket = await by_whatsapp(world, out, world.dana, "Please tell me when the red lamp is back.")
    world.whatsapp.clock_ahead_s = 0.0
    out.says("", None, "", "(written two days ago; the platform delivers it only now)")
    await refused(world, out, ticket, "window", "It is back since this morning!", dry=True)
    await refused(world, out, ticket, "window", "It is back since this morning!")
    template = {"name": TEMPLATE.name, "language": TEMPLATE.language, "parameters": ["Dana", "the red lamp"]}
    await reply(world, out, ticket, "delivered", template=template)


async def opted_out(world: World, out: Transcript) -> None:
    """Who says STOP is left alone."""
    ticket = await by_sms(world, out, BEN, "STOP")
    told(ticket["number"] == 2, "STOP did not find its ticket")
    await refused(world, out, ticket, "opt_out", "We are sorry to see you go!")
    told(len(world.sms.sends) == 1, "a text message left after STOP")


async def twice_and_over_the_api(world: World, out: Transcript) -> None:
    """A webhook that comes twice changes nothing; and a ticket over the API channel."""
    text = "Can I pick it up in your shop?"
    content = {"type": "text", "text": {"body": text}}
    webhook = world.whatsapp.delivery([world.whatsapp.inbound(world.cleo, "wamid.demo.twice", content)])
    statuses = [await world.whatsapp.post_webhook(webhook.url, webhook.body, webhook.headers) for _ in range(2)]
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
    opted_out,
    twice_and_over_the_api,
)


async def table_of_tickets(world: World, out: Transcript) -> None:
    """Every ticket as it stands now."""
    tickets = await world.tickets()
    numbers = {ticket["id"]: f"#{ticket['number']}" for ticket in tickets}
    rows = []
    for ticket in tickets:
        messages = await world.messages(ticket)
        links = [f"follow-up of {numbers[ticket['follow_up_of']]}"] if ticket["follow_up_of"] else []
        links += [f"followed by {numbers[follower]}" for follower in ticket["follow_ups"]]
        counts = [str(sum(one["direction"] == way for one in messages)) for way in ("inbound", "outbound")]
        facts = [ticket["status"], ticket["channel"], ticket["via"], ticket["contact_name"] or "-"]
        rows.append((f"#{ticket['number']}", *facts, *counts, ticket["subject"], ", ".join(links)))
    out.table(("ticket", "status", "channel", "via", "contact", "in", "out", "subject", ""), rows)
