"""Delivery: claim heads, judge again, commit `sending`, send, record. One per process, over any store.

Nothing leaves before the intent to send it is durable, and nothing is sent twice unless the platform knows the key.
What is found in `sending` without a living sender is settled by `outcomes.perhaps_sent`, never guessed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters import Ambiguous, Channel, Probe, Reconciler, SendError
from adapters._deadline import Deadline
from outbox import outcomes
from outbox.crashpoints import reach
from outbox.decide import decide
from outbox.facts import NOWHERE
from outbox.lanes import BATCH, CONCURRENCY, Lane
from outbox.outcomes import OnUnknown
from outbox.pacing import Pacing
from outbox.ports import (
    Candidate,
    Directory,
    Failure,
    Observe,
    Outcome,
    PaceOf,
    Parcel,
    Pause,
    Ruling,
    Store,
    Waiting,
)
from outbox.rules import RULES, Rule
from outbox.schedule import AUTH_PAUSE, ERRAND_TIMEOUT_S, FIND_AFTER, LEASE_MARGIN_S, SEARCH_EVERY, SEND_TIMEOUT_S

log = logging.getLogger(__name__)

POLL_S = 0.5
KEEP_S = 2.0
_GIVE_UP_RECORDING = 5


class Dispatcher:
    """Sends what is queued until it is stopped. `alone`: no other sender lives, so any `sending` row is a leftover."""

    def __init__(
        self,
        store: Store,
        accounts: Directory,
        clock: Callable[[], datetime],
        pace_of: PaceOf,
        *,
        owner: str,
        rules: Sequence[Rule] = RULES,
        on_unknown: OnUnknown = "ask",
        alone: bool = True,
        concurrency: int = CONCURRENCY,
        chance: Callable[[], float] = random.random,
        observe: Observe = lambda account, outcome: None,
    ) -> None:
        self._store, self._accounts, self._clock = store, accounts, clock
        self._owner, self._rules, self._on_unknown = owner, tuple(rules), on_unknown
        self._alone, self._concurrency, self._chance, self._observe = alone, concurrency, chance, observe
        self._pacing = Pacing(accounts, pace_of, shared=not alone)
        self._free_at: datetime | None = None  # when an account whose slots are used up has one again
        self._lanes: defaultdict[str, Lane] = defaultdict(lambda: Lane(concurrency))
        self._sends: set[asyncio.Task[None]] = set()
        self._errands: set[asyncio.Task[None]] = set()
        self._done: list[Outcome] = []
        self._recorded = asyncio.Lock()
        self._recording = False
        self._trouble = 0  # tries to record the same outcomes
        self._finds: dict[str, tuple[Parcel, int, datetime]] = {}
        self._probes: dict[str, datetime] = {}
        self._search_at: datetime | None = None
        self._started = 0
        self._stopping = False

    # --- life ---

    async def run(self) -> None:
        """Work until `stop`. Trouble of the store only makes it wait."""
        while not self._stopping and not await self._survives("recovery", self.recover()):
            await self._store.wait(POLL_S)
        keeper = asyncio.create_task(self._keep_on())
        try:
            while not self._stopping:
                before = self._started
                if not await self._survives("round", self.round()):
                    await asyncio.sleep(POLL_S)
                if self._started == before and not self._stopping:
                    await self._store.wait(self._idle_s())
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def stop(self, timeout_s: float = SEND_TIMEOUT_S["chat"] + 5) -> None:
        """Claim nothing more, let sends end and record them. What does not end in time is left to recovery."""
        self._stopping = True
        self._store.wake()
        if self._sends:
            await asyncio.wait(self._sends, timeout=timeout_s)
        await self.abandon()
        with contextlib.suppress(Exception):
            await self._record()

    async def abandon(self) -> None:
        """Drop every send where it is, as a crash would."""
        self._stopping = True
        for lane in self._lanes.values():
            lane.drop()
        tasks = [*self._sends, *self._errands]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            await self._survives("housekeeping", self.keep())

    def _idle_s(self) -> float:
        """How long to wait when nobody wakes us: not past the moment at which the next slot is free."""
        if self._free_at is None:
            return POLL_S
        return min(max((self._free_at - self._clock()).total_seconds(), 0.001), POLL_S)

    async def _survives(self, what: str, work: Coroutine[Any, Any, object]) -> bool:
        try:
            await work
        except Exception as error:
            log.error("outbox.trouble", extra={"what": what, "error": type(error).__name__, "detail": str(error)[:200]})
            return False
        return True

    # --- claim ---

    async def round(self) -> int:
        """Claim once and start what may go; how many sends began."""
        now, self._free_at = self._clock(), None
        parcels = await self._store.claim(self._room, self._decide, self._pacing, self._owner, now)
        reach("claim.committed")
        for parcel in parcels:
            lane = self._lanes[parcel.account]
            if lane.take(parcel, now):
                self._start(self._sends, self._send_in_turn(lane))
        self._started += len(parcels)
        return len(parcels)

    def _start(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _room(self, account: str, pause: Waiting | None) -> int:
        bound = self._accounts.get(account)
        if bound is None or (pause is not None and pause.error_class == "auth"):
            return BATCH  # nothing leaves: the rules refuse or hold them, and say why
        if pause is not None:
            return 0  # a short wait: they stay queued
        now = self._clock()
        wanted = self._lanes[account].room(now)
        free = self._pacing.free(account, now)
        if wanted > 0 and free <= 0:
            self._free_at = min(self._free_at or _NEVER, self._pacing.free_at(account, now))
        return max(min(wanted, free), 0)

    def _decide(self, candidate: Candidate) -> Ruling:
        return decide(candidate, self._pacing, self._rules)

    def _channel(self, parcel: Parcel) -> Channel:
        bound = self._accounts.get(parcel.account)
        return bound.channels.get(parcel.channel, NOWHERE) if bound else NOWHERE

    # --- send ---

    async def _send_in_turn(self, lane: Lane) -> None:
        """Send what waits in the lane, one after the other, until nothing does."""
        try:
            while (parcel := lane.next()) is not None:
                try:
                    await self._send(lane, parcel)
                except Exception:  # its lease will end, and recovery says that we do not know
                    log.exception("outbox.send_failed", extra={"outbox_id": parcel.id})
                await asyncio.sleep(0)  # what else has come back is heard first: it may open the breaker
        finally:
            lane.end_turn()

    async def _send(self, lane: Lane, parcel: Parcel) -> None:
        took_s, began = None, time.perf_counter()
        try:
            outcome = await self._try(lane, parcel)
            took_s = time.perf_counter() - began if outcome.word == "sent" else None
        finally:
            more = lane.done(took_s)
        if more:
            self._store.wake()  # fetch more while these are being recorded
        self._judge_platform(lane, outcome)
        self._observe(parcel.account, outcome.word)
        self._done.append(outcome)
        if not self._recording:
            self._recording = True
            self._start(self._errands, self._record_all())

    async def _record_all(self) -> None:
        """Record what is done until nothing is left; what comes while a commit runs shares the next one."""
        try:
            while self._done and await self._record():
                pass
        finally:
            self._recording = False

    def _judge_platform(self, lane: Lane, outcome: Outcome) -> None:
        if lane.breaker.record(outcomes.connection_ok(outcome), outcome.at):
            words = f"{outcome.error.code} {outcome.error.detail}".strip() if outcome.error is not None else ""
            self._start(self._errands, self._tell_broken(outcome.parcel.account, lane.breaker.until, words))

    async def _tell_broken(self, account: str, until: datetime | None, words: str) -> None:
        await self._survives("breaker", self._store.broken(account, until, words, self._clock()))

    async def _try(self, lane: Lane, parcel: Parcel) -> Outcome:
        bound = self._accounts.get(parcel.account)
        if bound is None:
            raise AssertionError("a message of an account that is not configured was let through")
        channel = bound.channels.get(parcel.channel, NOWHERE)
        timeout_s = SEND_TIMEOUT_S[channel.retry]
        if (until := lane.breaker.until) is not None and self._clock() < until:
            broken = Failure("breaker", "retry", "the account's platform broke down before it began")
            return outcomes.put_back(parcel, broken, self._clock(), until)
        if parcel.lease_until is not None and self._clock() + timedelta(seconds=timeout_s) > parcel.lease_until:
            late = Failure("late", "retry", "the sender was held up before it began")
            return outcomes.not_sent(parcel, late, channel, self._clock(), self._chance())
        try:
            reach("send.begun")
            with Deadline(timeout_s + LEASE_MARGIN_S / 2):  # the lease is longer still
                answer = await bound.adapter.send(parcel.message)
            reach("send.answered")
            return outcomes.sent(parcel, answer, channel, self._clock())
        except SendError as error:
            problem = error
        except TimeoutError:
            problem = Ambiguous("timeout", "no answer in time")
        except Exception as error:
            log.exception("adapter.failed", extra={"account": parcel.account, "outbox_id": parcel.id})
            problem = Ambiguous("internal", type(error).__name__)
        return outcomes.failed_send(parcel, problem, channel, self._clock(), self._chance(), self._on_unknown)

    async def _record(self) -> bool:
        """Record all that is done; False when the store could not take it."""
        async with self._recorded:
            batch, self._done = self._done, []
            if not batch:
                return True
            try:
                await self._store.record(batch, self._clock())
            except Exception as error:
                log.error("outbox.record_failed", extra={"error": type(error).__name__, "outcomes": len(batch)})
                await self._record_later(batch)
                return False
            reach("record.committed")
            self._trouble = 0
            for outcome in batch:
                if outcome.state == "unknown":
                    self._find_later(outcome.parcel, 0)
        self._store.wake()
        return True

    async def _record_later(self, batch: list[Outcome]) -> None:
        """Keep the outcomes for the next try; when it fails again and again, try each alone."""
        self._trouble += 1
        if self._trouble < _GIVE_UP_RECORDING:
            self._done = batch + self._done
            return
        for outcome in batch:
            try:
                await self._store.record([outcome], self._clock())
            except Exception:  # its lease will end, and recovery says that we do not know
                log.exception("outbox.outcome_lost", extra={"outbox_id": outcome.parcel.id, "outcome": outcome.word})

    # --- housekeeping ---

    async def recover(self) -> None:
        """Before the first claim: settle what a dead sender left, and take up unknown messages to look up."""
        await self._expire(everything=self._alone)
        for parcel in await self._store.unsettled(self._clock()):
            self._find_later(parcel, 0)
        now = self._clock()
        self._probes = {pause.account: now for pause in await self._store.pauses(now) if pause.error_class == "auth"}
        await self.keep()

    async def keep(self) -> None:
        """Every few seconds: leases that ended, followers to let go, unknown ones to look up, accounts to probe."""
        await self._record()
        await self._expire(everything=False)
        now = self._clock()
        found = await self._store.sweep(now)
        if self._search_at is None or self._search_at <= now:
            self._search_at = now + SEARCH_EVERY
            found += await self._store.search(now)
        if found:
            self._store.wake()
        for parcel, tries, at in list(self._finds.values()):
            if at <= now:
                del self._finds[parcel.id]
                self._start(self._errands, self._find(parcel, tries))
        for pause in await self._store.pauses(now):
            if pause.error_class == "auth" and self._probes.setdefault(pause.account, pause.until) <= now + _MARGIN:
                self._probes[pause.account] = now + AUTH_PAUSE
                self._start(self._errands, self._probe(pause.account))

    @property
    def busy(self) -> bool:
        """Whether a send or an errand is under way."""
        return bool(self._sends or self._errands)

    async def settled(self) -> None:
        """Until no send and no errand is under way."""
        while tasks := [*self._sends, *self._errands]:
            await asyncio.wait(tasks)

    async def _expire(self, *, everything: bool) -> None:
        now = self._clock()
        parcels = await self._store.expired(now, everything=everything)
        if not parcels:
            return
        lost = Failure("sender-lost", "unknown", "the sender stopped before the platform's answer was recorded")
        await self._store.record(
            [
                outcomes.perhaps_sent(parcel, lost, self._channel(parcel), now, self._chance(), self._on_unknown)
                for parcel in parcels
            ],
            now,
        )
        for parcel in parcels:
            self._find_later(parcel, 0)
        self._store.wake()

    def _find_later(self, parcel: Parcel, tries: int) -> None:
        bound = self._accounts.get(parcel.account)
        if bound is not None and isinstance(bound.adapter, Reconciler) and tries < len(FIND_AFTER):
            self._finds[parcel.id] = (parcel, tries, self._clock() + FIND_AFTER[tries])

    async def _find(self, parcel: Parcel, tries: int) -> None:
        """Ask the platform what became of an unknown message."""
        bound = self._accounts.get(parcel.account)
        if bound is None or not isinstance(bound.adapter, Reconciler):
            return
        try:
            async with asyncio.timeout(ERRAND_TIMEOUT_S):
                sent = await bound.adapter.find(parcel.message)
            await self._store.settle(parcel, sent, self._clock())
            self._store.wake()
        except Exception as error:
            log.info("outbox.find_failed", extra={"outbox_id": parcel.id, "error": type(error).__name__})
            self._find_later(parcel, tries + 1)

    async def _probe(self, account: str) -> None:
        """See whether a paused account's credentials work again."""
        bound = self._accounts.get(account)
        if bound is None or not isinstance(bound.adapter, Probe):
            return  # the pause ends by itself, and the next message tells
        try:
            async with asyncio.timeout(ERRAND_TIMEOUT_S):
                await bound.adapter.probe()
        except Exception as error:
            until = self._clock() + AUTH_PAUSE
            words = f"{error.code} {error.detail}".strip() if isinstance(error, SendError) else type(error).__name__
            log.warning("account.probe_failed", extra={"account": account, "error": type(error).__name__})
            await self._store.paused(account, Pause("account", until, "auth", words), self._clock())
            return
        self._probes.pop(account, None)
        await self._store.release(account, self._clock())
        self._store.wake()


_MARGIN = timedelta(seconds=10)  # a probe comes before its pause ends by itself
_NEVER = datetime.max.replace(tzinfo=UTC)
