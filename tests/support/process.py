"""`gateway` as a process of its own: started, spoken to, stopped, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = (sys.executable, "-m", "gateway")
ROOT = Path(__file__).parent.parent.parent
START_S = 30.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Ran:
    """Run `gateway ...` to its end."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, arguments), cwd=ROOT, env=os.environ | (env or {}),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@dataclass(slots=True)
class Served:
    """A running `gateway serve`. What it writes is kept in `out` and `err`."""

    process: asyncio.subprocess.Process
    ready_s: float = 0.0
    address: str = ""
    smtp_port: int = 0
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(
        cls, config: Path, *arguments: str, env: dict[str, str] | None = None, module: str = "gateway"
    ) -> Served:
        """Start it; returns once it listens. Raises `AssertionError` when it ends instead."""
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, "serve", "--config", str(config), *arguments,
            cwd=ROOT, env=os.environ | (env or {}), limit=2**24,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        served = cls(process)
        assert process.stdout is not None
        assert process.stderr is not None
        served._readers = [
            asyncio.create_task(served._read(process.stdout, served.out)),
            asyncio.create_task(served._read(process.stderr, served.err)),
        ]
        async with asyncio.timeout(START_S):
            while not served.address:
                assert process.returncode is None, f"it ended with {process.returncode}: {served.err}"
                await asyncio.sleep(0.005)
        served.ready_s = time.monotonic() - began
        return served

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send it the signal; its exit code once it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        code = await self.process.wait()
        await asyncio.gather(*self._readers)
        return code

    async def _read(self, stream: asyncio.StreamReader, into: list[str]) -> None:
        while line := (await stream.readline()).decode().rstrip("\n"):
            into.append(line)
            if line.startswith("listening on "):
                self.address = line.removeprefix("listening on ")
            elif line.startswith("receiving mail on port "):
                self.smtp_port = int(line.rpartition(" ")[2])


@asynccontextmanager
async def serving(
    config: Path, *arguments: str, env: dict[str, str] | None = None, module: str = "gateway"
) -> AsyncIterator[Served]:
    """A running `gateway serve`, ended when the block ends."""
    served = await Served.start(config, *arguments, env=env, module=module)
    try:
        yield served
    finally:
        await served.stop(signal.SIGKILL)
