"""Views that somebody keeps: personal, of a group, or everybody's. Functions of a connection."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, func, insert, or_, select, update

from gateway.conditions import Vocabulary
from gateway.ids import new_id
from gateway.store.schema import group_members, groups, ticket_fields, users, views
from gateway.store.search import Visible

_decode = msgspec.json.decode
VIEWS_MAX = 200  # of one owner


def groups_of_user(connection: Connection, user: str) -> tuple[str, ...]:
    """The names of the groups a user belongs to."""
    statement = (
        select(groups.c.name).join(group_members, group_members.c.group_id == groups.c.id)
        .where(group_members.c.user_id == user).order_by(groups.c.name)
    )  # fmt: skip
    return tuple(connection.execute(statement).scalars())


def vocabulary(connection: Connection, accounts: Collection[str], channels: Collection[str]) -> Vocabulary:
    """What conditions may name."""
    fields = connection.execute(select(ticket_fields)).mappings().all()
    return Vocabulary(
        accounts=accounts,
        channels=channels,
        users=list(connection.execute(select(users.c.id)).scalars()),
        groups=list(connection.execute(select(groups.c.name)).scalars()),
        custom={row["name"]: row["type"] for row in fields},
        choices={row["name"]: _decode(row["choices"]) for row in fields if row["type"] == "choice"},
    )


def _seen(owner: str, mine: Collection[str]) -> Any:
    return or_(
        views.c.owner == owner,
        views.c.sharing == "everyone",
        (views.c.sharing == "group") & views.c.group_name.in_(list(mine)),
    )


def _may_see(row: RowMapping, owner: str, visible: Visible) -> bool:
    """What was shared by somebody who sees other accounts only is not there; what an operator shared is."""
    accounts = _decode(row["accounts"])
    return row["owner"] == owner or visible is None or not accounts or not set(accounts).isdisjoint(visible)


def listing(connection: Connection, owner: str, mine: Collection[str], visible: Visible) -> list[RowMapping]:
    """The views of this owner and those shared with him, in their order."""
    statement = select(views).where(_seen(owner, mine)).order_by(views.c.position, views.c.title, views.c.id)
    return [row for row in connection.execute(statement).mappings() if _may_see(row, owner, visible)]


def load(
    connection: Connection, view_id: str, owner: str, mine: Collection[str], visible: Visible
) -> RowMapping | None:
    """One view this owner may see, or None."""
    statement = select(views).where(views.c.id == view_id, _seen(owner, mine))
    row = connection.execute(statement).mappings().first()
    return row if row is not None and _may_see(row, owner, visible) else None


def create(connection: Connection, owner: str, values: dict[str, Any], now: int) -> str | None:
    """Keep a view; its id, or None when this owner has too many."""
    statement = select(func.count()).select_from(views).where(views.c.owner == owner)
    if connection.execute(statement).scalar_one() >= VIEWS_MAX:
        return None
    view_id = new_id()
    row = values | {"id": view_id, "owner": owner, "created_at": now, "updated_at": now}
    connection.execute(insert(views), [row])
    return view_id


def change(connection: Connection, view_id: str, values: dict[str, Any], now: int) -> None:
    """Change a view."""
    connection.execute(update(views).where(views.c.id == view_id).values(**values, updated_at=now))


def remove(connection: Connection, view_id: str) -> None:
    """Remove a view."""
    connection.execute(delete(views).where(views.c.id == view_id))
