"""Which identity and contact an event belongs to. Works on the snapshot alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway import identity as rules
from gateway.intake.context import Context
from gateway.intake.records import AddressRow, Contact, ContactValue, Identity, Merge
from normalizers.model import Address, Person


def resolve(ctx: Context, person: Person, channel: str, account: str, seen_at: int) -> Identity:
    """The identity of a person on an account, made if need be; its addresses and profile brought up to date.

    The first address decides. Further ones the platform attests as the same person's join it: an address that stood
    with another identity moves here, and the two contacts become one unless their unique ids contradict each other.
    """
    addresses = person.addresses or (Address(channel, "anonymous", ctx.new_id(), evidence="claimed"),)
    found = _known(ctx, addresses, channel, account)
    if not _known(ctx, addresses[:1], channel, account):  # a number that changed hands: its owner has another id now
        found = [one for one in found if not _contradicted(ctx, one, addresses, account)]
    if found:
        identity = found[0]
        _refresh(identity, person)
    else:
        identity = _create(ctx, person, addresses[0], channel, account, seen_at)
    fresh = [address for address in addresses if _attach(ctx, identity, address, channel, account, seen_at)]
    for other in found[1:]:
        _join(ctx, identity, other, addresses, account)
    if fresh:
        _remember_values(ctx, identity, fresh, channel, account, seen_at)
        _link(ctx, identity, fresh, channel, account)
    contact = ctx.snapshot.contacts.get(identity.contact_id)
    if contact is not None and seen_at > contact.last_seen_at:
        contact.last_seen_at, contact.dirty = seen_at, True
    if contact is not None and not contact.name and (name := identity.name or identity.handle):
        contact.name, contact.dirty = name, True
    return identity


def lookup(ctx: Context, addresses: Iterable[Address], channel: str, account: str) -> Identity | None:
    """The identity known by any of the addresses, or None."""
    found = _known(ctx, addresses, channel, account)
    return found[0] if found else None


def learn(ctx: Context, addresses: Sequence[Address], channel: str, account: str, seen_at: int) -> None:
    """Addresses the platform attests to be one person's: those we do not know join the identity we do know."""
    known = lookup(ctx, addresses, channel, account)
    if known is not None:
        resolve(ctx, Person(tuple(addresses)), channel, account, seen_at)


def _known(ctx: Context, addresses: Iterable[Address], channel: str, account: str) -> list[Identity]:
    found: list[Identity] = []
    for address in addresses:
        row = ctx.snapshot.addresses.get((address.channel or channel, account, address.kind, address.value))
        identity = ctx.snapshot.identities.get(row.identity_id) if row else None
        if identity is not None and identity not in found:
            found.append(identity)
    return found


def _contradicted(ctx: Context, identity: Identity, addresses: Sequence[Address], account: str) -> bool:
    return rules.contradicts(ctx.snapshot.keys_of.get(identity.contact_id, ()), addresses, account)


def _create(ctx: Context, person: Person, first: Address, channel: str, account: str, now: int) -> Identity:
    contact = Contact(ctx.new_id(), person.name or person.handle, person.language, False, now, now, new=True)
    identity = Identity(
        id=ctx.new_id(), contact_id=contact.id, channel=first.channel or channel, account=account,
        external_id=first.value, name=person.name, handle=person.handle, language=person.language,
        profile=dict(person.profile), state="active", optouts=[], opened_at=None, window_used=0,
        last_inbound_at=None, pinned=False, created_at=now, new=True,
    )  # fmt: skip
    ctx.snapshot.contacts[contact.id] = contact
    ctx.snapshot.identities[identity.id] = identity
    ctx.changes.contacts.append(contact)
    ctx.changes.identities.append(identity)
    return identity


def _refresh(identity: Identity, person: Person) -> None:
    """What the channel tells now is truer than what it told before; silence changes nothing."""
    for name in ("name", "handle", "language"):
        value = getattr(person, name)
        if value and value != getattr(identity, name):
            setattr(identity, name, value)
            identity.dirty = identity.told = True
    if person.profile and any(identity.profile.get(key) != value for key, value in person.profile.items()):
        identity.profile = {**identity.profile, **person.profile}
        identity.dirty = identity.told = True


def _attach(ctx: Context, identity: Identity, address: Address, channel: str, account: str, now: int) -> bool:
    """Make the address the identity's; True when it was not before."""
    space = address.channel or channel
    key = (space, account, address.kind, address.value)
    row = ctx.snapshot.addresses.get(key)
    if row is None:
        row = AddressRow(
            ctx.new_id(), identity.id, space, account, address.kind, address.value, address.scope, address.evidence, now
        )
        ctx.snapshot.addresses[key] = row
        ctx.changes.addresses.append(row)
        ctx.snapshot.keys_of.setdefault(identity.contact_id, set()).add(key)
        return True
    better = address.evidence != "claimed" and row.evidence == "claimed"
    if row.identity_id == identity.id and not better:
        return False
    if row.identity_id != identity.id and address.evidence != "attested":
        return False  # a claim takes nothing from anybody
    row.identity_id, row.evidence, row.attested_at = identity.id, address.evidence, now
    ctx.changes.moved_addresses.append(row)
    ctx.snapshot.keys_of.setdefault(identity.contact_id, set()).add(key)
    return True


