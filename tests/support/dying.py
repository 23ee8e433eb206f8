"""The gateway, which kills itself at a crash point: many lives, all forks of one process that has read its code.

`python -m tests.support.dying` reads a life a line (`Nursery.born` writes it), and prints its exit code once it has
ended. Each life is a process of its own; what they share is only the time it takes to import.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.__main__ import main
from outbox import crashpoints

ROOT = Path(__file__).parent.parent.parent
START_S = 30.0


@dataclass(slots=True)
class Life:
    """A running `gateway serve`; what it writes stands in `log`."""

    log: Path
    _code: asyncio.Task[int]

    @property
    def over(self) -> bool:
        return self._code.done()

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        return await self._code


class Nursery:
    """One life at a time."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self._process, self._directory, self._lives = process, directory, 0

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator[Nursery]:
        """The process all lives are forks of, until the block ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.dying", cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield cls(process, directory)
        finally:
            process.kill()
            await process.wait()

    async def born(self, point: str, passing: int, *arguments: str) -> Life:
        """`gateway ARGUMENTS`, which dies at the so-manieth passing of the point. Returns once it listens."""
        assert self._process.stdin is not None
        self._lives += 1
        log = self._directory / f"life{self._lives}.log"
        log.touch()
        job = {"point": point, "passing": passing, "arguments": arguments, "log": str(log)}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        life = Life(log, asyncio.create_task(self._number()))
        async with asyncio.timeout(START_S):
            while "listening on " not in log.read_text("utf-8"):
                assert not life.over, f"it ended: {log.read_text('utf-8')}"
                await asyncio.sleep(0.005)
        return life

    async def _number(self) -> int:
        assert self._process.stdout is not None
        return int(await self._process.stdout.readline())


def _live(job: dict[str, str]) -> None:
    """In the fork: be the gateway. Does not return."""
    output = os.open(job["log"], os.O_WRONLY | os.O_APPEND)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    crashpoints.arm(job["point"], int(job["passing"]))
    sys.argv = ["gateway", *job["arguments"]]
    code = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _bear() -> None:
    import gateway.runtime  # noqa: F401 - read before the first fork
    from adapters._load import find

    find()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _live(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _bear()
