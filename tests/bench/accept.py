"""Accepting signed WhatsApp webhooks durably, against handlers that keep nothing."""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from tests.bench.figures import Plan, Report, Row, Side, play, ratios
from tests.bench.processes import child
from tests.bench.world import count

NAMES = ("bare", "hmac", "durable")


async def run(plan: Plan, directory: Path) -> Report:
    """64 connections, bodies of about 0.6 KB, each server a process of its own."""
    report = Report("accept: signed webhooks over 64 connections, requests per second")
    seconds = 0.7 if plan.quick else 1.5
    stored = answered = refused = 0
    tail: dict[str, list[float]] = {name: [] for name in NAMES}
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(child("load"))
        servers = {
            name: await stack.enter_async_context(child("servers", name, str(directory / name))) for name in NAMES
        }
        ports = {name: int(await server.line()) for name, server in servers.items()}

        def side(name: str) -> Side:
            async def measure() -> float:
                nonlocal answered, refused
                found = await load.ask({"port": ports[name], "path": "/webhooks/wa", "seconds": seconds})
                refused += sum(found["others"].values())
                answered += found["answers"] if name == "durable" else 0
                tail[name].append(found["p99_ms"])
                return float(found["per_second"])

            return measure

        for name in NAMES:  # warm
            await side(name)()
        found = await play(plan, {name: side(name) for name in NAMES})
        stored = count(directory / "durable", "deliveries")
    report.rows = [
        Row("durable", "bare handler", ratios(found["durable"], found["bare"]), ">= 0.35"),
        Row("durable", "handler with HMAC", ratios(found["durable"], found["hmac"]), ">= 0.5"),
        Row("handler with HMAC", "bare handler", ratios(found["hmac"], found["bare"])),
        Row("durable, per second", "", found["durable"], unit="/s"),
        Row("bare, per second", "", found["bare"], unit="/s"),
        Row("durable, p99", "", tail["durable"], "< 20", unit="ms"),
    ]
    checked = "every one of them" if stored == answered else "NOT THE SAME"
    report.notes = [
        f"answered 200 by the gateway: {answered:,}; found in its store: {stored:,}: {checked}",
        f"answers other than 200, over all servers: {refused:,}",
        f"fsync of 4 KiB on this disk: {median(fsyncs(directory)) * 1e3:.2f} ms",
    ]
    return report


def fsyncs(directory: Path, times: int = 50) -> list[float]:
    """Seconds for writing and syncing a page, several times."""
    found = []
    with (directory / "sync").open("wb", buffering=0) as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
            found.append(time.perf_counter() - started)
    return found
