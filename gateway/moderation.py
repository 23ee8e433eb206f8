"""What stands in public below our posts: hidden from all but its author, shown again, or deleted for good."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, TypeAlias

import msgspec
from sqlalchemy import Connection, RowMapping, select, update

from adapters import Moderator, SendError
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros
from gateway.intake.records import Known
from gateway.requests import RequestError, not_found
from gateway.store import tickets as ticket_store
from gateway.store.redact import redact
from gateway.store.schema import messages
from gateway.store.tickets import to_json
from gateway.tickets import Actor, Entry

log = logging.getLogger(__name__)

Action: TypeAlias = Literal["hide", "unhide", "delete"]
HIDDEN = "hidden"  # the flag of a message
TIMEOUT_S = 30.0
_EVENTS: dict[Action, str] = {"hide": "message.hidden", "unhide": "message.shown", "delete": "message.removed"}


async def moderate(core: Core, message_id: str, action: Action, actor: Actor) -> None:
    """Ask the platform, then write it down. Asking again changes nothing.

    What is ours can be deleted, not hidden. Raises `RequestError`: not_found; not_moderatable (409) for what is not
    public, deleted, or of a platform that cannot; platform_refused (502), also when its answer is lost.
    """
    row = await core.database.read(lambda connection: _load(connection, message_id))
    account = core.accounts.get(row["account"])
    adapter: object = account.adapter if account is not None else None
    if row["visibility"] != "public" or not row["external_id"] or row["deleted_at"] is not None:
        raise _cannot("only a public message that is still there can be moderated")
    if not isinstance(adapter, Moderator):
        raise _cannot("the platform lets nobody moderate, or the account is not configured any more")
    if action != "delete" and row["direction"] != "inbound":
        raise _cannot("what we wrote ourselves can be deleted, not hidden")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            if action == "delete":
                await adapter.delete(row["external_id"])
            else:
                await adapter.hide(row["external_id"], hidden=action == "hide")
    except TimeoutError:
        raise RequestError(502, "platform_refused", "no answer in time: it may have been done") from None
    except SendError as error:
        log.warning("moderation.refused", extra={"account": row["account"], "code": error.code})
        raise RequestError(502, "platform_refused", f"{error.code} {error.detail}".strip()) from None
    now = micros(core.clock())
    if await core.database.write(lambda connection: _write(connection, row, action, actor, now)):
        place = {"ticket_id": row["ticket_id"], "message_id": message_id}
        core.bus.publish([LiveEvent("message.updated", place, row["account"])])


def _load(connection: Connection, message_id: str) -> RowMapping:
    row = connection.execute(select(messages).where(messages.c.id == message_id)).mappings().first()
    if row is None:
        raise not_found("message")
    return row


def _write(connection: Connection, before: RowMapping, action: Action, actor: Actor, now: int) -> bool:
    """Whether that changed something."""
    found = select(messages).where(messages.c.id == before["id"], messages.c.deleted_at.is_(None)).with_for_update()
    row = connection.execute(found).mappings().first()
    if row is None:
        return False
    if action == "delete":
        known = Known(
            row["id"], row["ticket_id"], row["conversation_id"], row["identity_id"], row["direction"], [],
            row["delivery_id"] or "", row["raw_path"], row["external_id"],
        )  # fmt: skip
        redact(connection, known, now)
    else:
        flags: list[str] = msgspec.json.decode(row["flags"])
        after = [flag for flag in flags if flag != HIDDEN] + [HIDDEN] * (action == "hide")
        if after == flags:
            return False
        connection.execute(update(messages).where(messages.c.id == row["id"]).values(flags=to_json(after)))
    entry = Entry(_EVENTS[action], actor, {"message_id": row["id"]})
    ticket_store.log(connection, row["ticket_id"], [entry], now)
    return True


def _cannot(why: str) -> RequestError:
    return RequestError(409, "not_moderatable", why)
