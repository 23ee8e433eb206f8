"""The demo: a whole gateway with simulated platforms, customers who write in, and a story that checks itself.

`play` is all that the command line needs. Everything lives in a temporary directory and on free ports of loopback.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from gateway import log
from gateway.demo.customers import Customers
from gateway.demo.scenario import SCENES, table_of_tickets
from gateway.demo.transcript import Transcript
from gateway.demo.world import NotAsTold, World

__all__ = ["play"]

LOG_FILE = "gateway.log"
SCENE_TIMEOUT_S = 60.0


async def play(once: bool) -> int:
    """Tell the story; the exit code: 0 when it went as told. Without `once` the world then stays until Ctrl-C."""
    directory = Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    transcript = Transcript(sys.stdout)
    handler = _log_to(directory / LOG_FILE)
    try:
        async with World(directory) as world:
            problem = await _tell(world, transcript)
            if problem:
                print(f"\nNOT AS TOLD: {problem}\n{_warnings(directory / LOG_FILE)}", file=sys.stderr)
            if not once and not problem:
                await _stay(world, transcript)
            return 1 if problem else 0
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        shutil.rmtree(directory, ignore_errors=True)


async def _tell(world: World, transcript: Transcript) -> str:
    """Every scene in turn; what went otherwise than told, "" when nothing did."""
    ours = [f"{channel} ({name})" for place in world.on for channel, name in place.ours]
    transcript.heading(f"A gateway with an account on each of {len(tuple(world.on))} platforms: {', '.join(ours)}")
    for scene in SCENES:
        transcript.chapter(scene.__doc__ or scene.__name__)
        try:
            async with asyncio.timeout(SCENE_TIMEOUT_S):
                await scene(world, transcript)
        except (NotAsTold, TimeoutError) as error:
            return f"{(scene.__doc__ or '').splitlines()[0]} {str(error) or 'it took too long'}"
    transcript.chapter("The tickets in the end.")
    await table_of_tickets(world, transcript)
    return ""


async def _stay(world: World, transcript: Transcript) -> None:
    """Keep the world alive until Ctrl-C: customers go on writing, and answer what an agent writes in the console."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    transcript.heading(
        f"The console:  {world.address}/#key={world.key}\nThe API:      {world.address}/api/docs\n"
        f"Its log:      {world.directory / LOG_FILE}\n"
        "Customers write now and then, and answer what you write to them. Ctrl-C ends it and leaves nothing behind."
    )
    customers = asyncio.create_task(Customers(world, transcript).live())
    await asyncio.wait([asyncio.create_task(stop.wait()), customers], return_when=asyncio.FIRST_COMPLETED)
    customers.cancel()
    await asyncio.gather(customers, return_exceptions=True)


def _log_to(path: Path) -> logging.Handler:
    """The gateway's log goes to a file: the story is what standard output is for."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(log.JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in log.QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler


def _warnings(path: Path) -> str:
    lines = path.read_text("utf-8").splitlines()
    return "\n".join([line for line in lines if '"level": "info"' not in line][-20:])
