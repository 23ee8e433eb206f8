"""What must be looked after now and then at the platforms: the list of templates, and whether they post to us.

Both are optional protocols of adapters (`TemplateCatalogue`, `Subscriber`); how often is the adapter's own word. A
webhook that tells of a template brings the next look at the list forward, as only the list tells how many texts a
template takes, and as it concerns every account of the same business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from adapters import SendError, Subscriber, TemplateCatalogue
from gateway.accounts import BoundAccount
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros
from gateway.store import catalogue
from gateway.store.dialect import StoreUnavailable

log = logging.getLogger(__name__)

TOPIC = "templates"
STEP_S = 30.0
CALL_TIMEOUT_S = 60.0
RETRY = timedelta(minutes=5)  # after an error of the platform
SOONEST = timedelta(seconds=20)  # between two looks that webhooks ask for

Job = Literal["templates", "subscription"]


class Upkeep:
    """Looks after each account when it is due. `run` until cancelled."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._due: dict[tuple[str, Job], datetime] = {}
        self._looked: dict[tuple[str, Job], datetime] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.step()
            except StoreUnavailable:
                pass  # the next round does it
            except Exception:
                log.exception("upkeep.failed")
            if await self._core.bus.wait(TOPIC, STEP_S):
                self._hurry()

    async def step(self) -> int:
        """Whatever is due now, account by account; how many looks that were."""
        now, done = self._core.clock(), 0
        for account, job, every in self._jobs():
            key = (account.id, job)
            if self._due.get(key, now) > now:
                continue
            self._looked[key] = now
            self._due[key] = now + (every if await self._look(account, job) else RETRY)
            done += 1
        return done

    def _jobs(self) -> Iterator[tuple[BoundAccount, Job, timedelta]]:
        for account in self._core.accounts:
            adapter: object = account.adapter
            if isinstance(adapter, TemplateCatalogue):
                yield account, "templates", adapter.template_refresh
            if isinstance(adapter, Subscriber):
                yield account, "subscription", adapter.subscription_checks

    def _hurry(self) -> None:
        """A webhook told of a template: look at the lists soon."""
        for key, looked in self._looked.items():
            if key[1] == "templates":
                self._due[key] = min(self._due[key], looked + SOONEST)

    async def _look(self, account: BoundAccount, job: Job) -> bool:
        """Whether it went well."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await (self._templates(account) if job == "templates" else self._subscription(account))
        except (SendError, TimeoutError) as error:
            code = error.code if isinstance(error, SendError) else "timeout"
            log.warning("upkeep.platform_refused", extra={"account": account.id, "job": job, "code": code})
            return False
        return True

    async def _templates(self, account: BoundAccount) -> None:
        adapter: object = account.adapter
        assert isinstance(adapter, TemplateCatalogue)
        at = micros(self._core.clock())  # what webhooks tell while we ask is newer than the answer
        listed = await adapter.templates()
        if listed is not None:
            await self._core.database.write(
                lambda connection: catalogue.replace_all(connection, account.id, listed, at)
            )

    async def _subscription(self, account: BoundAccount) -> None:
        adapter: object = account.adapter
        assert isinstance(adapter, Subscriber)
        if await adapter.subscribe():
            log.warning("account.subscribed_again", extra={"account": account.id})
            data = {"account": account.id, "kind": "subscription", "alarming": True, "values": {}}
            self._core.bus.publish([LiveEvent("account.event", data, account.id)])
