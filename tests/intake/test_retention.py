"""What is kept only for a time: raw payloads with what their events said, and letters somebody has settled."""

from __future__ import annotations

from datetime import timedelta

from gateway.deadletters import drop
from gateway.retention import Retention
from gateway.store.schema import dead_letters, deliveries, events, messages
from tests.intake.test_worker import KIM, Intake, change, intake, open_letters, wrote

__all__ = ["intake"]


async def test_old_payloads_go_and_what_waits_for_a_decision_stays(intake: Intake) -> None:
    await intake.deliver(wrote("m1"))
    await intake.deliver(change(messages=["no message"]))
    await intake.deliver(wrote("m2", number="nobody's"))
    await intake.file()
    assert await intake.rows(events.c.state) == [("done",), ("dead",), ("unroutable",)]
    intake.clock.ahead += timedelta(days=31)
    await Retention(intake.core).step()
    assert [payload == "{}" for (payload,) in await intake.rows(events.c.payload)] == [True, False, True]
    assert len(await intake.rows(deliveries.c.id)) == 1
    assert await intake.rows(messages.c.external_id) == [("m1",)]
    (letter,) = await open_letters(intake)
    await drop(intake.core, letter["id"], KIM)
    await Retention(intake.core).step()
    assert await intake.rows(deliveries.c.id) == []
    assert [payload for (payload,) in await intake.rows(events.c.payload)] == ["{}"] * 3
    assert len(await intake.rows(dead_letters.c.id)) == 1  # settled today
    intake.clock.ahead += timedelta(days=31)
    await Retention(intake.core).step()
    assert await intake.rows(dead_letters.c.id) == []
    await intake.deliver(wrote("m1"))
    await intake.file()
    assert await intake.rows(messages.c.external_id) == [("m1",)]  # its dedupe key is still known
