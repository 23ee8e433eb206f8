"""The load generator, a process of its own: signed webhooks over keep-alive connections, as fast as answers come.

Reads one job a line on standard input, writes one result a line: {"port", "path", "seconds"} -> {"answers", ...}.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from itertools import cycle
from statistics import quantiles
from typing import Any, cast

import uvloop

from tests.bench.world import message_body, signature

CONNECTIONS = 64
BODIES = 4096


def requests(path: str) -> list[bytes]:
    """Requests ready to be written, each with a body and signature of its own."""
    bodies = [message_body(number % 1000, number) for number in range(BODIES)]
    return [
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Hub-Signature-256: {signature(body)}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    ]


class Run:
    """One run: its requests, its end, and what it counted."""

    def __init__(self, path: str, seconds: float) -> None:
        self.requests = cycle(requests(path))
        self.seconds = seconds
        self.until = 0.0
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.open = 0
        self.done = asyncio.get_running_loop().create_future()

    def left(self) -> None:
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


class Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from it
        self._run.open += 1

    def go(self) -> None:
        """Send the next request."""
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._run.requests))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head < 0 or len(buffer) < head + 4 + _length(buffer[:head]):
            self._buffer = buffer
            return
        self._buffer = b""
        now = time.perf_counter()
        self._run.statuses[int(buffer[9:12])] += 1
        self._run.latencies.append(now - self._sent_at)
        if now < self._run.until:
            self.go()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._run.statuses[0] += 1
        self._run.left()


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Load one server for `seconds`; every request sent is waited for."""
    run = Run(str(job["path"]), float(job["seconds"]))
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(run), "127.0.0.1", int(job["port"])))[1]
        for _ in range(CONNECTIONS)
    ]
    started = time.perf_counter()
    run.until = started + run.seconds
    for client in clients:
        client.go()
    await run.done
    elapsed = time.perf_counter() - started
    cuts = quantiles(run.latencies, n=100) if len(run.latencies) > 1 else [0.0] * 99
    return {
        "answers": run.statuses[200], "others": {str(k): n for k, n in run.statuses.items() if k != 200},
        "per_second": run.statuses[200] / elapsed, "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000,
    }  # fmt: skip


def main() -> None:
    """Serve jobs until standard input ends."""
    for line in sys.stdin:
        with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
            print(json.dumps(runner.run(measure(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
