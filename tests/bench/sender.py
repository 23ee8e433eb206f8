"""A sender as a process of its own: `python -m tests.bench.sender DIRECTORY DATABASE API_BASE SENDS_AT_A_TIME`.

Prints `{}` once it is ready. For each line it reads it sends what is queued until the next line, then says how much
processor time that took it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path

import uvloop

from adapters import Http
from adapters._http import new_session
from adapters._media import MediaClient
from gateway.runtime import calm_collector
from gateway.store.outbox import OutboxStore
from outbox.dispatcher import Dispatcher
from outbox.rules import load_rules
from tests.bench.world import make_core


async def main(directory: Path, database: str, base: str, concurrency: int) -> None:
    """Send whenever told to, until standard input ends."""
    logging.getLogger("gateway").setLevel(logging.CRITICAL)
    directory.mkdir(parents=True)
    async with new_session() as session:
        media = MediaClient(allow_private=False, max_bytes=1)
        core = make_core(directory, api_base=base, http=Http(session, (base,), media), database=database)
        store, lines = OutboxStore(core), await _standard_input()
        calm_collector()
        print("{}", flush=True)
        while await lines.readline():
            dispatcher = Dispatcher(
                store, core.accounts, core.clock, store.pace, owner=directory.name, rules=load_rules(), alone=False,
                concurrency=concurrency,
            )  # fmt: skip
            spent, running = time.process_time(), asyncio.create_task(dispatcher.run())
            await lines.readline()
            print(json.dumps({"cpu_s": time.process_time() - spent}), flush=True)
            await dispatcher.stop()
            await running
        await core.database.stop()
        await media.aclose()


async def _standard_input() -> asyncio.StreamReader:
    reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        runner.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
