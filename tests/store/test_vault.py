"""Access tokens in the store: sealed, kept, shared, and fetched by one process at a time. The same on both stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, select, update
from sqlalchemy.engine import URL

from adapters import SendError, Token
from adapters._tokens import current, renewed
from config.secret import Secret
from gateway import vault
from gateway.store.dialect import StoreUnavailable
from gateway.store.engine import Database
from gateway.store.schema import platform_tokens
from gateway.vault import Vault

T = TypeVar("T")
NAME, NOW = "wechat:https://api.example:wx1", datetime(2026, 5, 12, tzinfo=UTC)
KEY, OLDER = Secret("a-key-of-our-own"), Secret("an-older-key-of-ours")
CANARIES = ("access-canary", "refresh-canary")
LATER_S = NOW.timestamp() + 3600


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Platform:
    """Makes tokens, and takes only the newest one."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.made: list[str] = []
        self.last: list[Token | None] = []
        self.pause_s = pause_s

    async def fetch(self, last: Token | None) -> Token:
        self.last.append(last)
        await asyncio.sleep(self.pause_s)
        self.made.append(f"{CANARIES[0]}-{len(self.made) + 1}")
        return Token(Secret(self.made[-1]), LATER_S, Secret(f"{CANARIES[1]}-{len(self.made)}"))


def opened(database: Database, *keys: Secret, clock: Callable[[], datetime] | None = None) -> Vault:
    return Vault(database, keys or (KEY,), clock or Clock())


async def token(store: Vault, platform: Platform, refused: str = "") -> str:
    return (await current(store, NAME, NOW.timestamp(), platform.fetch, refused=refused)).reveal()


async def test_a_token_is_kept_and_found_again(database: Database) -> None:
    platform = Platform()
    assert await token(opened(database), platform) == "access-canary-1"
    again = opened(database)  # as after a restart
    assert await token(again, platform) == "access-canary-1"
    assert platform.made == ["access-canary-1"]
    kept = await again.load(NAME)
    assert kept is not None
    assert (kept.refresh.reveal(), kept.renew_at) == ("refresh-canary-1", LATER_S)


async def test_the_next_one_is_made_from_what_was_kept(database: Database) -> None:
    platform = Platform()
    for refused in ("", "access-canary-1", "access-canary-2"):
        await token(opened(database), platform, refused)
    assert [last.refresh.reveal() if last else None for last in platform.last] == [
        None, "refresh-canary-1", "refresh-canary-2",
    ]  # fmt: skip


async def test_of_all_who_ask_one_fetches(url: URL) -> None:
    """Two gateways, each with a door of its own where the store allows it."""
    doors = [Database(url) for _ in range(1 if url.get_backend_name() == "sqlite" else 2)]
    for door in doors:
        door.start()
    vaults, platform = [opened(doors[0]), opened(doors[-1])], Platform(0.2)
    found = await asyncio.gather(*(token(one, platform) for one in vaults * 10))
    assert (set(found), platform.made) == ({"access-canary-1"}, ["access-canary-1"])
    found = await asyncio.gather(*(token(one, platform, "access-canary-1") for one in vaults * 10))
    assert (set(found), len(platform.made)) == ({"access-canary-2"}, 2)
    for door in doors:
        await door.stop()


