"""Scenes in private: LINE, Messenger, Instagram, direct messages on X, WeChat, each with what only it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.demo.acts import BOT, log, opened, receipt, refused, reply, says
from gateway.demo.transcript import Transcript
from gateway.demo.world import World, told

YUKI, MEI = "U" + "a" * 32, "oDemoMeiLin0000000000000001"
THIRTY_HOURS_S = 30 * 3600.0
CARE = "\n".join(
    (
        "How to care for your jacket:",
        "1. Close every zip and turn the jacket inside out before you wash it, or the teeth will scratch the cloth.",
        "2. Wash it alone, at thirty degrees and with half of the usual powder. Leave the softener out: it clogs the "
        "membrane, and the jacket is no longer tight.",
        "3. Rinse it twice. What is left of the powder draws water, and the seams get wet first.",
        "4. Do not wring it. Lay it flat on a towel, roll the towel up and press; then hang it on a broad hanger, away "
        "from the sun and from every heater.",
        "5. Once it is dry, give it twenty minutes in the dryer at low heat. That brings the finish back.",
        "6. Rain no longer runs off? Spray the finish on again: from a hand's breadth away, in two thin coats, and let "
        "each of them dry for an hour.",
        "7. Small holes are mended with the patch from the inner pocket. Clean the place with alcohol, round the "
        "patch's corners off, press it on for a minute, and do not wash the jacket for a day.",
        "8. In summer let it hang freely. Folded for months, it breaks along the folds.",
        "And if anything is unclear, just write to us here.",
    )
)


async def five_write(world: World, out: Transcript) -> None:
    """Five more write in the apps they use: LINE, Messenger, Instagram, X and WeChat."""
    on = world.on
    line, messenger = "Is your shop open on Sunday?", "Can I pay when it arrives?"
    instagram, x = "How do I wash the blue jacket?", "My voucher BLUE-7 does not work."
    wechat = "Is the green tea back in stock?"
    tickets = [
        await says(world, out, on.line.chats(YUKI, line, "Yuki Mori"), line),
        await says(world, out, on.facebook.chats(world.marco, messenger), messenger),
        await says(world, out, on.instagram.chats(world.lena, instagram), instagram),
        await says(world, out, on.x.chats(world.omar, x), x),
        await says(world, out, on.wechat.chats(MEI, wechat, "Mei Lin"), wechat),
    ]
    for ticket in tickets:
        opened(out, ticket)
        told(ticket["status"] == "new" and "messaging_support" in ticket["tags"], "a chat made no ticket of its kind")


async def they_are_answered(world: World, out: Transcript) -> None:
    """Agents answer, and each platform tells as much as it has."""
    line, ticket = world.on.line.simulator, await _only(world, "line")
    await reply(world, out, ticket, "sent", text="It is, from eleven to six.")
    told("replyToken" in line.sends[-1].payload and not line.used, "the first answer did not go by the reply token")
    out.says("", None, "", "(by the reply token of her message: free of charge)")
    await reply(world, out, ticket, "sent", text="On the second floor, beside the lift.")
    told("replyToken" not in line.sends[-1].payload and line.used == 1, "the second answer is no push")
    out.says("", None, "", "(the token is used, so by push: 1 message of the month's quota)")
    await reply(world, out, await _only(world, "messenger"), "read", text="Yes, in cash or by card.")
    ticket = await _only(world, "x_dm")
    message = await reply(world, out, ticket, "sent", text="Sorry! Here is a new one: BLUE-8")
    await world.on.x.simulator.customer_reads(world.omar)
    receipt(out, ticket, await world.message_is(message["id"], "read"))
    ticket = await _only(world, "wechat")
    await reply(world, out, ticket, "sent", text="It is, since this morning.")
    contact = await world.get(f"/api/v1/contacts/{ticket['contact_id']}")
    left, platform = contact["identities"][0]["window"]["remaining"], world.on.wechat.simulator
    told(left == platform.world.followers[MEI].remaining == 4, f"{left} messages are left, not 4")
    out.says("", None, "", f"(WeChat takes {left} more until she writes again)")


async def in_parts(world: World, out: Transcript) -> None:
    """Instagram takes 1,000 bytes: a longer text goes in parts."""
    ticket, instagram = await _only(world, "instagram"), world.on.instagram.simulator
    asked = await world.call("POST", f"/api/v1/tickets/{ticket['id']}/replies?dry_run=true", {"text": CARE})
    parts = asked.json["parts"]
    told(asked.json["decision"] == "change" and len(parts) == 2, f"the text is {len(parts)} messages, not 2")
    size, shown = len(CARE.encode()), f"{CARE.splitlines()[0]} ..."
    out.says("agent", ticket["number"], "instagram", f"asks first (dry run): {shown} -> {size:,} bytes: "
                                                     f"{len(parts)} messages")  # fmt: skip
    await reply(world, out, ticket, "read", text=CARE, shown=shown)
    texts = [sent.payload["message"]["text"] for sent in instagram.sends]
    told(len(texts) == 2 and " ".join(texts).split() == CARE.split(), "the parts are not the text")
    sizes = " and ".join(f"{len(text.encode()):,}" for text in texts)
    out.says("", None, "", f"(2 messages of {sizes} bytes, cut between two lines)")


async def a_day_later(world: World, out: Transcript) -> None:
    """Messenger after 24 hours: a bot is refused, a person answers with the human-agent tag."""
    facebook = world.on.facebook
    facebook.simulator.clock_ahead_s = -THIRTY_HOURS_S  # the platform's own timestamp counts
    text = "Do you repair jackets, too?"
    ticket = await says(world, out, facebook.chats(world.nina, text), text)
    facebook.simulator.clock_ahead_s = 0.0
    out.says("", None, "", "(written thirty hours ago; the platform delivers it only now)")
    await refused(world, out, ticket, "window", "We do! Have a look at our price list.", author=BOT)
    await reply(world, out, ticket, "delivered", text="We do. What is broken?")
    sent = facebook.simulator.sends[-1].payload
    told((sent["messaging_type"], sent["tag"]) == ("MESSAGE_TAG", "HUMAN_AGENT"), "the tag is missing")
    queued = [event["data"] for event in await log(world, ticket) if event["kind"] == "reply.queued"]
    (verdict,) = queued[-1]["verdicts"]
    out.says("changed", ticket["number"], "messenger", f"by the rule {verdict['rule']}: {verdict['reason']}")


async def _only(world: World, channel: str) -> Mapping[str, Any]:
    """The channel's one ticket."""
    (ticket,) = await world.tickets(channel)
    return ticket
