"""Contacts: lists, one contact, edits, merges and their undoing, erasure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from sqlalchemy import Connection, RowMapping

from gateway import erasure
from gateway.bus import LiveEvent
from gateway.store import attributes as definitions
from gateway.store import merging, people, vip
from gateway.store import people_views as views
from gateway.store.editing import Editing, edit_contact
from gateway.store.linking import Linked
from gateway.vip import vip_policy
from gateway.web import asks, cursors, show, types
from gateway.web.problems import PROBLEMS, Problem
from gateway.web.routes import PAGED, Call, Param, Reply, Route
from gateway.web.windows import window_of


@contextmanager
def people_problems() -> Iterator[None]:
    """What the store refuses, as a problem."""
    try:
        yield
    except people.PeopleError as error:
        code = error.code if error.code in PROBLEMS else "conflict"
        raise Problem(code, error.detail, field=error.field) from None


def visible_contact(connection: Connection, call: Call, contact_id: str) -> RowMapping:
    """A contact the key may see. Raises `Problem`."""
    row = views.contact(connection, contact_id, call.key.accounts)
    if row is None:
        raise Problem("not_found", "there is no such contact")
    return row


def own_contact(connection: Connection, call: Call, contact_id: str) -> RowMapping:
    """A contact that is known to no account the key may not see."""
    row = visible_contact(connection, call, contact_id)
    if views.hidden_identities(connection, row["id"], call.key.accounts):
        raise Problem("forbidden", "the contact is also known to accounts this key may not see")
    return row


def shown(connection: Connection, call: Call, rows: Sequence[RowMapping]) -> list[types.Contact]:
    """Contact rows as the API shows them."""
    ids = [row["id"] for row in rows]
    identities = views.identities_of(connection, ids, call.key.accounts)
    values = views.values_of(connection, ids)
    known = definitions.custom_names(connection, call.core.settings.crm)
    return [
        show.contact(
            row,
            values.get(row["id"], ()),
            [show.identity(entry, window_of(call.core, entry)) for entry in identities.get(row["id"], ())],
            known,
        )
        for row in rows
    ]


def filter_of(call: Call) -> views.ContactFilter:
    """The filters of a call (`FILTERS`)."""
    family = "attribute."
    return views.ContactFilter(
        text=call.query.get("q", "").strip(),
        vip=call.query.get("vip"),
        attributes=tuple((n.removeprefix(family), v) for n, v in call.query.items() if n.startswith(family)),
        region=call.core.settings.gateway.region,
    )


async def list_contacts(call: Call) -> Reply:
    """Contacts that pass every filter given. Those merged away or deleted are not among them."""
    wanted = filter_of(call)
    if wanted.text:
        return await _by_words(call, wanted)
    before = cursors.read_id(call.query.get("cursor"))

    def job(connection: Connection) -> types.Page[types.Contact]:
        rows = views.contact_page(connection, wanted, call.key.accounts, call.limit + 1, before)
        items = shown(connection, call, rows[: call.limit])
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def _by_words(call: Call, wanted: views.ContactFilter) -> Reply:
    """First whom the words describe, then who wrote them."""
    cursor = cursors.read(call.query.get("cursor"), (int,))
    before = cursor[0] if cursor else None

    def job(connection: Connection) -> types.Page[types.Contact]:
        found = views.contacts_found(connection, wanted, call.key.accounts, call.limit + 1, before)
        items = shown(connection, call, [row for _, row in found[: call.limit]])
        next_ = cursors.make(found[call.limit - 1][0]) if len(found) > call.limit else None
        return types.Page(items=items, next=next_)

    return Reply(await call.read(job))


def _one(connection: Connection, call: Call, contact_id: str) -> types.Contact:
    return shown(connection, call, [visible_contact(connection, call, contact_id)])[0]


async def get_contact(call: Call) -> Reply:
    """One contact; of one that was merged away, the contact it is part of now."""
    return Reply(await call.read(lambda connection: _one(connection, call, call.id)))


async def patch_contact(call: Call) -> Reply:
    """Edit a contact."""
    changes = {
        name: value for name in call.body.__struct_fields__ if (value := getattr(call.body, name)) is not msgspec.UNSET
    }
    settings = call.core.settings
    source = changes.pop("source", "")
    if source and call.key.user_id:
        raise Problem("invalid_body", "what a user does is no automatic answer", field="source")
    editing = Editing(source, crms=settings.crm, vip=vip_policy(settings))

    def job(connection: Connection) -> tuple[types.Contact, Linked]:
        contact_id = visible_contact(connection, call, call.id)["id"]
        with people_problems():
            linked = edit_contact(
                connection, contact_id, changes, call.key.actor, call.now,
                matching=settings.gateway.matching_attribute, region=settings.gateway.region, editing=editing,
            )  # fmt: skip
        return _one(connection, call, contact_id), linked

    contact, linked = await call.core.database.bulk(job)
    _tell(call, "contact.updated", contact)
    _tell_linked(call, contact, linked)
    return Reply(contact)


async def delete_contact(call: Call) -> Reply:
    """Erase a contact with all that was said. Who deleted it, and when, stays, with a receipt of what was removed."""

    def job(connection: Connection) -> types.Contact:
        return _one(connection, call, own_contact(connection, call, call.id)["id"])

    contact = await call.read(job)
    with people_problems():
        await erasure.erase(
            call.core, contact.id, call.key.name, lambda connection: own_contact(connection, call, contact.id)
        )
    _tell(call, "contact.deleted", contact)
    return Reply(status=204, headers={"Location": f"/api/v1/deletions/{contact.id}"})


async def merge_contact(call: Call) -> Reply:
    """Merge this contact into another; it can be undone."""
    request: asks.MergeRequest = call.body

    def job(connection: Connection) -> types.Contact:
        merging.alone(connection)
        own_contact(connection, call, call.id)
        if views.contact(connection, request.into, call.key.accounts) is None:
            raise Problem("not_found", "there is no such contact", field="into")
        own_contact(connection, call, request.into)
        with people_problems():
            merging.merge(connection, call.id, request.into, call.key.actor, request.reason, call.now)
        vip.merged(connection, request.into, vip_policy(call.core.settings), call.now)
        return _one(connection, call, request.into)

    contact = await call.core.database.bulk(job)
    _tell(call, "contact.merged", contact, merged_id=call.id)
    return Reply(contact)


async def unmerge_contact(call: Call) -> Reply:
    """Take an identity out of a contact, with its tickets and messages; it is not linked again by itself."""
    request: asks.UnmergeRequest = call.body

    def job(connection: Connection) -> types.Unmerged:
        merging.alone(connection)
        contact_id = own_contact(connection, call, call.id)["id"]
        with people_problems():
            target = merging.unmerge(connection, contact_id, request.identity, call.key.actor, call.now)
        return types.Unmerged(contact_id=target, contact=_one(connection, call, target))

    found = await call.core.database.bulk(job)
    _tell(call, "contact.unmerged", found.contact, source=call.id)
    return Reply(found)


def _tell(call: Call, kind: str, contact: types.Contact, **more: str) -> None:
    """One live event per account that knows the contact, so that limited keys hear of theirs."""
    accounts = dict.fromkeys(entry.account for entry in contact.identities) or [""]
    data = {"contact_id": contact.id, **more}
    call.core.bus.publish([LiveEvent(kind, data, account) for account in accounts])


def _tell_linked(call: Call, contact: types.Contact, linked: Linked) -> None:
    """What setting a value brought about: merges, and conflicts for a person to decide."""
    for winner, loser in linked.merges:
        _tell(call, "contact.merged", contact, contact_id=winner, merged_id=loser)
    call.core.metrics.conflicts.inc(len(linked.conflicts))
    for row in linked.conflicts:
        _tell(call, "contact.conflict", contact, conflict_id=str(row["id"]), attribute=str(row["attribute"]))


async def list_deletions(call: Call) -> Reply:
    """Deleted contacts, the last first. A key limited to accounts cannot be told whose they were."""
    before = cursors.read_id(call.query.get("cursor"))

    def job(connection: Connection) -> types.Page[types.Deletion]:
        rows = views.deletion_page(connection, call.limit + 1, before)
        items = [show.deletion(row) for row in rows[: call.limit]]
        more = len(rows) > call.limit
        return types.Page(items=items, next=cursors.make(rows[call.limit - 1]["id"]) if more else None)

    if call.key.accounts is not None:
        return Reply(types.Page[types.Deletion](items=[]))
    return Reply(await call.read(job))


async def get_deletion(call: Call) -> Reply:
    """The receipt of a deletion, by the contact's id: what was removed, and how much of it."""
    row = await call.read(lambda connection: views.deletion(connection, call.id))
    if row is None:
        raise Problem("not_found", "no contact with this id was deleted")
    return Reply(show.deletion(row))


