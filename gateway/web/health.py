"""Whether this process is alive, whether it should be given work, and its figures.

`/healthz` asks nothing but the event loop. `/readyz` asks the store and the disk, and says no from the moment a stop
was asked for. Other parts add checks of their own.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import Connection, RowMapping, inspect

from gateway.core import Core
from gateway.ids import micros
from gateway.store import queue_views, trial
from gateway.store.dialect import wal_reset_fault
from gateway.store.pauses import BREAKER
from gateway.store.schema import metadata

Check = Callable[[], Awaitable[str]]
"""Says what is wrong in a sentence; "" when nothing is. What it raises is wrong, too."""

CHECK_TIMEOUT_S = 2.0
WATCHED_S = 60.0  # who asked `/readyz` so lately will ask again
FIGURES_EVERY_S = 5.0
TRIAL_EVERY_S = 3.0  # what was well is taken to be so for that long; what was not is tried again each time
DISK_LOW = 500 * 2**20  # bytes, or 5 % of the disk where that is less: worth a warning
DISK_FULL = 64 * 2**20  # bytes: no more work is wanted
WAL_HIGH = 64 * 2**20  # bytes


class Readiness(msgspec.Struct):
    """What `/readyz` says."""

    status: str
    checks: dict[str, str]
    warnings: list[str]


class Health:
    """The health of one process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.draining = False
        self._checks: dict[str, Check] = {"store": self._store, "schema": self._schema, "disk": self._disk}
        self._warners: list[Callable[[], list[str]]] = []
        self._schema_found = False
        self._figures_at = -FIGURES_EVERY_S
        self._asked_at = self._tried_at = -math.inf
        self._trying = asyncio.Lock()

    def add(self, name: str, check: Check) -> None:
        """Have `/readyz` ask this, too. The name "schema" replaces the built-in check."""
        self._checks[name] = check

    def warn(self, source: Callable[[], list[str]]) -> None:
        """Have `/readyz` tell of this, too: trouble in which the process still wants work."""
        self._warners.append(source)

    def is_watched(self) -> bool:
        """Whether somebody, a load balancer say, looks at `/readyz` now and then."""
        return time.monotonic() - self._asked_at < WATCHED_S

    async def readiness(self) -> Readiness:
        """Ask every check, side by side."""
        names = list(self._checks)
        results = dict(zip(names, await asyncio.gather(*(self._ask(self._checks[n]) for n in names)), strict=True))
        if self.draining:
            results["draining"] = "stopping"
        ready = not any(results.values())
        found = {name: problem or "ok" for name, problem in results.items()}
        return Readiness("ready" if ready else "not ready", found, self._warnings())

    async def _ask(self, check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await check()
        except TimeoutError:
            return "no answer in time"
        except Exception as error:
            return type(error).__name__  # no text: it may hold an address with a password

    async def _store(self) -> str:
        """The store has taken a delivery just now, or a few seconds ago."""
        async with self._trying:  # however many ask at once
            if time.monotonic() - self._tried_at >= TRIAL_EVERY_S:
                now = micros(self._core.clock())
                await self._core.database.write(lambda connection: trial.keep_and_forget(connection, now))
                self._tried_at = time.monotonic()
        return ""

    async def _schema(self) -> str:
        if not self._schema_found:
            names = await self._core.database.read(lambda connection: set(inspect(connection).get_table_names()))
            missing = sorted(set(metadata.tables) - names)
            if missing:
                return f"not migrated: {missing[0]} is missing"
            self._schema_found = True
        return ""

    async def _disk(self) -> str:
        free = (await asyncio.to_thread(shutil.disk_usage, self._data_dir())).free
        return "" if free >= DISK_FULL else f"only {free // 2**20} MiB free"

    def _data_dir(self) -> str:
        directory = self._core.settings.data_dir
        return str(directory if directory.exists() else directory.parent if directory.parent.exists() else ".")

    def _warnings(self) -> list[str]:
        found = []
        embedded = self._core.database.url.get_backend_name() == "sqlite"
        if embedded and (fault := wal_reset_fault()):
            found.append(fault)
        usage = shutil.disk_usage(self._data_dir())
        if usage.free < min(DISK_LOW, usage.total // 20):
            found.append(f"only {usage.free // 2**20} MiB of disk are free")
        if self._wal_bytes() > WAL_HIGH:
            found.append("the write-ahead log is larger than 64 MiB: a long read may hold it")
        return found + [warning for source in self._warners for warning in source()]

    def _wal_bytes(self) -> int:
        path = self._core.database.url.database
        if self._core.database.url.get_backend_name() != "sqlite" or not path:
            return 0
        try:
            return os.stat(f"{path}-wal").st_size
        except OSError:
            return 0

    async def refresh_figures(self) -> None:
        """Bring the gauges up to date that are counted in the store, every few seconds at most."""
        if time.monotonic() - self._figures_at < FIGURES_EVERY_S:
            return
        self._figures_at = time.monotonic()
        metrics = self._core.metrics
        now = micros(self._core.clock())
        found = await self._core.database.read(lambda connection: _figures(connection, now))
        metrics.oldest_inbound.set(_age(found.oldest_inbound, now))
        waiting = [depth.oldest for depth in found.depths.values() if depth.oldest is not None]
        metrics.oldest_outbound.set(_age(min(waiting, default=None), now))
        for gauge in (metrics.outbox_depth, metrics.outbox_oldest, metrics.paused, metrics.breaker_open):
            gauge.clear()
        for account in self._core.accounts:
            depth = found.depths.get(account.id, queue_views.Depth())
            for state in queue_views.OPEN_STATES:
                metrics.outbox_depth.labels(account.id, state).set(depth.states.get(state, 0))
            metrics.outbox_oldest.labels(account.id).set(_age(depth.oldest, now))
            pauses = found.pauses.get(account.id, ())
            metrics.breaker_open.labels(account.id).set(any(pause["scope"] == BREAKER for pause in pauses))
            for error_class in {pause["error_class"] for pause in pauses if not pause["scope"]}:
                metrics.paused.labels(account.id, error_class).set(1)
        metrics.undecided.set(found.undecided)
        metrics.dead_open.set(found.dead)
        metrics.wal_bytes.set(self._wal_bytes())

    # --- HTTP ---

    async def healthz(self, _request: web.Request) -> web.StreamResponse:
        """The event loop answers."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.StreamResponse:
        """Whether work is wanted."""
        self._asked_at = time.monotonic()
        found = await self.readiness()
        ready = found.status == "ready"
        return web.Response(
            status=200 if ready else 503,
            body=msgspec.json.encode(found),
            content_type="application/json",
            headers={} if ready else {"Retry-After": "5"},
        )

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """Prometheus. Figures from a store that does not answer are the last known ones."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self.refresh_figures()
        except Exception:  # noqa: S110 - counts of this process must be seen above all when the store is down
            pass
        return web.Response(body=self._core.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Figures(msgspec.Struct):
    depths: dict[str, queue_views.Depth]
    pauses: dict[str, list[RowMapping]]
    undecided: int
    dead: int
    oldest_inbound: int | None


def _figures(connection: Connection, now: int) -> _Figures:
    return _Figures(
        queue_views.depths(connection, now),
        queue_views.pauses(connection, now),
        queue_views.undecided(connection),
        queue_views.open_letters(connection),
        queue_views.oldest_delivery(connection),
    )


def _age(since: int | None, now: int) -> float:
    return 0.0 if since is None else max(0, now - since) / 1_000_000


def add_health(app: web.Application, health: Health) -> None:
    """The three paths every role serves."""
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/metrics", health.metrics)
