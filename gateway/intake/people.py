"""Which identity and contact an event belongs to. Works on the snapshot alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway import identity as rules
from gateway.intake.context import Context
from gateway.intake.records import AddressRow, Contact, ContactValue, Identity, Merge
from gateway.linking import Facts, Pair
from normalizers.model import Address, Person


def resolve(ctx: Context, person: Person, channel: str, account: str, seen_at: int) -> Identity:
    """The identity of a person on an account, made if need be; its addresses and profile brought up to date.

    The first address decides. Further ones the platform attests as the same person's join it: an address that stood
    with another identity moves here, and the two contacts become one unless their unique ids contradict each other.
    """
    addresses = person.addresses or (Address(channel, "anonymous", ctx.new_id(), evidence="claimed"),)
    found = _known(ctx, addresses, channel, account)
    if not _known(ctx, addresses[:1], channel, account):  # a number that changed hands: its owner has another id now
        told = rules.unique_keys(addresses, channel, account)
        found = [one for one in found if not rules.contradiction(ctx.facts(one.contact_id).keys, told)]
    if found:
        identity = found[0]
        _refresh(identity, person)
    else:
        identity = _create(ctx, person, addresses[0], channel, account, seen_at)
    same: list[Identity] = []
    if len(found) > 1:  # who is one person by the platform's word, not by a claim
        attested = [address for address in addresses if address.evidence == "attested"]
        same = [one for one in _known(ctx, attested, channel, account) if one in found]
    fresh = [address for address in addresses if _attach(ctx, identity, address, channel, account, seen_at)]
    if identity in same:
        for other in same:
            join(ctx, identity, other)
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
    ctx.snapshot.facts[contact.id] = Facts(anchor=identity.id)
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
        ctx.facts(identity.contact_id).keys |= rules.unique_keys((address,), channel, account)
        return True
    better = address.evidence != "claimed" and row.evidence == "claimed"
    if row.identity_id == identity.id and not better:
        return False
    if row.identity_id != identity.id:
        if address.evidence != "attested":
            return False  # a claim takes nothing from anybody
        _doubt(ctx, row, address, channel, account)
    row.identity_id, row.evidence, row.attested_at = identity.id, address.evidence, now
    ctx.changes.moved_addresses.append(row)
    ctx.facts(identity.contact_id).keys |= rules.unique_keys((address,), channel, account)
    return True


def _doubt(ctx: Context, row: AddressRow, address: Address, channel: str, account: str) -> None:
    """An address goes to somebody else: that its former owner has the value is no more than a claim from now on."""
    attribute = ctx.attribute_of(account, channel, address.kind)
    value = rules.normalise(attribute, address.value, ctx.region(account)) if attribute else ""
    if not value:
        return
    ctx.changes.doubted.append((row.identity_id, attribute, value))
    for known in ctx.changes.values:
        if (known.identity_id, known.attribute, known.value) == (row.identity_id, attribute, value):
            known.evidence = "claimed"


def join(ctx: Context, identity: Identity, other: Identity) -> None:
    """The platform says that two identities are one person: their contacts become one, unless the unique ids of
    either contradict the other's."""
    if other.contact_id == identity.contact_id or other.pinned or identity.pinned:
        return
    if Pair((identity.contact_id, other.contact_id)) in ctx.snapshot.apart:
        return
    ours, theirs = ctx.facts(identity.contact_id).keys, ctx.facts(other.contact_id).keys
    if why := rules.contradiction(ours, theirs):
        ctx.conflict(identity, other.contact_id, "identity", identity.external_id, why)
        return
    _merge(
        ctx, identity, other.contact_id, "", identity.external_id, "attested", "the platform knows them as one person"
    )


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
    """Link the identity to the contacts its new addresses match, by platform ids or the matching attributes."""
    for attribute, value, evidence, known in _matches(ctx, addresses, channel, account):
        others = {contact for contact, theirs in known if theirs in rules.LINKING and contact != identity.contact_id}
        if others and not identity.pinned:
            _decide(ctx, identity, sorted(others), attribute, value, evidence)
        if all(contact != identity.contact_id for contact, _ in known):
            known.append((identity.contact_id, evidence))


def _matches(
    ctx: Context, addresses: Sequence[Address], channel: str, account: str
) -> Iterable[tuple[str, str, str, list[tuple[str, str]]]]:
    """(attribute, value, evidence, who has it too) of all that may link: platform ids, then the matching attributes
    in their order."""
    for address in addresses:
        if address.scope == "platform" and address.evidence in rules.LINKING:
            space = address.channel or channel
            known = ctx.snapshot.platform.setdefault((space, address.kind, address.value), [])
            yield f"{space} {address.kind}", address.value, address.evidence, known
    by_attribute = [(ctx.attribute_of(account, channel, address.kind), address) for address in addresses]
    for wanted in ctx.matching:
        for attribute, address in by_attribute:
            if attribute == wanted and address.evidence in rules.LINKING:
                value = rules.normalise(attribute, address.value, ctx.region(account))
                if value:
                    yield attribute, value, address.evidence, ctx.snapshot.values.setdefault((attribute, value), [])


def _decide(
    ctx: Context, identity: Identity, candidates: Sequence[str], attribute: str, value: str, evidence: str
) -> None:
    """Link to all who match, the oldest first; with one whose unique ids contradict there is a conflict instead."""
    contradicting: list[tuple[str, str]] = []
    for candidate in candidates:
        mine = identity.contact_id
        pinned = ctx.facts(mine).pinned or (ctx.facts(candidate).pinned and ctx.is_stored(mine))
        if pinned or Pair((mine, candidate)) in ctx.snapshot.apart:
            continue
        if why := rules.contradiction(ctx.facts(mine).keys, ctx.facts(candidate).keys):
            contradicting.append((candidate, why))
        else:
            _merge(ctx, identity, candidate, attribute, value, evidence, f"the same {attribute}")
    for candidate, why in contradicting:
        ctx.conflict(identity, candidate, attribute, value, why)


def _merge(
    ctx: Context, identity: Identity, other: str, attribute: str, value: str, evidence: str, reason: str
) -> None:
    """One contact of two: the older wins. A contact that this batch has just made is simply not made."""
    mine = identity.contact_id
    winner, gone = sorted((mine, other), key=lambda contact: (not ctx.is_stored(contact), contact))
    moved = tuple(known.id for known in ctx.snapshot.identities.values() if known.contact_id == gone)
    stored = ctx.is_stored(gone)
    ctx.rename_contact(gone, winner)
    if not stored:
        unmade = ctx.snapshot.contacts.pop(gone)
        ctx.changes.contacts.remove(unmade)
        heir = ctx.snapshot.contacts.get(winner)
        if heir is not None and unmade.last_seen_at > heir.last_seen_at:
            heir.last_seen_at, heir.dirty = unmade.last_seen_at, True
    ctx.changes.merges.append(
        Merge(winner, gone if stored else "", identity.id, attribute, value, evidence, reason, () if stored else moved)
    )
    ctx.tell("contact.merged", {"contact_id": winner, "merged_id": gone, "attribute": attribute}, identity.account)
