"""Comments hidden, shown again and deleted by an agent: at the platform, in the thread, in the event log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.sandbox.facebook import Customer, FacebookPage
from adapters.sandbox.instagram import InstagramAccount
from gateway.control import create_key
from tests.support.api import Answer, Api
from tests.support.single import Single, open_instagram, open_page


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Single]:
    async with open_page(tmp_path, FacebookPage()) as world:
        yield world


@pytest.fixture
async def instagram(tmp_path: Path) -> AsyncIterator[Single]:
    async with open_instagram(tmp_path, InstagramAccount()) as world:
        yield world


def jo() -> Customer:
    return Customer("9988776655", "Jo Example", commenter="4455667788")


async def do(world: Single, message: dict[str, Any], action: str) -> Answer:
    return await world.api.call("POST", f"messages/{message['id']}/{action}")


async def kinds(world: Single, ticket: dict[str, Any]) -> list[str]:
    return [entry["kind"] for entry in await world.api.log(ticket)]


async def test_a_comment_is_hidden_shown_and_deleted(page: Single) -> None:
    ref = await page.platform.customer_comments(jo(), "Rude words", page.platform.page_post())
    ticket = await page.api.ticket()
    (message,) = await page.api.messages(ticket, 1)
    hidden = await do(page, message, "hide")
    assert (hidden.status, hidden.json["flags"]) == (200, ["hidden"])
    assert page.platform.comments[ref].hidden
    refused = await page.api.reply(ticket, "Please be kind")
    assert (refused.status, refused.rules) == (422, ["answerable"])
    assert (await do(page, message, "hide")).status == 200  # again: nothing changes
    shown = await do(page, message, "unhide")
    assert (shown.status, shown.json["flags"], page.platform.comments[ref].hidden) == (200, [], False)
    await page.api.settled(await page.api.replied(ticket, "Please be kind"), "sent")
    deleted = await do(page, message, "delete")
    assert (deleted.status, deleted.json["text"], bool(deleted.json["deleted_at"])) == (200, "", True)
    assert ref not in page.platform.comments
    log = await kinds(page, ticket)
    assert [kind for kind in log if kind.startswith("message.")] == [
        "message.received", "message.hidden", "message.shown", "message.removed",
    ]  # fmt: skip
    assert (await do(page, message, "delete")).json["code"] == "not_moderatable"


async def test_what_we_wrote_is_deleted_and_never_hidden(page: Single) -> None:
    await page.platform.customer_comments(jo(), "When?", page.platform.page_post())
    ticket = await page.api.ticket()
    reply = await page.api.settled(await page.api.replied(ticket, "Tomorow"), "sent")
    assert (await do(page, reply, "hide")).json["code"] == "not_moderatable"
    assert (await do(page, reply, "delete")).status == 200
    assert reply["external_id"] not in page.platform.comments


async def test_what_is_private_is_not_moderated_and_a_refusal_of_the_platform_is_told(page: Single) -> None:
    await page.platform.customer_writes(jo(), "In private")
    (private,) = await page.api.messages(await page.api.ticket(), 1)
    assert (await do(page, private, "hide")).json["code"] == "not_moderatable"
    ref = await page.platform.customer_comments(jo(), "Gone soon", page.platform.page_post())
    ticket = (await page.api.items("tickets", 2))[0]
    (comment,) = await page.api.messages(ticket, 1)
    del page.platform.comments[ref]
    answer = await do(page, comment, "hide")
    assert (answer.status, answer.json["code"]) == (502, "platform_refused")
    assert "100/33" in answer.json["detail"]
    assert (await page.api.messages(ticket, 1))[0]["flags"] == []


async def test_only_who_may_moderates(page: Single) -> None:
    await page.platform.customer_comments(jo(), "Hello", page.platform.page_post())
    (message,) = await page.api.messages(await page.api.ticket(), 1)
    key = await create_key(page.gateway.core, {"name": "reader", "scope": "read"})
    reader = Api(page.api.base, key["key"])
    answer = await reader.call("POST", f"messages/{message['id']}/hide")
    await reader.close()
    assert (answer.status, "moderation.write" in answer.json["detail"]) == (403, True)


async def test_on_instagram_too(instagram: Single) -> None:
    mara = Customer("62000000007", "Mara Lind", "mara.lind")
    ref = await instagram.platform.customer_comments(mara, "Rude", instagram.platform.media())
    (message,) = await instagram.api.messages(await instagram.api.ticket(), 1)
    assert (await do(instagram, message, "hide")).json["flags"] == ["hidden"]
    assert instagram.platform.comments[ref].hidden
    assert (await do(instagram, message, "delete")).status == 200
    assert ref not in instagram.platform.comments