def _join(ctx: Context, identity: Identity, other: Identity, addresses: Sequence[Address], account: str) -> None:
    """The platform says that two identities are one person."""
    if other.contact_id == identity.contact_id or other.pinned or identity.pinned:
        return
    theirs = {key for key in ctx.snapshot.keys_of.get(other.contact_id, ()) if key[2] not in ("phone", "email")}
    if rules.contradicts(theirs, addresses, account):
        ctx.conflict(identity, other.contact_id, "identity", identity.external_id)
        return
    _merge(
        ctx, identity, other.contact_id, "", identity.external_id, "attested", "the platform knows them as one person"
    )


def unite(
    ctx: Context, identity: Identity, other: Identity, addresses: Sequence[Address], others: Sequence[Address],
    account: str,
) -> None:  # fmt: skip
    """The platform says that two identities of different surfaces are one person: their contacts become one, unless
    the unique ids of either contradict the other's."""
    if rules.contradicts(ctx.snapshot.keys_of.get(identity.contact_id, ()), others, account):
        ctx.conflict(identity, other.contact_id, "identity", identity.external_id)
        return
    _join(ctx, identity, other, addresses, account)


def _remember_values(
    ctx: Context, identity: Identity, addresses: Iterable[Address], channel: str, account: str, now: int
) -> None:
    for address in addresses:
        attribute = ctx.attribute_of(account, channel, address.kind)
        value = rules.normalise(attribute, address.value, ctx.region(account)) if attribute else ""
        if not value:
            continue
        ctx.changes.values.append(
            ContactValue(ctx.new_id(), identity.contact_id, identity.id, attribute, value, address.evidence, now)
        )


def _link(ctx: Context, identity: Identity, addresses: Sequence[Address], channel: str, account: str) -> None:
    """Link the identity to the contact its new addresses match, by platform ids or the matching attributes."""
    if not identity.pinned:
        for attribute, value, evidence, candidates in _matches(ctx, addresses, channel, account):
            others = [contact for contact in candidates if contact != identity.contact_id]
            if others:
                _decide(ctx, identity, others, attribute, value, evidence, addresses, account)
                break
    for attribute, value, evidence in _comparable(ctx, addresses, channel, account):
        if evidence in rules.LINKING:
            entries = ctx.snapshot.values.setdefault((attribute, value), [])
            if all(contact != identity.contact_id for contact, _ in entries):
                entries.append((identity.contact_id, evidence))


def _comparable(
    ctx: Context, addresses: Iterable[Address], channel: str, account: str
) -> Iterable[tuple[str, str, str]]:
    """(attribute, value, evidence) of the addresses that hold a matching attribute, in the order of the attributes."""
    by_attribute = [(ctx.attribute_of(account, channel, address.kind), address) for address in addresses]
    for wanted in ctx.matching:
        for attribute, address in by_attribute:
            if attribute == wanted:
                value = rules.normalise(attribute, address.value, ctx.region(account))
                if value:
                    yield attribute, value, address.evidence


def _matches(
    ctx: Context, addresses: Sequence[Address], channel: str, account: str
) -> Iterable[tuple[str, str, str, list[str]]]:
    for address in addresses:
        if address.scope == "platform" and address.evidence in rules.LINKING:
            space = address.channel or channel
            contacts = ctx.snapshot.platform.get((space, address.kind, address.value), [])
            yield f"{space} {address.kind}", address.value, address.evidence, contacts
    for attribute, value, evidence in _comparable(ctx, addresses, channel, account):
        if evidence in rules.LINKING:
            entries = ctx.snapshot.values.get((attribute, value), [])
            yield attribute, value, evidence, [contact for contact, theirs in entries if theirs in rules.LINKING]


def _decide(
    ctx: Context, identity: Identity, candidates: Sequence[str], attribute: str, value: str, evidence: str,
    addresses: Sequence[Address], account: str,
) -> None:  # fmt: skip
    """Link to the oldest contact that matches; one whose unique ids contradict makes a conflict instead."""
    for candidate in sorted(set(candidates)):
        keys = ctx.snapshot.keys_of.get(candidate, set())
        if rules.contradicts(keys, addresses, account):
            ctx.conflict(identity, candidate, attribute, value)
        else:
            _merge(ctx, identity, candidate, attribute, value, evidence, f"the same {attribute}")


def _merge(
    ctx: Context, identity: Identity, other: str, attribute: str, value: str, evidence: str, reason: str
) -> None:
    """One contact of two: the older wins. A contact that this batch has just made is simply not made."""
    mine = identity.contact_id
    if mine == other:
        return
    contact = ctx.snapshot.contacts.get(mine)
    if contact is not None and contact.new and identity.new:
        ctx.changes.contacts.remove(contact)
        del ctx.snapshot.contacts[mine]
        winner, loser = other, ""
    else:
        winner, loser = sorted((mine, other))
    ctx.changes.merges.append(Merge(winner, loser, identity.id, attribute, value, evidence, reason))
    gone = loser or mine
    ctx.rename_contact(gone, winner)
    ctx.tell("contact.merged", {"contact_id": winner, "merged_id": gone, "attribute": attribute}, identity.account)
