"""The other ways to a contact: open and attested addresses, and what the rules would say there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, select

from adapters import Channel
from gateway import proactive as first_messages
from gateway.accounts import BoundAccount
from gateway.core import Core
from gateway.drafts import Words
from gateway.ids import moment
from gateway.posting import judged_at
from gateway.requests import Alternative, RequestError, WindowState
from gateway.store.places import Record, place_at
from gateway.store.schema import addresses, contact_values, contacts, identities
from normalizers.model import Address
from outbox.rules.windows import open_until

ATTESTED = ("attested", "authenticated")  # what only a customer typed is nobody's address for certain
_MOST = 10  # alternatives that are shown

_identities = (
    select(identities)
    .where(
        identities.c.contact_id == bindparam("b_contact"),
        select(addresses.c.id)
        .where(addresses.c.identity_id == identities.c.id, addresses.c.evidence.in_(ATTESTED))
        .exists(),
    )
    .order_by(identities.c.last_inbound_at.desc().nulls_last(), identities.c.id.desc())
)
_values = (
    select(contact_values.c.attribute, contact_values.c.value, contact_values.c.evidence)
    .where(contact_values.c.contact_id == bindparam("b_contact"), contact_values.c.evidence.in_(ATTESTED))
    .order_by(contact_values.c.at.desc())
)
_owner = (
    select(identities.c.contact_id)
    .join(addresses, addresses.c.identity_id == identities.c.id)
    .where(
        addresses.c.value == bindparam("b_value"), addresses.c.kind == bindparam("b_kind"),
        addresses.c.channel == bindparam("b_channel"), addresses.c.account == bindparam("b_account"),
    )
)  # fmt: skip


class NoWay(Exception):
    """There is no address to write to, in a sentence."""


def window(channel: Channel, identity: Record, now: datetime) -> WindowState:
    """How long one may write freely to an identity (a row with `opened_at`, `window_used` and `allowed_until`).

    `until` is the platform's limit; the operator's margin closes the window before it.
    """
    rule = channel.window
    if rule is None:
        return WindowState(True)
    opened_at = None if identity["opened_at"] is None else moment(identity["opened_at"])
    allowed_until = None if identity["allowed_until"] is None else moment(identity["allowed_until"])
    until = open_until(rule, opened_at, allowed_until)
    in_time = until is not None and now < until - rule.margin
    remaining = None
    if rule.max_messages is not None:
        remaining = max(rule.max_messages - identity["window_used"], 0) if in_time else 0
    longest = max(rule.tags.values(), default=None)
    tag_until = None if longest is None or opened_at is None else opened_at + longest
    return WindowState(in_time and remaining != 0, until, remaining, tag_until)


def alternatives(
    connection: Connection, core: Core, ticket: Record, words: Words, accounts: Collection[str] | None
) -> tuple[Alternative, ...]:
    """Where else the same message would pass now. `accounts`: those the caller may know of, None: all."""
    found: list[Alternative] = []
    for identity in connection.execute(_identities, {"b_contact": ticket["contact_id"]}).mappings():
        account, channel = identity["account"], core.accounts.channel(identity["account"], identity["channel"])
        if channel is None or not channel.private or identity["id"] == ticket["identity_id"]:
            continue
        if accounts is not None and account not in accounts:
            continue
        said = msgspec.structs.replace(words, visibility="private")
        try:
            _, judgment = judged_at(connection, core, place_at(connection, ticket, identity, channel), said)
        except RequestError:
            continue
        if judgment.decision != "deny":
            state = window(channel, identity, core.clock())
            found.append(Alternative(account, channel.name, identity["id"], state.until, state.remaining))
    return tuple(found[:_MOST])


def way_to(
    connection: Connection, core: Core, contact_id: str, name: str, account: str, accounts: Collection[str] | None,
    now: int,
) -> tuple[RowMapping, str, Channel]:  # fmt: skip
    """The identity of a contact on a channel, with account and channel. One is made for a phone number or mail address
    that is attested. Raises `NoWay`."""
    bound = [
        one
        for one in core.accounts.serving(name)
        if (not account or one.id == account) and (accounts is None or one.id in accounts)
    ]
    if not bound:
        raise NoWay(f"no account serves {name}")
    if not bound[0].channels[name].private:
        raise NoWay(f"{bound[0].channels[name].title} is public")
    by_id = {one.id: one for one in bound}
    known = [
        row
        for row in connection.execute(_identities, {"b_contact": contact_id}).mappings()
        if row["channel"] == name and row["account"] in by_id
    ]
    known.sort(key=lambda row: row["state"] != "active")  # the latest first, those that may be written to before others
    if known:
        return known[0], known[0]["account"], by_id[known[0]["account"]].channels[name]
    return _begun(connection, core, contact_id, bound, name, now)


def _begun(
    connection: Connection, core: Core, contact_id: str, bound: Sequence[BoundAccount], name: str, now: int
) -> tuple[RowMapping, str, Channel]:
    channel = bound[0].channels[name]
    contact = connection.execute(select(contacts).where(contacts.c.id == contact_id)).mappings().first()
    if contact is None or contact["deleted_at"] is not None or not channel.proactive:
        raise NoWay(f"the contact has no address for {channel.title}")
    values = connection.execute(_values, {"b_contact": contact_id}).all()
    for kind in channel.address_kinds:
        attribute = channel.attribute_of.get(kind)
        for row in values:
            if row.attribute != attribute:
                continue
            place = {"b_value": row.value, "b_kind": kind, "b_channel": name, "b_account": bound[0].id}
            if connection.execute(_owner, place).scalar() not in (None, contact_id):
                continue  # somebody else's by now
            address = Address(name, kind, row.value, "everywhere", row.evidence)
            made = first_messages.identity_at(
                connection, core, address, bound[0].id, channel, now, contact_id, contact["name"]
            )
            return made, bound[0].id, channel
    raise NoWay(f"the contact has no attested address for {channel.title}")
