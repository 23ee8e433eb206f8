"""The fallback chain: "the window is closed: a template, then SMS, then mail". Only when asked for or configured.

Every step is a message of its own, judged by the rules of its channel like any other. The first one that passes is
queued in the transaction that refused the one before it, so there is never a second one. Consent and window are those
of the step's own identity; addresses that only a customer typed are not used. A chain begins only after refusals that
another way can help (`Spec.elsewhere`): never after an opt-out, a block, a closed ticket.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, select

from gateway import proactive as first_messages
from gateway import reach
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.drafts import Words, as_template
from gateway.ids import micros
from gateway.posting import judged, live, set_status, write
from gateway.requests import Detour, FallbackRequest, MessageRequest, RequestError, Submitted, TemplateRequest, Tried
from gateway.store import detours, dialect, template_facts
from gateway.store import tickets as ticket_store
from gateway.store.detours import Detours
from gateway.store.places import Record
from gateway.store.schema import contacts, messages
from gateway.store.tickets import to_json
from gateway.tickets import SYSTEM, Actor, Entry
from outbox.detours import Refusal
from outbox.judge import Judgment
from outbox.rules.permission import misshapen
from outbox.verdict import Verdict

log = logging.getLogger(__name__)
_PLACE = re.compile(r"\{(?:text|name)\}")


class Chain(msgspec.Struct, frozen=True):
    """The steps still to take, and the accounts they may use (None: any)."""

    steps: tuple[FallbackRequest, ...] = ()
    accounts: tuple[str, ...] | None = None


NO_CHAIN = Chain()


class Origin(msgspec.Struct, frozen=True):
    """What is to be said, to whom, by whom. `ticket` None: the first message left no ticket behind.

    `placed` is the ticket it was refused on, as it was.
    """

    placed: Record
    ticket: Record | None
    words: Words
    author: Actor
    actor: Actor


class Went(msgspec.Struct, frozen=True):
    """A step that passed: what was queued, where, and how it came to that."""

    answer: Submitted
    events: list[LiveEvent]
    judgment: Judgment
    ticket: Record
    identity: Record
    detour: Detour


class _StepRefused(Exception):
    """The rules refuse a step."""

    def __init__(self, tried: Tried) -> None:
        super().__init__(tried.rule)
        self.tried = tried


class _Stays(Exception):
    """A message is not sent on; `tried` are the steps that were refused."""

    def __init__(self, tried: Sequence[Tried] = ()) -> None:
        super().__init__("stays")
        self.tried = tried


class _Kept(msgspec.Struct, frozen=True):
    """What a queued message needs in order to go on with its chain when it is refused later."""

    chain: Chain
    words: Words
    author: Actor


def chain_of(
    connection: Connection, core: Core, account: str, channel: str, asked: Sequence[FallbackRequest] | None,
    accounts: Collection[str] | None,
) -> Chain:  # fmt: skip
    """The chain of a message: what the request asks for, else the first configured one that fits; maybe empty.

    Raises `RequestError` for a step nobody can take.
    """
    allowed = None if accounts is None else tuple(sorted(accounts))
    if asked is not None:
        _check(core, asked, accounts)
        _check_templates(connection, core, account, channel, asked)
        return Chain(tuple(asked), allowed)
    for block in core.settings.fallback:
        if block.account in ("", account) and block.channel in ("", channel):
            steps = tuple(
                FallbackRequest(channel=step.channel, account=step.account)
                if step.channel
                else FallbackRequest(
                    template=TemplateRequest(
                        name=step.template, language=step.language, parameters=list(step.parameters)
                    )
                )
                for step in block.steps
            )
            return Chain(steps, allowed)
    return Chain()


def _check(core: Core, asked: Sequence[FallbackRequest], accounts: Collection[str] | None) -> None:
    for index, step in enumerate(asked):
        field = f"fallback[{index}]"
        if bool(step.channel) == (step.template is not None):
            raise RequestError(422, "invalid", 'exactly one of "channel" and "template" must be given', field)
        if step.account and (core.accounts.get(step.account) is None or _hidden(step.account, accounts)):
            raise RequestError(422, "unknown_account", f"no account {step.account!r}", f"{field}.account")
        serving = [one for one in core.accounts.serving(step.channel) if not _hidden(one.id, accounts)]
        if step.channel and not any(step.account in ("", one.id) for one in serving):
            raise RequestError(422, "unknown_channel", f"no account serves {step.channel!r}", f"{field}.channel")


def _check_templates(
    connection: Connection, core: Core, account: str, name: str, asked: Sequence[FallbackRequest]
) -> None:
    """A template that can fit at no time is told at once, where the catalogue knows it. Its status may be another when
    the step is taken, and is looked at then."""
    channel = core.accounts.channel(account, name)
    steps = [(index, as_template(step.template)) for index, step in enumerate(asked) if step.template is not None]
    if channel is None or not steps:
        return
    told = template_facts.told(connection, [(account, wanted) for _, wanted in steps])
    for index, wanted in steps:
        wrong = misshapen(wanted, channel, *template_facts.known(core.accounts, account, wanted, told))
        if wrong is not None:
            field, word = wrong
            raise RequestError(422, "invalid", f"{word.reason}: {word.remedy}", f"fallback[{index}].template.{field}")


def says_text(chain: Chain) -> bool:
    """Whether a step would say what was written: on another channel, or in a place of a template."""
    return any(step.template is None or "{text}" in str(step.template.parameters) for step in chain.steps)


def _hidden(account: str, accounts: Collection[str] | None) -> bool:
    return accounts is not None and account not in accounts


def kept(chain: Chain, words: Words, author: Actor) -> str | None:
    """The chain of a message that is queued, as the store keeps it."""
    return to_json(_Kept(chain, words, author)) if chain.steps and words.visibility != "note" else None


def follow(
    connection: Connection, core: Core, origin: Origin, refused: Refusal, chain: Chain
) -> tuple[Went | None, tuple[Tried, ...]]:
    """Take the first step that passes and write it, all in the caller's transaction; and what was tried before it.

    One line on the ticket the message was meant for explains it; without such a ticket it is on the one it went to.
    """
    tried = [Tried(origin.placed["account"], origin.placed["channel"], "", refused.rule, refused.reason)]
    if not refused.elsewhere:
        return None, tuple(tried)
    for position, step in enumerate(chain.steps):
        rest = Chain(chain.steps[position + 1 :], chain.accounts)
        try:
            with connection.begin_nested():  # what was made for a step that is refused goes
                return _take(connection, core, origin, step, rest, tried), tuple(tried)
        except _StepRefused as refusal:
            tried.append(refusal.tried)
        except (reach.NoWay, RequestError) as error:
            where = (step.account, step.channel or origin.placed["channel"], _name(step))
            tried.append(Tried(*where, "address", str(error)))
    return None, tuple(tried)


def _take(
    connection: Connection, core: Core, origin: Origin, step: FallbackRequest, rest: Chain, tried: Sequence[Tried]
) -> Went:
    now = micros(core.clock())
    ticket, words, new = _place(connection, core, origin, step, rest, now)
    made, judgment = judged(connection, core, ticket, words)
    if judgment.decision == "deny":
        raise _StepRefused(_tried(ticket, _name(step), judgment.verdicts))
    first = tried[0]
    target = {"ticket_id": ticket["id"], "number": ticket["number"], "message_id": made.message.id,
              "account": ticket["account"], "channel": ticket["channel"], "template": _name(step)}  # fmt: skip
    story = {"rule": first.rule, "reason": first.reason, "tried": msgspec.to_builtins(tried), "went_to": target}
    told = origin.ticket if origin.ticket is not None else ticket
    away = told["id"] != ticket["id"]
    back = {"fallback_from": {"ticket_id": told["id"], "number": told["number"], "rule": first.rule}} if away else {}
    # what is left of the chain is written with the words as they were meant, not as this step says them
    answer, events = write(
        connection, core, ticket, made, judgment, words, origin.author, more=back,
        fallback=kept(rest, origin.words, origin.author),
    )  # fmt: skip
    ticket_store.log(connection, told["id"], [Entry("reply.fell_back", origin.actor, story)], now)
    if new:
        events.insert(0, LiveEvent("ticket.created", {"ticket_id": ticket["id"], "number": ticket["number"]},
                                   ticket["account"]))  # fmt: skip
    events += [live("ticket.updated", ticket)] + ([live("ticket.updated", told)] if away else [])
    where = "" if new else ticket["id"]
    detour = Detour(ticket["account"], ticket["channel"], _name(step), where, tuple(tried))
    return Went(answer, events, judgment, ticket, made.place.identity, detour)


def _place(
    connection: Connection, core: Core, origin: Origin, step: FallbackRequest, rest: Chain, now: int
) -> tuple[Record, Words, bool]:
    """The ticket of a step, what is said there, and whether the ticket is new. Raises `NoWay`, `RequestError`."""
    said, placed = origin.words, origin.placed
    contact_id = placed["contact_id"]
    if step.template is not None:
        if said.attachments:
            raise reach.NoWay("a template carries no files")
        filled = _filled(step.template, said.text, _name_of(connection, contact_id))
        words = msgspec.structs.replace(said, text="", html="", template=filled)
        if origin.ticket is not None:
            return origin.ticket, words, False
        identity, account, channel = reach.way_to(
            connection, core, contact_id, placed["channel"], placed["account"], None, now
        )
    else:
        words = said
        identity, account, channel = reach.way_to(
            connection, core, contact_id, step.channel, step.account, rest.accounts, now
        )
        if (account, channel.name) == (placed["account"], placed["channel"]):
            raise reach.NoWay("it was refused there already")
        if not channel.templates and (said.text or said.html):
            words = msgspec.structs.replace(said, template=None)  # the text is what was meant for such a channel
    request = MessageRequest(subject=placed["subject"], text=said.text, template=words.template, purpose=said.purpose)
    opened = first_messages.open_on(
        connection, core, request, identity, account, channel, origin.author, now, about=placed["subject"]
    )
    return opened.ticket, msgspec.structs.replace(words, visibility="private", first=opened.new), opened.new


def _filled(template: TemplateRequest, text: str, name: str) -> TemplateRequest:
    """The template with what was written in its places. A parameter takes no line breaks on any platform we know of."""
    flat = {"{text}": " ".join(text.split()), "{name}": name}

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return _PLACE.sub(lambda found: flat[found[0]], value)
        if isinstance(value, Mapping):
            return {key: fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list | tuple) else value

    return TemplateRequest(name=template.name, language=template.language, parameters=fill(template.parameters))


def _name_of(connection: Connection, contact_id: str) -> str:
    return connection.execute(select(contacts.c.name).where(contacts.c.id == contact_id)).scalar() or ""


def _name(step: FallbackRequest) -> str:
    return step.template.name if step.template is not None else ""


def _tried(ticket: Record, template: str, verdicts: Sequence[Verdict]) -> Tried:
    return Tried(ticket["account"], ticket["channel"], template, verdicts[0].rule, verdicts[0].reason)


# --- after it was accepted --------------------------------------------------------------------------------------------


def take_over(connection: Connection, core: Core, refused: Mapping[str, Refusal]) -> Detours:
    """Of messages refused as they leave, or by the platform itself, send on those that have a chain (by message id).

    Only a message of which nothing left, and nothing perhaps, is sent on: what is known to have arrived nowhere.
    """
    found = Detours()
    candidates = [message_id for message_id, refusal in refused.items() if refusal.elsewhere]
    if not candidates:
        return found
    rows = connection.execute(
        select(messages).where(messages.c.id.in_(candidates), messages.c.fallback.is_not(None)).order_by(messages.c.id)
    ).mappings()
    for message in rows.all():
        try:
            with connection.begin_nested():
                told = _send_on(connection, core, message, refused[message["id"]])
        except _Stays as stays:
            if stays.tried:
                found.details[message["id"]] = {"tried": msgspec.to_builtins(stays.tried)}
            continue
        except Exception as error:
            if dialect.unavailable(error):
                raise
            log.exception("outbox.fallback_failed", extra={"message_id": message["id"]})
            continue
        found.gone.add(message["id"])
        found.live += told
    return found


def _send_on(connection: Connection, core: Core, message: RowMapping, refusal: Refusal) -> list[LiveEvent]:
    ticket = ticket_store.load(connection, message["ticket_id"])
    if ticket is None or not detours.nothing_left(connection, message["id"]):
        raise _Stays
    left, now = msgspec.json.decode(message["fallback"], type=_Kept), micros(core.clock())
    # first it is taken back for good, so that nobody can send it again beside the detour
    changed = detours.take_back(connection, message, refusal.failure, now)
    origin = Origin(ticket, ticket, left.words, left.author, SYSTEM)
    went, tried = follow(connection, core, origin, refusal, left.chain)
    if went is None:
        raise _Stays(tried[1:])
    count_answered(connection, went, origin, now)
    return [LiveEvent(*changed.live), *went.events]


def count_answered(connection: Connection, went: Went, origin: Origin, now: int) -> None:
    """Another ticket that a detour led to counts as answered, as by any reply."""
    if went.ticket["id"] != origin.placed["id"]:
        set_status(connection, went.ticket, None, origin.author, origin.actor, now, note=False)
