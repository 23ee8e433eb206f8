"""Users, roles, groups and sessions in the store. Functions of a connection, in the caller's transaction."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from gateway import identity
from gateway.ids import new_id
from gateway.permissions import BUILT_IN
from gateway.store.schema import api_keys, group_members, groups, roles, sessions, tickets, users

SESSION_IDLE = 12 * 3600 * 1_000_000  # microseconds without a request until a session ends
SESSION_LONGEST = 7 * 24 * 3600 * 1_000_000
_read_list = msgspec.json.Decoder(list[str]).decode


class UserError(Exception):
    """A change that cannot be made: a stable `code`, the `field` it concerns, and a sentence."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.field, self.detail = code, field, detail


def to_json(value: object) -> str:
    """JSON as the store keeps it."""
    return msgspec.json.encode(value).decode()


# --- users ------------------------------------------------------------------------------------------------------------


def create(
    connection: Connection, email: str, name: str, role: str, accounts: Sequence[str], password_hash: str, now: int
) -> str:
    """Make a user; the id. Raises `UserError` invalid_value, unknown_role, user_exists."""
    address = folded(email)
    known_role(connection, role)
    if connection.execute(select(users.c.id).where(users.c.email == address)).first() is not None:
        raise UserError("user_exists", "email", "there is a user with this address")
    row = {
        "id": new_id(), "email": address, "name": name.strip() or address.partition("@")[0], "role": role,
        "accounts": to_json(sorted(set(accounts))), "password_hash": password_hash, "created_at": now,
    }  # fmt: skip
    connection.execute(insert(users), [row])
    return str(row["id"])


def folded(email: str) -> str:
    """The address as it is compared. Raises `UserError`."""
    address = identity.email(email)
    if not address:
        raise UserError("invalid_value", "email", "not a mail address")
    return address


def load(connection: Connection, user_id: str) -> RowMapping:
    """A user, deactivated or not. Raises `UserError` not_found."""
    row = connection.execute(select(users).where(users.c.id == user_id)).mappings().first()
    if row is None:
        raise UserError("not_found", "id", "there is no such user")
    return row


def by_email(connection: Connection, email: str) -> RowMapping | None:
    """The user with this address, or None."""
    address = identity.email(email)
    return connection.execute(select(users).where(users.c.email == address)).mappings().first() if address else None


def page(connection: Connection, limit: int, after: str | None) -> Sequence[RowMapping]:
    """Users, the oldest first."""
    statement = select(users).order_by(users.c.id).limit(limit)
    return connection.execute(statement.where(users.c.id > after) if after else statement).mappings().all()


def change(connection: Connection, user_id: str, values: Mapping[str, Any], now: int) -> RowMapping:
    """Change a user's columns; who is deactivated is signed out at once, and so is who gets another password.

    Raises `UserError` not_found, unknown_role, user_exists, last_admin.
    """
    before = load(connection, user_id)
    if "role" in values:
        known_role(connection, str(values["role"]))
    if "email" in values:
        other = by_email(connection, str(values["email"]))
        if other is not None and other["id"] != user_id:
            raise UserError("user_exists", "email", "there is a user with this address")
    if values:
        connection.execute(update(users).where(users.c.id == user_id).values(**values))
    if before["role"] == "admin" and before["deactivated_at"] is None and not _an_admin_is_left(connection):
        raise UserError("last_admin", "role", "somebody must stay an administrator")
    if values.get("deactivated_at") or "password_hash" in values:
        connection.execute(delete(sessions).where(sessions.c.user_id == user_id))
    if values.get("deactivated_at"):
        mine = (api_keys.c.user_id == user_id, api_keys.c.revoked_at.is_(None))
        connection.execute(update(api_keys).where(*mine).values(revoked_at=now))
    return load(connection, user_id)


def _an_admin_is_left(connection: Connection) -> bool:
    left = select(users.c.id).where(users.c.role == "admin", users.c.deactivated_at.is_(None)).limit(1)
    return connection.execute(left).first() is not None


