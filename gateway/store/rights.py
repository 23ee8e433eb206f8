"""What of a message's rights is used already: slots in a counted window, answers to one message, tokens, repeats.

Asked for a batch at a time, and only for messages whose channel counts such a thing: a few queries for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, case, func, select, text, update

from adapters import Channel
from gateway.ids import micros, moment
from gateway.store.schema import messages, outbox
from gateway.store.states import is_open
from normalizers.model import OutboundMessage
from outbox.facts import Answered
from outbox.ports import is_private_reply
from outbox.rules.repeats import words_key

if TYPE_CHECKING:  # it asks here
    from gateway.store.facts import Subject

_GONE = ("failed", "cancelled")
_LEFT = ("sending", "sent", "delivered", "read", "unknown")  # what has left, or may have
_JUST_BEFORE = timedelta(minutes=10)


class Rights(msgspec.Struct, frozen=True):
    """See the fields of `outbox.facts.Facts` by the same names."""

    window_waiting: int = 0
    answered_automatic: int = 0
    private_used: int = 0
    repeated_to: int = 0
    said_again: bool = False
    reply_token: str = ""
    reply_token_until: datetime | None = None
    last: Answered | None = None


_NOTHING = Rights()
_Asked = tuple[int, "Subject", Channel]
_Found = Iterable[tuple[int, dict[str, Any]]]


def rights_of(
    connection: Connection, asked: Sequence[tuple[Subject, Channel | None]], now: datetime
) -> list[Rights]:  # fmt: skip
    """The rights of each message, in order."""
    more: dict[int, dict[str, Any]] = {}
    special = [
        (index, subject, channel)
        for index, (subject, channel) in enumerate(asked)
        if channel is not None and not (subject.queued and _counts_nothing(channel))
    ]
    for concerned, gather in _KINDS if special else ():
        chosen = [entry for entry in special if concerned(entry[1], entry[2])]
        if chosen:
            for index, values in gather(connection, chosen, now):
                more.setdefault(index, {}).update(values)
    return [Rights(**more[index]) if index in more else _NOTHING for index in range(len(asked))]


def _counts_nothing(channel: Channel) -> bool:
    """Whether no message of the channel uses anything up by leaving, as on most."""
    return (
        channel.reply_token_valid is None
        and channel.private_reply is None
        and channel.automatic_per_message is None
        and channel.repeats is None
        and not channel.answer_rules
    )


def _conversations(chosen: Iterable[_Asked]) -> list[str]:
    return list({subject.conversation_id for _, subject, _ in chosen})


# --- a counted window -------------------------------------------------------------------------------------------------


def _counted(subject: Subject, channel: Channel) -> bool:
    return not subject.queued and channel.window is not None and channel.window.max_messages is not None


def _waiting(connection: Connection, chosen: Sequence[_Asked], now: datetime) -> _Found:
    """Parts that have been accepted and not sent: they will count. Templates do not."""
    statement = (
        select(outbox.c.conversation_id, func.count())
        .join(messages, messages.c.id == outbox.c.message_id)
        .where(
            outbox.c.conversation_id.in_(_conversations(chosen)),
            is_open(),
            outbox.c.state != "unknown",  # counted when that became known
            messages.c.kind != "template",
        )
        .group_by(outbox.c.conversation_id)
    )
    counts = {conversation: int(count) for conversation, count in connection.execute(statement)}
    for index, subject, _ in chosen:
        yield index, {"window_waiting": counts.get(subject.conversation_id, 0)}


# --- answers to one message -------------------------------------------------------------------------------------------


def _answers_count(subject: Subject, channel: Channel) -> bool:
    return subject.answered is not None and (
        is_private_reply(subject.message) or channel.automatic_per_message is not None
    )


def _answers(connection: Connection, chosen: Sequence[_Asked], now: datetime) -> _Found:
    """What the answered message was answered before, by whom and where. One that is being judged does not count itself,
    but for a private reply that was perhaps sent: that one is used up."""
    statement = select(
        messages.c.id, messages.c.in_reply_to, messages.c.visibility, messages.c.automatic, messages.c.author,
        messages.c.status,
    ).where(
        messages.c.conversation_id.in_(_conversations(chosen)),
        messages.c.in_reply_to.in_({subject.answered.id for _, subject, _ in chosen if subject.answered}),
        messages.c.direction == "outbound",
        messages.c.status.not_in(_GONE),
    )  # fmt: skip
    answers: dict[str, list[Any]] = {}
    for row in connection.execute(statement):
        answers.setdefault(row.in_reply_to, []).append(row)
    for index, subject, _ in chosen:
        private = automatic = 0
        for row in answers.get(subject.answered.id, ()) if subject.answered else ():
            own = row.id == subject.message_id
            counts = row.status in _LEFT if subject.queued else not own
            private += row.visibility == "private" and (row.status == "unknown" if own else counts)
            automatic += row.visibility == "public" and not own and counts and _by_machine(row)
        yield index, {"private_used": private, "answered_automatic": automatic}


def _by_machine(row: Any) -> bool:
    return bool(row.automatic) or msgspec.json.decode(row.author).get("type") != "agent"


# --- a conversation somebody else may hold ---


def _may_be_held(subject: Subject, channel: Channel) -> bool:
    return bool(channel.answer_rules) and subject.message.thread.kind != "public"


def _last(connection: Connection, chosen: Sequence[_Asked], now: datetime) -> _Found:
    """The customer's last message of each conversation."""
    newest = (
        select(func.max(messages.c.id))
        .where(
            messages.c.conversation_id.in_(_conversations(chosen)),
            messages.c.direction == "inbound",
            messages.c.visibility != "note",
        )
        .group_by(messages.c.conversation_id)
    )
    statement = select(messages.c.id, messages.c.conversation_id, messages.c.sent_at, messages.c.flags).where(
        messages.c.id.in_(newest)
    )
    found = {row.conversation_id: row for row in connection.execute(statement)}
    for index, subject, _ in chosen:
        if (row := found.get(subject.conversation_id)) is not None:
            flags = frozenset(msgspec.json.decode(row.flags))
            yield index, {"last": Answered(row.id, moment(row.sent_at or 0), flags)}


