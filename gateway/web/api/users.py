"""Users, roles and groups: who works here and what each may. Nobody hands out more than he has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, RowMapping

from gateway import passwords
from gateway.permissions import BUILT_IN, RoleError, check_role, grants
from gateway.store import users as store
from gateway.web import asks, cursors, show, types
from gateway.web.problems import PROBLEMS, Problem
from gateway.web.routes import PAGED, Call, Reply, Route

_read_list = msgspec.json.Decoder(list[str]).decode


@contextmanager
def user_problems() -> Iterator[None]:
    """What the store refuses, as a problem."""
    try:
        yield
    except store.UserError as error:
        raise Problem(error.code if error.code in PROBLEMS else "conflict", error.detail, field=error.field) from None
    except RoleError as error:
        raise Problem("invalid_value", error.problem, field=error.field) from None


def known_permissions() -> list[str]:
    """Every permission some route asks for, and that to share views."""
    from gateway.web.api import ROUTES  # which is made of this module too

    return sorted({route.permission for route in ROUTES if route.scope} | {"views.manage"})


def no_more_than_own(call: Call, wanted: Collection[str], field: str) -> None:
    """Raise `Problem` when these permissions grant something the caller may not."""
    for entry in known_permissions():
        if grants(wanted, entry) and not call.key.may(entry):
            raise Problem("forbidden", f"it grants {entry!r}, which you may not", field=field)


def check_accounts(call: Call, accounts: Iterable[str]) -> None:
    """Raise `Problem` for accounts nobody configured, or that the caller may not see."""
    for index, account in enumerate(accounts):
        if call.core.accounts.get(account) is None or not call.key.sees(account):
            raise Problem("unknown_account", f"there is no account {account!r}", field=f"accounts[{index}]")


async def hashed(password: str, *names: str, field: str = "password") -> str:
    """The hash of a new password. Raises `Problem` for one that is too weak."""
    if problem := passwords.problem(password, *names):
        raise Problem("invalid_value", problem, field=field)
    return await passwords.hashed(password)


# --- users ------------------------------------------------------------------------------------------------------------


def shown_users(connection: Connection, rows: Sequence[RowMapping]) -> list[types.User]:
    """User rows as the API shows them."""
    groups = store.groups_of(connection, [row["id"] for row in rows])
    return [
        types.User(
            id=row["id"], email=row["email"], name=row["name"], role=row["role"], accounts=_read_list(row["accounts"]),
            groups=groups.get(row["id"], []), active=row["deactivated_at"] is None,
            created_at=show.moment(row["created_at"]),
            last_seen_at=show.moment(row["last_seen_at"]) if row["last_seen_at"] else None,
        )
        for row in rows
    ]  # fmt: skip


async def list_users(call: Call) -> Reply:
    """Everybody who works or worked here, the oldest first."""
    after = cursors.read_id(call.query.get("cursor"))

    def job(connection: Connection) -> types.Page[types.User]:
        rows = store.page(connection, call.limit + 1, after)
        items = shown_users(connection, rows[: call.limit])
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def get_user(call: Call) -> Reply:
    """One user."""
    with user_problems():
        return Reply(await call.read(lambda c: shown_users(c, [store.load(c, call.id)])[0]))


async def create_user(call: Call) -> Reply:
    """Make a user. The address must be new; the role must not grant more than the caller has."""
    ask: asks.UserRequest = call.body
    check_accounts(call, ask.accounts)
    password = "" if ask.password is UNSET else await hashed(ask.password, ask.email, ask.name)

    def job(connection: Connection) -> types.User:
        no_more_than_own(call, store.known_role(connection, ask.role), "role")
        user_id = store.create(connection, ask.email, ask.name, ask.role, ask.accounts, password, call.now)
        return shown_users(connection, [store.load(connection, user_id)])[0]

    with user_problems():
        return Reply(await call.write(job), 201)


async def patch_user(call: Call) -> Reply:
    """Change a user. Who is deactivated, or gets another password, is signed out at once."""
    ask: asks.UserPatch = call.body
    values: dict[str, Any] = {}
    if ask.name is not UNSET:
        values["name"] = ask.name
    if ask.accounts is not UNSET:
        check_accounts(call, ask.accounts)
        values["accounts"] = store.to_json(sorted(set(ask.accounts)))
    if ask.active is not UNSET:
        values["deactivated_at"] = None if ask.active else call.now
    if ask.password is not UNSET:
        values["password_hash"] = await hashed(ask.password)

    def job(connection: Connection) -> types.User:
        before = store.load(connection, call.id)
        no_more_than_own(call, store.known_role(connection, before["role"]), "id")
        if ask.role is not UNSET:
            values["role"] = ask.role
            no_more_than_own(call, store.known_role(connection, ask.role), "role")
        if ask.email is not UNSET:
            values["email"] = store.folded(ask.email)
        return shown_users(connection, [store.change(connection, call.id, values, call.now)])[0]

    with user_problems():
        return Reply(await call.write(job))


# --- roles ------------------------------------------------------------------------------------------------------------


def _role(name: str, title: str, permissions: Iterable[str], *, built_in: bool = False) -> types.Role:
    return types.Role(name=name, title=title or name, permissions=sorted(permissions), built_in=built_in)


async def list_roles(call: Call) -> Reply:
    """The roles there are, those built in first."""
    own = await call.read(store.own_roles)
    items = [_role(name, "", permissions, built_in=True) for name, permissions in BUILT_IN.items()]
    items += [_role(row["name"], row["title"], _read_list(row["permissions"])) for row in own]
    return Reply(types.Items[types.Role](items=items))


async def list_permissions(call: Call) -> Reply:
    """Every permission there is; a role may also say "tickets.*", "*.read" or "*"."""
    return Reply(types.Items[str](items=known_permissions()))


async def create_role(call: Call) -> Reply:
    """Make a role of one's own."""
    ask: asks.RoleRequest = call.body
    with user_problems():
        permissions = check_role(ask.name, ask.permissions, known_permissions())
        no_more_than_own(call, permissions, "permissions")
        await call.write(lambda c: store.save_role(c, ask.name, ask.title, sorted(permissions), new=True))
    return Reply(_role(ask.name, ask.title, permissions), 201)


