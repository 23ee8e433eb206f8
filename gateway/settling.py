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
from gateway.store.facts import FactSource, about, subject_of
from gateway.store.payloads import readable
from gateway.store.rest import is_rest
from gateway.store.schema import attempts, dead_letters, messages, outbox
from gateway.tickets import Actor, Entry
from normalizers.model import OutboundMessage
from outbox.crashpoints import reach
from outbox.judge import judge
from outbox.rules import load_rules
from outbox.verdict import Verdict

_decode = msgspec.json.Decoder(OutboundMessage).decode
_encode = msgspec.json.Encoder().encode
_Events = list[LiveEvent]
_Again = tuple[Submitted | Denied, str]  # and the message's channel
T = TypeVar("T")


async def retry(core: Core, message_id: str, actor: Actor) -> Submitted | Denied:
    """Send a failed or unknown message again: the parts that did not arrive, after the rules have passed them again.

    Raises `RequestError`: not_found; not_retryable (409) in any other state.
    """

    def job(connection: Connection) -> tuple[_Again, _Events]:
        message = _message(connection, message_id)
        parts = _demand(
            connection,
            message,
            ("failed", "unknown"),
            "not_retryable",
            "only a failed or unknown message is sent again",
        )
        return _again(connection, core, message, parts, actor)

    return _counted(core, await _carry_out(core, job))


async def leave(core: Core, message_id: str, actor: Actor) -> Submitted:
    """Settle an unknown message as it is: it stays `unknown`, and what waits behind it goes. Done again, it changes
    nothing.

    Raises `RequestError`: not_found; not_unknown (409) in any other state.
    """

    def job(connection: Connection) -> tuple[Submitted, _Events]:
        now = micros(core.clock())
        message = _message(connection, message_id)
        parts = _demand(
            connection, message, ("unknown",), "not_unknown", "only an unknown message can be left as it is"
        )
        answer = Submitted(message_id, message["ticket_id"], message["status"])
        ids = [part["id"] for part in parts if not part["settled"]]
        if not ids:
            return answer, []
        connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(settled=True))
        states.promote(connection, [message["conversation_id"]], now)
        ticket_store.log(
            connection, message["ticket_id"], [Entry("reply.left", actor, {"message_id": message_id})], now
        )
        return answer, [_live(message, message["status"])]

    return await _carry_out(core, job)


async def cancel(core: Core, message_id: str, actor: Actor) -> Submitted:
    """Take back the parts that have not left yet; those that have stay as they are.

    Raises `RequestError`: not_found; not_cancellable (409) when every part has left or is leaving.
    """

    def job(connection: Connection) -> tuple[Submitted, _Events]:
        now = micros(core.clock())
        message = _message(connection, message_id)
        parts = _demand(
            connection, message, ("queued", "held"), "not_cancellable", "only what is queued or held can be cancelled"
        )
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_([part["id"] for part in parts]), outbox.c.state.in_(("queued", "held")))
            .values(state="cancelled", not_before=None)
        )
        changed = states.refresh(connection, [message_id], now, actor)
        left = _all_parts(connection, message_id)
        if any(part["state"] != "cancelled" for part in left):  # else the change of state has its line
            data = {"message_id": message_id, "parts": [part["part"] for part in parts], "of": len(left)}
            ticket_store.log(connection, message["ticket_id"], [Entry("reply.cancelled", actor, data)], now)
        states.promote(connection, [message["conversation_id"]], now)
        status = changed[0].status if changed else message["status"]
        return Submitted(message_id, message["ticket_id"], status), [_live(message, status)]

    return await _carry_out(core, job)


async def replay_dead(core: Core, dead_id: str, actor: Actor) -> Submitted | Denied:
    """Send the part behind an outbound dead letter again, and what stayed back of its text, after the rules have passed
    it. Replaying twice is harmless.

    Raises `RequestError`: not_found (also for inbound letters and dropped ones); not_retryable (409) when it cannot be
    read.
    """

    def job(connection: Connection) -> tuple[_Again, _Events]:
        letter = connection.execute(select(dead_letters).where(dead_letters.c.id == dead_id)).mappings().first()
        if letter is None or letter["direction"] != "outbound" or letter["dropped_at"] is not None:
            raise not_found("dead letter of an outbound message")
        message = _message(connection, letter["message_id"])
        failed = _parts(connection, message["id"], ("failed",))
        own = next((part for part in failed if part["id"] == letter["ref"]), None)
        if letter["replayed_at"] is not None or own is None:
            if own is None:  # else it has failed again since: what tells of that stays open
                states.letters_answered(connection, [letter["ref"]], micros(core.clock()))
            return (Submitted(message["id"], message["ticket_id"], message["status"]), message["channel"]), []
        rest = [part for part in failed if part["part"] > own["part"] and is_rest(part["error"])]
        return _again(connection, core, message, [own, *rest], actor)

    return _counted(core, await _carry_out(core, job))


