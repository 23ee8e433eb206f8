"""What the command line and its socket take and refuse: numbers within bounds, known names, one line of words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from sqlalchemy import update

from gateway import control_socket, deadletters
from gateway.__main__ import parser
from gateway.bounds import PER_SECOND, SUPPRESSED_DAYS
from gateway.control import COMMANDS, CommandError
from gateway.intake.suspension import CAUSES
from gateway.store import dead, schema
from gateway.tickets import Actor
from tests.web.conftest import Gateway
from tests.web.test_dead import bury, ended

CAUSE_WORDS = "'zzz' is no cause; known are " + ", ".join(CAUSES)
HUGE = "9" * 20

CALLS = {  # what is called -> what the command line says of it
    "dead replay --rate 0": "--rate: must be a whole number from 1 to 1000",
    "dead drop --rate -3": "--rate: must be a whole number from 1 to 1000",
    "dead replay --rate 1000000": "--rate: must be a whole number from 1 to 1000",
    "dead replay --rate many": "--rate: must be a whole number from 1 to 1000",
    "dead list --older-than -5": "--older-than: must be a whole number from 0 to 1000000000",
    f"dead list --older-than {HUGE}": "--older-than: must be a whole number from 0 to 1000000000",
    f"dead drop --newer-than {HUGE}": "--newer-than: must be a whole number from 0 to 1000000000",
    "suppressions add email a@b.test --days 999999999": "--days: must be a number from 0.001 to 36500",
    "suppressions add email a@b.test --days 0": "--days: must be a number from 0.001 to 36500",
    "suppressions add email a@b.test --days nan": "--days: must be a number from 0.001 to 36500",
    "identities preview --limit -5": "--limit: must be a whole number from 0 to 100000",
    "suspended list --cause zzz": "--cause: invalid choice: 'zzz'",
    "suspended drop --cause zzz": "--cause: invalid choice: 'zzz'",
}


@pytest.mark.parametrize(("call", "words"), CALLS.items(), ids=CALLS)
def test_what_the_command_line_refuses(call: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parser().parse_args(call.split())
    told = capsys.readouterr().err
    assert (refused.value.code, words in told) == (2, True), told
    if "zzz" in call:
        assert all(cause in told for cause in CAUSES)


ORDERS: dict[str, tuple[str, dict[str, Any], str]] = {  # command, arguments, what is answered
    "no rate": ("dead.job", {"action": "drop"}, "rate: must be a whole number from 1 to 1000"),
    "rate 0": ("dead.job", {"action": "drop", "rate": 0}, "rate: must be a whole number from 1 to 1000"),
    "rate -4": ("dead.job", {"action": "drop", "rate": -4}, "rate: must be a whole number from 1 to 1000"),
    "rate 1001": ("dead.job", {"action": "drop", "rate": 1001}, "rate: must be a whole number from 1 to 1000"),
    "half a rate": ("dead.job", {"action": "drop", "rate": 1.5}, "rate: must be a whole number from 1 to 1000"),
    "rate true": ("dead.job", {"action": "drop", "rate": True}, "rate: must be a whole number from 1 to 1000"),
    "an odd action": ("dead.job", {"action": "burn", "rate": 1}, "action: must be replay or drop"),
    "a negative age": (
        "dead.list", {"filter": {"older_than": -5}}, "older_than: must be a whole number from 0 to 1000000000"
    ),
    "an age of ages": (
        "dead.list", {"filter": {"newer_than": int(HUGE)}}, "newer_than: must be a whole number from 0 to 1000000000"
    ),
    "a number for a name": (
        "dead.list", {"filter": {"account": 5}}, "filter: Expected `str`, got `int` - at `$.account`"
    ),
    "no end of days": (
        "suppressions.add", {"channel": "echo", "address": "ann", "days": 999_999_999},
        "days: must be a number from 0.001 to 36500",
    ),
    "a cause of one's own": ("suspended.list", {"cause": "zzz"}, CAUSE_WORDS),
    "the same, released": ("suspended.release", {"cause": "zzz"}, CAUSE_WORDS),
    "a negative list": ("identities.preview", {"limit": -1}, "limit: must be a whole number from 0 to 100000"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "arguments", "words"), ORDERS.values(), ids=ORDERS)
async def test_what_the_socket_refuses(gateway: Gateway, command: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(CommandError) as refused:
        await COMMANDS[command](gateway.core, arguments)
    assert str(refused.value) == words
    assert await gateway.core.database.read(lambda connection: dead.jobs(connection, 5)) == []


@pytest.mark.parametrize("rate", [0, -3, 10**6])
async def test_a_job_with_an_absurd_rate_that_is_kept_ends(gateway: Gateway, rate: int) -> None:
    await bury(gateway, 3)
    job = await deadletters.start(gateway.core, "drop", dead.Filter(), 1, Actor("agent", "", "Kim"))
    await gateway.core.database.write(lambda c: c.execute(update(schema.dead_jobs).values(per_second=rate)).rowcount)
    assert await deadletters.Undertaker(gateway.core).step()
    first = await gateway.ok("GET", f"/api/v1/dead-jobs/{job['id']}")
    assert first["done"] == (1 if rate < 1 else 3)
    done = await ended(gateway, dict(job))
    assert (done["state"], done["done"]) == ("done", 3)


@pytest.fixture
def broken() -> Iterator[str]:
    """A command that fails as none should."""

    async def fail(core: object, arguments: object) -> dict[str, Any]:
        raise OverflowError("the secret number 42")

    COMMANDS["tests.broken"] = fail
    yield "tests.broken"
    del COMMANDS["tests.broken"]


async def test_an_unexpected_failure_behind_the_socket_is_one_line(
    gateway: Gateway, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    data_dir = gateway.core.settings.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    door = control_socket.Control(gateway.core)
    await door.start()
    try:
        with pytest.raises(CommandError) as told:
            await control_socket.ask_running(data_dir, broken, {})
        with pytest.raises(CommandError, match="unknown command"):
            await control_socket.ask_running(data_dir, "no.such", {})
        connector = aiohttp.UnixConnector(str(data_dir / control_socket.SOCKET))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://gateway/dead.list", data=b"not json") as answer,
        ):
            assert answer.status == 400
    finally:
        await door.stop()
    assert str(told.value) == "OverflowError in the running gateway: its log says where"
    assert [record.getMessage() for record in caplog.records if record.name == control_socket.__name__] == [
        "control.failed"
    ]


def test_bounds() -> None:
    assert [PER_SECOND.read(given) for given in ("1", 1000, 7.0)] == [1, 1000, 7]
    assert SUPPRESSED_DAYS.read("0.5") == 0.5
    assert [PER_SECOND.nearest(number) for number in (-3, 0, 5, 10**9)] == [1, 1, 5, 1000]
    wrong: list[object] = [None, True, "", "1.5", "1e3", [], float("inf"), float("nan")]
    for given in wrong:
        with pytest.raises(ValueError, match="must be a whole number from 1 to 1000"):
            PER_SECOND.read(given)
