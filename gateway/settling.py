"""What a person decides about a message on its way: send again, leave it, cancel it, replay a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Connection, RowMapping, func, select, update

from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros, moment, new_id
from gateway.requests import Denied, RequestError, Submitted, not_found
from gateway.store import states
from gateway.store import tickets as ticket_store
from gateway.store.facts import FactSource, Subject, about
from gateway.store.schema import attempts, dead_letters, messages, outbox
from gateway.tickets import Actor, Entry
from normalizers.model import OutboundMessage
from outbox.judge import judge
from outbox.ports import recipient_of, recipients_of
from outbox.rules import load_rules
from outbox.verdict import Verdict

_decode = msgspec.json.Decoder(OutboundMessage).decode
_encode = msgspec.json.Encoder().encode
_Events = list[LiveEvent]
T = TypeVar("T")


async def retry(core: Core, message_id: str, actor: Actor) -> Submitted | Denied:
    """Send a failed or unknown message again: the parts that did not arrive, after the rules have passed them again.

    Raises `RequestError`: not_found; not_retryable (409) in any other state.
    """

    def job(connection: Connection) -> tuple[Submitted | Denied, _Events]:
        message = _message(connection, message_id)
        _demand(message, ("failed", "unknown"), "not_retryable", "only a failed or unknown message is sent again")
        return _again(connection, core, message, _parts(connection, message_id, ("failed", "unknown")), actor)

    return await _carry_out(core, job)


async def leave(core: Core, message_id: str, actor: Actor) -> Submitted:
    """Settle an unknown message as it is: it stays `unknown`, and what waits behind it goes.

    Raises `RequestError`: not_found; not_unknown (409) in any other state.
    """

    def job(connection: Connection) -> tuple[Submitted, _Events]:
        now = micros(core.clock())
        message = _message(connection, message_id)
        _demand(message, ("unknown",), "not_unknown", "only an unknown message can be left as it is")
        ids = [part["id"] for part in _parts(connection, message_id, ("unknown",))]
        connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(settled=True))
        states.promote(connection, [message["conversation_id"]], now)
        ticket_store.log(
            connection, message["ticket_id"], [Entry("reply.left", actor, {"message_id": message_id})], now
        )
        return Submitted(message_id, message["ticket_id"], "unknown"), [_live(message, "unknown")]

    return await _carry_out(core, job)


async def cancel(core: Core, message_id: str, actor: Actor) -> Submitted:
    """Take back what has not left yet. Raises `RequestError`: not_found; not_cancellable (409) in any other state."""

    def job(connection: Connection) -> tuple[Submitted, _Events]:
        now = micros(core.clock())
        message = _message(connection, message_id)
        _demand(message, ("queued", "held"), "not_cancellable", "only a queued or held message can be cancelled")
        ids = [part["id"] for part in _parts(connection, message_id, ("queued", "held"))]
        if not ids:
            raise RequestError(409, "not_cancellable", "nothing of it waits any more")
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_(ids), outbox.c.state.in_(("queued", "held")))
            .values(state="cancelled", not_before=None)
        )
        changed = states.refresh(connection, [message_id], now, actor)
        states.promote(connection, [message["conversation_id"]], now)
        status = changed[0].status if changed else message["status"]
        return Submitted(message_id, message["ticket_id"], status), [LiveEvent(*change.live) for change in changed]

    return await _carry_out(core, job)


async def replay_dead(core: Core, dead_id: str, actor: Actor) -> Submitted | Denied:
    """Send the part behind an outbound dead letter again, after the rules have passed it. Replaying twice is harmless.

    Raises `RequestError`: not_found (also for inbound letters and dropped ones).
    """

    def job(connection: Connection) -> tuple[Submitted | Denied, _Events]:
        letter = connection.execute(select(dead_letters).where(dead_letters.c.id == dead_id)).mappings().first()
        if letter is None or letter["direction"] != "outbound" or letter["dropped_at"] is not None:
            raise not_found("dead letter of an outbound message")
        message = _message(connection, letter["message_id"])
        parts = [part for part in _parts(connection, message["id"], ("failed",)) if part["id"] == letter["ref"]]
        if letter["replayed_at"] is not None or not parts:
            states.letters_answered(connection, [letter["ref"]], micros(core.clock()))
            return Submitted(message["id"], message["ticket_id"], message["status"]), []
        return _again(connection, core, message, parts, actor)

    return await _carry_out(core, job)


async def _carry_out(core: Core, job: Callable[[Connection], tuple[T, _Events]]) -> T:
    answer, events = await core.database.write(job)
    core.bus.publish(events)
    core.bus.wake("outbox")
    return answer


def _message(connection: Connection, message_id: str) -> RowMapping:
    row = connection.execute(select(messages).where(messages.c.id == message_id)).mappings().first()
    if row is None or row["direction"] != "outbound":
        raise not_found("outbound message")
    return row


def _demand(
    message: RowMapping,
    wanted: Sequence[str],
    code: Literal["not_retryable", "not_unknown", "not_cancellable"],
    why: str,
) -> None:
    if message["status"] not in wanted:
        raise RequestError(409, code, f"{why}; this one is {message['status']}")


def _parts(connection: Connection, message_id: str, wanted: Sequence[str]) -> list[RowMapping]:
    statement = select(outbox).where(outbox.c.message_id == message_id, outbox.c.state.in_(wanted))
    return list(connection.execute(statement.order_by(outbox.c.part).with_for_update()).mappings())


def _again(
    connection: Connection, core: Core, message: RowMapping, parts: Sequence[RowMapping], actor: Actor
) -> tuple[Submitted | Denied, _Events]:
    """Queue parts again under their own ids and, as long as the platform knows it, their own key."""
    now = micros(core.clock())
    if not parts:
        raise RequestError(409, "not_retryable", "no part of it can be sent again")
    verdicts = _objections(connection, core, message, parts)
    if verdicts and verdicts[0].decision == "deny":
        data = {"message_id": message["id"], "rule": verdicts[0].rule, "reason": verdicts[0].reason,
                "remedy": verdicts[0].remedy, "verdicts": msgspec.to_builtins(verdicts)}  # fmt: skip
        ticket_store.log(connection, message["ticket_id"], [Entry("reply.refused", actor, data)], now)
        return Denied(verdicts, message["ticket_id"]), [_live(message, message["status"])]
    for number, part in enumerate(parts):
        key, payload = _key(connection, core, part, now)
        connection.execute(
            update(outbox)
            .where(outbox.c.id == part["id"])
            .values(
                state="queued", attempts=0, not_before=now if number == 0 else None, queued_at=now, error=None,
                unknown_at=None, settled=False, key=key, payload=payload,
            )
        )  # fmt: skip
    states.letters_answered(connection, [part["id"] for part in parts], now)
    ticket_store.log(
        connection, message["ticket_id"], [Entry("reply.retried", actor, {"message_id": message["id"]})], now
    )
    changed = states.refresh(connection, [message["id"]], now, actor)
    answer = Submitted(message["id"], message["ticket_id"], "queued", verdicts)
    return answer, [LiveEvent(*change.live) for change in changed]


def _objections(
    connection: Connection, core: Core, message: RowMapping, parts: Sequence[RowMapping]
) -> tuple[Verdict, ...]:
    known = about(connection, [message["id"]])[message["id"]]
    found: list[Verdict] = []
    source = FactSource(core.accounts)
    for part in parts:
        payload = _decode(part["payload"])
        subject = Subject(
            account=part["account"], channel=part["channel"], conversation_id=part["conversation_id"],
            recipient=recipient_of(payload), recipients=recipients_of(payload),
            template=payload.template, ticket_status=known.ticket_status,
            ticket_account=known.ticket_account, identity_state=known.identity_state, optouts=known.optouts,
            opened_at=known.opened_at, window_used=known.window_used, automatic=bool(known.automatic),
        )  # fmt: skip
        judgment = judge(payload, source.gather(connection, [subject], core.clock())[0], load_rules())
        found += [verdict for verdict in judgment.verdicts if verdict not in found]
        if judgment.decision == "deny":
            return judgment.verdicts
    return tuple(found)


def _key(connection: Connection, core: Core, part: RowMapping, now: int) -> tuple[str, str]:
    """The part's key and payload: a fresh key once the platform has forgotten the old one."""
    channel = core.accounts.channel(part["account"], part["channel"])
    first = connection.execute(
        select(func.min(attempts.c.started_at)).where(attempts.c.outbox_id == part["id"])
    ).scalar()
    if channel is None or channel.key != "request" or first is None:
        return part["key"], part["payload"]
    if moment(now) - moment(first) < channel.key_valid:
        return part["key"], part["payload"]
    key = str(UUID(hex=new_id()))
    return key, _encode(msgspec.structs.replace(_decode(part["payload"]), key=key)).decode()


def _live(message: RowMapping, status: str) -> LiveEvent:
    data = {"ticket_id": message["ticket_id"], "message_id": message["id"], "status": status}
    return LiveEvent("message.updated", data, message["account"])