async def _carry_out(core: Core, job: Callable[[Connection], tuple[T, _Events]]) -> T:
    def work(connection: Connection) -> tuple[T, _Events]:
        done = job(connection)
        reach("decide.written")
        return done

    answer, events = await core.database.write(work)
    reach("decide.committed")
    core.bus.publish(events)
    core.bus.wake("outbox")
    return answer


def _message(connection: Connection, message_id: str) -> RowMapping:
    row = connection.execute(select(messages).where(messages.c.id == message_id)).mappings().first()
    if row is None or row["direction"] != "outbound":
        raise not_found("outbound message")
    return row


def _demand(
    connection: Connection,
    message: RowMapping,
    wanted: Sequence[str],
    code: Literal["not_retryable", "not_unknown", "not_cancellable"],
    why: str,
) -> list[RowMapping]:
    """The parts in one of the wanted states, in order. Raises `RequestError` when there is none."""
    found = _parts(connection, message["id"], wanted)
    if not found:
        raise RequestError(409, code, f"{why}; this one is {message['status']}")
    return found


def _parts(connection: Connection, message_id: str, wanted: Sequence[str]) -> list[RowMapping]:
    return [part for part in _all_parts(connection, message_id) if part["state"] in wanted]


def _all_parts(connection: Connection, message_id: str) -> list[RowMapping]:
    statement = select(outbox).where(outbox.c.message_id == message_id)
    return list(connection.execute(statement.order_by(outbox.c.part).with_for_update()).mappings())


def _again(
    connection: Connection, core: Core, message: RowMapping, parts: Sequence[RowMapping], actor: Actor
) -> tuple[_Again, _Events]:
    """Queue parts again under their own ids and, as long as the platform knows it, their own key.

    Raises `RequestError`: not_retryable when one cannot be read.
    """
    now = micros(core.clock())
    if any(readable(part["payload"]) is None for part in parts):
        raise RequestError(409, "not_retryable", "what is stored of this message cannot be read; write it anew")
    verdicts = _objections(connection, core, message, parts)
    if verdicts and verdicts[0].decision == "deny":
        data = {"message_id": message["id"], "rule": verdicts[0].rule, "reason": verdicts[0].reason,
                "remedy": verdicts[0].remedy, "verdicts": msgspec.to_builtins(verdicts)}  # fmt: skip
        ticket_store.log(connection, message["ticket_id"], [Entry("reply.refused", actor, data)], now)
        return (Denied(verdicts, message["ticket_id"]), message["channel"]), [_live(message, message["status"])]
    for number, part in enumerate(parts):
        key, payload = _key(connection, core, part, now)
        connection.execute(
            update(outbox)
            .where(outbox.c.id == part["id"])
            .values(
                state="queued", attempts=0, not_before=now if number == 0 else None, queued_at=now, error=None,
                unknown_at=None, asked_at=None, settled=False, key=key, payload=payload,
            )
        )  # fmt: skip
    states.letters_answered(connection, [part["id"] for part in parts], now)
    again = {"message_id": message["id"], "parts": [part["part"] for part in parts]}
    ticket_store.log(connection, message["ticket_id"], [Entry("reply.retried", actor, again)], now)
    changed = states.refresh(connection, [message["id"]], now, actor)
    status = changed[0].status if changed else message["status"]
    answer = Submitted(message["id"], message["ticket_id"], status, verdicts)
    return (answer, message["channel"]), [_live(message, status)]


def _counted(core: Core, found: _Again) -> Submitted | Denied:
    answer, channel = found
    if isinstance(answer, Denied):
        core.metrics.count_refusals([(channel, answer.verdicts[0].rule)])
    return answer


def _objections(
    connection: Connection, core: Core, message: RowMapping, parts: Sequence[RowMapping]
) -> tuple[Verdict, ...]:
    known = about(connection, [message["id"]])[message["id"]]
    found: list[Verdict] = []
    source = FactSource(core.accounts)
    for part in parts:
        payload = _decode(part["payload"])
        subject = subject_of(
            payload, part["account"], part["channel"], part["conversation_id"], known, queued=False
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
