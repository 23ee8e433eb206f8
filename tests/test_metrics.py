"""Metrics: the table of docs/operations.md against what a process gives, and what the refusals count."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from gateway import replies, settling
from gateway.ids import micros
from gateway.metrics import Metrics
from gateway.replies import Denied, MessageRequest, ReplyRequest, Submitted
from gateway.store import schema
from gateway.tickets import Actor
from tests.pigeon import World, world

AGENT = Actor("agent", "u1", "Bo")
OPERATIONS = (Path(__file__).resolve().parents[1] / "docs" / "operations.md").read_text("utf-8")
NAMED = re.compile(r"`(gateway_\w+?)(?:\{([\w,]+)\})?`")


def given() -> dict[str, set[str]]:
    """By name as it is scraped: the labels of each metric there is."""
    collectors: list[Any] = list(Metrics().registry._collector_to_names)
    found: dict[str, set[str]] = {}
    for collector in collectors:
        for family in collector.describe():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = set(getattr(collector, "_labelnames", ()))
    return found


def test_the_table_names_every_metric_with_its_labels_and_no_other() -> None:
    table = re.search(r"^\| metric \|.*\n\|[ |-]+\n((?:\|.*\n)+)", OPERATIONS, re.M)
    assert table is not None
    cells = [line.split("|")[1] for line in table[1].splitlines()]
    rows = [(name, set(filter(None, labels.split(",")))) for cell in cells for name, labels in NAMED.findall(cell)]
    told = dict(rows)
    assert len(told) == len(rows), "a metric is named twice"
    assert told == given()


@pytest.mark.parametrize("page", sorted((Path(__file__).resolve().parents[1] / "docs").glob("*.md")), ids=str)
def test_no_page_names_a_metric_that_does_not_exist(page: Path) -> None:
    known = given()
    for name, labels in NAMED.findall(page.read_text("utf-8")):
        assert name in known, name
        assert set(filter(None, labels.split(","))) <= known[name], name


def refusals(loft: World) -> dict[tuple[str, str], float]:
    """Refusals so far, by channel and rule."""
    return {
        (sample.labels["channel"], sample.labels["rule"]): sample.value
        for metric in loft.core.metrics.refusals.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


async def test_what_is_refused_or_held_is_counted_with_its_channel(tmp_path: Path) -> None:
    async with world(tmp_path) as loft:
        await _pigeon_refuses(loft)
        pause: dict[str, Any] = {"account": "loft", "scope": "", "error_class": "auth", "reason": "dead", "at": 0}
        pause["paused_until"] = micros(loft.clock() + timedelta(hours=1))
        await loft.execute(insert(schema.account_states).values(pause))
        held = await replies.submit(loft.core, await loft.ticket("open"), ReplyRequest(text="Hi"), AGENT)
        assert isinstance(held, Submitted)
        assert held.status == "held"
        assert refusals(loft)["open", "paused"] == 1


async def _pigeon_refuses(loft: World) -> None:
    ticket = await loft.ticket("pigeon", opened=None)
    for _ in range(2):  # a repeat is answered from before
        answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Hi"), AGENT, "key", "once")
        assert isinstance(answer, Denied)
    assert refusals(loft) == {("pigeon", "window"): 1}
    answer = await replies.proactive(loft.core, MessageRequest(channel="pigeon", to="ring7", text="Hi"), AGENT)
    assert isinstance(answer, Denied)
    assert refusals(loft) == {("pigeon", "window"): 2}
    assert isinstance(
        await replies.submit(loft.core, ticket, ReplyRequest(text="Hm", visibility="note"), AGENT), Submitted
    )
    assert refusals(loft) == {("pigeon", "window"): 2}


async def test_a_refused_retry_is_counted(tmp_path: Path) -> None:
    async with world(tmp_path) as loft:
        ticket = await loft.ticket("pigeon")
        answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Hi"), AGENT)
        assert isinstance(answer, Submitted)
        await loft.execute(schema.outbox.update().values(state="failed"))
        loft.clock.forward(days=9)
        assert isinstance(await settling.retry(loft.core, answer.message_id, AGENT), Denied)
        assert refusals(loft) == {("pigeon", "window"): 1}