def any_user(connection: Connection) -> bool:
    """Whether anybody works here: from then on an assignee is one of them."""
    return connection.execute(select(users.c.id).limit(1)).first() is not None


def groups_of(connection: Connection, user_ids: Sequence[str]) -> dict[str, list[str]]:
    """The names of each user's groups."""
    found: dict[str, list[str]] = {}
    statement = (
        select(group_members.c.user_id, groups.c.name)
        .join(groups, groups.c.id == group_members.c.group_id)
        .where(group_members.c.user_id.in_(user_ids))
        .order_by(groups.c.name)
    )
    for user_id, name in connection.execute(statement):
        found.setdefault(user_id, []).append(name)
    return found


# --- roles ------------------------------------------------------------------------------------------------------------


def known_role(connection: Connection, name: str) -> frozenset[str]:
    """The permissions of a role. Raises `UserError` unknown_role."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    row = connection.execute(select(roles.c.permissions).where(roles.c.name == name)).first()
    if row is None:
        raise UserError("unknown_role", "role", f"there is no role {name!r}")
    return frozenset(_read_list(row.permissions))


def own_roles(connection: Connection) -> Sequence[RowMapping]:
    """The operator's own roles, by name."""
    return connection.execute(select(roles).order_by(roles.c.name)).mappings().all()


def save_role(connection: Connection, name: str, title: str, permissions: Sequence[str], *, new: bool) -> None:
    """Make or change a role. Raises `UserError` role_exists, not_found."""
    there = connection.execute(select(roles.c.name).where(roles.c.name == name)).first() is not None
    if new and there:
        raise UserError("role_exists", "name", f"there is a role {name!r}")
    if not new and not there:
        raise UserError("not_found", "name", "there is no such role")
    values = {"title": title, "permissions": to_json(sorted(permissions))}
    if new:
        connection.execute(insert(roles), [values | {"name": name}])
    else:
        connection.execute(update(roles).where(roles.c.name == name).values(**values))


def drop_role(connection: Connection, name: str) -> None:
    """Remove a role that nobody has. Raises `UserError` not_found, role_in_use."""
    if connection.execute(select(users.c.id).where(users.c.role == name).limit(1)).first() is not None:
        raise UserError("role_in_use", "name", "users have this role")
    if connection.execute(delete(roles).where(roles.c.name == name)).rowcount == 0:
        raise UserError("not_found", "name", "there is no such role")


# --- groups -----------------------------------------------------------------------------------------------------------


def all_groups(connection: Connection) -> list[tuple[RowMapping, list[str]]]:
    """Groups by name, each with the ids of its members."""
    members: dict[str, list[str]] = {}
    for group_id, user_id in connection.execute(
        select(group_members.c.group_id, group_members.c.user_id).order_by(group_members.c.user_id)
    ):
        members.setdefault(group_id, []).append(user_id)
    rows = connection.execute(select(groups).order_by(groups.c.name)).mappings().all()
    return [(row, members.get(row["id"], [])) for row in rows]


def save_group(
    connection: Connection, group_id: str | None, name: str | None, members: Sequence[str] | None, now: int
) -> str:
    """Make a group (`group_id` None) or change one; its id. A new name stands on its tickets too.

    Raises `UserError` not_found, group_exists, unknown_user.
    """
    if name is not None:
        taken = connection.execute(select(groups.c.id).where(groups.c.name == name)).scalar()
        if taken is not None and taken != group_id:
            raise UserError("group_exists", "name", f"there is a group {name!r}")
    if group_id is None:
        group_id = new_id()
        connection.execute(insert(groups), [{"id": group_id, "name": name, "created_at": now}])
    else:
        before = connection.execute(select(groups.c.name).where(groups.c.id == group_id)).scalar()
        if before is None:
            raise UserError("not_found", "id", "there is no such group")
        if name is not None and name != before:
            connection.execute(update(groups).where(groups.c.id == group_id).values(name=name))
            connection.execute(update(tickets).where(tickets.c.group_name == before).values(group_name=name))
    if members is not None:
        _set_members(connection, group_id, members)
    return group_id


