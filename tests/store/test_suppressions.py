"""The suppression list and automatic messages on each store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from adapters import Suppress
from gateway.store import suppressions as store
from gateway.store.engine import Database
from gateway.store.obstacles import obstacles
from tests.store.conftest import STORES
from tests.support.postgres import Postgres
from tests.support.world import World, eventually

ANN, BOB = "ann@customer.test", "bob@customer.test"
THIRD = Suppress(3, timedelta(days=90))
DAY = 86_400_000_000


def failure(address: str, rule: Suppress, channel: str = "email") -> store.Failed:
    return store.Failed(channel, address, rule, "0" * 32, "550 words")


async def listed(database: Database, now: int) -> dict[tuple[str, str], list[str]]:
    def job(connection: Connection) -> dict[tuple[str, str], list[str]]:
        wanted = [(channel, address) for channel in ("email", "sms") for address in (ANN, BOB)]
        found = obstacles(connection, (), wanted, now).listed
        return {key: sorted(entry.scope for entry in entries) for key, entries in found.items()}

    return await database.read(job)


async def test_failures_are_counted_within_and_over_batches(database: Database) -> None:
    await database.write(lambda c: store.failed(c, [failure(ANN.upper(), THIRD), failure(ANN, THIRD)], 0))
    assert await listed(database, 1) == {}
    await database.write(lambda c: store.failed(c, [failure(ANN, THIRD), failure(BOB, THIRD)], DAY))
    assert await listed(database, DAY) == {("email", ANN): ["all"]}
    assert await listed(database, 91 * DAY) == {}  # it ends by itself
    await database.write(lambda c: store.failed(c, [failure(ANN, THIRD)], 92 * DAY))
    assert await listed(database, 92 * DAY) == {}  # and counting begins anew


async def test_what_stands_for_good_stays_for_good(database: Database) -> None:
    await database.write(lambda c: store.failed(c, [failure(ANN, Suppress(1, None))], 0))
    await database.write(lambda c: store.failed(c, [failure(ANN, THIRD)], DAY))
    assert await listed(database, 9999 * DAY) == {("email", ANN): ["all"]}


async def test_channels_and_scopes_are_apart(database: Database) -> None:
    entries = [
        store.Entry(channel="email", address=ANN, scope="marketing", expires_at=DAY),
        store.Entry(channel="email", address=f" {ANN.upper()}", scope="automatic"),
        store.Entry(channel="sms", address=BOB),
        store.Entry(channel="sms", address=BOB, detail="the same once more"),
    ]
    await database.write(lambda c: store.add(c, entries, 0))
    assert await listed(database, 1) == {("email", ANN): ["automatic", "marketing"], ("sms", BOB): ["all"]}
    await database.write(lambda c: store.expire(c, DAY))
    rows = await database.read(lambda c: store.page(c, 2 * DAY))
    assert sorted((row["channel"], row["scope"]) for row in rows) == [("email", "automatic"), ("sms", "all")]
    assert await database.write(lambda c: store.drop(c, [row["id"] for row in rows])) == 2
    assert await listed(database, 1) == {}


@pytest.mark.parametrize("kind", STORES)
async def test_automatic_messages(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    more = 'secret_key = "a key of the tests only"\n'
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        address = server.database().set(drivername="postgresql").render_as_string(hide_password=False)
        more += f'database = "{address}"\n'
    switches = "automatic = { created = true, solved = true }"
    async with World.open(tmp_path, more=more, mail_more=switches) as world:
        await world.mailed(ANN)
        ticket = await world.api.ticket()
        await world.api.messages(ticket, 2)
        await world.api.patch(f"tickets/{ticket['id']}", status="solved")
        messages = await world.api.messages(ticket, 3)
        assert [message["automatic"] for message in messages] == ["", "created", "solved"]
        await eventually(lambda: len(world.mail.sends) == 2)