FILTERS = (
    Param("q", "phone number in any form, handle, name, profile, or a text they wrote"),
    Param("vip", "whether they are VIPs", "bool"),
    Param("attribute.", "attribute.NAME: the value of an attribute", prefix=True),
)
_TAG = "Contacts"
_PATH = "/api/v1/contacts"
_VALUES = (
    "unknown_attribute",
    "unknown_choice",
    "wrong_type",
    "invalid_value",
    "read_only_attribute",
    "attested_value",
    "value_taken",
)
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", _PATH, list_contacts, "List contacts, the newest first", _TAG,
        params=(*FILTERS, *PAGED),
        answers={200: types.Page[types.Contact]},
    ),
    Route("GET", f"{_PATH}/{{id}}", get_contact, "One contact", _TAG, answers={200: types.Contact}),
    Route(
        "PATCH", f"{_PATH}/{{id}}", patch_contact, "Edit a contact", _TAG, scope="agent",
        body=asks.ContactPatch, answers={200: types.Contact}, errors=("already_merged", "conflict", *_VALUES),
    ),
    Route(
        "DELETE", f"{_PATH}/{{id}}", delete_contact, "Erase a contact and all that was said", _TAG, scope="admin",
        answers={204: None},
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/merge", merge_contact, "Merge into another contact", _TAG, scope="agent",
        body=asks.MergeRequest, answers={200: types.Contact},
        errors=("already_merged", "merge_into_itself", "conflict"),
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/unmerge", unmerge_contact, "Take an identity out again", _TAG, scope="agent",
        body=asks.UnmergeRequest, answers={200: types.Unmerged}, errors=("last_identity", "conflict"),
    ),
    Route(
        "GET", "/api/v1/deletions", list_deletions, "Contacts that were deleted, and by whom", _TAG,
        params=PAGED, answers={200: types.Page[types.Deletion]},
    ),
    Route(
        "GET", "/api/v1/deletions/{id}", get_deletion, "The receipt of a deletion, by the contact's id", _TAG,
        unlimited=True, answers={200: types.Deletion},
    ),
)  # fmt: skip
