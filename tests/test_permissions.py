"""Roles and permissions, purely."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.permissions import BUILT_IN, ROLE_OF_SCOPE, VERBS, RoleError, check_role, grants, permission, within

KNOWN = [f"{resource}.{verb}" for resource in ("tickets", "contacts", "users") for verb in VERBS.values()]
ENTRIES = st.sampled_from(["*", "*.read", "*.write", "tickets.*", *KNOWN])

GRANTS = {  # a role's permissions, what is wanted -> granted
    "all": ({"*"}, "users.manage", True),
    "a verb everywhere": ({"*.read"}, "tickets.read", True),
    "no stronger verb": ({"*.read"}, "tickets.write", False),
    "no weaker one either": ({"tickets.manage"}, "tickets.read", False),
    "a whole resource": ({"tickets.*"}, "tickets.manage", True),
    "another resource": ({"tickets.*"}, "contacts.read", False),
    "the very one": ({"tickets.write"}, "tickets.write", True),
    "nothing": (set[str](), "tickets.read", False),
}


@pytest.mark.parametrize(("role", "wanted", "granted"), GRANTS.values(), ids=GRANTS)
def test_grants(role: set[str], wanted: str, granted: bool) -> None:
    assert grants(role, wanted) is granted


def test_a_permission_is_named_by_resource_and_verb() -> None:
    assert permission("Live events", "read") == "live_events.read"
    assert permission("Tickets", "agent") == "tickets.write"
    assert permission("Contacts", "admin") == "contacts.manage"


WRONG = {  # name, permissions -> field
    "capitals": ("Boss", ["*"], "name"),
    "built in": ("admin", ["*"], "name"),
    "empty": ("", ["*"], "name"),
    "unknown permission": ("boss", ["tickets.read", "tickets.fly"], "permissions[1]"),
    "unknown resource": ("boss", ["moons.*"], "permissions[0]"),
}


@pytest.mark.parametrize(("name", "permissions", "field"), WRONG.values(), ids=WRONG)
def test_a_role_that_cannot_be_names_the_field(name: str, permissions: list[str], field: str) -> None:
    with pytest.raises(RoleError) as caught:
        check_role(name, permissions, KNOWN)
    assert caught.value.field == field


@given(st.frozensets(ENTRIES), st.frozensets(ENTRIES))
def test_property_a_role_within_another_grants_nothing_more(one: frozenset[str], other: frozenset[str]) -> None:
    more = [entry for entry in KNOWN if grants(one, entry) and not grants(other, entry)]
    assert within(one, other, KNOWN) is (more == [])


def test_each_scope_of_a_key_has_its_role() -> None:
    assert set(ROLE_OF_SCOPE) == set(VERBS)
    assert set(ROLE_OF_SCOPE.values()) == set(BUILT_IN)