async def patch_role(call: Call) -> Reply:
    """Change a role; whoever has it may the new at once."""
    ask: asks.RolePatch = call.body
    name = call.request.match_info["name"]

    def job(connection: Connection) -> types.Role:
        if name in BUILT_IN:
            raise RoleError("name", f"{name!r} is built in")
        row = next((row for row in store.own_roles(connection) if row["name"] == name), None)
        if row is None:
            raise store.UserError("not_found", "name", "there is no such role")
        before = _read_list(row["permissions"])
        no_more_than_own(call, before, "name")
        after = before if ask.permissions is UNSET else check_role(name, ask.permissions, known_permissions())
        no_more_than_own(call, after, "permissions")
        title = row["title"] if ask.title is UNSET else ask.title
        store.save_role(connection, name, title, sorted(after), new=False)
        return _role(name, title, after)

    with user_problems():
        return Reply(await call.write(job))


async def delete_role(call: Call) -> Reply:
    """Remove a role nobody has."""
    with user_problems():
        await call.write(lambda connection: store.drop_role(connection, call.request.match_info["name"]))
    return Reply(status=204)


# --- groups -----------------------------------------------------------------------------------------------------------


def _groups(connection: Connection) -> dict[str, types.Group]:
    return {
        row["id"]: types.Group(
            id=row["id"], name=row["name"], members=members, created_at=show.moment(row["created_at"])
        )
        for row, members in store.all_groups(connection)
    }


async def list_groups(call: Call) -> Reply:
    """The groups tickets can belong to."""
    return Reply(types.Items[types.Group](items=list((await call.read(_groups)).values())))


async def create_group(call: Call) -> Reply:
    """Make a group."""
    ask: asks.GroupRequest = call.body

    def job(connection: Connection) -> types.Group:
        made = store.save_group(connection, None, ask.name, ask.members, call.now)
        return _groups(connection)[made]

    with user_problems():
        return Reply(await call.write(job), 201)


async def patch_group(call: Call) -> Reply:
    """Change a group; a new name stands on its tickets too."""
    ask: asks.GroupPatch = call.body
    name = None if ask.name is UNSET else ask.name
    members = None if ask.members is UNSET else ask.members

    def job(connection: Connection) -> types.Group:
        changed = store.save_group(connection, call.id, name, members, call.now)
        return _groups(connection)[changed]

    with user_problems():
        return Reply(await call.write(job))


async def delete_group(call: Call) -> Reply:
    """Remove a group; its tickets belong to none then."""
    with user_problems():
        await call.write(lambda connection: store.drop_group(connection, call.id))
    return Reply(status=204)


_TAG = "Users"
_ADMIN: dict[str, Any] = {"scope": "admin", "unlimited": True}
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/api/v1/users", list_users, "Who works here", _TAG, params=PAGED, answers={200: types.Page[types.User]},
    ),
    Route("GET", "/api/v1/users/{id}", get_user, "One user", _TAG, answers={200: types.User}),
    Route(
        "POST", "/api/v1/users", create_user, "Make a user", _TAG, **_ADMIN, body=asks.UserRequest,
        answers={201: types.User}, errors=("invalid_value", "unknown_role", "unknown_account", "user_exists"),
    ),
    Route(
        "PATCH", "/api/v1/users/{id}", patch_user, "Change a user", _TAG, **_ADMIN, body=asks.UserPatch,
        answers={200: types.User},
        errors=("invalid_value", "unknown_role", "unknown_account", "user_exists", "last_admin"),
    ),
    Route(
        "GET", "/api/v1/roles", list_roles, "Roles", _TAG, answers={200: types.Items[types.Role]},
    ),
    Route(
        "POST", "/api/v1/roles", create_role, "Make a role", _TAG, **_ADMIN, body=asks.RoleRequest,
        answers={201: types.Role}, errors=("invalid_value", "role_exists"),
    ),
    Route(
        "PATCH", "/api/v1/roles/{name}", patch_role, "Change a role", _TAG, **_ADMIN, body=asks.RolePatch,
        answers={200: types.Role}, errors=("invalid_value",),
    ),
    Route(
        "DELETE", "/api/v1/roles/{name}", delete_role, "Remove a role", _TAG, **_ADMIN, answers={204: None},
        errors=("role_in_use",),
    ),
    Route(
        "GET", "/api/v1/permissions", list_permissions, "What roles are made of", _TAG,
        answers={200: types.Items[str]},
    ),
    Route(
        "GET", "/api/v1/groups", list_groups, "Groups", _TAG, answers={200: types.Items[types.Group]},
    ),
    Route(
        "POST", "/api/v1/groups", create_group, "Make a group", _TAG, **_ADMIN, body=asks.GroupRequest,
        answers={201: types.Group}, errors=("group_exists", "unknown_user"),
    ),
    Route(
        "PATCH", "/api/v1/groups/{id}", patch_group, "Change a group", _TAG, **_ADMIN, body=asks.GroupPatch,
        answers={200: types.Group}, errors=("group_exists", "unknown_user"),
    ),
    Route(
        "DELETE", "/api/v1/groups/{id}", delete_group, "Remove a group", _TAG, **_ADMIN, answers={204: None},
    ),
)  # fmt: skip
