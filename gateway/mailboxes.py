"""Mail fetched from mailboxes: nothing lost, nothing doubled, whatever dies in between.

The position in a mailbox (UIDVALIDITY, last UID) is written in the transaction that keeps the mail it covers. A mail
that cannot be kept stops the position; one that nobody can read later, or that cannot be had whole, is kept as far as
it can be had and the position moves on, so that no mail blocks those behind it. When UIDVALIDITY changes the folder is
read again from its beginning: intake knows the mails it has seen. Flags are for people and set afterwards.

One thread for each mailbox does what blocks; all decisions are made here, on the event loop. With several processes a
lease in the store says who reads which mailbox.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter
from tenacity.wait import wait_base

from adapters import Mailbox, MailboxTrouble, ReadsMailbox, SendError
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros
from gateway.intake.worker import TOPIC
from gateway.mailroom import delivery_row
from gateway.store import mailboxes as rows
from gateway.store.dialect import StoreUnavailable
from gateway.store.mailboxes import LeaseLost, Position

T = TypeVar("T")
log = logging.getLogger(__name__)

LEASE = timedelta(seconds=7) // timedelta(microseconds=1)  # a dead process's mailboxes go on elsewhere after this
RENEW_S = 2.0
STANDBY_S = 1.5  # between two looks whether a mailbox has become free
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 900.0  # between two tries to connect
ALARM_AFTER = 3  # failed tries; trouble that needs a person is told at once
REFUSALS_MAX = 3  # of one mail by the server, before only what can be had of it is kept
NEEDS_A_PERSON = ("auth", "certificate", "folder")
SIZES_AT_ONCE = 100  # mails whose sizes are asked for together
STOP_S = 5.0
WORKED_S = 60.0  # a connection that lived so long is made anew at once
_EXPECTED = (MailboxTrouble, StoreUnavailable, LeaseLost, SendError)


@dataclass(frozen=True, slots=True)
class Plan:
    """From where a mailbox is read, and why when that is from its beginning again."""

    position: Position
    why: str = ""


def plan(known: Position, validity: int, following: int, start: str, now: int) -> Plan:
    """From where to read a mailbox just opened. `following` is the number its next mail will get."""
    if known.uidvalidity == validity:
        return Plan(known)
    if known.uidvalidity:
        return Plan(Position(validity, 0, known.since, following - 1), "the mailbox numbers its mails anew")
    if start == "new":
        return Plan(Position(validity, following - 1, now), "first seen: from here on")
    return Plan(Position(validity, 0), "first seen")


class MailCollector:
    """Reads the mailboxes of all accounts. `run` until cancelled. `alone`: no other process uses the store."""

    def __init__(self, core: Core, *, alone: bool, first_wait_s: float = FIRST_WAIT_S) -> None:
        self._core, self._alone = core, alone
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.readers = [
            _Reader(core, account.id, mailbox, self.owner, alone=alone, first_wait_s=first_wait_s)
            for account in core.accounts
            if isinstance(account.adapter, ReadsMailbox) and (mailbox := account.adapter.mailbox()) is not None
        ]

    async def run(self) -> None:
        """Read until cancelled. Nothing of a single mailbox's trouble reaches another."""
        if not self.readers:
            return
        jobs = [reader.run() for reader in self.readers]
        if not self._alone:
            jobs.append(self._renew())
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                if not task.cancelling():  # a second cancellation would cut their good-byes short
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(StoreUnavailable):
                await self._core.database.write(lambda connection: rows.leave(connection, self.owner))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            until = micros(self._core.clock()) + LEASE
            with suppress(StoreUnavailable):
                await self._core.database.write(functools.partial(rows.renew, owner=self.owner, until=until))

    def warnings(self) -> list[str]:
        """What troubles the mailboxes this process reads, in sentences without secrets."""
        return [f"mailbox of {reader.account}: {reader.problem}" for reader in self.readers if reader.problem]


