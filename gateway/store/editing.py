"""A contact changed by hand, by the API, by a CRM or by a file. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, update

from config.people import CrmSettings
from gateway.store import attributes as definitions
from gateway.store import crm as crm_changes
from gateway.store import merging, people, search_index, vip
from gateway.store.linking import Linked
from gateway.store.people_errors import PeopleError
from gateway.store.schema import contacts
from gateway.store.tickets import to_json
from gateway.tickets import Actor
from gateway.vip import VipPolicy


@dataclass(frozen=True, slots=True)
class Editing:
    """On whose behalf a contact is changed, and what follows from it.

    `source`: agent, api, automatic, crm or import; "": as the actor is. `crm`: the CRM that writes, if one does.
    """

    source: str = ""
    crm: str = ""
    crms: tuple[CrmSettings, ...] = ()
    vip: VipPolicy = field(default_factory=VipPolicy)


_SOURCES = {"agent": "agent", "bot": "api"}


def edit_contact(
    connection: Connection,
    contact_id: str,
    changes: dict[str, Any],
    actor: Actor,
    now: int,
    *,
    matching: Sequence[str] = (),
    region: str = "",
    editing: Editing | None = None,
) -> Linked:
    """Change a contact: name, language, organization, tags, vip, attributes. What is not named stays.

    An attribute set to None is removed. `email` and `phone` take a value or a list, are normalised, and cannot be
    changed where a platform attested them; Each value keeps who set it and when. What is set of a matching
    attribute matches at once; what came of that is returned. Somebody who becomes a VIP takes their open tickets along.
    Raises `PeopleError`.
    """
    editing = editing or Editing()
    if changes.get("attributes"):
        merging.alone(connection)
    row = merging.load(connection, contact_id)
    if row["merged_into"]:
        raise PeopleError("already_merged", "id", f"this contact was merged into {row['merged_into']}")
    values: dict[str, Any] = {
        name: changes[name] for name in ("name", "language", "organization", "vip") if name in changes
    }
    if "tags" in changes:
        values["tags"] = to_json(list(dict.fromkeys(changes["tags"])))
    given = dict(changes.get("attributes") or {})
    several = {name: given.pop(name) for name in people.VALUES if name in given}
    current = msgspec.json.decode(row["attributes"])
    changed: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    if given or "vip" in changes:
        changed = _checked(connection, contact_id, row, given, changes, matching, editing)
        custom = {name: value for name, value in changed.items() if name != "vip"}
        values["attributes"] = to_json({n: v for n, v in (current | custom).items() if v is not None})
    new: list[tuple[str, str]] = []
    for name, value in several.items():
        found, differs = people.set_values(connection, contact_id, name, value, now, region)
        new += found
        if differs:
            changed[name] = value
    for name in given:
        new += people.mirror(connection, contact_id, name, custom.get(name, current.get(name)), now)
    if changed:
        source = editing.source or _SOURCES.get(actor.type, "automatic")
        origin = {"source": source, "by": editing.crm or actor.name or actor.id, "at": now}
        origins = msgspec.json.decode(row["attribute_origins"])
        values["attribute_origins"] = to_json(origins | dict.fromkeys(changed, origin))
    if values:
        connection.execute(update(contacts).where(contacts.c.id == contact_id).values(**values))
    crm_changes.note(connection, contact_id, changed, editing.crms, editing.crm, actor.name or actor.id, now)
    if changes.get("vip") and not row["vip"]:
        vip.became_vip(connection, contact_id, editing.vip, now)
    search_index.reindex_contacts(connection, [contact_id])
    linked = people.match(connection, contact_id, new, matching, actor, now)
    for winner, _ in linked.merges:
        vip.merged(connection, winner, editing.vip, now)
    return linked


def _checked(
    connection: Connection, contact_id: str, row: RowMapping, given: dict[str, Any], changes: dict[str, Any],
    matching: Sequence[str], editing: Editing,
) -> dict[str, Any]:  # fmt: skip
    """The custom attributes, and vip, that really change; each held against its definition."""
    known = definitions.catalogue(connection, editing.crms)
    current = msgspec.json.decode(row["attributes"])
    changed: dict[str, Any] = {}
    for name, value in given.items():
        entry = known.get(name) if name != "vip" else None
        clean = definitions.check(entry, name, value, writer=editing.crm)
        if clean == current.get(name):
            continue
        assert entry is not None
        sole = entry["unique_value"] and clean is not None and name not in matching
        if sole and definitions.taken(connection, name, str(clean), contact_id):
            raise PeopleError("value_taken", f"attributes.{name}", "another contact has this value")
        changed[name] = clean
    if "vip" in changes and changes["vip"] != row["vip"]:
        definitions.may_write(known["vip"], editing.crm)
        changed["vip"] = changes["vip"]
    return changed
