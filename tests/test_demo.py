"""The demo as a newcomer meets it: the story once, and the world that stays until Ctrl-C."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway.demo.acts import reply, says
from gateway.demo.scenario import SCENES
from gateway.demo.transcript import WIDTH, Transcript
from gateway.demo.world import World, told

ROOT = Path(__file__).resolve().parents[1]
PRIVATE = {"email", "sms", "whatsapp", "line", "messenger", "instagram", "x_dm", "wechat", "api"}
PUBLIC = {"facebook", "x"}


async def start_demo(tmp_path: Path, *arguments: str) -> asyncio.subprocess.Process:
    """`gateway demo`, with a temporary directory and a working directory of its own."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "tmp").mkdir()
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", *arguments, cwd=work,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def assert_nothing_is_left(tmp_path: Path) -> None:
    assert list((tmp_path / "work").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_once_tells_the_whole_story_and_leaves_nothing(tmp_path: Path) -> None:
    process = await start_demo(tmp_path, "--once")
    out, err = (stream.decode() for stream in await process.communicate())
    assert (process.returncode, err) == (0, "")
    for scene in SCENES:
        assert scene.__doc__
        assert scene.__doc__ in out
    refusals = re.findall(r"^  refused +#(\d+) +(\w+) +by the rule (\w+): (.+)$", out, re.M)
    assert [(number, channel, rule) for number, channel, rule, _ in refusals] == [
        ("1", "email", "closed_ticket"),
        ("7", "whatsapp", "window"),
        ("7", "whatsapp", "window"),
        ("2", "sms", "opt_out"),
        ("14", "messenger", "window"),
        ("15", "facebook", "private_reply"),
        ("16", "x", "answerable"),
    ]
    assert all(reason.strip() for *_, reason in refusals)
    explained = re.findall(r"^ {26}(remedy|source): .+$", out, re.M)
    assert explained == ["remedy", "source"] * len(refusals)
    assert {line.split()[2] for line in out.splitlines() if re.match(r"  #\d", line)} == PRIVATE | PUBLIC
    assert all(len(line) <= WIDTH for line in out.splitlines())
    assert re.search(r"^  #4 +new +email +closed_ticket .* follow-up of #1$", out, re.M)
    assert "\x1b" not in out  # no colour where nobody looks
    shown = re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert shown
    assert set(shown[1].splitlines()) - {"..."} <= set(out.splitlines())  # the README shows real lines only
    assert_nothing_is_left(tmp_path)


async def test_it_stays_with_a_console_until_it_is_told_to_stop(tmp_path: Path) -> None:
    process = await start_demo(tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    lines = []
    async for line in process.stdout:
        lines.append(line.decode())
        if "Ctrl-C" in lines[-1]:
            break
    found = re.search(r"(http://127\.0\.0\.1:\d+)/#key=(gw_\S+)", "".join(lines))
    assert found, (await process.stderr.read()).decode() + "".join(lines[-5:])
    async with aiohttp.ClientSession() as session:
        async with session.get(found[1] + "/") as page:
            assert page.status == 200
        headers = {"Authorization": f"Bearer {found[2]}"}
        async with session.get(found[1] + "/api/v1/tickets", headers=headers) as answer:
            assert len((await answer.json())["items"]) == 18
    process.send_signal(signal.SIGINT)
    await process.stdout.read()
    err = (await process.stderr.read()).decode()
    assert (await process.wait(), err) == (0, "")
    assert_nothing_is_left(tmp_path)


async def test_on_every_platform_strangers_write_and_answer_what_an_agent_writes(tmp_path: Path) -> None:
    out, channels = Transcript(io.StringIO()), set()
    async with World(tmp_path) as world:
        for place in world.on:
            for number in (2, 3):  # one in private, one in public where there are both
                question, thanks = f"Question {number} of {place.id}?", f"Thanks, says {number} of {place.id}"
                ticket = await says(world, out, place.writes(number, question), question)
                await reply(world, out, ticket, "sent", "delivered", "read", text=f"Answer {number}")
                again = await says(world, out, place.answers(place.simulator.sends[-1], thanks), thanks)
                assert again["id"] == ticket["id"]
                channels.add(ticket["channel"])
    assert channels == (PRIVATE | PUBLIC | {"instagram_comment"}) - {"api"}


async def test_a_story_that_does_not_come_true_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gateway.demo

    async def false_scene(_world: World, _out: Transcript) -> None:
        """Nobody writes."""
        told(False, "somebody wrote")

    monkeypatch.setattr(gateway.demo, "SCENES", (false_scene,))
    assert await gateway.demo.play(once=True) == 1
    assert "NOT AS TOLD: Nobody writes. somebody wrote" in capsys.readouterr().err
