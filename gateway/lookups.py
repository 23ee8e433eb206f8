"""Messages that came as a mere pointer: filed at once as a placeholder, then asked for at the platform and completed.

What is to be asked for is written with the message, so that it survives a restart; who asks takes a lease, so that
several processes do not ask twice. Nothing waits for it. A look-up reads only, and may be repeated at any time.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import datetime, timedelta

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from adapters import Lookups, SendError, Unreachable
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros, moment
from gateway.intake.worker import rules_of
from gateway.store import lookups as store
from gateway.store.dialect import StoreUnavailable
from gateway.store.lookups import Asked
from normalizers.model import InboundMessage
from outbox.schedule import AUTH_PAUSE, SCHEDULES, THROTTLE_WAIT

log = logging.getLogger(__name__)

TOPIC = "lookups"
AT_ONCE = 8
EVERY_S = 5.0
CALL_TIMEOUT_S = 30.0
PATIENCE = timedelta(days=3)  # with a platform that makes us wait, or takes our token no more


class LookupWorker:
    """Asks the platforms that tell (`adapters.Lookups`). `run` until cancelled."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._asking: dict[str, Lookups] = {
            account.id: account.adapter for account in core.accounts if isinstance(account.adapter, Lookups)
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
                log.exception("lookups.failed")
            if worked < AT_ONCE:
                await self._core.bus.wait(TOPIC, EVERY_S)

    async def step(self) -> int:
        """Ask for what is due now; how many messages that were."""
        now = self._core.clock()
        accounts = [name for name in self._asking if self._not_before.get(name, now) <= now]
        if not accounts:
            return 0
        claimed = await self._core.database.write(lambda c: store.claim(c, accounts, AT_ONCE, micros(now)))
        await asyncio.gather(*(self._look_up(asked) for asked in claimed))
        return len(claimed)

    async def _look_up(self, asked: Asked) -> None:
        if asked.event is None:
            await self._give_up(asked, "gone", "how it came is not kept any more")
            return
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                told = await self._ask(asked.account, asked.event)
        except TimeoutError:
            await self._later(asked, SendError("retry", "timeout", "no answer in time"))
        except SendError as error:
            if error.error_class in ("retry", "throttle", "unknown") or error.pause == "account":
                await self._later(asked, error)
            else:
                await self._give_up(asked, error.code, error.detail or error.code)
        except Exception as error:  # an adapter's own fault must not ask for ever
            log.exception("lookups.adapter_failed", extra={"account": asked.account})
            await self._later(asked, SendError("retry", "adapter", type(error).__name__))
        else:
            await self._complete(asked, told)

    async def _ask(self, account: str, message: InboundMessage) -> InboundMessage:
        """At once again where nothing arrived; everything else waits its time."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Unreachable), stop=stop_after_attempt(3),
            wait=wait_exponential_jitter(multiplier=0.2, max=2.0), reraise=True,
        ):  # fmt: skip
            with attempt:
                return await self._asking[account].look_up(message)
        raise AssertionError("tenacity gives up by raising")

    async def _complete(self, asked: Asked, told: InboundMessage) -> None:
        now, rules = micros(self._core.clock()), rules_of(self._core)
        if told.lookup:
            await self._give_up(asked, "untold", "the platform does not tell")
            return
        found = await self._core.database.write(lambda c: store.complete(c, rules, asked, told, now))
        if found is not None and told.attachments:
            self._core.bus.wake("media")
        self._tell(asked, "completed", found)

    async def _later(self, asked: Asked, error: SendError) -> None:
        """By schedule; what a rate or a dead token makes wait is no failure of the message, and the account waits."""
        now, counts = self._core.clock(), error.error_class not in ("throttle", "auth")
        reason = f"{error.code} {error.detail}".strip()
        until: datetime | None
        if counts:
            failures, since = asked.failures + 1, moment(asked.created_at)
            until = SCHEDULES["chat"].next(failures, since, now, random.random(), automatic=False)  # noqa: S311
        else:
            usual = AUTH_PAUSE if error.error_class == "auth" else THROTTLE_WAIT
            wait = usual if error.retry_after_s is None else timedelta(seconds=max(error.retry_after_s, 1.0))
            self._not_before[asked.account] = now + wait
            until = now + wait if now - moment(asked.created_at) < PATIENCE else None
        if until is None:
            await self._give_up(asked, error.code, reason)
            return
        due = micros(until)
        await self._core.database.write(lambda c: store.later(c, asked, due, reason, counts=counts))
        self._core.metrics.lookups.labels(asked.account, "retry").inc()

    async def _give_up(self, asked: Asked, code: str, reason: str) -> None:
        now = micros(self._core.clock())
        log.info("lookups.refused", extra={"account": asked.account, "code": code})
        found = await self._core.database.write(lambda c: store.give_up(c, asked, code, reason, now))
        self._tell(asked, "failed", found)

    def _tell(self, asked: Asked, outcome: str, found: dict[str, str] | None) -> None:
        self._core.metrics.lookups.labels(asked.account, outcome if found is not None else "gone").inc()
        if found is None:
            return
        place = {"ticket_id": found["ticket_id"], "message_id": found["message_id"]}
        live = [LiveEvent("message.updated", place, asked.account)]
        live.append(LiveEvent("ticket.updated", {"ticket_id": found["ticket_id"]}, asked.account))
        if contact := found.get("contact_id"):
            live.append(LiveEvent("contact.updated", {"contact_id": contact}, asked.account))
        self._core.bus.publish(live)
