"""A gateway whose store takes nothing more says so, and takes work again once it can."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import create_engine, func, select, text

from gateway.store.schema import deliveries
from tests.support.postgres import Postgres
from tests.support.process import Served, serving
from tests.support.world import World


async def until_store(served: Served, status: int) -> str:
    """What `/readyz` says of the store once it answers with this status."""
    async with aiohttp.ClientSession() as client, asyncio.timeout(15):
        while True:
            async with client.get(f"{served.address}/readyz") as answer:
                if answer.status == status:
                    return str((await answer.json())["checks"]["store"])
            await asyncio.sleep(0.1)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
async def test_a_disk_that_takes_nothing_more(tmp_path: Path) -> None:
    async with World.platforms(tmp_path) as world, serving(world.file) as served:
        world.point(served.address)
        message = world.whatsapp.inbound(world.customer(), "wamid.1", {"type": "text", "text": {"body": "Hello"}})
        assert await until_store(served, 200) == "ok"
        before = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
        assert await world.whatsapp.post([message]) == 503
        assert await until_store(served, 503) == "StoreUnavailable"
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, before)
        assert await until_store(served, 200) == "ok"
        assert await world.whatsapp.post([message]) == 200


@pytest.mark.postgres
async def test_a_database_that_only_reads(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    address = url.render_as_string(hide_password=False).replace("postgresql+psycopg", "postgresql")
    more = f'database = "{address}"\nsecret_key = "0123456789abcdef"'
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    only_reads = f"ALTER DATABASE {url.database} SET default_transaction_read_only = {{}}"
    others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> :own")

    def switch(state: str) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            connection.exec_driver_sql(only_reads.format(state))
            own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            connection.execute(others, {"name": url.database, "own": own})  # whoever comes back reads only, or writes

    try:
        async with World.platforms(tmp_path, more=more) as world, serving(world.file) as served:
            assert await until_store(served, 200) == "ok"
            switch("on")
            assert await until_store(served, 503) not in ("", "ok")
            switch("off")
            assert await until_store(served, 200) == "ok"
        with engine.connect() as connection:
            assert connection.execute(select(func.count()).select_from(deliveries)).scalar_one() == 0
    finally:
        engine.dispose()
