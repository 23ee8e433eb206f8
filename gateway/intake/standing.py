"""What a person's doings change of what we may do: windows open, consent comes and goes, threads are handed over."""

from __future__ import annotations

import unicodedata
from datetime import timedelta

from adapters import Allowance, Channel, Window
from gateway.identity import consent, matter_of, overtaken
from gateway.intake import people
from gateway.intake.context import Context, moment_of
from gateway.intake.records import EventRow, Identity
from gateway.store.suppressions import Entry as Suppression
from gateway.tickets import Actor, Entry
from normalizers.model import CallEvent, ConsentChange, Engagement, InboundMessage, ThreadControl

_MICROSECOND = timedelta(microseconds=1)
WORD_MAX = 80  # characters of a message that may be one of the words
_VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # choose between the text and the picture of a character


def open_window(identity: Identity, at: int, *, opens: bool, private: bool) -> None:
    if identity.last_inbound_at is None or at > identity.last_inbound_at:
        identity.last_inbound_at, identity.dirty = at, True
    if opens and (identity.opened_at is None or at >= identity.opened_at):
        more = identity.window_used < 0 and at < (identity.allowed_until or 0)  # an allowance that gives more still
        identity.opened_at, identity.window_used = at, identity.window_used if more else 0
        identity.opened = identity.dirty = True
    if private and identity.state == "blocked" and not overtaken(identity.heard, "unblocked", "", at):
        _set_consent(identity, "unblocked", "", at)  # who blocks us cannot write to us


