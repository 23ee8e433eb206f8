"""Access tokens of platforms over several gateways on one PostgreSQL: fetched by one, used by all, kept over restarts.

The platforms are strict: a newer token makes the older one worthless, and a refresh token works once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from sqlalchemy import select

from adapters import MediaFetcher, Profiles
from adapters.sandbox.line import User as LineUser
from adapters.sandbox.wechat import Follower
from adapters.sandbox.x import User as XUser
from gateway.runtime import Gateway
from gateway.store.schema import platform_tokens
from normalizers.model import Address, Attachment
from tests.support.chats import X_SECRETS, Chats
from tests.support.postgres import Postgres

pytestmark = pytest.mark.postgres

MARA, MIKA, ANA = "oDemoUser000000000000000001", "U" + "1" * 32, "800000000000000002"


@pytest.fixture
async def chats(tmp_path: Path, postgres: Postgres) -> AsyncIterator[Chats]:
    url = postgres.database().render_as_string(hide_password=False).replace("postgresql+psycopg", "postgresql")
    more = f'database = "{url}"\nsecret_key = ["a-key-that-all-share", "an-older-key-of-theirs"]'
    async with Chats.platforms(tmp_path, more=more) as found:
        found.wechat.behaviour.stable = False
        found.wechat.add_follower(Follower(MARA))
        found.line.add_user(LineUser(MIKA))
        yield found


async def look_up(gateway: Gateway, account: str, address: Address) -> None:
    bound = gateway.core.accounts.get(account)
    assert bound is not None
    assert isinstance(bound.adapter, Profiles)
    assert await bound.adapter.profile(address) is not None


async def fetched(gateway: Gateway, file: str) -> bytes:
    bound = gateway.core.accounts.get("x")
    assert bound is not None
    assert isinstance(bound.adapter, MediaFetcher)
    async with aclosing(bound.adapter.fetch(Attachment(kind="image", ref=file), b"")) as chunks:  # type: ignore[type-var]
        return b"".join([chunk async for chunk in chunks])


async def test_of_two_gateways_one_fetches_and_a_restart_keeps_it(chats: Chats) -> None:
    mara, mika = Address("wechat", "openid", MARA), Address("line", "user_id", MIKA)
    ana = chats.x.add(XUser(ANA, "ana_ex", "Ana"))
    await chats.x.customer_writes(ana, "Hi", file=b"picture")
    (direct,) = chats.x.world.directs
    file = f"dm:{direct.id}/{direct.media}/p.jpg"
    both = [await chats.another(), await chats.another()]

    async def everything() -> None:
        await asyncio.gather(
            *(look_up(gateway, "wechat", mara) for gateway in both * 5),
            *(look_up(gateway, "line", mika) for gateway in both * 5),
            *(fetched(gateway, file) for gateway in both * 5),
        )

    def calls() -> tuple[int, int, int]:
        return chats.wechat.token_calls, chats.line.issued.calls, chats.x.refreshes

    await everything()
    assert calls() == (1, 1, 1)
    chats.wechat.new_token()  # another system took it away
    chats.line.issued.revoke()
    chats.x.revoke_access_token()
    await everything()
    assert calls() == (2, 2, 2)
    for number, gateway in enumerate(both):
        await gateway.stop()
        both[number] = await chats.another()
    await everything()
    assert calls() == (2, 2, 2)  # the configured refresh token was used up long ago, and nobody needed it

    rows = await both[0].core.database.read(lambda c: c.execute(select(platform_tokens)).mappings().all())
    dump = "".join(str(dict(row)) for row in rows)
    assert sorted(row["name"].partition(":")[0] for row in rows) == ["line", "wechat", "x"]
    secrets = (*X_SECRETS[1:], "refresh-2", chats.wechat._access[-1][0], *chats.line.issued._ends)
    assert not [secret for secret in secrets if secret in dump]
    for gateway in both:
        await gateway.stop()
