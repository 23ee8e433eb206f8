"""A command that cannot do its work says why in one line, and its exit code says so, whichever command it is."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.__main__ import main, parser
from gateway.control import CommandError
from gateway.control_socket import ask_running

CONFIG = '[gateway]\npublic_url = "http://localhost"\nlisten = "127.0.0.1:0"\ndata_dir = "var"\n'
COMMANDS = [
    "serve", "keys create x", "users list", "users create a@b.test", "users password a@b.test", "contacts export x.csv",
    "contacts import in.csv", "search rebuild", "dead list", "dead show x", "dead jobs", "dead replay x", "dead replay",
    "dead drop x", "suspended list", "suspended release x", "suspended drop x", "suppressions list",
    "suppressions add email a@b.test", "suppressions drop x", "identities preview", "identities apply",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """A command sets up the log of its process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def garbage(directory: Path) -> None:
    (directory / "gateway.db").write_bytes(b"this is no database" * 1000)


def in_the_way(directory: Path) -> None:
    (directory / "gateway.db").mkdir()


BROKEN: dict[str, tuple[Callable[[Path], Any], str, str]] = {  # how, more configuration, what is said
    "garbage": (garbage, "", "file is not a database"),
    "a directory": (in_the_way, "", "unable to open database file"),
    "PostgreSQL is down": (
        lambda directory: None,
        'database = "postgresql://gw:hush-hush@127.0.0.1:1/x"\nsecret_key = "0123456789abcdef"\n',
        "onnection refused",
    ),
}


def call(command: str, config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--config", str(config)])
    return int(ended.value.code or 0), capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("breaks", "more", "said"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("command", COMMANDS)
def test_the_store_cannot_be_used(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    breaks: Callable[[Path], Any],
    more: str,
    said: str,
) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "gateway.toml").write_text(CONFIG + more)
    breaks(tmp_path / "var")
    code, lines = call(command, tmp_path / "gateway.toml", capsys)
    assert code == 1
    (line,) = lines
    assert line.startswith("gateway: the store ")
    assert said in line
    assert "hush" not in line


@pytest.mark.parametrize(("breaks", "more", "said"), BROKEN.values(), ids=BROKEN)
def test_a_check_says_what_the_store_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], breaks: Callable[[Path], Any], more: str, said: str
) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "gateway.toml").write_text(CONFIG + more)
    breaks(tmp_path / "var")
    code, (line,) = call("check", tmp_path / "gateway.toml", capsys)
    assert code == 2
    assert "the store cannot be opened: " in line
    assert said in line


@pytest.mark.parametrize("key", ["", "short", "ä" * 40])
def test_a_damaged_secret_key_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    """An empty one would seal tokens with what everybody knows."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "secret_key").write_text(key)
    (tmp_path / "gateway.toml").write_text(CONFIG)
    for command in ("check", "serve", "keys create x"):
        code, (line,) = call(command, tmp_path / "gateway.toml", capsys)
        assert code == 2
        assert "secret_key is damaged" in line


def test_a_secret_key_is_made_once_and_for_its_owner_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.toml").write_text(CONFIG)
    call("users list", tmp_path / "gateway.toml", capsys)
    path = tmp_path / "var" / "secret_key"
    made = path.read_text()
    assert (len(made.strip()) > 40, path.stat().st_mode & 0o777) == (True, 0o600)
    call("users list", tmp_path / "gateway.toml", capsys)
    assert path.read_text() == made
    assert not list(path.parent.glob(".secret_key-*"))


def test_the_data_directory_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "var").write_text("x")
    (tmp_path / "gateway.toml").write_text(CONFIG)
    code, (line,) = call("check", tmp_path / "gateway.toml", capsys)
    assert (code, line.startswith("gateway.data_dir: cannot be used: ")) == (2, True)
    code, (line,) = call("users list", tmp_path / "gateway.toml", capsys)
    assert (code, line.startswith("gateway: "), str(tmp_path / "var") in line) == (1, True, True)


def test_what_nobody_expected_is_one_line_and_where_it_was_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.control import COMMANDS as known

    async def breaks(core: Any, arguments: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setitem(known, "users.list", breaks)
    (tmp_path / "gateway.toml").write_text(CONFIG)
    code, lines = call("users list", tmp_path / "gateway.toml", capsys)
    assert (code, lines) == (1, ["gateway: unexpected: KeyError: 'surprise' (GATEWAY_TRACEBACK=1 shows where)"])
    monkeypatch.setenv("GATEWAY_TRACEBACK", "1")
    code, lines = call("users list", tmp_path / "gateway.toml", capsys)
    assert (code, lines[0]) == (1, "Traceback (most recent call last):")


async def test_a_reader_that_has_read_enough(tmp_path: Path) -> None:
    shell = f"{sys.executable} -m gateway channels --json | head -c 1"
    process = await asyncio.create_subprocess_shell(
        shell, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (out, err) == (b"{", b"")


async def test_a_gateway_that_goes_away_before_it_answers(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    app = web.Application()
    app.router.add_post("/{command}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "control.sock")).start()
    try:
        with pytest.raises(CommandError, match="went away before it answered"):
            await ask_running(tmp_path, "users.list", {})
    finally:
        await runner.cleanup()


def test_the_commands_here_are_all_that_work_on_the_store() -> None:
    (groups,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    without = {"init", "check", "channels", "adapters", "demo"}
    assert {command.split()[0] for command in COMMANDS} == set(groups.choices) - without
