"""Messages that came as a pointer: shown at once, then completed with what the platform tells when asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from adapters.sandbox._meta_world import Refusal
from adapters.sandbox.facebook import Customer, FacebookPage
from adapters.sandbox.instagram import InstagramAccount
from gateway.intake.worker import rules_of
from gateway.lookups import LookupWorker
from gateway.store import lookups as store
from gateway.store.schema import deliveries, events, lookups, messages
from tests.support.single import Single, open_instagram, open_page

PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
GONE = Refusal(100, "Object does not exist or cannot be loaded", 33)
BUSY = Refusal(2, "Service temporarily unavailable", status=500)


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


async def only(world: Single, holds: Any) -> dict[str, Any]:
    """The ticket's one message, once `holds` is true of it."""
    ticket = await world.api.ticket()
    path = f"tickets/{ticket['id']}/messages"
    page = await world.api.until(path, lambda found: len(found["items"]) == 1 and holds(found["items"][0]))
    message: dict[str, Any] = page["items"][0]
    return message


async def kinds(world: Single) -> list[str]:
    return [entry["kind"] for entry in await world.api.log(await world.api.ticket())]


async def rows(world: Single, table: Any) -> list[Any]:
    return await world.gateway.core.database.read(lambda c: list(c.execute(select(table)).mappings()))


async def once(world: Single, table: Any, holds: Callable[[list[Any]], bool]) -> list[Any]:
    """The rows of a table, once `holds` is true of them."""
    async with asyncio.timeout(15.0):
        while not holds(found := await rows(world, table)):  # noqa: ASYNC110 - another task writes them
            await asyncio.sleep(0.01)
    return found


async def work(world: Single) -> None:
    """Ask for all that is due now."""
    while await LookupWorker(world.gateway.core).step():
        pass


async def test_a_sticker_below_a_post_is_fetched_and_shown(page: Single) -> None:
    picture = page.platform.address_of(page.platform.add_file(PIXEL, "image/png"))
    sticker = {"type": "sticker", "media": {"image": {"src": picture}}}
    ref = await page.platform.customer_comments(jo(), "", page.platform.page_post(), attachment=sticker)
    message = await only(page, lambda seen: seen["kind"] == "sticker" and seen["attachments"][0]["state"] == "stored")
    assert message["external_id"] == ref
    assert message["context"]["permalink"] == f"https://facebook.example/{ref}"
    assert message["author"]["name"] == "Jo Example"
    assert (await page.api.ticket())["subject"] == "[sticker]"
    assert (await kinds(page))[-1] == "message.completed"
    assert await rows(page, lookups) == []
    metrics = (await page.api.call("GET", "/metrics")).body.decode()
    assert 'gateway_lookups_total{account="main",outcome="completed"} 1.0' in metrics


async def test_the_words_of_mentions_come_later(instagram: Single) -> None:
    await instagram.platform.customer_mentions("@the.shop have a look")
    message = await only(instagram, lambda seen: seen["text"] == "@the.shop have a look")
    assert (message["kind"], message["content"], message["flags"]) == ("text", None, ["mention"])
    ticket = await instagram.api.ticket()
    assert ticket["subject"] == "@the.shop have a look"
    assert [one["id"] for one in await instagram.api.items("tickets", 1, q="have a look")] == [ticket["id"]]
    await instagram.api.settled(await instagram.api.replied(ticket, "We did!"), "sent")


async def test_an_instagram_comment_without_words_names_its_author(instagram: Single) -> None:
    mara = Customer("62000000007", "Mara Lind", "mara.lind")
    media = instagram.platform.media()
    await instagram.platform.customer_comments(mara, "Price?", media, text="", **{"from": {}})
    message = await only(instagram, lambda seen: seen["text"] == "Price?")
    assert message["author"]["name"] == "mara.lind"
    await instagram.platform.customer_writes(mara, "And shipping?")
    direct = (await instagram.api.items("tickets", 2))[0]
    assert direct["contact_id"] == message["contact_id"]  # the address the look-up told is the same person's


async def test_what_the_platform_does_not_tell_stays_with_its_reason(page: Single) -> None:
    page.platform.refuses_reads = [GONE]
    await page.platform.customer_comments(jo(), "", page.platform.page_post())
    message = await only(page, lambda seen: "lookup_failed" in seen["flags"])
    assert message["kind"] == "unsupported"
    assert "in vain" in message["content"]["unsupported"]["detail"]
    failed = (await page.api.log(await page.api.ticket()))[-1]
    assert (failed["kind"], failed["data"]["code"]) == ("message.lookup_failed", "100/33")
    assert await rows(page, lookups) == []