def _allow(identity: Identity, at: int, window: Window, allowance: Allowance) -> None:
    """A smaller right than a window's: at least so many messages for so long. It refreshes what is left, and adds
    nothing to it. One older than what opened the window gives nothing that the window does not."""
    if window.max_messages is None or (identity.opened_at is not None and at < identity.opened_at):
        return
    ends = [identity.allowed_until or 0]
    if identity.opened_at is not None:
        ends.append(identity.opened_at + window.duration // _MICROSECOND)
    used = window.max_messages - allowance.messages
    identity.window_used = min(identity.window_used, used) if at < max(ends) else used
    identity.allowed_until = max(ends[0], at + allowance.duration // _MICROSECOND)
    identity.opened = identity.dirty = True


def engagement(ctx: Context, row: EventRow, event: Engagement) -> tuple[str, str]:
    if event.person is None:
        return "ignored", "no person named"
    at = moment_of(row)
    identity = people.resolve(ctx, event.person, event.channel, row.account, at)
    declared = ctx.rules.channel(row.account, event.channel)
    window = declared.window if declared is not None else None
    if declared is not None and event.kind in declared.invited_by:
        open_window(identity, at, opens=True, private=declared.private)
    if declared is None or window is None:
        return "done", event.kind
    if event.kind in window.opened_by:
        open_window(identity, at, opens=True, private=declared.private)
    elif (allowance := window.allowances.get(event.kind)) is not None:
        _allow(identity, at, window, allowance)
    return "done", event.kind


def call(ctx: Context, row: EventRow, event: CallEvent) -> tuple[str, str]:
    """A customer's call opens the window where the channel says so."""
    declared = ctx.rules.channel(row.account, event.channel)
    opens = declared is not None and declared.window is not None and "call" in declared.window.opened_by
    if event.person is None or event.direction != "inbound" or declared is None or not opens:
        return "ignored", "kept: no ticket follows from it"
    at = moment_of(row)
    identity = people.resolve(ctx, event.person, event.channel, row.account, at)
    open_window(identity, at, opens=True, private=declared.private)
    return "done", event.status


def control(ctx: Context, row: EventRow, event: ThreadControl) -> tuple[str, str]:
    """Handed to us (who is told of that is who gets it): what somebody else held is ours to answer from now on."""
    known = people.lookup(ctx, event.person.addresses, event.channel, row.account) if event.person else None
    if event.action != "pass" or known is None:
        return "ignored", "kept: no ticket follows from it"
    ctx.changes.handed_over.append(known)
    return "done", event.action


def consent_change(ctx: Context, row: EventRow, event: ConsentChange) -> tuple[str, str]:
    if event.person is None:
        return _group_change(ctx, row, event)
    if event.source == "complaint" and not people.lookup(ctx, event.person.addresses, event.channel, row.account):
        return "ignored", "a complaint of nobody we know"  # anybody could send one, about anybody
    at = moment_of(row)
    identity = people.resolve(ctx, event.person, event.channel, row.account, at)
    if not event.topic:  # what concerns one topic is logged, and changes nothing else
        wrote_since = event.state == "blocked" and (identity.last_inbound_at or 0) > at
        if wrote_since or overtaken(identity.heard, event.state, event.scope, at):
            return "ignored", "a later word came first"
        _set_consent(identity, event.state, event.scope, at)
    if event.source == "complaint":
        _leave_alone(ctx, event)
    newest = ctx.snapshot.tickets.get(_private_conversation(ctx, identity, row.account, event.channel))
    if newest is not None:
        actor = Actor("customer", identity.contact_id)
        newest.entries.append(
            Entry(
                "consent.changed",
                actor,
                {"state": event.state, "scope": event.scope, "source": event.source, "topic": event.topic},
            )
        )
        newest.dirty = True
    ctx.tell("contact.updated", {"contact_id": identity.contact_id}, row.account)
    return "done", ""


def _group_change(ctx: Context, row: EventRow, event: ConsentChange) -> tuple[str, str]:
    """A group as a whole was closed to us, or is open again. What a person in it allows stays as it is."""
    key = f"group:{event.thread.key}" if event.thread.kind == "group" else ""
    conversation = ctx.snapshot.conversations.get((row.account, event.channel, key))
    if conversation is None:
        return "ignored", "no person named, and nobody wrote there"
    ctx.changes.groups.append((conversation.id, moment_of(row), event.state == "blocked"))
    newest = ctx.snapshot.tickets.get(conversation.id)
    if newest is not None:
        data = {"state": event.state, "scope": event.scope, "source": event.source, "topic": event.topic}
        newest.entries.append(Entry("consent.changed", Actor("platform"), data))
        newest.dirty = True
        ctx.tell("ticket.updated", {"ticket_id": newest.id}, row.account)
    return "done", ""


def _set_consent(identity: Identity, change: str, scope: str, at: int) -> None:
    since = [entry for entry in identity.optouts if identity.heard.get(entry, 0) > at]  # "all" came late
    identity.state, optouts = consent(identity.state, identity.optouts, change, scope)
    identity.optouts = sorted({*optouts, *since})
    identity.heard = identity.heard | {matter_of(change, scope): at}
    identity.dirty = True


def keywords(channel: Channel, identity: Identity, event: InboundMessage, at: int) -> list[str]:
    """Words that alone in a message change consent; the message stays visible and says what it did."""
    said = event.text.strip()
    if len(said) > WORD_MAX or event.kind not in ("text", "interactive"):
        return []
    said = _shown(said)
    word = said.strip(".!")
    words = channel.keywords
    opted_out = identity.state == "opted_out" or words.scope in identity.optouts
    ordinary = words.start_only_if_opted_out
    if word in words.stop or _bare(said) in words.stop:
        change, flag = "opted_out", "opt_out"
    elif (opted_out and word in ordinary) or word in words.start - ordinary:
        change, flag = "opted_in", "opt_in"
    else:
        return ["help"] if word in words.help else []
    if overtaken(identity.heard, change, words.scope, at):
        return []
    _set_consent(identity, change, words.scope, at)
    return [flag]


def _shown(text: str) -> str:
    """What a reader sees of it, case-folded: full-width letters are letters, and marks of direction are nothing."""
    kept = (c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf" and c not in _VARIANTS)
    return "".join(kept).strip().casefold()


def _bare(said: str) -> str:
    """The words without quotes, brackets or a picture around them. A question stays one: it asks for nothing yet."""
    return said.strip("".join({c for c in said if not c.isalnum() and c != "?"}))


def _leave_alone(ctx: Context, event: ConsentChange) -> None:
    """Who complained gets no automatic message and no marketing any more, from none of our accounts."""
    address = event.person.addresses[0].value if event.person is not None else ""
    for scope in ("automatic", "marketing"):
        entry = Suppression(channel=event.channel, address=address, scope=scope, reason="complaint", detail=event.id)
        ctx.changes.suppressions.append(entry)


def _private_conversation(ctx: Context, identity: Identity, account: str, channel: str) -> str:
    conversation = ctx.snapshot.conversations.get((account, channel, identity.id))
    return conversation.id if conversation else ""