def _set_members(connection: Connection, group_id: str, members: Sequence[str]) -> None:
    wanted = list(dict.fromkeys(members))
    known = set(connection.execute(select(users.c.id).where(users.c.id.in_(wanted))).scalars())
    for index, user_id in enumerate(wanted):
        if user_id not in known:
            raise UserError("unknown_user", f"members[{index}]", "there is no such user")
    connection.execute(delete(group_members).where(group_members.c.group_id == group_id))
    if wanted:
        connection.execute(insert(group_members), [{"group_id": group_id, "user_id": user_id} for user_id in wanted])


def drop_group(connection: Connection, group_id: str) -> None:
    """Remove a group; its tickets belong to none then. Raises `UserError` not_found."""
    name = connection.execute(select(groups.c.name).where(groups.c.id == group_id)).scalar()
    if name is None:
        raise UserError("not_found", "id", "there is no such group")
    connection.execute(delete(group_members).where(group_members.c.group_id == group_id))
    connection.execute(delete(groups).where(groups.c.id == group_id))
    connection.execute(update(tickets).where(tickets.c.group_name == name).values(group_name=""))


def check_assignment(connection: Connection, assignee: str | None, group: str | None) -> None:
    """Raise `UserError` for an assignee who is no active user, or a group that is none.

    As long as there are no users (no groups), both are free text: another system may keep them.
    """
    if assignee and any_user(connection):
        row = connection.execute(select(users.c.deactivated_at).where(users.c.id == assignee)).first()
        if row is None or row.deactivated_at is not None:
            raise UserError("unknown_user", "assignee", "there is no such active user")
    if group:
        names = set(connection.execute(select(groups.c.name)).scalars())
        if names and group not in names:
            raise UserError("unknown_group", "group", "there is no such group")


# --- sessions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewSession:
    """What the browser is given, this once."""

    token: str
    csrf: str
    expires_at: int


def hash_of(token: str) -> str:
    """What is stored of a session's token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def sign_in(connection: Connection, user_id: str, now: int) -> NewSession:
    """Open a session; sessions that are over are swept on the way."""
    made = NewSession(secrets.token_urlsafe(32), secrets.token_urlsafe(32), now + SESSION_LONGEST)
    connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
    row = {
        "hash": hash_of(made.token), "user_id": user_id, "csrf": made.csrf, "created_at": now, "last_used_at": now,
        "expires_at": made.expires_at,
    }  # fmt: skip
    connection.execute(insert(sessions), [row])
    connection.execute(update(users).where(users.c.id == user_id).values(last_seen_at=now))
    return made


def session(connection: Connection, token: str, now: int) -> RowMapping | None:
    """The living session of an active user, with the user's columns, or None."""
    statement = (
        select(
            sessions.c.hash, sessions.c.csrf, sessions.c.last_used_at, users.c.id, users.c.email, users.c.name,
            users.c.role, users.c.accounts,
        )
        .join(users, users.c.id == sessions.c.user_id)
        .where(
            sessions.c.hash == hash_of(token),
            sessions.c.expires_at > now,
            sessions.c.last_used_at > now - SESSION_IDLE,
            users.c.deactivated_at.is_(None),
        )
    )  # fmt: skip
    return connection.execute(statement).mappings().first()


def session_used(connection: Connection, session_hash: str, user_id: str, now: int) -> None:
    """Note that somebody is still there."""
    connection.execute(update(sessions).where(sessions.c.hash == session_hash).values(last_used_at=now))
    connection.execute(update(users).where(users.c.id == user_id).values(last_seen_at=now))


def sign_out(connection: Connection, session_hash: str) -> None:
    """End a session."""
    connection.execute(delete(sessions).where(sessions.c.hash == session_hash))
