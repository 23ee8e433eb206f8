"""The command line, as processes: init, check, serve, keys, channels, dead letters."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest

from gateway import cli
from gateway.__main__ import main
from gateway.runtime import Gateway
from tests.support.api import Api
from tests.support.process import ROOT, Served, run, serving
from tests.support.world import PUBLIC_URL, World


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[World]:
    """Platforms and a configuration; no gateway."""
    async with World.platforms(tmp_path) as world:
        yield world


async def test_init_writes_a_configuration_that_passes_its_check(tmp_path: Path) -> None:
    made = await run("init", tmp_path / "new")
    file = tmp_path / "new" / "gateway.toml"
    assert (made.code, file.exists()) == (0, True)
    checked = await run("check", "--config", file)
    assert (checked.code, checked.out) == (0, "ok\n")
    again = await run("init", tmp_path / "new")
    assert (again.code, "there already" in again.err) == (1, True)


async def test_check_names_every_fault_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        """
[gateway]
listen = "nowhere"
colour = "red"

[[accounts]]
id = "wa"
adapter = "whatsapp"
access_token = "env:NOT_SET_ANYWHERE"
app_secret = "x"
verify_token = "y"

[[accounts]]
id = "wa"
adapter = "pigeon"

[[accounts]]
id = "sms"
adapter = "sms"
account_sid = "AC1"
auth_token = "t"
""",
        "utf-8",
    )
    checked = await run("check", "--config", file)
    assert (checked.code, checked.out) == (2, "")
    lines = [line.partition(": ")[0] for line in checked.err.splitlines()]
    assert sorted(lines) == [
        "accounts[0].access_token", "accounts[0].phone_number_id", "accounts[1].adapter", "accounts[1].id",
        "accounts[2].number", "gateway.colour", "gateway.listen",
    ]  # fmt: skip
    assert "accounts[0].phone_number_id: missing" in checked.err.splitlines()
    served = await run("serve", "--config", file)
    assert (served.code, served.out) == (2, "")


async def test_check_asks_the_platforms_whether_they_take_our_credentials(stage: World) -> None:
    assert (await run("check", "--config", stage.file)).code == 0
    stage.whatsapp.access_token = "another"
    checked = await run("check", "--config", stage.file)
    assert checked.code == 2
    assert [line for line in checked.err.splitlines() if line.startswith("accounts[0]")]


async def test_check_warns_of_what_has_no_effect(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        '[gateway]\nmatching_attribute = ["phone", "loyal"]\n[[sinks]]\nid = "zd"\nkind = "zendesk"\n', "utf-8"
    )
    checked = await run("check", "--config", file)
    assert (checked.code, checked.out) == (0, "ok\n")
    assert checked.err.splitlines() == [
        "warning: sinks[0]: no sink is built in yet: nothing is sent there",
        "warning: gateway.matching_attribute: 'loyal' is no attribute yet, and no CRM fills it: it links nobody until "
        "it is made (POST /api/v1/attributes)",
    ]
    async with serving(file) as served:
        assert [line for line in served.err if '"event": "sinks.unused"' in line]


async def test_check_warns_once_of_signatures_over_an_address_nobody_told(stage: World) -> None:
    checked = await run("check", "--config", stage.file)
    assert (checked.code, checked.out, checked.err) == (0, "ok\n", "")
    stage.file.write_text(stage.file.read_text("utf-8").replace(PUBLIC_URL, ""), "utf-8")
    checked = await run("check", "--config", stage.file)
    assert (checked.code, checked.out) == (0, "ok\n")
    assert [line for line in checked.err.splitlines() if "public_url" in line] == [
        "warning: gateway.public_url: missing: behind a proxy no webhook of sms-us, wa-twilio passes, as its signature "
        "covers the address"
    ]


async def test_a_start_that_fails_has_begun_nothing(stage: World) -> None:
    """Another program has the port: no message may be on its way when this one gives up."""
    settings, _ = cli.load(stage.file)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway = Gateway(dataclasses.replace(settings, gateway=dataclasses.replace(settings.gateway, listen=listen)))
        with pytest.raises(OSError, match="already in use"):
            await gateway.start()
    assert (gateway.worker, gateway.dispatcher) == (None, None)


async def test_who_reads_the_output_may_stop_reading(tmp_path: Path) -> None:
    command = f"{sys.executable} -m gateway channels --json | head -n 1"
    process = await asyncio.create_subprocess_shell(
        command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert await process.communicate() == (b"{\n", b"")


STORES = {  # address -> what both commands say of it
    "postgresql://gateway:hunter2@127.0.0.1:1/tickets": "connection refused",
    "postgresql://gateway@shop:hunter2/#?@127.0.0.1:1/tickets": "connection refused",  # all of it is understood
    "postgresql://gateway:hunter2@127.0.0.1/tickets?colour=red": 'invalid connection option "colour"',
    "postgresql://gateway:hunter2@127.0.0.1:port/tickets": "not a postgresql:// address",
}


@pytest.mark.parametrize(("address", "words"), STORES.items(), ids=STORES.values())
async def test_a_database_that_cannot_be_used_says_why(tmp_path: Path, address: str, words: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[gateway]\nsecret_key = "{"k" * 32}"\ndatabase = "{address}"\n', "utf-8")
    for ran in (await run("check", "--config", file), await run("serve", "--config", file)):
        assert ran.code in (1, 2)
        assert words in ran.err.lower()
        assert "Traceback" not in ran.err
        assert "hunter2" not in ran.err


UNESCAPED = {  # address -> the setting it is of
    "postgresql://gateway:hun@ter2@127.0.0.1:1/tickets": "database",
    "postgresql://gateway:hun@12:3/ter2@127.0.0.1:1/tickets": "database",
    "postgresql://gateway:hun@ter2?x@127.0.0.1:1/tickets": "database",
    "postgresql://gate/way:hunter2@127.0.0.1:1/tickets": "database",
    "postgresql://gateway:1@1:hunter2@127.0.0.1:1/tickets": "database",
    "redis://:1/hunter2@127.0.0.1:1/0": "redis",
    "redis://:1#hunter2@127.0.0.1:1/0": "redis",
}


@pytest.mark.parametrize(("address", "key"), UNESCAPED.items(), ids=UNESCAPED)
def test_a_password_that_is_not_encoded_is_not_shown_in_pieces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, key: str
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[gateway]\nsecret_key = "{"k" * 32}"\n{key} = "{address}"\n', "utf-8")
    for command in ("check", "users list"):
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--config", str(file)])
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"gateway.{key}: ")
        assert "percent-encoded" in line
        assert not [piece for piece in ("hun", "ter2", "12", "tickets") if piece in line]


@pytest.mark.parametrize("broken", ["", "not = [toml", "[gateway]\nlisten = 5\n"])
async def test_a_file_that_cannot_be_read_is_a_fault_and_no_traceback(tmp_path: Path, broken: str) -> None:
    file = tmp_path / "gateway.toml"
    if broken:
        file.write_text(broken, "utf-8")
    checked = await run("check", "--config", file)
    assert checked.code == 2
    assert "Traceback" not in checked.err
    assert len(checked.err.splitlines()) == 1


async def test_serve_keys_and_an_orderly_end(stage: World) -> None:
    before = await run("keys", "create", "before", "--scope", "admin", "--config", stage.file)
    assert (before.code, before.out.count("\n"), before.out.startswith("gw_")) == (0, 1, True)
    served = await Served.start(stage.file)
    try:
        assert served.out[0].startswith("listening on http://127.0.0.1:")
        during = await run("keys", "create", "during", "--scope", "read", "--config", stage.file)
        assert during.code == 0, during.err
        for key, status in ((before.out.strip(), 200), (during.out.strip(), 200), ("gw_wrong", 401)):
            api = Api(served.address, key)
            assert (await api.call("GET", "tickets")).status == status
            await api.close()
        second = await run("serve", "--config", stage.file)
        assert (second.code, "another gateway" in second.err) == (1, True)
        refused = await run("keys", "create", "x", "--scope", "everything", "--config", stage.file)
        assert refused.code == 1
    finally:
        code = await served.stop(signal.SIGTERM)
    assert code == 0, served.err
    assert not (stage.directory / "var" / "control.sock").exists()
    stored = (stage.directory / "var" / "gateway.db").read_bytes()
    assert before.out.strip().encode() not in stored


async def test_serve_listens_where_it_is_told(stage: World) -> None:
    async with serving(stage.file, "--listen", "127.0.0.1:0") as served:
        assert served.address.startswith("http://127.0.0.1:")
        assert not served.address.endswith((":0", ":8080"))
    wrong = await run("serve", "--config", stage.file, "--listen", "somewhere")
    assert (wrong.code, wrong.err) == (2, "--listen: not HOST:PORT\n")
    apart = await run("serve", "--config", stage.file, "--roles", "web")
    assert (apart.code, "PostgreSQL" in apart.err) == (2, True)


async def test_channels(tmp_path: Path) -> None:
    listed = await run("channels", "--json")
    adapters = {entry["name"]: entry for entry in json.loads(listed.out)["adapters"]}
    assert {"api", "email", "sms", "whatsapp"} <= set(adapters)
    assert adapters["whatsapp"]["channels"] == ["whatsapp"]
    assert adapters["whatsapp"]["capabilities"]["whatsapp"]["window"]["duration"] == 86400
    table = await run("channels")
    assert table.code == 0
    assert "whatsapp" in table.out


async def test_dead_letters_are_listed_replayed_and_dropped(stage: World) -> None:
    key = (await run("keys", "create", "tests", "--scope", "admin", "--config", stage.file)).out.strip()
    async with serving(stage.file) as served:
        stage.point(served.address)
        api = Api(served.address, key)
        broken = {"field": "messages", "value": stage.whatsapp._value() | {"messages": ["no message"]}}
        assert await stage.whatsapp.post([broken]) == 200
        (letter,) = await api.items("dead", 1)
        listed = await run("dead", "list", "--json", "--config", stage.file)
        assert [entry["id"] for entry in json.loads(listed.out)["items"]] == [letter["id"]]
        replayed = await run("dead", "replay", letter["id"], "--config", stage.file)
        assert (replayed.code, replayed.out) == (0, "1 replayed\n")
        await api.until("dead", lambda page: [entry["id"] for entry in page["items"]] not in ([], [letter["id"]]))
        unknown = await run("dead", "drop", "nothing", "--config", stage.file)
        assert unknown.code == 1
        dropped = await run("dead", "drop", "--config", stage.file)
        assert (dropped.code, dropped.out) == (0, "1 dropped\n")
        await api.items("dead", 0)
        await api.close()
        assert await served.stop() == 0
    listed = await run("dead", "list", "--config", stage.file)
    assert (listed.code, listed.out, listed.err) == (0, "", "0 dead letters\n")


async def test_users_are_made_and_listed_and_get_a_new_password(stage: World) -> None:
    made = await run("users", "create", "mia@shop.test", "--name", "Mia", "--role", "admin", "--config", stage.file)
    assert (made.code, len(made.out.split())) == (0, 1)
    again = await run("users", "create", "MIA@shop.test", "--config", stage.file)
    assert (again.code, again.err.strip()) == (1, "gateway: email: there is a user with this address")
    wrong = await run("users", "create", "ben@shop.test", "--role", "king", "--config", stage.file)
    assert (wrong.code, wrong.err.strip()) == (1, "gateway: role: there is no role 'king'")
    listed = await run("users", "list", "--config", stage.file)
    assert (listed.out.split()[:3], len(listed.out.splitlines())) == (["mia@shop.test", "admin", "active"], 1)
    other = await run("users", "password", "mia@shop.test", "--config", stage.file)
    assert (other.code, other.out != made.out) == (0, True)
    nobody = await run("users", "password", "no@shop.test", "--config", stage.file)
    assert (nobody.code, nobody.err.strip()) == (1, "gateway: there is no user 'no@shop.test'")


async def test_a_folder_with_too_long_a_name_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)
    assert (await run("init", deep)).code == 0
    file = deep / "gateway.toml"
    refused = await run("serve", "--config", file, "--listen", "127.0.0.1:0")
    checked = await run("check", "--config", file)
    for ran in (refused, checked):
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.splitlines()[-1].startswith("gateway.data_dir: too long by ")
        assert ran.err.splitlines()[-1].endswith("; name a shorter folder")
    listed = await run("dead", "list", "--config", file)  # needs no socket
    assert (listed.code, listed.err) == (0, "0 dead letters\n")


async def test_a_job_without_a_running_gateway_says_only_what_it_did(tmp_path: Path) -> None:
    await run("init", tmp_path)
    dropped = await run("dead", "drop", "--config", tmp_path / "gateway.toml")
    assert (dropped.code, dropped.out, dropped.err) == (0, "0 dropped\n", "")


async def test_the_version(tmp_path: Path) -> None:
    told = await run("--version")
    assert (told.code, told.out) == (0, f"gateway {version('channel-gateway')}\n")
