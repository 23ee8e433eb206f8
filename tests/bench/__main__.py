"""`python -m tests.bench [accept] [intake] [normalise] [outbound] [quick] [seed=N]`: a table of ratios for each."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from gateway.runtime import calm_collector
from tests.bench import accept, intake, normalise, outbound, search
from tests.bench.figures import Plan, Report, render

BENCHES: dict[str, Callable[[Plan, Path], Awaitable[Report]]] = {
    "accept": accept.run,
    "intake": intake.run,
    "normalise": normalise.run,
    "outbound": outbound.run,
    "search": search.run,
}


async def main(arguments: list[str]) -> int:
    """Run the benchmarks named, all without a name. Exit code 2 for an unknown one."""
    quick = "quick" in arguments
    seeds = [word.removeprefix("seed=") for word in arguments if word.startswith("seed=")]
    seed = int(seeds[0]) if seeds else random.SystemRandom().randrange(10**6)
    names = [word for word in arguments if word != "quick" and not word.startswith("seed=")] or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        print(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.ERROR)
    calm_collector()  # as the gateway runs
    machine = f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}"
    print(f"seed {seed}; {'quick, ' if quick else ''}{machine}, SQLite {sqlite3.sqlite_version}")
    print("figures: median and range over the rounds; ratios: of the same round")
    for name in names:
        directory = Path(tempfile.mkdtemp(prefix=f"gateway-bench-{name}-"))
        started = time.monotonic()
        try:
            report = await BENCHES[name](Plan(3 if quick else 6, quick, random.Random(seed)), directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        print(f"\n{render(report)}\n   took {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        sys.exit(runner.run(main(sys.argv[1:])))