class _Wait(wait_base):
    """Longer and longer, with chance; at once the longest where only a person can help: no lockouts."""

    def __init__(self, first_s: float) -> None:
        self._usual = wait_exponential_jitter(multiplier=first_s, max=LONGEST_WAIT_S, jitter=first_s)
        self._first_s = first_s

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        if isinstance(error, MailboxTrouble) and error.kind in NEEDS_A_PERSON:
            return min(self._first_s * 60, LONGEST_WAIT_S)
        return min(self._usual(retry_state), self._first_s if isinstance(error, StoreUnavailable) else LONGEST_WAIT_S)


class _Reader:
    """One mailbox."""

    def __init__(
        self, core: Core, account: str, mailbox: Mailbox, owner: str, *, alone: bool, first_wait_s: float
    ) -> None:
        self._core, self.account, self._mailbox, self._owner = core, account, mailbox, owner
        self._alone, self._first_wait_s = alone, first_wait_s
        self._max_bytes = core.settings.mail_bytes
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mailbox-{account}")
        self._refused: dict[int, int] = {}  # how often the server would not hand a mail out
        self.problem = ""

    async def run(self) -> None:
        """Own the mailbox, read it, connect again after every trouble."""
        try:
            while True:
                retrying = AsyncRetrying(
                    wait=_Wait(self._first_wait_s),
                    retry=retry_if_exception_type(_EXPECTED),
                    before_sleep=self._told,
                    sleep=asyncio.sleep,
                )
                try:
                    async for attempt in retrying:
                        with attempt:
                            await self._session()
                except Exception:
                    log.exception("mailbox.failed", extra={"account": self.account})
                    await asyncio.sleep(self._first_wait_s)
        finally:
            self._stop.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await asyncio.shield(self._do(self._mailbox.close))
            self._mailbox.abort()
            self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _write(self, job: Callable[[Connection], T]) -> T:
        return await self._core.database.write(job)

    # --- one connection ---

    async def _session(self) -> None:
        """From the login to the loss of the connection. Returns after one that worked, raises for one that did not."""
        began = asyncio.get_running_loop().time()
        try:
            await self._read()
        except _EXPECTED as error:
            await self._do(self._mailbox.close)
            lived_s = asyncio.get_running_loop().time() - began
            if lived_s < WORKED_S or not isinstance(error, MailboxTrouble) or error.kind != "network":
                raise
            log.info("mailbox.lost", extra={"account": self.account, "detail": str(error)})

    async def _read(self) -> None:
        await self._own()
        await self._mailbox.prepare()
        opened = await self._do(self._mailbox.open)
        known = await self._core.database.read(lambda connection: rows.position(connection, *self._key))
        found = plan(known, opened.validity, opened.following, self._mailbox.start, micros(self._core.clock()))
        if found.why:
            log.info("mailbox.from_the_start", extra={"account": self.account, "detail": found.why})
            await self._write(lambda connection: rows.move(connection, *self._key, self._owner, found.position))
        position = await self._collect(found.position)
        await self._well()
        while True:
            await self._do(self._mailbox.wait, self._mailbox.poll_s, self._stop)
            position = await self._collect(position)
            await self._well()

    @property
    def _key(self) -> tuple[str, str]:
        return self.account, self._mailbox.folder

    async def _own(self) -> None:
        """Wait until the mailbox is ours to read."""
        while True:
            now = micros(self._core.clock())
            until = now + LEASE
            if self._alone:  # whoever stands in the row is dead: the store has one process
                now = until + LEASE
            if await self._write(functools.partial(self._take, now, until)):
                return
            await asyncio.sleep(STANDBY_S)

    def _take(self, now: int, until: int, connection: Connection) -> bool:
        return rows.take(connection, *self._key, self._owner, now, until)

    async def _collect(self, position: Position) -> Position:
        """Keep everything behind `position`, mail by mail; the position then. What is kept stays kept if it raises."""
        uids = await self._do(self._mailbox.after, position.last_uid)
        sizes: dict[int, int] = {}
        for index, uid in enumerate(uids):
            if index % SIZES_AT_ONCE == 0:
                sizes = await self._do(self._mailbox.sizes, uids[index : index + SIZES_AT_ONCE])
            following = replace(position, last_uid=uid)
            raw, problem = await self._get(uid, sizes.get(uid), position)
            if raw is None:  # gone, or from before we were asked to read
                await self._write(functools.partial(self._move, following))
            else:
                await self._keep(raw, problem, following)
                if not problem:  # what we do not have whole stays as it is
                    await self._settle(uid)
            self._refused.pop(uid, None)
            position = following
        return position

    def _move(self, to: Position, connection: Connection) -> None:
        rows.move(connection, *self._key, self._owner, to)

    async def _get(self, uid: int, size: int | None, known: Position) -> tuple[bytes | None, str]:
        """The mail and, where it is not whole, why; None when there is nothing to keep."""
        if size is None:
            return None, ""
        if known.since and uid <= known.known_until:
            came = await self._do(self._mailbox.received_at, uid)
            if came is not None and micros(came) + 1_000_000 <= known.since:  # the server tells whole seconds
                return None, ""
        if size > self._max_bytes:
            return await self._do(self._mailbox.fetch_part, uid), f"too large: {size} bytes"
        try:
            return await self._do(self._mailbox.fetch, uid), ""
        except MailboxTrouble as trouble:
            if trouble.kind != "mail":
                raise
            self._refused[uid] = self._refused.get(uid, 0) + 1
            if self._refused[uid] < REFUSALS_MAX:
                raise
            return await self._do(self._mailbox.fetch_part, uid), "the mailbox does not hand it out"

    async def _keep(self, raw: bytes, problem: str, following: Position) -> None:
        envelope = {"incomplete": problem} if problem else {}
        row = delivery_row(self._core, self.account, "imap", envelope, raw)

        def job(connection: Connection) -> None:
            rows.keep(connection, row, *self._key, self._owner, following)

        await self._write(job)
        self._core.metrics.deliveries.labels(self.account, "kept").inc()
        self._core.bus.wake(TOPIC)

    async def _settle(self, uid: int) -> None:
        """The mail is safe; that its flag cannot be set loses nothing, unless the connection is lost with it."""
        try:
            await self._do(self._mailbox.settle, uid)
        except MailboxTrouble as trouble:
            if trouble.kind == "network":
                raise
            log.warning("mailbox.not_settled", extra={"account": self.account, "error": str(trouble)})

    # --- what others see of it ---

    async def _well(self) -> None:
        recovered, self.problem = bool(self.problem), ""
        now = micros(self._core.clock())
        await self._write(lambda connection: rows.looked(connection, *self._key, now))
        self._core.metrics.mailbox_up.labels(self.account).set(1)
        if recovered:
            self._tell("mailbox.recovered", "", alarming=False)

    async def _told(self, state: RetryCallState) -> None:
        """Make trouble known: in the log, the figures, `/readyz`, the account; and as an alarm that is worth one."""
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, LeaseLost):
            log.info("mailbox.taken_over", extra={"account": self.account})
            return
        kind, detail = _named(error)
        first = self.problem != detail
        self.problem = detail
        metrics = self._core.metrics
        metrics.mailbox_up.labels(self.account).set(0)
        metrics.mailbox_errors.labels(self.account, kind).inc()
        wait_s = state.next_action.sleep if state.next_action is not None else 0.0
        log.warning(
            "mailbox.trouble",
            extra={"account": self.account, "error": kind, "detail": detail, "retry_in_s": round(wait_s, 1)},
        )
        if kind != "store":
            now = micros(self._core.clock())
            with suppress(StoreUnavailable):
                await self._write(lambda connection: rows.troubled(connection, *self._key, detail, now))
        alarming = kind in NEEDS_A_PERSON
        if (alarming and first) or (not alarming and state.attempt_number == ALARM_AFTER):
            self._tell("mailbox.trouble", detail, alarming=True)

    def _tell(self, kind: str, detail: str, *, alarming: bool) -> None:
        values = {"folder": self._mailbox.folder, "detail": detail}
        data = {"account": self.account, "kind": kind, "alarming": alarming, "values": values}
        self._core.bus.publish([LiveEvent("account.event", data, self.account)])


def _named(error: BaseException | None) -> tuple[str, str]:
    match error:
        case MailboxTrouble():
            return error.kind, str(error)
        case StoreUnavailable():
            return "store", "the store does not answer"
        case SendError():
            return "auth" if error.error_class == "auth" else "network", f"no access token: {error.code}"
        case _:
            return "protocol", type(error).__name__
