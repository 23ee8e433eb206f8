"""Backup and restore, by the commands of docs/operations.md as they stand there."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from tests.support.api import Api
from tests.support.process import ROOT, run, serving

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
RESTORE = [line.strip() for line in re.findall(r"^    (?:mv|cp) .*$", PAGE, re.M)]


async def test_a_restored_store_is_the_one_that_was_saved(tmp_path: Path) -> None:
    """Killed with its write-ahead log beside it, then put back: that log must not be taken for the copy's own."""
    config, backup = tmp_path / "gateway.toml", tmp_path / "backup"
    config.write_text('[gateway]\nlisten = "127.0.0.1:0"\n', "utf-8")
    made = await run("keys", "create", "test", "--scope", "admin", "--config", config)
    var = tmp_path / "var"
    assert var.stat().st_mode & 0o777 == 0o700
    async with serving(config) as served:
        api = Api(served.address, made.out.strip())
        await write(api, "saved", 20, await api.upload(b"hi", "a.txt", "text/plain"))
        (taken,) = re.findall(r'^    sqlite3 -readonly var/gateway.db "(\.backup .*)"$', PAGE, re.M)
        assert taken == ".backup 'gateway-$(date +%F).db'"  # what follows does the same
        with (
            closing(sqlite3.connect(f"file:{var / 'gateway.db'}?mode=ro", uri=True)) as store,
            closing(sqlite3.connect(tmp_path / "gateway-2026-11-30.db")) as copy,
        ):
            store.backup(copy)
        backup.mkdir()
        subprocess.run(["cp", "-Rp", var / "media", var / "secret_key", backup], check=True)
        await write(api, "lost", 60)
        await api.close()
        await served.stop(signal.SIGKILL)
    assert (var / "gateway.db-wal").stat().st_size > 0
    assert len(RESTORE) == 2
    for command in RESTORE:
        subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    async with serving(config) as served:
        api = Api(served.address, made.out.strip())
        await write(api, "later", 1)
        tickets = (await api.get("tickets", limit="100"))["items"]
        assert sorted({ticket["subject"] for ticket in tickets}) == [
            "later 0",
            *sorted(f"saved {n}" for n in range(20)),
        ]
        (message,) = (await api.get(f"tickets/{tickets[-1]['id']}/messages"))["items"]
        (attachment,) = message["attachments"]
        answer = await api.call("GET", attachment["url"])
        assert (answer.status, answer.body) == (200, b"hi")
        await api.close()
        assert await served.stop() == 0
    with closing(sqlite3.connect(var / "gateway.db")) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def write(api: Api, words: str, count: int, upload: str = "") -> None:
    """So many customers write over the API channel, the first of them with a file."""
    for number in range(count):
        body = {"direction": "inbound", "from": {"id": f"{words}-{number}"}, "subject": f"{words} {number}"}
        files = {"attachments": [{"upload": upload}]} if upload and not number else {}
        await api.post("messages", body | {"text": "Hello"} | files)
