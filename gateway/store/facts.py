"""The facts rules judge by, gathered for a whole batch in a few queries, and by the same code for one reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, select

from gateway.accounts import Accounts
from gateway.ids import micros, moment
from gateway.store import suppressions
from gateway.store.schema import account_states, identities, messages, templates, tickets
from normalizers.model import Template
from outbox.facts import NOWHERE, Facts, Suppressed, TemplateFacts, folded
from outbox.ports import scopes_of

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_NOT_LISTED: tuple[Suppressed, ...] = ()
_NO_OPTOUTS: frozenset[str] = frozenset()
_STATES = ("active", "opted_out", "blocked")


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who a message goes to and from where. Moments in microseconds."""

    account: str
    channel: str
    conversation_id: str
    recipient: str
    recipients: tuple[str, ...] = ()
    template: Template | None = None
    ticket_status: str = "open"
    ticket_account: str = ""
    identity_state: str = "active"
    optouts: str = "[]"
    opened_at: int | None = None
    window_used: int = 0
    automatic: bool = False
    queued: bool = False


ABOUT = (
    messages.c.id.label("message_id"),
    messages.c.automatic,
    messages.c.identity_id,
    tickets.c.status.label("ticket_status"),
    tickets.c.account.label("ticket_account"),
    identities.c.state.label("identity_state"),
    identities.c.optouts,
    identities.c.opened_at,
    identities.c.window_used,
)


_ABOUT = (
    select(*ABOUT)
    .join_from(messages, tickets, tickets.c.id == messages.c.ticket_id)
    .join(identities, identities.c.id == messages.c.identity_id)
    .where(messages.c.id.in_(bindparam("b_ids", expanding=True)))
)
_PAUSES = select(account_states).where(
    account_states.c.account.in_(bindparam("b_accounts", expanding=True)),
    account_states.c.paused_until > bindparam("b_now"),
)


def about(connection: Connection, message_ids: Sequence[str]) -> dict[str, Any]:
    """What is known of messages that are queued, by message id: rows of the columns `ABOUT`."""
    return {row.message_id: row for row in connection.execute(_ABOUT, {"b_ids": list(message_ids)})}


