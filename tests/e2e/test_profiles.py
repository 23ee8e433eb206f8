"""People get their names from the platform, after their first message and without holding it up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from adapters.sandbox.line import Group
from adapters.sandbox.line import User as LineUser
from adapters.sandbox.wechat import Follower
from gateway.profiles import ProfileWorker
from gateway.store.schema import addresses, identities
from tests.support.chats import Chats

MIKA, REN, MARA = "U" + "1" * 32, "U" + "2" * 32, "oDemoUser000000000000000001"


@pytest.fixture
async def chats(tmp_path: Path) -> AsyncIterator[Chats]:
    async with Chats.open(tmp_path) as found:
        yield found


async def contact_of(chats: Chats, ticket: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = await chats.api.until(f"contacts/{ticket['contact_id']}", lambda seen: seen["name"] == name)
    return found


async def asked(chats: Chats) -> None:
    """Wait until nobody is left to be asked for."""
    while await ProfileWorker(chats.gateway.core).step():
        pass


async def rows(chats: Chats, table: Any) -> list[Any]:
    statement = select(table).order_by(table.c.id)
    return await chats.gateway.core.database.read(lambda connection: list(connection.execute(statement).mappings()))


async def test_a_friend_on_line(chats: Chats) -> None:
    await chats.line.customer_writes(LineUser(MIKA, "Mika", picture="https://x.example/i.jpg", status="hi"))
    contact = await contact_of(chats, await chats.api.ticket(), "Mika")
    (identity,) = contact["identities"]
    assert identity["profile"] == {"picture": "https://x.example/i.jpg", "status": "hi"}
    await asked(chats)
    calls = chats.line.profile_calls
    await chats.line.customer_writes(chats.line.users[MIKA], "again")
    await chats.api.messages(await chats.api.ticket(), 2)
    await asked(chats)
    assert chats.line.profile_calls == calls  # once is enough


async def test_a_stranger_in_a_group_and_one_nobody_tells_of(chats: Chats) -> None:
    stranger = LineUser(REN, "Ren", friend=False)
    group = Group("C" + "3" * 32, members=[stranger])
    await chats.line.bot_joins(group)
    await chats.line.customer_writes(stranger, group=group)
    await contact_of(chats, await chats.api.ticket(), "Ren")
    await chats.line.customer_writes(LineUser(MIKA, friend=False))
    newest, _ = await chats.api.items("tickets", 2)
    await asked(chats)
    assert (await chats.api.get(f"contacts/{newest['contact_id']}"))["name"] == ""
    assert [row["external_id"] for row in await rows(chats, identities) if row["profile_at"] is None] == []


async def test_a_follower_on_wechat_has_no_name_but_a_union_id(chats: Chats) -> None:
    await chats.wechat.customer_writes(Follower(MARA, unionid="union-1"))
    ticket = await chats.api.ticket()
    path = f"contacts/{ticket['contact_id']}"
    contact = await chats.api.until(path, lambda seen: bool(seen["identities"][0]["profile"]))
    assert contact["identities"][0]["profile"]["subscribe_scene"] == "ADD_SCENE_QR_CODE"
    assert [(row["kind"], row["value"], row["scope"]) for row in await rows(chats, addresses)] == [
        ("openid", MARA, "account"), ("unionid", "union-1", "platform"),
    ]  # fmt: skip


async def test_a_platform_in_trouble_is_asked_later(chats: Chats) -> None:
    chats.line.issued.channel_id = "another"  # no access token can be had
    await chats.line.customer_writes(LineUser(MIKA, "Mika"))
    ticket = await chats.api.ticket()
    worker = ProfileWorker(chats.gateway.core)
    assert await worker.step() == 1
    assert await worker.step() == 0  # it waits
    assert [row["profile_at"] for row in await rows(chats, identities)] == [None]
    chats.line.issued.channel_id = "1650000000"
    chats.clock.ahead = timedelta(minutes=2)
    await contact_of(chats, ticket, "Mika")
