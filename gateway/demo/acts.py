"""What people do in the story: customers write, agents reply and are refused. Each act is told, and checked."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from adapters.sandbox.meta_whatsapp import Customer
from adapters.sandbox.smtp import Delivered
from gateway.demo.platforms import Said
from gateway.demo.transcript import Transcript
from gateway.demo.world import World, told

AGENT = {"type": "agent", "id": "mia", "name": "Mia"}
BOT = {"type": "bot", "id": "robo", "name": "Robo"}


async def says(world: World, out: Transcript, writing: Awaitable[Said | None], text: str) -> dict[str, Any]:
    """A customer writes `text`; the ticket it is on, {} when nobody wrote."""
    since = world.now()
    said = await writing
    if said is None:
        return {}
    channel, who = said
    ticket, _ = await world.filed(channel, text, since)
    out.says("customer", ticket["number"], channel, f"{who}: {text}")
    return ticket


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
    writing = world.on.mail.mails(sender, text, name=name, subject=subject, reply_to=answers)
    return await says(world, out, writing, text)


async def by_sms(world: World, out: Transcript, sender: str, text: str) -> dict[str, Any]:
    """A customer writes a text message; the ticket it is on."""
    return await says(world, out, world.on.sms.texts(sender, text), text)


async def by_whatsapp(world: World, out: Transcript, customer: Customer, text: str) -> dict[str, Any]:
    """A customer writes on WhatsApp; the ticket it is on."""
    return await says(world, out, world.on.whatsapp.chats(customer, text), text)


async def reply(
    world: World, out: Transcript, ticket: Mapping[str, Any], *until: str, shown: str = "", **words: Any
) -> dict[str, Any]:
    """An agent replies, and the message comes as far as one of `until`. `shown`: what is told of a long text."""
    answer = await world.call("POST", f"/api/v1/tickets/{ticket['id']}/replies", {"author": AGENT, **words})
    told(answer.status == 202, f"a reply on #{ticket['number']} is answered {answer.status}: {answer.json}")
    template = words.get("template")
    said = f"template {template['name']} {template['parameters']}" if template else shown or words["text"]
    how = "in private: " if words.get("visibility") == "private" else ""
    files = [f"[{file['filename']}]" for file in words.get("attachments", ())]
    out.says("agent", ticket["number"], ticket["channel"], " ".join([f"Mia: {how}{said}", *files]))
    message = await world.message_is(answer.json["id"], *until)
    receipt(out, ticket, message)
    return message


def receipt(out: Transcript, ticket: Mapping[str, Any], message: Mapping[str, Any]) -> None:
    """How far a message came."""
    steps = dict.fromkeys(receipt["status"] for receipt in message["receipts"])
    trail = ["queued", "sent", *(step for step in steps if step not in ("sent", "queued"))]
    out.says("receipt", ticket["number"], ticket["channel"], " -> ".join(trail))


async def refused(
    world: World,
    out: Transcript,
    ticket: Mapping[str, Any],
    rule: str,
    text: str,
    *,
    dry: bool = False,
    author: Mapping[str, str] = AGENT,
    **more: Any,
) -> None:
    """A reply is refused by `rule`; with `dry` the agent only asks."""
    path = f"/api/v1/tickets/{ticket['id']}/replies{'?dry_run=true' if dry else ''}"
    answer = await world.call("POST", path, {"author": author, "text": text, **more})
    told(answer.status == (200 if dry else 422), f"a reply that should be refused is answered {answer.status}")
    verdicts: Sequence[Mapping[str, Any]] = answer.json["verdicts"]
    told(verdicts and verdicts[0]["rule"] == rule and verdicts[0]["decision"] == "deny", f"{rule} does not refuse")
    asks = "asks first (dry run)" if dry else author["name"]
    how = "in private: " if more.get("visibility") == "private" else ""
    out.says(author["type"], ticket["number"], ticket["channel"], f"{asks}: {how}{text}")
    out.refused(ticket["number"], ticket["channel"], verdicts[0])
    if not dry:
        events = await log(world, ticket)
        told(any(event["kind"] == "reply.refused" for event in events), "the refusal is not in the ticket's log")


async def log(world: World, ticket: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ticket's event log."""
    items: list[dict[str, Any]] = (await world.get(f"/api/v1/tickets/{ticket['id']}/events"))["items"]
    return items


def opened(out: Transcript, ticket: Mapping[str, Any]) -> None:
    """A ticket was made."""
    out.says("ticket", ticket["number"], ticket["channel"], f"made: {ticket['subject']!r}, {ticket['status']}")