async def test_a_platform_that_is_busy_is_asked_again_later(page: Single) -> None:
    page.platform.refuses_reads = [BUSY]
    sticker = {"type": "animated_image_share", "url": "https://gif.example/1", "title": "A GIF"}
    await page.platform.customer_comments(jo(), "", page.platform.page_post(), attachment=sticker)
    await only(page, lambda seen: seen["kind"] == "unsupported")  # the agent sees that something came
    (waiting,) = await once(page, lookups, lambda found: found[0]["failures"] == 1)
    assert waiting["reason"].startswith("2 ")
    page.later(timedelta(minutes=1))
    message = await only(page, lambda seen: seen["kind"] == "link")
    assert message["content"]["link"]["title"] == "A GIF"


async def test_patience_ends(page: Single) -> None:
    page.platform.refuses_reads = [BUSY] * 100
    await page.platform.customer_comments(jo(), "", page.platform.page_post())
    await only(page, lambda seen: seen["kind"] == "unsupported")
    for _ in range(40):
        if not await rows(page, lookups):
            break
        await work(page)
        page.later(timedelta(hours=2))
    message = await only(page, lambda seen: "lookup_failed" in seen["flags"])
    assert "Service temporarily unavailable" in message["content"]["unsupported"]["detail"]


async def test_a_comment_deleted_meanwhile_is_left_alone(page: Single) -> None:
    page.platform.refuses_reads = [BUSY]
    ref = await page.platform.customer_comments(jo(), "", page.platform.page_post())
    await only(page, lambda seen: seen["kind"] == "unsupported")
    await page.platform.comment_changes(ref, "remove")
    await only(page, lambda seen: bool(seen["deleted_at"]))
    page.later(timedelta(minutes=5))
    reads = page.platform.reads
    await work(page)
    await once(page, lookups, lambda found: not found)
    message = await only(page, lambda seen: True)
    assert (message["text"], message["content"], message["flags"]) == ("", None, [])
    assert page.platform.reads == reads  # nothing was asked for
    assert "message.completed" not in await kinds(page)


async def test_an_erased_person_does_not_come_back(page: Single) -> None:
    """The answer comes when the contact is gone."""
    page.platform.refuses_reads = [BUSY] * 100
    await page.platform.customer_comments(jo(), "", page.platform.page_post())
    message = await only(page, lambda seen: seen["kind"] == "unsupported")
    core = page.gateway.core
    later = 2**52  # whoever holds a lease now has lost it
    (asked,) = await core.database.write(lambda c: store.claim(c, ["main"], 1, later))
    assert asked.event is not None
    answer = await page.api.call("DELETE", f"contacts/{message['contact_id']}")
    assert answer.status < 300
    event = asked.event
    assert await core.database.write(lambda c: store.complete(c, rules_of(core), asked, event, later)) is None
    assert await rows(page, messages) == []


async def test_two_processes_ask_once_and_a_lost_lease_writes_nothing(page: Single) -> None:
    page.platform.refuses_reads = [BUSY] * 100
    await page.platform.customer_comments(jo(), "", page.platform.page_post())
    await only(page, lambda seen: seen["kind"] == "unsupported")
    core = page.gateway.core
    at = 2**52
    (first,) = await core.database.write(lambda c: store.claim(c, ["main"], 8, at))
    assert await core.database.write(lambda c: store.claim(c, ["main"], 8, at)) == []
    (second,) = await core.database.write(lambda c: store.claim(c, ["main"], 8, at + store.LEASE))
    assert await core.database.write(lambda c: store.give_up(c, first, "x", "late", at)) is None
    assert await core.database.write(lambda c: store.give_up(c, second, "x", "in time", at)) is not None


async def test_a_delivery_normalised_again_asks_for_nothing_twice(instagram: Single) -> None:
    await instagram.platform.customer_mentions("hello @the.shop")
    before = await only(instagram, lambda seen: seen["text"] == "hello @the.shop")
    core = instagram.gateway.core
    await core.database.write(lambda c: c.execute(update(deliveries).values(state="retry", not_before=None)))
    core.bus.wake("intake")
    await once(instagram, deliveries, lambda found: {row["state"] for row in found} == {"done"})
    assert len(await rows(instagram, events)) == 1
    assert await rows(instagram, lookups) == []
    assert await only(instagram, lambda seen: True) == before
