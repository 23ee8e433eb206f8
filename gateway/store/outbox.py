"""The outbox in the database: `outbox.ports.Store` over one schema for every store.

What it does in the store's thread stands in `claim`, `outcomes`, `states` and `pacing`; here it is committed, and told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, select, text, update

from adapters import Pace, Sent
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.fallback import take_over
from gateway.ids import micros, rfc3339
from gateway.intake import aliases
from gateway.intake.worker import rules_of
from gateway.store import outcomes, pacing, pauses, states, unreadable
from gateway.store.claim import claim, parcels_of
from gateway.store.detours import Detours
from gateway.store.facts import FactSource
from gateway.store.heads import account_pauses
from gateway.store.schema import account_states, outbox
from outbox.crashpoints import reach
from outbox.detours import Refusal
from outbox.ports import Decide, Ledger, Outcome, Parcel, Pause, Room, Waiting

log = logging.getLogger(__name__)
T = TypeVar("T")


def _point(name: str, result: T) -> T:
    reach(f"{name}.written")
    return result


class OutboxStore:
    """What the dispatcher asks for, and the live events that follow from it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._facts = FactSource(core.accounts)
        self._people = rules_of(core)
        self._turn = 0  # of claims
        self._paces: dict[tuple[str, str], Pace] = {}  # accounts do not change while the process lives

    def pace(self, account: str, channel: str) -> Pace:
        """The pace of a channel, or the operator's `rate` over the whole account."""
        known = self._paces.get((account, channel))
        if known is None:
            known = self._paces[account, channel] = pace_of(self._core, account, channel)
        return known

    async def claim(self, room: Room, decide: Decide, ledger: Ledger, owner: str, now: datetime) -> Sequence[Parcel]:
        """See `outbox.ports.Store`."""
        while True:
            self._turn += 1
            turn = self._turn
            claimed = await self._write(
                lambda connection, turn=turn: claim(  # type: ignore[misc]
                    connection, self._facts, room, decide, ledger, self._take_over, owner, now, turn
                ),
                alone=True,
            )
            self._core.metrics.count_refusals(claimed.refused)
            self._tell(claimed.changed)
            self._lead(claimed.detours)
            if claimed.dead:
                self._bury(claimed.dead)
            if claimed.going or not claimed.more:
                break  # else what was put off stood before others
        return claimed.going

    async def record(self, batch: Sequence[Outcome], now: datetime) -> None:
        """See `outbox.ports.Store`."""
        recorded, told = await self._write(
            lambda connection: _point("record", self._record(connection, batch, micros(now))), alone=True
        )
        self._core.bus.publish(LiveEvent(*event) for event in told)
        self._follow(recorded)
        self._lead(recorded.detours)

    def _counts(self, parcel: Parcel) -> bool:
        """Free messages count where one of the account's channels limits how many there may be."""
        if parcel.message.template is not None:
            return False
        account = self._core.accounts.get(parcel.account)
        channels = account.channels.values() if account is not None else ()
        return account is None or any(c.window and c.window.max_messages is not None for c in channels)

    def _take_over(self, connection: Connection, refused: Mapping[str, Refusal]) -> Detours:
        return take_over(connection, self._core, refused)

    def _lead(self, detours: Sequence[LiveEvent]) -> None:
        """Tell of messages that went another way; they wait to be sent."""
        if detours:
            self._core.bus.publish(detours)
            self.wake()

    def _record(
        self, connection: Connection, batch: Sequence[Outcome], now: int
    ) -> tuple[outcomes.Recorded, list[aliases.Live]]:
        recorded = outcomes.record(connection, batch, now, self._counts, self._take_over)
        return recorded, aliases.join(connection, self._people, recorded.aliases, now)

    async def expired(self, now: datetime, *, everything: bool) -> Sequence[Parcel]:
        """See `outbox.ports.Store`."""
        condition = text("outbox.state = 'sending'")
        statement = select(outbox).where(condition).order_by(outbox.c.lease_until).limit(500)
        if not everything:
            statement = statement.where(outbox.c.lease_until <= micros(now))
        parcels, damaged = await self._core.database.read(lambda connection: parcels_of(connection, statement))
        if damaged:
            at = micros(now)
            self._tell(await self._write(lambda connection: unreadable.leave_unknown(connection, damaged, at)))
        return parcels

    async def unsettled(self, now: datetime) -> Sequence[Parcel]:
        """See `outbox.ports.Store`."""
        since = micros(now) - 3_600_000_000
        statement = select(outbox).where(states.is_unknown(), outbox.c.unknown_at > since)
        parcels, _ = await self._core.database.read(lambda connection: parcels_of(connection, statement.limit(1000)))
        return parcels  # of what cannot be read nobody can ask

    async def settle(self, parcel: Parcel, sent: Sent | None, now: datetime) -> None:
        """See `outbox.ports.Store`."""
        recorded = await self._write(
            lambda connection: _point("settle", outcomes.settle(connection, parcel, sent, micros(now), self._counts))
        )
        reach("settle.committed")
        self._follow(recorded)

    async def sweep(self, now: datetime) -> int:
        """See `outbox.ports.Store`."""
        at = micros(now)
        freed, undecided = await self._core.database.read(
            lambda connection: (states.freed(connection, at), states.undecided(connection, at))
        )
        if not freed and not undecided:
            return 0

        def job(connection: Connection) -> tuple[int, list[LiveEvent]]:
            told = states.ask(connection, undecided, at)
            return _point("sweep", (states.promote(connection, freed, at), told))

        count, told = await self._write(job)
        reach("sweep.committed")
        for event in told:
            log.error("outbox.undecided", extra={"account": event.account, "message_id": event.data["message_id"]})
        self._core.bus.publish(told)
        return count

    async def search(self, now: datetime) -> int:
        """See `outbox.ports.Store`."""
        at = micros(now)
        ids = await self._core.database.read(lambda connection: states.forgotten(connection, at))

        def job(connection: Connection) -> int:
            pacing.forget(connection, at)
            return states.let_go(connection, ids, at)

        return await self._write(job)

    async def pauses(self, now: datetime) -> Sequence[Waiting]:
        """See `outbox.ports.Store`."""
        return await self._core.database.read(lambda connection: account_pauses(connection, now))

    async def paused(self, account: str, pause: Pause, now: datetime) -> None:
        """See `outbox.ports.Store`."""
        began = await self._write(
            lambda connection: pauses.pause_accounts(connection, [(account, "", pause)], micros(now))
        )
        self._alarm(began)

    async def broken(self, account: str, until: datetime | None, reason: str, now: datetime) -> None:
        """See `outbox.ports.Store`."""
        pause = Pause("account", until or now, "retry", reason)

        def job(connection: Connection) -> None:
            pauses.pause_accounts(connection, [(account, pauses.BREAKER, pause)], micros(now))

        await self._write(job)
        if until is None:
            log.warning("account.breaker_closed", extra={"account": account})
            self._core.bus.publish([LiveEvent("account.breaker_closed", {"account": account}, account)])
            return
        log.error("account.breaker_opened", extra={"account": account, "detail": reason})
        data = {"account": account, "reason": reason, "until": rfc3339(micros(until))}
        self._core.bus.publish([LiveEvent("account.breaker_opened", data, account)])

    async def release(self, account: str, now: datetime) -> None:
        """See `outbox.ports.Store`."""

        def job(connection: Connection) -> None:
            connection.execute(
                update(account_states)
                .where(account_states.c.account == account, account_states.c.scope == "")
                .values(paused_until=micros(now))
            )
            connection.execute(
                update(outbox)
                .where(states.is_due(), outbox.c.account == account, outbox.c.state == "held")
                .values(not_before=micros(now))
            )

        await self._core.database.bulk(job)
        self._core.bus.publish([LiveEvent("account.resumed", {"account": account}, account)])

    async def wait(self, timeout_s: float) -> bool:
        """See `outbox.ports.Store`."""
        return await self._core.bus.wait("outbox", timeout_s)

    def wake(self) -> None:
        """See `outbox.ports.Store`. Only this process: its sender looks again for what it has itself set free."""
        self._core.bus.wake("outbox", everywhere=False)

    async def _write(self, job: Callable[[Connection], T], *, alone: bool = False) -> T:
        return await self._core.database.write(job, alone=alone)

    def _follow(self, recorded: outcomes.Recorded) -> None:
        """Tell of what was recorded, and raise the alarms that follow from it."""
        self._tell(recorded.changed)
        if recorded.dead:
            self._bury(recorded.dead)
        self._alarm(recorded.pauses)
        if recorded.awakened:
            self._core.bus.wake("intake")

    def _bury(self, letters: Sequence[dict[str, Any]]) -> None:
        self._core.metrics.dead_letters.labels("outbound").inc(len(letters))
        log.error("outbox.dead_letters", extra={"count": len(letters)})
        for letter in letters:
            data = {"id": letter["id"], "message_id": letter["message_id"], "account": letter["account"],
                    "class": letter["error_class"], "code": letter["code"]}  # fmt: skip
            self._core.bus.publish([LiveEvent("dead_letter.created", data, letter["account"])])

    def _alarm(self, pauses: Iterable[tuple[str, str, Pause]]) -> None:
        """Pauses that began. One for a rate is the platform's daily business; a dead token needs somebody."""
        for account, scope, pause in pauses:
            level = logging.ERROR if pause.error_class in ("auth", "policy") else logging.WARNING
            log.log(level, "account.paused", extra={"account": account, "scope": scope, "class": pause.error_class})
            data = {"account": account, "scope": scope.partition(":")[0] or "account", "class": pause.error_class,
                    "reason": pause.reason, "until": rfc3339(micros(pause.until))}  # fmt: skip
            self._core.bus.publish([LiveEvent("account.paused", data, account)])

    def _tell(self, changed: Iterable[states.Changed]) -> None:
        self._core.bus.publish(LiveEvent(*change.live) for change in changed)


def pace_of(core: Core, account_id: str, channel: str) -> Pace:
    """The pace the outbox keeps on a channel of an account."""
    return core.accounts.pace(account_id, channel)