# --- the same words ---------------------------------------------------------------------------------------------------


def _repeats_count(subject: Subject, channel: Channel) -> bool:
    return channel.repeats is not None and bool(subject.message.text)


def _repeated(connection: Connection, chosen: Sequence[_Asked], now: datetime) -> _Found:
    """How many other people got the words, from whichever of our accounts."""
    longest = max(channel.repeats.duration for _, _, channel in chosen if channel.repeats)
    keys = {index: words_key(subject.channel, subject.message.text) for index, subject, _ in chosen}
    statement = (
        select(
            messages.c.words,
            messages.c.identity_id,
            func.max(messages.c.created_at).label("accepted"),
            func.max(case((messages.c.status.in_(_LEFT), messages.c.created_at))).label("left"),
        )
        .where(
            text("messages.words <> ''"),  # word for word the condition of its index
            messages.c.words.in_(set(keys.values())),
            messages.c.created_at > micros(now - longest),
            messages.c.status.not_in(_GONE),
        )
        .group_by(messages.c.words, messages.c.identity_id)
    )
    people: dict[str, list[Any]] = {}
    for row in connection.execute(statement):
        people.setdefault(row.words, []).append(row)
    for index, subject, channel in chosen:
        since = micros(now - channel.repeats.duration) if channel.repeats else 0
        others = (row for row in people.get(keys[index], ()) if row.identity_id != subject.identity_id)
        got = sum(((row.left if subject.queued else row.accepted) or 0) > since for row in others)
        yield index, {"repeated_to": got}


def _may_be_said_again(subject: Subject, channel: Channel) -> bool:
    message = subject.message
    if subject.queued or not message.text or message.files or message.file is not None:
        return False
    return bool(channel.duplicates) or subject.automatic or message.purpose == "marketing"


def _said_again(connection: Connection, chosen: Sequence[_Asked], now: datetime) -> _Found:
    """Whether the same text stands there already: in answer to the same message, else as our last words just now."""
    statement = (
        select(
            messages.c.id, messages.c.conversation_id, messages.c.direction, messages.c.in_reply_to, messages.c.text,
            messages.c.created_at,
        )
        .where(
            messages.c.conversation_id.in_(_conversations(chosen)),
            messages.c.visibility != "note",
            messages.c.status.not_in(_GONE),
        )
        .order_by(messages.c.id)
    )  # fmt: skip
    since = micros(now - _JUST_BEFORE)
    if not any(channel.duplicates for _, _, channel in chosen):
        statement = statement.where(messages.c.created_at > since)
    rows = connection.execute(statement).all()
    for index, subject, channel in chosen:
        words, again = subject.message.text.strip(), False
        for row in rows:
            if row.conversation_id != subject.conversation_id or row.id == subject.message_id:
                continue
            same = row.direction == "outbound" and row.text.strip() == words
            if channel.duplicates:
                again = again or (same and subject.answered is not None and row.in_reply_to == subject.answered.id)
            else:  # the customer's word in between makes it an answer
                again = row.direction == "outbound" and (again or (same and row.created_at > since))
        yield index, {"said_again": again}


# --- reply tokens -----------------------------------------------------------------------------------------------------


def _has_tokens(subject: Subject, channel: Channel) -> bool:
    return subject.queued and channel.reply_token_valid is not None


def _tokens(connection: Connection, chosen: Sequence[_Asked], now: datetime) -> _Found:
    """The newest token of each conversation that nobody has used. Valid from the receipt of its message."""
    longest = max(channel.reply_token_valid for _, _, channel in chosen if channel.reply_token_valid)
    statement = (
        select(messages.c.conversation_id, messages.c.reply_token, messages.c.received_at)
        .where(
            text("messages.reply_token <> ''"),  # word for word the condition of its index
            messages.c.conversation_id.in_(_conversations(chosen)),
            messages.c.received_at > micros(now - longest),
        )
        .order_by(messages.c.received_at, messages.c.id)
    )
    newest = {row.conversation_id: row for row in connection.execute(statement)}
    for index, subject, channel in chosen:
        row = newest.get(subject.conversation_id)
        if row is not None and channel.reply_token_valid is not None:
            until = moment(row.received_at) + channel.reply_token_valid
            yield index, {"reply_token": row.reply_token, "reply_token_until": until}


def use_tokens(connection: Connection, going: Iterable[tuple[str, OutboundMessage]]) -> None:
    """The tokens these messages carry are used from now on, whatever becomes of them: (conversation id, message)."""
    used = [
        (conversation, message.context.reply_token)
        for conversation, message in going
        if message.context is not None and message.context.reply_token
    ]
    if used:
        connection.execute(
            update(messages)
            .where(
                text("messages.reply_token <> ''"),
                messages.c.conversation_id.in_({conversation for conversation, _ in used}),
                messages.c.reply_token.in_({token for _, token in used}),
            )
            .values(reply_token="")
        )


_KINDS: tuple[
    tuple[Callable[[Subject, Channel], bool], Callable[[Connection, Sequence[_Asked], datetime], _Found]], ...
] = (
    (_counted, _waiting),
    (_answers_count, _answers),
    (_may_be_held, _last),
    (_repeats_count, _repeated),
    (_may_be_said_again, _said_again),
    (_has_tokens, _tokens),
)
