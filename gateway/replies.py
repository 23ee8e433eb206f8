"""Replies: judged, then ticket entry and outbox rows in one transaction. What is refused is an event on the ticket.

The same code answers "would it pass?" (`dry_run`) and sends it, and the dispatcher asks the same rules once more before
the message leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, NoReturn

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway import automatic as automatic_messages
from gateway import contents
from gateway import proactive as first_messages
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.drafts import Draft, Words
from gateway.fallback import NO_CHAIN, Chain, Origin, Went, chain_of, count_answered, follow, kept, says_text
from gateway.ids import micros
from gateway.posting import (
    Stopped,
    check_status,
    judge_draft,
    judged,
    judged_at,
    live,
    refusal,
    set_status,
    stopped,
    wanted_status,
    write,
)
from gateway.preview import detoured, preview
from gateway.reach import alternatives, window
from gateway.requests import (
    Alternative,
    AttachmentRequest,
    AuthorRequest,
    Denied,
    FallbackRequest,
    Judged,
    MessageRequest,
    Planned,
    ReplyRequest,
    RequestError,
    Submitted,
    TemplateRequest,
    Tried,
    WindowState,
    not_found,
)
from gateway.settling import cancel, leave, replay_dead, retry
from gateway.store import tickets as ticket_store
from gateway.store.enqueue import answered, fingerprint, remember
from gateway.store.places import Place, Record, place_of
from gateway.tickets import Actor, Status
from normalizers.model import Purpose, Visibility
from outbox.crashpoints import reach
from outbox.detours import by_rules
from outbox.judge import Judgment

__all__ = [
    "AttachmentRequest", "AuthorRequest", "Denied", "FallbackRequest", "Judged", "MessageRequest", "Planned",
    "ReplyRequest", "RequestError", "Submitted", "TemplateRequest", "WindowState", "cancel", "dry_run",
    "dry_run_proactive", "file", "judge_draft", "leave", "proactive", "refusal", "replay_dead", "retry", "submit",
    "window",
]  # fmt: skip


async def submit(
    core: Core,
    ticket_id: str,
    request: ReplyRequest,
    actor: Actor,
    api_key_id: str = "",
    idempotency_key: str = "",
    *,
    automatic: str = "",
    accounts: Collection[str] | None = None,
) -> Submitted | Denied:
    """Queue a reply, or write a note. `automatic` names what made it when no person did (generated, ooo).
    `accounts` are those the caller may write from and know of; None: all.

    The same key with the same request gives the same answer. Raises `RequestError`: not_found, idempotency_conflict,
    ticket_closed, unknown_upload, invalid.
    """
    print_ = fingerprint("reply", ticket_id, request)

    def job(connection: Connection) -> _Done:
        now = micros(core.clock())
        if (known := answered(connection, api_key_id, idempotency_key, print_)) is not None:
            return _Done(known)
        place = _place(connection, core, ticket_id)
        ticket = place.ticket
        words = _words(core, ticket, request, actor, automatic)
        chain = _chain(connection, core, ticket, request, words, accounts)
        author, found = _author(request.author, actor), judged_at(connection, core, place, words)
        answer, events = file(
            connection, core, ticket, words, request.status, author, actor, chain, accounts=accounts, found=found
        )
        told = automatic_messages.told_of(connection, core, file, ticket, told=words.visibility != "note")
        remember(connection, api_key_id, idempotency_key, print_, answer, now)
        return _Done(answer, events + told.events, (*stopped(ticket, found[1]), *told.stopped))

    return await _carry_out(core, job)


async def dry_run(
    core: Core, ticket_id: str, request: ReplyRequest, actor: Actor, *, accounts: Collection[str] | None = None
) -> Judged:
    """What would become of it now. Writes nothing. Raises `RequestError` as `submit` does."""

    def begin(connection: Connection) -> tuple[Record, Words, Chain, Draft, Judgment]:
        place = _place(connection, core, ticket_id)
        ticket = place.ticket
        words = _words(core, ticket, request, actor, "")
        chain = _chain(connection, core, ticket, request, words, accounts)
        return ticket, words, chain, *judged_at(connection, core, place, words)

    def look(connection: Connection) -> tuple[Judged, bool]:
        ticket, words, chain, made, judgment = begin(connection)
        if judgment.decision != "deny":
            check_status(connection, ticket, request.status)
        goes_on = judgment.decision == "deny" and bool(chain.steps) and words.visibility != "note"
        return preview(connection, core, ticket, words, made, judgment, accounts), goes_on

    def walk(connection: Connection) -> NoReturn:
        ticket, words, chain, made, judgment = begin(connection)
        origin = Origin(ticket, ticket, words, _author(request.author, actor), actor)
        raise _Undone(detoured(connection, core, origin, made, judgment, chain, accounts))

    found, has_chain = await core.database.read(look)
    return await _undo(core, walk) if has_chain else found


async def proactive(
    core: Core,
    request: MessageRequest,
    actor: Actor,
    api_key_id: str = "",
    idempotency_key: str = "",
    *,
    accounts: Collection[str] | None = None,
) -> Submitted | Denied:
    """Write to somebody first: on the conversation's open ticket, else on a new one (status pending, via "api").

    A refusal leaves no ticket behind. Raises `RequestError`: unknown_channel, unknown_account, unknown_contact,
    no_address, invalid, idempotency_conflict.
    """
    print_ = fingerprint("message", request)

    def job(connection: Connection) -> _Done:
        now = micros(core.clock())
        if (known := answered(connection, api_key_id, idempotency_key, print_)) is not None:
            return _Done(known)
        done = _first(connection, core, request, actor, accounts)
        remember(connection, api_key_id, idempotency_key, print_, done.answer, now)
        return done

    try:
        return await _carry_out(core, job)
    except _Refused as refused:
        core.metrics.count_refusals(refused.stopped)
        return refused.denied


def _first(
    connection: Connection, core: Core, request: MessageRequest, actor: Actor, accounts: Collection[str] | None
) -> _Done:
    now, author = micros(core.clock()), _author(request.author, actor)
    chain, first = _open(connection, core, request, actor, accounts)
    if isinstance(first, _Withdrawn):
        went, _ = follow(connection, core, first.origin(author, actor), by_rules(first.judgment), chain)
        if went is None:
            denied = Denied(first.judgment.verdicts, alternatives=first.alternatives)
            raise _Refused(denied, stopped(first.placed, first.judgment))
        set_status(connection, went.ticket, request.status, author, actor, now, note=False)
        return _Done(went.answer, went.events, stopped(first.placed, first.judgment))
    opened, words, made, judgment = first
    answer, events = file(
        connection, core, opened.ticket, words, request.status, author, actor, chain, accounts=accounts,
        found=(made, judgment),
    )  # fmt: skip
    if opened.new:
        data = {"ticket_id": opened.ticket["id"], "number": opened.ticket["number"]}
        events.insert(0, LiveEvent("ticket.created", data, opened.ticket["account"]))
    return _Done(answer, events, stopped(opened.ticket, judgment))


def _open(
    connection: Connection, core: Core, request: MessageRequest, actor: Actor, accounts: Collection[str] | None
) -> tuple[Chain, tuple[first_messages.Opened, Words, Draft, Judgment] | _Withdrawn]:
    """The chain of a first message, its ticket, and the rules' word. A ticket made for one that is refused goes again;
    the person stays, so that a chain can be followed."""
    now = micros(core.clock())
    account, channel = first_messages.whence(core, request)
    chain = chain_of(connection, core, account, channel.name, request.fallback, accounts)
    identity = first_messages.recipient(connection, core, request, account, channel, now)
    try:
        with connection.begin_nested():
            opened = first_messages.open_on(connection, core, request, identity, account, channel, actor, now)
            words = _first_words(opened, request, actor)
            contents.check_text(words, later=says_text(chain))
            made, judgment = judged(connection, core, opened.ticket, words)
            if judgment.decision == "deny" and opened.new:
                others = alternatives(connection, core, opened.ticket, words, accounts)
                raise _Withdrawn(dict(opened.ticket), words, made, judgment, others)
    except _Withdrawn as withdrawn:
        return chain, withdrawn
    return chain, (opened, words, made, judgment)


class _Withdrawn(Exception):
    """A first message that was refused: undoes the ticket made for it."""

    def __init__(
        self, placed: Record, words: Words, made: Draft, judgment: Judgment, others: tuple[Alternative, ...]
    ) -> None:
        super().__init__("withdrawn")
        self.placed, self.words, self.made, self.judgment, self.alternatives = placed, words, made, judgment, others

    def origin(self, author: Actor, actor: Actor) -> Origin:
        """Where a chain begins: on no ticket."""
        return Origin(self.placed, None, self.words, author, actor)


async def dry_run_proactive(
    core: Core, request: MessageRequest, actor: Actor, *, accounts: Collection[str] | None = None
) -> Judged:
    """What would become of a first message now. Leaves nothing behind."""

    def job(connection: Connection) -> NoReturn:
        author = _author(request.author, actor)
        chain, first = _open(connection, core, request, actor, accounts)
        if isinstance(first, _Withdrawn):
            origin, made, judgment = first.origin(author, actor), first.made, first.judgment
        else:
            opened, words, made, judgment = first
            if judgment.decision != "deny" or not chain.steps:
                raise _Undone(preview(connection, core, opened.ticket, words, made, judgment, accounts))
            origin = Origin(opened.ticket, opened.ticket, words, author, actor)
        raise _Undone(detoured(connection, core, origin, made, judgment, chain, accounts))

    return await _undo(core, job)


class _Undone(Exception):
    """Carries what was found out of a job whose writes are to be undone."""

    def __init__(self, judged: Judged) -> None:
        super().__init__("undone")
        self.judged = judged


class _Refused(Exception):
    """Undoes a first message that was refused, and all that was made for it."""

    def __init__(self, denied: Denied, stopped: Sequence[Stopped]) -> None:
        super().__init__("refused")
        self.denied, self.stopped = denied, stopped


async def _undo(core: Core, job: Callable[[Connection], NoReturn]) -> Judged:
    try:
        await core.database.write(job)
    except _Undone as undone:
        return undone.judged


# --- one transaction --------------------------------------------------------------------------------------------------


class _Done(NamedTuple):
    """An answer, what to tell of it once it is durable, and what was refused or is held: it, or an automatic message
    that it led to."""

    answer: Submitted | Denied
    events: Sequence[LiveEvent] = ()
    stopped: Sequence[Stopped] = ()


async def _carry_out(core: Core, job: Callable[[Connection], _Done]) -> Submitted | Denied:
    def work(connection: Connection) -> _Done:
        done = job(connection)
        reach("enqueue.written")
        return done

    try:
        answer, events, counted = await core.database.write(work)
    except IntegrityError:  # the same Idempotency-Key at the same moment: the other one has written its answer
        answer, events, counted = await core.database.write(work)
    reach("enqueue.committed")
    core.bus.publish(events)
    if events and isinstance(answer, Submitted):
        core.bus.wake("outbox")
    core.metrics.count_refusals(counted)
    return answer


def _place(connection: Connection, core: Core, ticket_id: str) -> Place:
    place = place_of(connection, ticket_id, core.accounts)
    if place is None:
        raise not_found("ticket")
    return place


def _words(core: Core, ticket: Record, request: ReplyRequest, actor: Actor, automatic: str) -> Words:
    channel = core.accounts.channel(ticket["account"], ticket["channel"])
    own: Visibility = "private" if channel is None or channel.private else "public"
    purpose: Purpose = "reply"
    author = _author(request.author, actor)
    return Words(
        text=request.text, html=request.html, attachments=request.attachments, template=request.template,
        visibility=request.visibility or own, purpose=purpose, author_name=author.name,
        human=author.type == "agent", automatic=automatic, content=request.content, in_reply_to=request.in_reply_to,
        overrides=_overrides(request.override, author),
    )  # fmt: skip


def _first_words(opened: first_messages.Opened, request: MessageRequest, actor: Actor) -> Words:
    author = _author(request.author, actor)
    return Words(
        text=request.text, html=request.html, attachments=request.attachments, template=request.template,
        visibility="private" if opened.channel.private else "public", purpose=request.purpose,
        author_name=author.name, human=author.type == "agent", first=opened.new, content=request.content,
        overrides=_overrides(request.override, author),
    )  # fmt: skip


def _chain(
    connection: Connection, core: Core, ticket: Record, request: ReplyRequest, words: Words,
    accounts: Collection[str] | None,
) -> Chain:  # fmt: skip
    """The chain of a reply. Raises `RequestError`, also for words that neither the reply nor its chain would say."""
    chain = chain_of(connection, core, ticket["account"], ticket["channel"], request.fallback, accounts)
    contents.check_text(words, later=says_text(chain))
    return chain


def _overrides(wanted: Sequence[str], author: Actor) -> tuple[str, ...]:
    """The rules to be passed over. Raises `RequestError`: only a person may decide that."""
    if wanted and author.type != "agent":
        raise RequestError(422, "invalid", "only an agent may pass over a rule: name one as the author", "override")
    return tuple(dict.fromkeys(wanted))


def _author(request: AuthorRequest | None, actor: Actor) -> Actor:
    return actor if request is None else Actor(request.type, request.id, request.name)


def file(
    connection: Connection,
    core: Core,
    ticket: Record,
    words: Words,
    status: Status | None,
    author: Actor,
    actor: Actor,
    chain: Chain = NO_CHAIN,
    *,
    accounts: Collection[str] | None = None,
    found: tuple[Draft, Judgment] | None = None,
) -> tuple[Submitted | Denied, list[LiveEvent]]:
    """Judge and write one message: its rows, the ticket's new status, its event log; and what to tell of it.

    Refused, it goes the way of its chain; without one, or when no step of it passes, the refusal is on the ticket.
    `found`: it was judged already.
    """
    now = micros(core.clock())
    made, judgment = found or judged(connection, core, ticket, words)
    note = words.visibility == "note"
    if judgment.decision != "deny":
        answer, events = write(
            connection, core, ticket, made, judgment, words, author, fallback=kept(chain, words, author),
            status=wanted_status(ticket, status, author, note=note), actor=actor,
        )  # fmt: skip
        return answer, [*events, live("ticket.updated", ticket)]
    went: Went | None = None
    tried: tuple[Tried, ...] = ()
    if chain.steps and not note:
        origin = Origin(ticket, ticket, words, author, actor)
        went, tried = follow(connection, core, origin, by_rules(judgment), chain)
        if went is not None:
            count_answered(connection, went, origin, now)
    if went is not None:
        set_status(connection, ticket, status, author, actor, now, note=False)
        return went.answer, went.events
    ticket_store.log(connection, ticket["id"], [refusal(author, judgment.verdicts, tried[1:])], now)
    others = () if note else alternatives(connection, core, ticket, words, accounts)
    return Denied(judgment.verdicts, ticket["id"], others), [live("ticket.updated", ticket)]
