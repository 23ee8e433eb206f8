"""The facts rules judge by, gathered for a whole batch in a few queries, and by the same code for one reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, case, func, select

from adapters import Channel
from gateway.accounts import Accounts
from gateway.drafts import Draft
from gateway.ids import micros, moment
from gateway.store.many import among_bound
from gateway.store.obstacles import Pause, obstacles
from gateway.store.rights import Rights, rights_of
from gateway.store.schema import identities, messages, templates, tickets
from gateway.store.template_facts import Told, told
from gateway.store.template_facts import known as known_of
from gateway.store.whereabouts import whereabouts
from normalizers.model import OutboundMessage, Template
from outbox.facts import NOWHERE, Answered, Facts, Suppressed, folded, private_side
from outbox.ports import is_private_reply, recipient_of, recipients_of, scopes_of

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_LATELY, _AT_ONCE = timedelta(minutes=10), timedelta(seconds=30)  # of exchanges that look like two machines'
_NOT_LISTED: tuple[Suppressed, ...] = ()
_NO_OPTOUTS: frozenset[str] = frozenset()
_NO_LANGUAGES: tuple[str, ...] = ()
_NO_FLAGS: frozenset[str] = frozenset()
_is_approved = func.lower(templates.c.status) == "approved"
_STATES = ("active", "opted_out", "blocked")


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who a message goes to and from where. Moments in microseconds."""

    message: OutboundMessage
    message_id: str = ""  # of the message as the ticket shows it; "" before there is one
    human: bool = False  # a person wrote it
    answered: Answered | None = None
    account: str
    channel: str
    conversation_id: str
    recipient: str
    template: Template | None = None
    identity_id: str = ""
    ticket_status: str = "open"
    ticket_account: str = ""
    identity_state: str = "active"
    optouts: str = "[]"
    opened_at: int | None = None
    window_used: int = 0
    allowed_until: int | None = None
    automatic: bool = False
    queued: bool = False


_answered = messages.alias("answered")
ABOUT = (
    messages.c.id.label("message_id"),
    messages.c.automatic,
    messages.c.author,
    messages.c.identity_id,
    _answered.c.id.label("answered_id"),
    _answered.c.sent_at.label("answered_at"),
    _answered.c.flags.label("answered_flags"),
    _answered.c.deleted_at.label("answered_deleted"),
    tickets.c.status.label("ticket_status"),
    tickets.c.account.label("ticket_account"),
    identities.c.state.label("identity_state"),
    identities.c.optouts,
    identities.c.opened_at,
    identities.c.window_used,
    identities.c.allowed_until,
)


_ABOUT = (
    select(*ABOUT)
    .join_from(messages, tickets, tickets.c.id == messages.c.ticket_id)
    .join(identities, identities.c.id == messages.c.identity_id)
    .outerjoin(_answered, _answered.c.id == messages.c.in_reply_to)
    .where(among_bound(messages.c.id, "b_ids"))
)


def about(connection: Connection, message_ids: Sequence[str]) -> dict[str, Any]:
    """What is known of messages that are queued, by message id: rows of the columns `ABOUT`."""
    return {row.message_id: row for row in connection.execute(_ABOUT, {"b_ids": list(message_ids)}).all()}


class _Author(msgspec.Struct, frozen=True):
    type: str = ""


_read_author = msgspec.json.Decoder(_Author).decode


def subject_of(
    message: OutboundMessage, account: str, channel: str, conversation_id: str, known: Any, *, queued: bool
) -> Subject:
    """A part of a message as its row of the outbox has it; `known` is its row of `about`, None when that is gone."""
    if known is None:
        return Subject(
            message=message, account=account, channel=channel, conversation_id=conversation_id,
            recipient=recipient_of(message), template=message.template, queued=queued,
        )  # fmt: skip
    answered = None
    if known.answered_id is not None:
        answered = answered_of(
            known.answered_id, known.answered_at, known.answered_flags, known.answered_deleted is not None
        )
    return Subject(
        message=message, account=account, channel=channel, conversation_id=conversation_id,
        recipient=recipient_of(message), template=message.template, queued=queued, message_id=known.message_id,
        human=_read_author(known.author).type == "agent", answered=answered, identity_id=known.identity_id,
        ticket_status=known.ticket_status, ticket_account=known.ticket_account, identity_state=known.identity_state,
        optouts=known.optouts, opened_at=known.opened_at, window_used=known.window_used,
        allowed_until=known.allowed_until, automatic=bool(known.automatic),
    )  # fmt: skip


