"""Who may write to whom: conversations that another application holds, followers who never wrote, who has left."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from adapters.sandbox.facebook import Customer, FacebookPage
from adapters.sandbox.instagram import InstagramAccount
from adapters.sandbox.line import LineSimulator
from adapters.sandbox.line import User as LineUser
from adapters.sandbox.wechat import Follower
from tests.support.chats import Chats
from tests.support.single import Single, open_instagram, open_line, open_page

BOT: dict[str, Any] = {"author": {"type": "bot", "id": "9", "name": "Robo"}}
MIKA, MARA = "U" + "1" * 32, "oDemoUser000000000000000001"


async def test_on_messenger_a_person_may_answer_what_another_application_holds(tmp_path: Path) -> None:
    async with open_page(tmp_path, FacebookPage()) as page:
        jo = Customer("9988776655")
        await page.platform.customer_does(jo, standby=True, message={"mid": "m_1", "text": "Hello"})
        ticket = await page.api.ticket()
        refused = await page.api.reply(ticket, "I am a machine", **BOT)
        assert (refused.status, refused.rules) == (422, ["answerable"])
        await page.api.settled(await page.api.replied(ticket, "I am Kim"), "delivered")


async def test_on_instagram_nobody_does_until_it_is_ours(tmp_path: Path) -> None:
    async with open_instagram(tmp_path, InstagramAccount()) as world:
        mara = Customer("62000000007", "Mara Lind")
        await world.platform.customer_does(mara, standby=True, message={"mid": "aWdf1", "text": "Hello"})
        ticket = await world.api.ticket()
        assert (await world.api.reply(ticket, "Hi")).rules == ["answerable"]
        await world.platform.customer_does(mara, pass_thread_control={"new_owner_app_id": "555444333"})
        path = f"tickets/{ticket['id']}/messages"
        await world.api.until(path, lambda found: found["items"][0]["flags"] == ["was_standby"])
        await world.api.settled(await world.api.replied(ticket, "Hi"), "sent")


async def test_on_instagram_a_word_to_us_or_a_day_of_silence_end_it(tmp_path: Path) -> None:
    async with open_instagram(tmp_path, InstagramAccount(), human_agent=True) as world:
        world.platform.behaviour.human_agent = True
        mara = Customer("62000000007", "Mara Lind")
        await world.platform.customer_does(mara, standby=True, message={"mid": "aWdf1", "text": "Hello"})
        ticket = await world.api.ticket()
        assert (await world.api.reply(ticket, "Hi")).rules == ["answerable"]
        world.later(timedelta(hours=24, minutes=1))
        await world.api.settled(await world.api.replied(ticket, "Sorry for the wait"), "sent")
        await world.platform.customer_does(mara, standby=True, message={"mid": "aWdf2", "text": "Again"})
        await world.api.messages(ticket, 3)
        assert (await world.api.reply(ticket, "Hi")).rules == ["answerable"]
        await world.platform.customer_writes(mara, "To you")
        await world.api.messages(ticket, 4)
        await world.api.settled(await world.api.replied(ticket, "Hi"), "sent")


async def line_event(world: Single, user: LineUser, text: str, mode: str) -> None:
    event = world.platform.event("message", user, message=world.platform.message(type="text", text=text))
    await world.platform.post([event | {"mode": mode}])


async def test_on_line_standby_is_silence(tmp_path: Path) -> None:
    async with open_line(tmp_path, LineSimulator()) as line:
        await line_event(line, LineUser(MIKA), "Hello", "standby")
        ticket = await line.api.ticket()
        assert (await line.api.reply(ticket, "Hi")).rules == ["answerable"]
        await line_event(line, line.platform.users[MIKA], "And now?", "active")
        await line.api.messages(ticket, 2)
        await line.api.settled(await line.api.replied(ticket, "Hi"), "sent")


async def test_a_follower_on_line_may_be_written_to_first(tmp_path: Path) -> None:
    async with open_line(tmp_path, LineSimulator()) as line:
        stranger = {"channel": "line", "to": "U" + "9" * 32, "text": "Welcome"}
        refused = await line.api.call("POST", "messages", json=stranger)
        assert (refused.status, refused.rules) == (422, ["recipient"])
        await line.platform.customer_follows(LineUser(MIKA))
        await line.api.items("contacts", 1)
        message = await line.api.post("messages", {"channel": "line", "to": MIKA, "text": "Welcome"})
        await line.api.settled(message, "sent")
        assert [(to, one["text"]) for to, one in line.platform.inbox] == [(MIKA, "Welcome")]
        await line.platform.customer_blocks(line.platform.users[MIKA])
        path = f"contacts/{message['contact_id']}"
        await line.api.until(path, lambda contact: contact["identities"][0]["state"] == "blocked")
        again = await line.api.call("POST", "messages", json={"channel": "line", "to": MIKA, "text": "Hello?"})
        assert (again.status, again.rules[0]) == (422, "blocked")


async def test_who_no_longer_follows_on_wechat_is_not_written_to(tmp_path: Path) -> None:
    async with Chats.open(tmp_path) as chats:
        await chats.wechat.customer_writes(Follower(MARA, follows=False))
        ticket = await chats.api.ticket()
        path = f"contacts/{ticket['contact_id']}"
        await chats.api.until(path, lambda contact: contact["identities"][0]["state"] == "blocked")
        assert (await chats.api.reply(ticket, "Hello?")).rules[0] == "blocked"
