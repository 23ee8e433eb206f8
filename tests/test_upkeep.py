"""What is looked after now and then: when a platform is asked, and what becomes of its answer or its refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from adapters.sandbox.meta_whatsapp import Approved
from gateway.store.schema import templates
from gateway.upkeep import Upkeep
from tests.support.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway that only listens: nobody looks after anything but the test."""
    async with World.platforms(tmp_path) as found:
        await found.start()
        upkeep = [task for task in found.gateway._tasks if task.get_name() == "upkeep"]
        for task in upkeep:
            task.cancel()
        await asyncio.gather(*upkeep, return_exceptions=True)
        yield found
        await found.stop()


async def known(world: World) -> dict[str, int | None]:
    rows = await world.gateway.core.database.read(lambda connection: connection.execute(select(templates)).all())
    return {row.name: row.parameters for row in rows if row.account == "wa-main"}


async def test_lists_and_subscriptions_are_looked_at_when_due(world: World) -> None:
    upkeep = Upkeep(world.gateway.core)
    world.whatsapp.subscribed = False
    assert await upkeep.step() == 2
    assert world.whatsapp.subscribed
    assert await known(world) == {"order_update": 2}
    world.whatsapp.add_template(Approved("later", "de", parameters=1))
    assert await upkeep.step() == 0
    world.clock.ahead = timedelta(hours=1, seconds=1)
    assert await upkeep.step() == 1
    assert await known(world) == {"order_update": 2, "later": 1}
    world.whatsapp.drop_template("later", "de")
    world.clock.ahead = timedelta(hours=7)
    assert await upkeep.step() == 2
    assert await known(world) == {"order_update": 2}


async def test_a_refusal_keeps_what_is_known_and_is_tried_again_soon(world: World) -> None:
    upkeep = Upkeep(world.gateway.core)
    await upkeep.step()
    token, world.whatsapp.access_token = world.whatsapp.access_token, "another"
    world.clock.ahead = timedelta(hours=1, seconds=1)
    assert await upkeep.step() == 1
    assert await known(world) == {"order_update": 2}
    world.whatsapp.access_token = token
    world.whatsapp.add_template(Approved("later", "de", parameters=1))
    assert await upkeep.step() == 0
    world.clock.ahead += timedelta(minutes=5)
    assert await upkeep.step() == 1
    assert await known(world) == {"order_update": 2, "later": 1}


async def test_a_webhook_brings_the_next_look_forward(world: World) -> None:
    upkeep = Upkeep(world.gateway.core)
    await upkeep.step()
    world.whatsapp.add_template(Approved("later", "de", parameters=1))
    upkeep._hurry()
    assert await upkeep.step() == 0
    world.clock.ahead = timedelta(seconds=21)
    assert await upkeep.step() == 1
    assert await known(world) == {"order_update": 2, "later": 1}