def subject_of_draft(made: Draft, automatic: str = "") -> Subject:
    """A message that is not queued yet."""
    message, place = made.message, made.place
    last = place.last if place.conversation["kind"] == "public" else None
    answered = None
    if last is not None:
        answered = answered_of(last["id"], last["sent_at"], last["flags"], last["deleted_at"] is not None)
    identity = place.identity
    return Subject(
        message=message, account=message.account, channel=message.channel, conversation_id=place.conversation["id"],
        recipient=recipient_of(message), template=message.template, human=made.human, answered=answered,
        identity_id=identity["id"], ticket_status=place.ticket["status"], ticket_account=place.ticket["account"],
        identity_state=identity["state"], optouts=identity["optouts"], opened_at=identity["opened_at"],
        window_used=identity["window_used"], allowed_until=identity["allowed_until"], automatic=bool(automatic),
    )  # fmt: skip


def answered_of(message_id: str, at: int | None, flags: str, deleted: bool) -> Answered:
    """A customer's message as rules for answers see it."""
    return Answered(
        message_id, moment(at or 0), _NO_FLAGS if flags == "[]" else frozenset(msgspec.json.decode(flags)), deleted
    )


class FactSource:
    """Gathers facts. Knows the configured accounts, which do not change while the process lives."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._own = frozenset(
            address.lower() for account in accounts for address in account.adapter.account.own_addresses
        )

    def gather(self, connection: Connection, subjects: Sequence[Subject], now: datetime) -> list[Facts]:
        """The facts of each subject, in order."""
        wanted = ((subject.channel, address) for subject in subjects for address in recipients_of(subject.message))
        accounts = {subject.account for subject in subjects}
        pauses, listed = obstacles(connection, accounts, wanted, micros(now))
        known = told(connection, [(one.account, one.template) for one in subjects if one.template is not None])
        automatic = [subject for subject in subjects if subject.automatic]
        counts = _automatic_counts(connection, automatic, now) if automatic else {}
        approved: dict[str, str] = {}
        channels = [self._channel(subject) for subject in subjects]
        rights = rights_of(connection, list(zip(subjects, channels, strict=True)), now)
        found = [
            self._facts(connection, subject, channel, right, now, pauses, known, counts, approved, listed)
            for subject, channel, right in zip(subjects, channels, rights, strict=True)
        ]
        return whereabouts(connection, subjects, found)

    def _channel(self, subject: Subject) -> Channel | None:
        """The channel as it is for the message: the private side of a public one for a private reply."""
        channel = self._accounts.channel(subject.account, subject.channel)
        if channel is None or channel.private_reply is None or not is_private_reply(subject.message):
            return channel
        return private_side(channel, channel.private_reply)

    def _facts(
        self, connection: Connection, subject: Subject, channel: Channel | None, right: Rights, now: datetime,
        pauses: Mapping[tuple[str, str], Pause],
        known: Told, counts: Mapping[str, tuple[int, int, bool, int]],
        approved: dict[str, str], listed: Mapping[tuple[str, str], Sequence[Suppressed]],
    ) -> Facts:  # fmt: skip
        pause = None
        if pauses:
            scopes = scopes_of(subject.account, subject.channel, (subject.recipient,))
            pause = max((pauses[key] for scope in scopes if (key := (subject.account, scope)) in pauses), default=None)
        hour, day, answers, ping_pong = counts.get(subject.conversation_id, (0, 0, False, 0))
        opened_at = None if subject.opened_at is None else moment(subject.opened_at)
        remedy = ""
        window = channel.window if channel is not None else None
        closed = window is not None and (opened_at is None or now - opened_at >= window.duration - window.margin)
        if window is not None and window.template_outside and closed:
            remedy = self._approved(connection, subject.account, approved)
        template, languages = None, _NO_LANGUAGES
        if subject.template is not None:
            template, languages = known_of(self._accounts, subject.account, subject.template, known)
        return Facts(
            now=now,
            channel=channel or NOWHERE,
            configured=channel is not None,
            queued=subject.queued,
            ticket_status=subject.ticket_status,
            ticket_account=subject.ticket_account,
            identity_state=subject.identity_state if subject.identity_state in _STATES else "active",  # type: ignore[arg-type]
            optouts=_NO_OPTOUTS if subject.optouts == "[]" else frozenset(msgspec.json.decode(subject.optouts)),
            opened_at=opened_at,
            window_used=subject.window_used,
            window_waiting=right.window_waiting,
            allowed_until=None if subject.allowed_until is None else moment(subject.allowed_until),
            template=template,
            template_languages=languages,
            approved_template=remedy,
            own_addresses=self._own,
            paused_until=None if pause is None else moment(pause.until),
            pause_reason="" if pause is None else pause.reason,
            pause_class=None if pause is None else pause.error_class or None,  # type: ignore[arg-type]
            automatic=subject.automatic,
            automatic_hour=hour,
            automatic_day=day,
            answers_automatic=answers,
            ping_pong=ping_pong,
            human=subject.human and not subject.automatic,
            answered=subject.answered,
            last=right.last,
            answered_automatic=right.answered_automatic,
            private_reply=channel.private_reply if channel is not None and is_private_reply(subject.message) else None,
            private_used=right.private_used,
            reply_token=right.reply_token,
            reply_token_until=right.reply_token_until,
            repeated_to=right.repeated_to,
            said_again=right.said_again,
            policy=self._accounts.policy(subject.account, subject.channel),
            suppressed=_NOT_LISTED if not listed else _about_them(subject, listed),
        )

    def _approved(self, connection: Connection, account_id: str, cache: dict[str, str]) -> str:
        """A template of the account that could be sent now, or "": the operator's own, unless the platform says no, or
        the operator does and the platform nothing."""
        if account_id not in cache:
            account = self._accounts.get(account_id)
            told = {
                row.name: row.approved
                for row in connection.execute(
                    select(templates.c.name, func.max(case((_is_approved, 1), else_=0)).label("approved"))
                    .where(templates.c.account == account_id)
                    .group_by(templates.c.name)
                    .order_by(templates.c.name)
                )
            }
            configured: dict[str, bool] = {}  # whether it is approved in any language
            for entry in account.settings.templates if account else ():
                name, good = str(entry.get("name", "")), str(entry.get("status", "approved")).lower() == "approved"
                configured[name] = configured.get(name, False) or good
            names = [name for name, good in configured.items() if told.get(name, good)]
            names += [name for name, good in told.items() if good]
            cache[account_id] = (names or [""])[0]
        return cache[account_id]


_CONTACTS = select(identities.c.id, identities.c.contact_id).where(among_bound(identities.c.id, "b_ids"))


def _ids(subjects: Sequence[Subject]) -> dict[str, list[str]]:
    return {"b_ids": list({subject.identity_id for subject in subjects})}


def _about_them(subject: Subject, listed: Mapping[tuple[str, str], Sequence[Suppressed]]) -> tuple[Suppressed, ...]:
    return tuple(
        entry
        for address in recipients_of(subject.message)
        for entry in listed.get((subject.channel, folded(address)), ())
    )


def _automatic_counts(
    connection: Connection, subjects: Sequence[Subject], now: datetime
) -> dict[str, tuple[int, int, bool, int]]:
    """By conversation: automatic messages to its person within the last hour and day, on whatever conversation and
    channel; whether the customer's last one was one; and how many of ours were answered within seconds lately."""
    ids = list({subject.conversation_id for subject in subjects})
    found = {conversation: [0, 0, False] for conversation in ids}
    contacts = {row.id: row.contact_id for row in connection.execute(_CONTACTS, _ids(subjects))}
    people: dict[str, list[str]] = {}  # contact: conversations
    for subject in subjects:
        people.setdefault(contacts.get(subject.identity_id, ""), []).append(subject.conversation_id)
    hour = micros(now - _HOUR)
    statement = select(messages.c.contact_id, messages.c.created_at).where(
        messages.c.contact_id.in_(list(people)),
        messages.c.direction == "outbound",
        messages.c.automatic != "",
        messages.c.status.not_in(("failed", "cancelled", "queued", "held")),
        messages.c.created_at > micros(now - _DAY),
    )
    for contact, at in connection.execute(statement):
        for conversation in set(people[contact]):
            found[conversation][0] += at > hour
            found[conversation][1] += 1
    last = (
        select(func.max(messages.c.id))
        .where(messages.c.conversation_id.in_(ids), messages.c.direction == "inbound")
        .group_by(messages.c.conversation_id)
    )
    for conversation, automatic in connection.execute(
        select(messages.c.conversation_id, messages.c.automatic).where(messages.c.id.in_(last))
    ):
        found[conversation][2] = bool(automatic)
    quick = _ping_pong(connection, ids, now)
    return {
        conversation: (in_hour, in_day, bool(last_one), quick.get(conversation, 0))
        for conversation, (in_hour, in_day, last_one) in found.items()
    }


def _ping_pong(connection: Connection, conversation_ids: Sequence[str], now: datetime) -> dict[str, int]:
    """How many automatic messages of ours were answered within `_AT_ONCE`, in the last `_LATELY`."""
    statement = (
        select(messages.c.conversation_id, messages.c.direction, messages.c.automatic, messages.c.created_at)
        .where(
            messages.c.conversation_id.in_(conversation_ids),
            messages.c.visibility != "note",
            messages.c.status.not_in(("failed", "cancelled", "queued", "held")),
            messages.c.created_at > micros(now - _LATELY),
        )
        .order_by(messages.c.conversation_id, messages.c.created_at, messages.c.id)
    )
    found: dict[str, int] = {}
    last: Any = None
    for row in connection.execute(statement):
        ours = last is not None and last.conversation_id == row.conversation_id and last.direction == "outbound"
        if ours and row.direction == "inbound":
            quick = bool(last.automatic) and row.created_at - last.created_at <= _AT_ONCE // _MICROSECOND
            found[row.conversation_id] = found.get(row.conversation_id, 0) + 1 if quick else 0
        last = row
    return found
