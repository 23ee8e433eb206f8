"""Showing a customer that an answer is being written, where the platform can. Nothing depends on it."""

from __future__ import annotations

import asyncio
import logging

from adapters import SendError, TypingSignal
from gateway.core import Core
from gateway.store.places import place_of
from normalizers.model import PRIVATE, Thread

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0


async def show(core: Core, ticket_id: str) -> bool:
    """Whether the ticket's customer is shown it. A platform that fails or refuses is no error here."""

    place = await core.database.read(lambda connection: place_of(connection, ticket_id, core.accounts))
    account = core.accounts.get(place.ticket["account"]) if place is not None else None
    if place is None or account is None or not isinstance(account.adapter, TypingSignal):
        return False
    kind, key = place.conversation["kind"], place.conversation["key"]
    thread = Thread(kind="group", key=key.removeprefix("group:")) if kind == "group" else PRIVATE
    if place.identity["state"] == "blocked" or kind not in ("private", "group"):
        return False
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await account.adapter.show_typing(place.addresses, thread)
    except (SendError, TimeoutError) as error:
        code = error.code if isinstance(error, SendError) else "timeout"
        log.info("typing.not_shown", extra={"account": account.id, "code": code})
        return False
