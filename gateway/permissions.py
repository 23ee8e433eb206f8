"""Who may do what: permissions by resource and verb, roles as sets of them. Pure.

A permission is "tickets.write": the resource a route documents itself under, and how strong the call is. `read` looks,
`write` works as an agent does, `manage` is an administrator's. A role may name them one by one or with a star:
"tickets.*", "*.read", "*".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

VERBS: Mapping[str, str] = {"read": "read", "agent": "write", "admin": "manage"}
"""Scope of an API key -> the strongest verb it may."""

BUILT_IN: Mapping[str, frozenset[str]] = {
    "admin": frozenset({"*"}),
    "agent": frozenset({"*.read", "*.write"}),
    "reader": frozenset({"*.read"}),
}
"""Roles that are always there. A key's scope gives the rights of the role in `ROLE_OF_SCOPE`."""

ROLE_OF_SCOPE: Mapping[str, str] = {"read": "reader", "agent": "agent", "admin": "admin"}
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class RoleError(ValueError):
    """A role that cannot be: the `field` and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


def permission(resource: str, scope: str) -> str:
    """The permission of a route: its resource ("Live events" -> "live_events") and the verb of its scope."""
    return f"{resource.lower().replace(' ', '_')}.{VERBS[scope]}"


def grants(granted: Collection[str], wanted: str) -> bool:
    """Whether a set of permissions, stars included, has the one that is wanted."""
    resource, _, verb = wanted.partition(".")
    return any(entry in granted for entry in ("*", wanted, f"{resource}.*", f"*.{verb}"))


def check_role(name: str, permissions: Iterable[str], known: Collection[str]) -> frozenset[str]:
    """The permissions of a new role. Raises `RoleError` for a name that cannot be or a permission nobody knows."""
    if not _NAME.fullmatch(name):
        raise RoleError("name", "lower-case letters, digits, - and _, a letter first, at most 64")
    if name in BUILT_IN:
        raise RoleError("name", f"{name!r} is built in")
    resources = {entry.partition(".")[0] for entry in known}
    allowed = {"*", *known, *(f"{resource}.*" for resource in resources), *(f"*.{verb}" for verb in VERBS.values())}
    for index, entry in enumerate(wanted := list(permissions)):
        if entry not in allowed:
            raise RoleError(f"permissions[{index}]", f"there is no permission {entry!r}")
    return frozenset(wanted)


def within(wanted: Collection[str], granted: Collection[str], known: Iterable[str]) -> bool:
    """Whether everything one set grants is granted by the other too: nobody hands out more than he has."""
    return all(grants(granted, entry) for entry in known if grants(wanted, entry))
