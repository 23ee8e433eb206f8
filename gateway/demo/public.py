"""Scenes in public: a comment on Facebook and a mention on X, and what may not be said there."""

from __future__ import annotations

from gateway.demo.acts import log, refused, reply, says
from gateway.demo.transcript import Transcript
from gateway.demo.world import World, told


async def answered_in_public(world: World, out: Transcript) -> None:
    """In public: a comment on Facebook and a mention on X are answered where they stand."""
    facebook, x = world.on.facebook, world.on.x
    text = "Does the blue jacket come in large?"
    comment = await says(world, out, facebook.comments(world.tess, text), text)
    text = "@shop_help where is my order 1077?"
    mention = await says(world, out, x.mentions(world.raj, text), text)
    told("messaging_support" not in comment["tags"], "a comment is tagged as a chat")
    await reply(world, out, comment, "sent", text="It does, from Friday on.")
    told(facebook.simulator.sends[-1].payload["message"].startswith("It does"), "the comment was not answered")
    await reply(world, out, mention, "sent", text="Sorry, Raj! It left this morning.")
    told(x.simulator.sends[-1].payload["reply"]["in_reply_to_tweet_id"], "the mention was not answered")


async def answered_in_private(world: World, out: Transcript) -> None:
    """A comment is also answered in private, once; what its author says to that opens a ticket of its own."""
    facebook = world.on.facebook
    (comment,) = await world.tickets("facebook")
    await reply(world, out, comment, "delivered", text="Shall I keep one for you?", visibility="private")
    told("comment_id" in facebook.simulator.sends[-1].payload["recipient"], "the answer was not a private reply")
    await refused(world, out, comment, "private_reply", "Or two?", visibility="private")
    text = "Oh yes, please! I come by on Saturday."
    chat = await says(world, out, facebook.chats(world.tess, text), text)
    told(chat["channel"] == "messenger" and chat["contact_id"] == comment["contact_id"], "it is another person's")

    async def linked() -> bool | None:
        found = [event["data"] for event in await log(world, chat) if event["kind"] == "ticket.linked"]
        return [one["number"] for one in found] == [comment["number"]] or None

    await world.until(linked, "the tickets do not name each other")
    out.says("ticket", chat["number"], "messenger", f"made, and linked with #{comment['number']}: the same person")


async def not_called(world: World, out: Transcript) -> None:
    """On X nobody is answered in public who did not call us: the platform would refuse it, so it never leaves."""
    x = world.on.x.simulator
    (ticket,) = await world.tickets("x")
    calls, ours = x.calls, x.sends[-1].external_id
    text = "Great, then I need not wait at home."

    async def thanks() -> tuple[str, str]:
        await x.customer_mentions(world.raj, text, reply_to=ours, mention=False)
        return "x", world.raj.name

    await says(world, out, thanks(), text)
    await refused(world, out, ticket, "answerable", "You are welcome!")
    told(x.calls == calls, "X was asked all the same")
