"""Structured answers on LINE, Messenger and Instagram: they arrive, come back when pressed, and are refused in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.sandbox.facebook import Customer, FacebookPage
from adapters.sandbox.instagram import InstagramAccount
from adapters.sandbox.line import LineSimulator
from adapters.sandbox.line import User as LineUser
from tests.support.single import Single, open_instagram, open_line, open_page

MIKA = "U" + "1" * 32
CARDS = [
    {"title": "Blue", "text": "24 EUR", "actions": [{"id": "blue", "title": "Take it"}]},
    {"title": "Red", "text": "22 EUR", "actions": [{"url": "https://shop.test/red", "title": "Look"}]},
]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to choose from": ({"form": 1}, "content.values"),
    "a title too long": ({"buttons": ["Yes", {"id": "n", "title": "x" * 21}]}, "content.values.buttons[1].title"),
    "too many quick replies": ({"rows": ["a"] * 14}, "content.values.rows"),
    "too many buttons": ({"actions": ["a"] * 5}, "content.values.actions"),
    "no address": ({"actions": [{"title": "Look", "url": "shop.test"}]}, "content.values.actions[0].url"),
    "a button without a title": ({"actions": [{"id": "x"}]}, "content.values.actions[0].title"),
}


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Single]:
    async with open_line(tmp_path, LineSimulator()) as world:
        yield world


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Single]:
    async with open_page(tmp_path, FacebookPage()) as world:
        yield world


@pytest.fixture
async def instagram(tmp_path: Path) -> AsyncIterator[Single]:
    async with open_instagram(tmp_path, InstagramAccount()) as world:
        yield world


def interactive(**values: Any) -> dict[str, Any]:
    return {"kind": "interactive", "values": values}


async def refused(world: Single, ticket: dict[str, Any], **body: Any) -> tuple[int, str]:
    answer = await world.api.reply(ticket, **body)
    return answer.status, answer.json.get("field", "")


async def test_line_shows_cards_buttons_and_places(line: Single) -> None:
    await line.platform.customer_writes(LineUser(MIKA), "Which colours?")
    ticket = await line.api.ticket()
    for text, content in (
        ("", interactive(cards=CARDS)),
        ("Shall we?", interactive(confirm=[{"id": "y", "title": "Yes"}, {"id": "n", "title": "No"}])),
        ("Blue or red?", interactive(actions=["Blue", "Red"], title="Colours")),
        ("Blue or red?", interactive(buttons=["Blue", "Red"])),
        ("A bubble", interactive(flex={"type": "bubble", "body": {"type": "box", "layout": "vertical"}})),
        ("Here", {"kind": "location", "latitude": 35.6, "longitude": 139.7, "name": "Shop"}),
        ("", {"kind": "sticker", "pack": "446", "id": "1988"}),
    ):
        await line.api.settled(await line.api.replied(ticket, text, content=content), "sent")
    shown = [one for _, one in line.platform.inbox]
    assert [one["type"] for one in shown] == [
        "template", "template", "template", "text", "flex", "text", "location", "sticker",
    ]  # fmt: skip
    assert [one["template"]["type"] for one in shown[:3]] == ["carousel", "confirm", "buttons"]
    assert shown[0]["template"]["columns"][0]["actions"][0]["data"] == "blue"
    assert [item["action"]["label"] for item in shown[3]["quickReply"]["items"]] == ["Blue", "Red"]
    await line.platform.customer_presses(line.platform.users[MIKA], "blue")
    pressed = (await line.api.messages(ticket, 9))[-1]
    assert (pressed["kind"], pressed["content"]["interactive"]["id"]) == ("interactive", "blue")


async def test_line_quotes_by_the_token_of_the_customers_message(line: Single) -> None:
    await line.platform.customer_writes(LineUser(MIKA), "Which colours?")
    ticket = await line.api.ticket()
    (question,) = await line.api.messages(ticket, 1)
    answer = await line.api.replied(ticket, "Blue", in_reply_to=question["id"])
    await line.api.settled(answer, "sent")
    ((_, shown),) = line.platform.inbox
    assert shown["quoteToken"] == f"quote-{question['external_id']}"
    assert await refused(line, ticket, text="Again", in_reply_to=answer["id"]) == (422, "in_reply_to")
    place = {"kind": "location", "latitude": 1, "longitude": 2}
    assert await refused(line, ticket, content=place, in_reply_to=question["id"]) == (422, "in_reply_to")


@pytest.mark.parametrize(("values", "field"), WRONG.values(), ids=WRONG)
async def test_what_line_would_not_take_is_refused_with_its_field(
    line: Single, values: dict[str, Any], field: str
) -> None:
    await line.platform.customer_writes(LineUser(MIKA), "Hello")
    ticket = await line.api.ticket()
    assert await refused(line, ticket, text="Well?", content=interactive(**values)) == (422, field)
    uneven = [CARDS[0], {"text": "no title", "actions": ["a"]}]
    assert await refused(line, ticket, content=interactive(cards=uneven)) == (422, "content.values.cards[1]")
    assert await refused(line, ticket, content={"kind": "sticker", "id": "1"}) == (422, "content")
    assert line.platform.calls == 0


async def test_messenger_shows_choices_buttons_and_cards(page: Single) -> None:
    jo = Customer("9988776655")
    await page.platform.customer_writes(jo, "Which colours?")
    ticket = await page.api.ticket()
    (question,) = await page.api.messages(ticket, 1)
    for text, content in (
        ("Blue or red?", interactive(buttons=[{"id": "b", "title": "Blue"}, "Red"])),
        (
            "Blue or red?",
            interactive(actions=[{"id": "b", "title": "Blue"}, {"url": "https://s.test", "title": "All"}]),
        ),
        ("", interactive(cards=CARDS)),
    ):
        await page.api.settled(await page.api.replied(ticket, text, content=content), "delivered")
    await page.api.settled(await page.api.replied(ticket, "This one?", in_reply_to=question["id"]), "delivered")
    first, second, third, fourth = [accepted.payload for accepted in page.platform.sends]
    assert first["message"]["quick_replies"][0] == {"content_type": "text", "title": "Blue", "payload": "b"}
    assert [one["type"] for one in second["message"]["attachment"]["payload"]["buttons"]] == ["postback", "web_url"]
    assert [one["title"] for one in third["message"]["attachment"]["payload"]["elements"]] == ["Blue", "Red"]
    assert fourth["reply_to"] == {"mid": question["external_id"]}
    await page.platform.customer_does(jo, postback={"mid": "m_9", "title": "Take it", "payload": "blue"})
    pressed = (await page.api.messages(ticket, 6))[-1]
    assert (pressed["kind"], pressed["content"]["interactive"]["id"]) == ("interactive", "blue")


@pytest.mark.parametrize(("values", "field"), WRONG.values(), ids=WRONG)
async def test_what_messenger_would_not_take_is_refused_with_its_field(
    page: Single, values: dict[str, Any], field: str
) -> None:
    await page.platform.customer_writes(Customer("9988776655"), "Hello")
    ticket = await page.api.ticket()
    assert await refused(page, ticket, text="Well?", content=interactive(**values)) == (422, field)
    assert await refused(page, ticket, text="Well?", content=interactive(cards=CARDS)) == (422, "text")
    long = {"title": "Blue", "text": "x" * 81}
    assert await refused(page, ticket, content=interactive(cards=[long])) == (422, "content.values.cards[0].text")
    assert await refused(page, ticket, text="x" * 2000, content=interactive(buttons=["a"])) == (422, "text")
    assert page.platform.calls == 0


async def test_instagram_shows_choices_and_measures_in_bytes(instagram: Single) -> None:
    await instagram.platform.customer_writes(Customer("62000000007"), "Which colours?")
    ticket = await instagram.api.ticket()
    await instagram.api.settled(
        await instagram.api.replied(ticket, "Blau oder grün?", content=interactive(rows=["Blau", "Grün"])), "sent"
    )
    await instagram.api.settled(await instagram.api.replied(ticket, content=interactive(cards=CARDS)), "sent")
    assert len(instagram.platform.sends) == 2
    too_long = await refused(instagram, ticket, text="ü" * 501, content=interactive(rows=["a"]))
    assert too_long == (422, "text")
