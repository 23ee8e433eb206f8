"""Mail put aside: listed with its cause, read, released into the right ticket, dropped; by the API and by command."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from gateway.control import create_key
from gateway.retention import Retention
from tests.support.api import Api
from tests.support.process import run
from tests.support.world import SALES, SUPPORT, World

EVE = "eve@elsewhere.test"


def spam(number: int, sender: str = EVE, more: str = "") -> bytes:
    return (
        f"From: Eve <{sender}>\r\nTo: {SUPPORT}\r\nSubject: Cheap {number}\r\nX-Spam-Flag: YES\r\n{more}"
        f"Message-ID: <s{number}@elsewhere.test>\r\nDate: Tue, 12 May 2026 10:00:00 +0000\r\n\r\nBuy {number}\r\n"
    ).encode()


async def hand(world: World, raw: bytes, to: str = SUPPORT) -> None:
    await world.mail.hand_over(world.smtp_port, EVE, [to], raw)


async def put_aside(world: World, count: int) -> list[dict[str, Any]]:
    found = await world.api.until("suspended", lambda page: len(page["items"]) == count)
    items: list[dict[str, Any]] = found["items"]
    return items


async def test_listed_read_and_released(world: World) -> None:
    await hand(world, spam(1))
    (held,) = await put_aside(world, 1)
    assert (held["cause"], held["causes"], held["sender"], held["subject"]) == ("spam", ["spam"], EVE, "Cheap 1")
    read = await world.api.get(f"suspended/{held['id']}")
    assert (read["text"], read["flags"]) == ("Buy 1", ["unchecked", "spam"])
    assert (await world.api.get("tickets"))["items"] == []
    assert (await world.api.get("contacts"))["items"] == []
    answer = await world.api.call("POST", f"suspended/{held['id']}/release")
    assert answer.status == 204
    ticket = await world.api.ticket()
    (message,) = await world.api.messages(ticket, 1)
    assert message["text"] == "Buy 1"
    assert "released" in message["flags"]
    assert (await world.api.call("POST", f"suspended/{held['id']}/release")).status == 409
    assert (await world.api.get(f"suspended/{held['id']}"))["state"] == "released"
    await hand(world, spam(1))  # the same once more
    await world.mailed("ann@customer.test")
    await world.api.items("tickets", 2)
    assert (await world.api.get("suspended"))["items"] == []


async def test_several_at_once_and_only_what_a_key_may_see(world: World) -> None:
    for number in (1, 2, 3):
        await hand(world, spam(number))
    await hand(world, spam(4), SALES)
    ids = [entry["id"] for entry in await put_aside(world, 4)]
    key = await create_key(world.gateway.core, {"name": "sales", "scope": "agent", "accounts": ["mail-sales"]})
    sales = Api(world.gateway.address, key["key"])
    try:
        assert len((await sales.get("suspended"))["items"]) == 1
        assert (await sales.call("GET", f"suspended/{ids[-1]}")).status == 404
        assert await sales.post("suspended/drop", {"ids": ids}) == {"done": ids[:1], "skipped": ids[1:]}
    finally:
        await sales.close()
    assert await world.api.post("suspended/release", {"ids": ids[1:3]}) == {"done": ids[1:3], "skipped": []}
    await world.api.items("tickets", 2)
    assert [entry["id"] for entry in (await world.api.get("suspended", account="mail"))["items"]] == ids[3:]
    assert (await world.api.get("suspended", cause="loop"))["items"] == []
    assert (await world.api.call("GET", "suspended", params={"cause": "x"})).status == 400
    assert (await world.api.call("POST", "suspended/drop", json={"ids": []})).status == 422


async def test_by_command(world: World) -> None:
    for number in (1, 2):
        await hand(world, spam(number))
    await put_aside(world, 2)
    listed = await run("suspended", "list", "--json", "--config", world.file)
    items = json.loads(listed.out)["items"]
    assert [item["subject"] for item in items] == ["Cheap 1", "Cheap 2"]
    first = await run("suspended", "release", items[0]["id"], "--config", world.file)
    assert (first.code, first.out) == (0, "1 released\n")
    await world.api.ticket()
    rest = await run("suspended", "drop", "--cause", "spam", "--config", world.file)
    assert (rest.code, rest.out) == (0, "1 dropped\n")
    again = await run("suspended", "drop", items[1]["id"], "--config", world.file)
    assert (again.code, again.out) == (1, "0 dropped\n")
    assert (await run("suspended", "list", "--config", world.file)).err == "0 suspended\n"


async def test_what_nobody_decides_on_goes_and_an_erased_sender_takes_it_along(world: World) -> None:
    await hand(world, spam(1))
    await hand(world, spam(2, "ann@customer.test"))
    held = await put_aside(world, 2)
    await world.mailed("ann@customer.test")
    ticket = await world.api.ticket()
    assert (await world.api.call("DELETE", f"contacts/{ticket['contact_id']}")).status in (200, 204)
    (left,) = (await world.api.get("suspended"))["items"]
    assert left["sender"] == EVE
    assert (await world.api.call("GET", f"suspended/{held[0]['id']}")).status == 404
    world.clock.ahead = timedelta(days=15)
    await Retention(world.gateway.core).step()
    assert (await world.api.get("suspended"))["items"] == []
    gone = await world.api.get(f"suspended/{left['id']}")
    assert (gone["state"], gone["settled_by"]) == ("dropped", "retention")


async def test_the_operator_decides_what_is_held(world: World) -> None:
    await world.stop()
    text = world.file.read_text("utf-8").replace(
        f'address = "{SUPPORT}"', f'address = "{SUPPORT}"\nsuspend = ["automatic"]\nblocklist = ["@*.bad.test"]'
    )
    world.file.write_text(text, "utf-8")
    await world.start()
    await hand(world, spam(1))
    await world.api.ticket()  # spam is not among the causes now
    await hand(world, spam(2, "x@very.bad.test"))
    await hand(world, spam(3, "cron@host.test", "Auto-Submitted: auto-generated\r\n"))
    assert sorted(entry["cause"] for entry in await put_aside(world, 2)) == ["automatic", "blocklisted"]


async def test_a_flood_is_put_aside(world: World) -> None:
    await world.stop()
    text = world.file.read_text("utf-8").replace(
        f'address = "{SUPPORT}"', f'address = "{SUPPORT}"\ntickets_per_hour = 2'
    )
    world.file.write_text(text, "utf-8")
    await world.start()
    for number in range(3):
        await world.mailed("desk@peer.test", subject=f"Ticket {number} received")
        await world.api.items("tickets", min(number + 1, 2))
    assert [entry["cause"] for entry in await put_aside(world, 1)] == ["flood"]
    world.clock.ahead = timedelta(hours=2)
    await world.mailed("desk@peer.test", subject="Later")
    await world.api.items("tickets", 3)


async def test_a_wrong_cause_is_a_fault_of_the_configuration(world: World) -> None:
    text = world.file.read_text("utf-8").replace(
        f'address = "{SUPPORT}"', f'address = "{SUPPORT}"\nsuspend = ["weather"]\nallowlist = ["*@x.test"]'
    )
    world.file.write_text(text, "utf-8")
    checked = await run("check", "--config", world.file)
    assert checked.code == 2
    assert "accounts[2].suspend: 'weather' is no cause" in checked.err
    assert "accounts[2].allowlist: '*@x.test'" in checked.err
