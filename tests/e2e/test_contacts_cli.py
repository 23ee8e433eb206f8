"""`gateway contacts` and what `gateway check` says of CRMs, as processes, with and without a gateway running."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.crm import FakeCrm, FakeHubSpot
from tests.support.process import run, serving
from tests.support.world import World

PEOPLE = "name,email,vip\r\nAnn,ann@x.example,true\r\nBen,nobody,\r\n"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[World]:
    """Platforms and a configuration; no gateway."""
    async with World.platforms(tmp_path, more='matching_attribute = "email"') as world:
        yield world


async def test_contacts_go_in_and_out(stage: World) -> None:
    file = stage.directory / "people.csv"
    file.write_text(PEOPLE, "utf-8")
    where = ("--config", stage.file)
    dry = await run("contacts", "import", file, "--dry-run", *where)
    assert dry.code == 1
    assert dry.out == "2 rows: 1 created, 0 updated, 0 unchanged, 1 refused; nothing was written\n"
    assert dry.err == "row 3: email: not a valid email (invalid_value)\n"
    whole = await run("contacts", "import", file, "--mode", "all", *where)
    assert (whole.code, whole.out.endswith("nothing was written\n")) == (1, True)
    file.write_text(PEOPLE.replace("nobody", "ben@x.example"), "utf-8")
    async with serving(stage.file):  # the running gateway does it
        made = await run("contacts", "import", file, "--mode", "all", *where)
        assert (made.code, made.out) == (0, "2 rows: 2 created, 0 updated, 0 unchanged, 0 refused\n")
        again = await run("contacts", "import", file, *where)
        assert (again.code, again.out) == (0, "2 rows: 0 created, 0 updated, 2 unchanged, 0 refused\n")
    target = stage.directory / "out.jsonl"
    written = await run("contacts", "export", target, "--columns", "name,vip,email", *where)
    assert (written.code, written.out) == (0, f"wrote {target}\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [json.loads(line) for line in target.read_text("utf-8").splitlines()] == [
        {"name": "Ann", "vip": True, "attributes": {"email": "ann@x.example"}},
        {"name": "Ben", "vip": False, "attributes": {"email": "ben@x.example"}},
    ]


async def test_what_cannot_be_done_is_said_in_a_line(stage: World) -> None:
    there = stage.directory / "there.csv"
    there.write_text("nmae\r\nAnn\r\n", "utf-8")
    for arguments, words in (
        (("export", there), "File exists"),
        (("export", stage.directory / "new.csv", "--columns", "nope"), "nope: there is no field or attribute"),
        (("import", stage.directory / "missing.csv"), "No such file"),
        (("import", there), "nmae: row 1: there is no field or attribute"),
    ):
        ran = await run("contacts", *arguments, "--config", stage.file)
        assert ran.code == 1
        assert words in ran.err
        assert len(ran.err.splitlines()) == 1, ran.err


async def test_check_asks_each_crm(tmp_path: Path) -> None:
    async with FakeCrm() as crm, FakeHubSpot() as hub:
        block = f"""
[[crm]]
id = "crm"
kind = "http"
url = "{crm.url}"
secret = "{crm.secret}"

[[crm]]
id = "hs"
kind = "hubspot"
api_base = "{hub.url}"
token = "env:HUB_TOKEN"
"""
        async with World.platforms(tmp_path, more=block) as world:
            env = {"HUB_TOKEN": hub.token}
            checked = await run("check", "--config", world.file, env=env)
            assert (checked.code, checked.out) == (0, "ok\n"), checked.err
            checked = await run("check", "--config", world.file, env={"HUB_TOKEN": "wrong"})
            assert checked.code == 2
            assert "crm[1]: the CRM refuses the credentials: INVALID_AUTHENTICATION" in checked.err
            assert "wrong" not in checked.err
            crm.faults.append("wrong shape")
            checked = await run("check", "--config", world.file, env=env)
            assert checked.code == 0
            assert "warning: crm[0]: the CRM does not answer as it should: bad-answer $.matches" in checked.err
