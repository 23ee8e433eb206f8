"""For callers who want to know what became of what they have just given us."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import select

from gateway.core import Core
from gateway.intake.worker import TOPIC
from gateway.store.schema import message_refs


async def file_now(core: Core, account: str, ref: str, timeout_s: float = 5.0) -> str | None:
    """The id of the message known to the account as `ref`, once it is filed; None when that takes longer."""
    core.bus.wake(TOPIC)
    statement = select(message_refs.c.message_id).where(message_refs.c.account == account, message_refs.c.ref == ref)
    deadline = time.monotonic() + timeout_s
    while True:
        found = await core.database.read(lambda connection: connection.execute(statement).scalar())
        if found is not None or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.005)
