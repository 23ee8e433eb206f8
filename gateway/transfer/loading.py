"""Contacts as files have them: what the API would show, read a page at a time."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping

from config.people import CrmSettings
from gateway.store import attributes as definitions
from gateway.store import people_views as views
from gateway.store.search import Visible
from gateway.web import show, types

_ANY = types.WindowView(open=True)  # files do not tell of windows


def contacts_of(
    connection: Connection, rows: Sequence[RowMapping], visible: Visible, crms: Sequence[CrmSettings]
) -> list[types.Contact]:
    """Contact rows with their identities and attributes, as far as they are visible."""
    ids = [row["id"] for row in rows]
    identities = views.identities_of(connection, ids, visible)
    values = views.values_of(connection, ids)
    known = definitions.custom_names(connection, crms)
    return [
        show.contact(
            row, values.get(row["id"], ()), [show.identity(one, _ANY) for one in identities.get(row["id"], ())], known
        )
        for row in rows
    ]
