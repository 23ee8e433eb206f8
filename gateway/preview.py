"""What would become of a message, before anybody sends it: verdicts, parts, waits, the window, other ways."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from gateway.core import Core
from gateway.drafts import Draft, Words
from gateway.fallback import Chain, Origin, follow
from gateway.reach import alternatives, window
from gateway.requests import Judged, Planned, WindowState
from gateway.store.places import Record
from gateway.store.waiting import foreseen
from normalizers.model import OutboundMessage
from outbox import measure
from outbox.detours import by_rules
from outbox.judge import Judgment
from outbox.rules.content import files_of


def preview(
    connection: Connection, core: Core, ticket: Record, words: Words, made: Draft, judgment: Judgment,
    accounts: Collection[str] | None,
) -> Judged:  # fmt: skip
    """What the rules' word means: the parts that would leave, how long it stays so, where else it would pass."""
    denied, note = judgment.decision == "deny", words.visibility == "note"
    others = alternatives(connection, core, ticket, words, accounts) if denied and not note else ()
    state = _window(core, ticket, made.place.identity)
    if denied:
        return Judged(judgment.decision, judgment.verdicts, (), state, others)
    parts = tuple(_planned(core, part) for part in judgment.parts)
    waits = () if note else foreseen(
        connection, core.accounts, judgment.parts[0], made.place.conversation["id"], core.clock()
    )  # fmt: skip
    return Judged(judgment.decision, judgment.verdicts, parts, state, others, waits=waits)


def _planned(core: Core, part: OutboundMessage) -> Planned:
    channel = core.accounts.channel(part.account, part.channel)
    unit = channel.limits.text_unit if channel is not None else "chars"
    return Planned(
        text=part.text,
        template=part.template.name if part.template is not None else "",
        tag=part.tag,
        files=tuple(file.filename for file in files_of(part)),
        length=measure.length(part.text, unit),
        unit=unit,
        segments=measure.segments(part.text) if unit == "gsm" else None,
    )


def detoured(
    connection: Connection, core: Core, origin: Origin, made: Draft, judgment: Judgment, chain: Chain,
    accounts: Collection[str] | None,
) -> Judged:  # fmt: skip
    """What the chain makes of a refusal; the caller undoes it."""
    went, _ = follow(connection, core, origin, by_rules(judgment), chain)
    if went is None:
        state = _window(core, origin.placed, made.place.identity)
        others = alternatives(connection, core, origin.placed, origin.words, accounts)
        return Judged("deny", judgment.verdicts, (), state, others)
    state = _window(core, went.ticket, went.identity)
    parts = tuple(_planned(core, part) for part in went.judgment.parts)
    first, conversation = went.judgment.parts[0], went.ticket["conversation_id"]
    waits = foreseen(connection, core.accounts, first, conversation, core.clock())
    return Judged(went.judgment.decision, went.judgment.verdicts, parts, state, detour=went.detour, waits=waits)


def _window(core: Core, ticket: Record, identity: Record) -> WindowState:
    channel = core.accounts.channel(ticket["account"], ticket["channel"])
    return WindowState(True) if channel is None else window(channel, identity, core.clock())