class FactSource:
    """Gathers facts. Knows the configured accounts, which do not change while the process lives."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._own = frozenset(
            address.lower() for account in accounts for address in account.adapter.account.own_addresses
        )

    def gather(self, connection: Connection, subjects: Sequence[Subject], now: datetime) -> list[Facts]:
        """The facts of each subject, in order."""
        pauses = self._pauses(connection, subjects, now)
        known = self._templates(connection, [subject for subject in subjects if subject.template is not None])
        automatic = [subject for subject in subjects if subject.automatic]
        counts = _automatic_counts(connection, automatic, now) if automatic else {}
        approved: dict[str, str] = {}
        wanted = ((subject.channel, address) for subject in subjects for address in subject.recipients)
        listed = suppressions.held_against(connection, wanted, micros(now))
        return [self._facts(connection, subject, now, pauses, known, counts, approved, listed) for subject in subjects]

    def _facts(
        self, connection: Connection, subject: Subject, now: datetime,
        pauses: Mapping[tuple[str, str], tuple[int, str]],
        known: Mapping[tuple[str, str, str], TemplateFacts], counts: Mapping[str, tuple[int, int, bool]],
        approved: dict[str, str], listed: Mapping[tuple[str, str], Sequence[Suppressed]],
    ) -> Facts:  # fmt: skip
        channel = self._accounts.channel(subject.account, subject.channel)
        pause = None
        if pauses:
            scopes = scopes_of(subject.account, subject.channel, (subject.recipient,))
            pause = max((pauses[key] for scope in scopes if (key := (subject.account, scope)) in pauses), default=None)
        hour, day, answers = counts.get(subject.conversation_id, (0, 0, False))
        opened_at = None if subject.opened_at is None else moment(subject.opened_at)
        remedy = ""
        window = channel.window if channel is not None else None
        if window is not None and window.template_outside and (opened_at is None or now - opened_at >= window.duration):
            remedy = self._approved(connection, subject.account, approved)
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
            template=self._template(subject, known),
            approved_template=remedy,
            own_addresses=self._own,
            paused_until=None if pause is None else moment(pause[0]),
            pause_reason="" if pause is None else pause[1],
            automatic=subject.automatic,
            automatic_hour=hour,
            automatic_day=day,
            answers_automatic=answers,
            suppressed=_NOT_LISTED if not listed else _about_them(subject, listed),
        )

    def _pauses(
        self, connection: Connection, subjects: Sequence[Subject], now: datetime
    ) -> dict[tuple[str, str], tuple[int, str]]:
        return {
            (row.account, row.scope): (row.paused_until, f"waiting: {row.reason}" if row.reason else "")
            for row in connection.execute(
                _PAUSES, {"b_accounts": list({subject.account for subject in subjects}), "b_now": micros(now)}
            )
        }

    def _templates(
        self, connection: Connection, subjects: Sequence[Subject]
    ) -> dict[tuple[str, str, str], TemplateFacts]:
        if not subjects:
            return {}
        statement = select(templates).where(
            templates.c.account.in_({subject.account for subject in subjects}),
            templates.c.name.in_({subject.template.name for subject in subjects if subject.template}),
        )
        return {
            (row.account, row.name, row.language): TemplateFacts(
                row.name, row.language, row.status, row.category, row.parameters
            )
            for row in connection.execute(statement)
        }

    def _template(self, subject: Subject, known: Mapping[tuple[str, str, str], TemplateFacts]) -> TemplateFacts | None:
        """What the platform told of the template, else what the operator wrote into the configuration."""
        wanted = subject.template
        if wanted is None:
            return None
        configured = self._accounts.template(subject.account, wanted.name, wanted.language)
        told = known.get((subject.account, wanted.name, wanted.language)) or next(
            (
                facts
                for (account, name, _), facts in known.items()
                if not wanted.language and (account, name) == (subject.account, wanted.name)
            ),
            None,
        )
        if configured is None:
            return told
        count = configured.get("parameters")
        parameters = len(count) if isinstance(count, list | tuple) else count if isinstance(count, int) else None
        return TemplateFacts(
            wanted.name,
            wanted.language,
            told.status if told else str(configured.get("status", "approved")),
            (told.category if told else "") or str(configured.get("category", "")),
            told.parameters if told and told.parameters is not None else parameters,
        )

    def _approved(self, connection: Connection, account_id: str, cache: dict[str, str]) -> str:
        """A template of the account that could be sent now, or ""."""
        if account_id not in cache:
            account = self._accounts.get(account_id)
            configured = [str(entry.get("name", "")) for entry in (account.settings.templates if account else ())]
            cache[account_id] = (configured or [""])[0] or (
                connection.execute(
                    select(func.min(templates.c.name)).where(
                        templates.c.account == account_id, func.lower(templates.c.status) == "approved"
                    )
                ).scalar()
                or ""
            )
        return cache[account_id]


def _about_them(subject: Subject, listed: Mapping[tuple[str, str], Sequence[Suppressed]]) -> tuple[Suppressed, ...]:
    return tuple(
        entry for address in subject.recipients for entry in listed.get((subject.channel, folded(address)), ())
    )


def _automatic_counts(
    connection: Connection, subjects: Sequence[Subject], now: datetime
) -> dict[str, tuple[int, int, bool]]:
    """By conversation: automatic messages of the last hour and day, and whether the customer's last one was one."""
    ids = list({subject.conversation_id for subject in subjects})
    found = {conversation: [0, 0, False] for conversation in ids}
    hour = micros(now - _HOUR)
    statement = select(messages.c.conversation_id, messages.c.created_at).where(
        messages.c.conversation_id.in_(ids),
        messages.c.direction == "outbound",
        messages.c.automatic != "",
        messages.c.status.not_in(("failed", "cancelled", "queued", "held")),
        messages.c.created_at > micros(now - _DAY),
    )
    for conversation, at in connection.execute(statement):
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
    return {conversation: (hour_count, day, bool(last_)) for conversation, (hour_count, day, last_) in found.items()}
