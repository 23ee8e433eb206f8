"""Names for people whose messages bring none: the platform is asked once, later, and nothing ever waits for it.

What it tells joins the identity as if the message had brought it: name, handle, language, profile, and further
addresses by which people are linked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, select, text, update

from adapters import MemberProfiles, Profiles, SendError
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros
from gateway.intake.ensure import ensure_identity
from gateway.intake.worker import rules_of
from gateway.store.dialect import StoreUnavailable
from gateway.store.people import set_consent
from gateway.store.schema import addresses, conversations, identities, messages
from normalizers.model import Address, Person, Thread

log = logging.getLogger(__name__)

AT_ONCE = 20
EVERY_S = 2.0
CALL_TIMEOUT_S = 30.0
WAIT = timedelta(minutes=1)  # of an account, after an error that may pass
WAIT_MAX = timedelta(hours=1)
_LATER = ("retry", "throttle", "unknown", "auth")


class ProfileWorker:
    """Looks nameless people up at the platforms that tell (`adapters.Profiles`). `run` until cancelled."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._asking: dict[str, Profiles] = {
            account.id: account.adapter for account in core.accounts if isinstance(account.adapter, Profiles)
        }
        self._not_before: dict[str, datetime] = {}  # by account

    async def run(self) -> None:
        """Work until cancelled."""
        while self._asking:
            worked = 0
            try:
                worked = await self.step()
            except StoreUnavailable:
                pass  # the next round does it
            except Exception:
                log.exception("profiles.failed")
            if worked < AT_ONCE:
                await asyncio.sleep(EVERY_S)

    async def step(self) -> int:
        """Ask for those who are due now; how many that were."""
        now = self._core.clock()
        accounts = [name for name in self._asking if self._not_before.get(name, now) <= now]
        rows = await self._core.database.read(lambda connection: _due(connection, accounts)) if accounts else []
        await asyncio.gather(*(self._look_up(row) for row in rows))
        return len(rows)

    async def _look_up(self, row: RowMapping) -> None:
        known = await self._core.database.read(lambda connection: _addresses(connection, row["id"]))
        person: Person | None = None
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                person = await self._ask(row, known) if known else None
        except TimeoutError:
            self._wait(row["account"], WAIT)
            return
        except SendError as error:
            if error.error_class in _LATER:
                self._wait(row["account"], timedelta(seconds=error.retry_after_s or WAIT.total_seconds()))
                return
            log.info("profiles.refused", extra={"account": row["account"], "code": error.code})
        now = micros(self._core.clock())
        if await self._core.database.write(lambda connection: self._keep(connection, row, known, person, now)):
            data = {"contact_id": row["contact_id"]}
            self._core.bus.publish([LiveEvent("contact.updated", data, row["account"])])

    async def _ask(self, row: RowMapping, known: Sequence[Address]) -> Person | None:
        """Of a member of a group, the group knows more than the platform tells of strangers."""
        adapter = self._asking[row["account"]]
        if isinstance(adapter, MemberProfiles):
            group = await self._core.database.read(lambda connection: _group(connection, row))
            if group:
                return await adapter.member_profile(known[0], Thread(kind="group", key=group))
        return await adapter.profile(known[0])

    def _wait(self, account: str, wait: timedelta) -> None:
        self._not_before[account] = self._core.clock() + min(max(wait, WAIT), WAIT_MAX)

    def _keep(
        self, connection: Connection, row: RowMapping, known: Sequence[Address], person: Person | None, now: int
    ) -> bool:
        """Write what was told; False when nothing was, or when the identity is gone by now."""
        asked = update(identities).where(identities.c.id == row["id"]).values(profile_at=now)
        if not connection.execute(asked).rowcount or person is None:
            return False
        more = tuple(address for address in person.addresses if address not in known)
        told = Person((*known[:1], *more), person.name, person.handle, person.profile, person.language)
        seen_at = row["last_inbound_at"] or row["created_at"]
        ensure_identity(connection, rules_of(self._core), row["channel"], row["account"], told, seen_at)
        wrote = select(identities.c.last_inbound_at).where(identities.c.id == row["id"])
        if person.unreachable and connection.execute(wrote).scalar() == row["last_inbound_at"]:  # nothing came since
            set_consent(connection, row["id"], "blocked", "all", now)
        return True


def _due(connection: Connection, accounts: Sequence[str]) -> list[RowMapping]:
    """The newest first: somebody may be looking at their ticket now."""
    statement = (
        select(identities)
        .where(identities.c.account.in_(accounts), text("name = '' AND profile_at IS NULL"))  # as its index has it
        .order_by(identities.c.id.desc())
        .limit(AT_ONCE)
    )
    return list(connection.execute(statement).mappings())


def _addresses(connection: Connection, identity_id: str) -> tuple[Address, ...]:
    """The identity's addresses, the one it is keyed by first."""
    statement = select(addresses).where(addresses.c.identity_id == identity_id).order_by(addresses.c.id)
    return tuple(
        Address(row["channel"], row["kind"], row["value"], row["scope"], row["evidence"])
        for row in connection.execute(statement).mappings()
    )


def _group(connection: Connection, row: RowMapping) -> str:
    """The group the person wrote in last, "" when that was in private."""
    statement = (
        select(conversations.c.kind, conversations.c.key)
        .join(messages, messages.c.conversation_id == conversations.c.id)
        .where(messages.c.contact_id == row["contact_id"], messages.c.identity_id == row["id"])
        .order_by(messages.c.id.desc())
        .limit(1)
    )
    found = connection.execute(statement).first()
    return found.key.removeprefix("group:") if found is not None and found.kind == "group" else ""
