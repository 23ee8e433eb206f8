"""Errands: work for other systems that is wanted in a transaction and done after it, with the manners of the outbox.

The intent is stored before anything leaves; what fails in a way that may pass is tried again by a stored schedule; what
does not is a dead letter that can be replayed. A lane has one errand in flight, in order; lanes do not wait for each
other, and neither do targets. An errand can be done twice when an answer is lost: its id tells the other side.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from adapters import SendError
from gateway.core import Core
from gateway.ids import micros
from gateway.store import errands as store
from gateway.store.dialect import StoreUnavailable
from gateway.store.errands import Errand
from outbox.schedule import AUTH_PAUSE, SCHEDULES, THROTTLE_WAIT

log = logging.getLogger(__name__)

TOPIC = "errands"
AT_ONCE = 8  # of one target
LEASE = timedelta(minutes=2)  # longer than any try may take
TRY_TIMEOUT_S = 90.0
GAUGES_S = 15.0
KEPT = timedelta(days=7)  # what was done
SCHEDULE = SCHEDULES["sink"]
_MICROSECOND = timedelta(microseconds=1)

Handler = Callable[[Errand], Awaitable[None]]
"""Does an errand. Raises `SendError`; must be harmless when done twice."""


class ErrandWorker:
    """Runs the errands of every target it is given a handler for. `run` until cancelled."""

    def __init__(self, core: Core, handlers: Mapping[str, Handler], *, chance: Callable[[], float] = random.random):
        self._core, self._handlers, self._chance = core, handlers, chance

    async def run(self) -> None:
        """Work until cancelled; each target at its own pace."""
        await asyncio.gather(*(self._serve(target) for target in self._handlers), self._measure())

    async def _serve(self, target: str) -> None:
        while True:
            worked = 0
            try:
                worked = await self.step(target)
            except StoreUnavailable:
                await asyncio.sleep(1.0)
            except Exception:
                log.exception("errands.failed", extra={"target": target})
                await asyncio.sleep(1.0)
            if not worked:
                await self._core.bus.wait(f"{TOPIC}.{target}", 1.0)

    async def step(self, target: str) -> int:
        """Do what is due for a target now; how many errands that were."""
        now = micros(self._core.clock())
        until = now + LEASE // _MICROSECOND
        taken = await self._core.database.write(lambda c: store.claim(c, target, AT_ONCE, now, until))
        for trouble in await asyncio.gather(*(self._do(errand) for errand in taken), return_exceptions=True):
            if trouble is not None:  # the store's: the lease ends, and somebody does it again
                raise trouble
        return len(taken)

    async def _do(self, errand: Errand) -> None:
        outcome = "done"
        try:
            async with asyncio.timeout(TRY_TIMEOUT_S):
                await self._handlers[errand.target](errand)
        except SendError as error:
            outcome = await self._failed(errand, error)
        except TimeoutError:
            outcome = await self._failed(errand, SendError("unknown", "timeout", "it took too long", certain=False))
        except StoreUnavailable:
            raise
        except Exception as error:
            log.exception("errands.broken", extra={"kind": errand.kind, "errand": errand.id})
            outcome = await self._failed(errand, SendError("retry", "internal", type(error).__name__))
        else:
            now = micros(self._core.clock())
            await self._core.database.write(lambda connection: store.done(connection, errand, now))
        self._core.metrics.errands.labels(errand.kind, errand.target, outcome).inc()

    async def _failed(self, errand: Errand, error: SendError) -> str:
        """Put it off, or give it up: what became of it."""
        now, tries = self._core.clock(), errand.attempts + 1
        details = (error.error_class, error.code, error.detail)
        at, counted = None, True
        if error.error_class in ("throttle", "auth"):  # everybody waits, and it is not this errand's fault
            pause = THROTTLE_WAIT if error.error_class == "throttle" else AUTH_PAUSE
            wait = timedelta(seconds=error.retry_after_s) if error.retry_after_s is not None else pause
            at, counted = now + wait, False
        elif error.error_class in ("retry", "unknown") and tries <= len(SCHEDULE.delays):
            at = SCHEDULE.next(tries, now, now, self._chance(), automatic=False)
        level = logging.WARNING if error.error_class != "auth" else logging.ERROR
        words = {"kind": errand.kind, "target": errand.target, "code": error.code, "attempts": tries}
        log.log(level, "errands.put_off" if at is not None else "errands.given_up", extra=words)
        if at is None:
            stamp = micros(now)
            if await self._core.database.write(lambda connection: store.give_up(connection, errand, *details, stamp)):
                self._core.metrics.dead_letters.labels("outbound").inc()
            return "dead"
        later = micros(at)
        await self._core.database.write(lambda c: store.later(c, errand, later, *details, counted=counted))
        return error.error_class

    async def _measure(self) -> None:
        """Gauges, and the end of what was done long ago."""
        while True:
            try:
                now = micros(self._core.clock())
                open_now = await self._core.database.read(store.waiting)
                for target in {*self._handlers, *open_now}:
                    count, oldest = open_now.get(target, (0, now))
                    self._core.metrics.errands_open.labels(target).set(count)
                    self._core.metrics.oldest_errand.labels(target).set(max(0.0, (now - oldest) / 1e6))
                await self._core.database.write(functools.partial(store.forget, before=now - KEPT // _MICROSECOND))
            except StoreUnavailable:
                pass  # the next round does it
            await asyncio.sleep(GAUGES_S)