async def test_keys_rotate(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    await token(opened(database, OLDER), Platform())
    both = await opened(database, KEY, OLDER).load(NAME)
    assert both is not None
    assert both.value.reveal() == "access-canary-1"
    with caplog.at_level(logging.WARNING):
        assert await opened(database, KEY).load(NAME) is None
    assert "tokens.unreadable" in caplog.text
    await token(opened(database, KEY, OLDER), Platform(), "access-canary-1")  # what is kept next has the newest key
    assert await opened(database, KEY).load(NAME) is not None


async def test_nothing_is_in_clear(database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        store = opened(database)
        await token(store, Platform())
        await opened(database, OLDER).load(NAME)
    (row,) = await database.read(lambda connection: connection.execute(select(platform_tokens)).mappings().all())
    seen = "".join((str(dict(row)), repr(await store.load(NAME)), repr(vars(store)), caplog.text))
    await database.stop()
    files = b"".join(path.read_bytes() for path in tmp_path.glob("gateway.db*"))
    assert not [canary for canary in (*CANARIES, KEY.reveal()) if canary in seen or canary.encode() in files]


async def test_a_row_under_another_name_opens_nothing(database: Database) -> None:
    await token(opened(database), Platform())
    await database.write(lambda connection: connection.execute(update(platform_tokens).values(name="x:other")))
    assert await opened(database).load("x:other") is None


async def test_who_holds_the_lease_and_dies_loses_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "WAIT_S", 0.0)
    clock, platform = Clock(), Platform()
    dead = opened(database, clock=clock).owner(NAME)
    await dead.__aenter__()
    with pytest.raises(SendError) as caught:
        await token(opened(database, clock=clock), platform)
    assert (caught.value.error_class, caught.value.code, caught.value.certain) == ("retry", "token-busy", True)
    clock.now += vault.LEASE + timedelta(seconds=1)
    assert await token(opened(database, clock=clock), platform) == "access-canary-1"


async def test_a_late_owner_overwrites_nobody(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    clock, platform = Clock(), Platform()
    slow, quick = opened(database, clock=clock), opened(database, clock=clock)
    async with slow.owner(NAME):
        last = await slow.load(NAME)
        clock.now += vault.LEASE + timedelta(seconds=1)
        assert await token(quick, platform) == "access-canary-1"
        await slow.save(NAME, await platform.fetch(last))
    assert "tokens.overtaken" in caplog.text
    for one in (slow, quick, opened(database)):
        kept = await one.load(NAME)
        assert kept is not None
        assert kept.value.reveal() == "access-canary-1"


class Flaky(Database):
    """A store that is down while `down` says so."""

    down = False

    async def write(self, job: Callable[[Connection], T], *, alone: bool = False) -> T:
        if self.down:
            raise StoreUnavailable("down")
        return await super().write(job, alone=alone)


async def test_a_store_that_fails_loses_no_token(url: URL) -> None:
    """The platform gives a successor only once: it is used, and kept when the store is back."""
    database, platform = Flaky(url), Platform()
    database.start()
    store = opened(database)

    async def fetch(last: Token | None) -> Token:
        database.down = True
        return await platform.fetch(last)

    assert (await current(store, NAME, NOW.timestamp(), fetch)).reveal() == "access-canary-1"
    assert await token(store, platform) == "access-canary-1"
    with pytest.raises(SendError, match="store"):  # a new one could not be kept: none is asked for
        await token(store, platform, "access-canary-1")
    database.down = False
    assert await opened(database, clock=lambda: NOW + timedelta(hours=1)).load(NAME) is None
    later = opened(database, clock=lambda: NOW + timedelta(hours=1))
    store._clock = later._clock
    assert await token(store, platform, "access-canary-1") == "access-canary-2"
    assert [last.refresh.reveal() if last else None for last in platform.last] == [None, "refresh-canary-1"]
    await database.stop()


async def test_who_stops_waiting_does_not_stop_the_fetching(database: Database) -> None:
    platform, begun, store = Platform(), asyncio.Event(), opened(database)
    go = asyncio.Event()

    async def fetch(last: Token | None) -> Token:
        begun.set()
        await go.wait()
        return await platform.fetch(last)

    waiting = asyncio.ensure_future(current(store, NAME, NOW.timestamp(), fetch))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await token(store, platform) == "access-canary-1"
    assert platform.made == ["access-canary-1"]


async def test_a_platform_that_refuses_leaves_things_as_they_were(database: Database) -> None:
    store, platform = opened(database), Platform()
    await token(store, platform)

    async def fetch(last: Token | None) -> Token:
        raise SendError("auth", "wrong")

    for _ in range(2):
        with pytest.raises(SendError, match="wrong"):
            await renewed(store, NAME, NOW.timestamp(), fetch, always=True)
    assert await token(store, platform) == "access-canary-1"
