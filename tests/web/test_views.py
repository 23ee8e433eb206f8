"""Views over the API: built in, kept, shared, counted, paged; custom fields, bulk changes, careful edits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import Gateway

V1 = "/api/v1"
OPEN = {"all": [{"field": "status", "operator": "in", "value": ["new", "open"]}]}


def conditions(*all_: tuple[str, str, Any]) -> dict[str, Any]:
    return {"all": [{"field": field, "operator": operator, "value": value} for field, operator, value in all_]}


async def found(gateway: Gateway, asked: dict[str, Any], **more: Any) -> list[int]:
    """The numbers of the tickets a preview shows."""
    answer = await gateway.ok("POST", f"{V1}/views/preview", json={"conditions": asked}, **more)
    assert answer["count"] == len(answer["items"])
    assert answer["exact"]
    return sorted(ticket["number"] for ticket in answer["items"])


async def three(gateway: Gateway) -> list[dict[str, Any]]:
    """Three tickets: one on each account, and one of somebody else at the first."""
    made = [
        await gateway.customer_writes("Where is the blue parcel?", "+4915100000001", name="Ann"),
        await gateway.customer_writes("荷物はどこですか", "+4915100000002", "echo-b", name="花子"),
        await gateway.customer_writes("Hello", "+4915100000003", name="Carl"),
    ]
    body = {"status": "pending", "priority": "urgent", "tags": ["late", "gold"], "assignee": "mia", "group": "second"}
    await gateway.ok("PATCH", f"{V1}/tickets/{made[2]['id']}", json=body)
    return made


async def test_conditions_find_what_they_say(gateway: Gateway) -> None:
    made = await three(gateway)
    await gateway.ok("PATCH", f"{V1}/contacts/{made[0]['contact_id']}", json={"vip": True})
    for asked, numbers in (
        ((), [1, 2, 3]),
        ((("status", "is", "new"),), [1, 2]),
        ((("status", "not_in", ["new", "open"]),), [3]),
        ((("account", "is", "echo-b"),), [2]),
        ((("channel", "is", "echo"), ("account", "is_not", "echo-b")), [1, 3]),
        ((("via", "is", "echo"),), [1, 2, 3]),
        ((("assignee", "is", "none"),), [1, 2]),
        ((("assignee", "is_not", "none"),), [3]),
        ((("assignee", "is", "me"),), []),
        ((("assignee", "in", ["mia", "none"]),), [1, 2, 3]),
        ((("group", "is", "second"),), [3]),
        ((("group", "is", "mine"),), []),
        ((("tags", "has", ["gold", "silver"]),), [3]),
        ((("tags", "has_not", "gold"),), [1, 2]),
        ((("priority", "at_least", "high"),), [1, 3]),  # a VIP's ticket is raised
        ((("priority", "at_most", "normal"),), [2]),
        ((("vip", "is", True),), [1]),
        ((("vip", "is", False),), [2, 3]),
        ((("messaging", "is", True),), [1, 2, 3]),
        ((("messaging", "is", False),), []),
        ((("conversation_state", "is", "replied"),), []),
        ((("created_at", "within_days", 7),), [1, 2, 3]),
        ((("updated_at", "older_than_days", 0.5),), []),
        ((("created_at", "before", "2020-01-01T00:00:00Z"),), []),
        ((("created_at", "after", "2020-01-01T00:00:00+02:00"),), [1, 2, 3]),
        ((("solved_at", "within_days", 7),), []),
        ((("subject", "contains", "PARCEL"),), [1]),
        ((("text", "matches", "blue par"),), [1]),
        ((("text", "matches", "荷物"),), [2]),
        ((("text", "matches", "0151 00000003"),), [3]),
    ):
        assert await found(gateway, conditions(*asked)) == numbers, asked
    any_ = conditions(("status", "is", "pending"), ("account", "is", "echo-b"))["all"]
    assert await found(gateway, {"any": any_}) == [2, 3]
    assert await found(gateway, conditions(("tags", "has", "gold")) | {"any": any_}) == [3]


BROKEN: dict[str, tuple[Any, str]] = {
    "an unknown field": (("colour", "is", "red"), "field"),
    "a custom field nobody made": (("fields.colour", "is", "red"), "field"),
    "an operator of another kind": (("status", "before", "2026-01-01T00:00:00Z"), "operator"),
    "an unknown operator": (("status", "like", "new"), "operator"),
    "an unknown status": (("status", "is", "lost"), "value"),
    "a number for a status": (("status", "is", 7), "value"),
    "nothing for a status": (("status", "is", None), "value"),
    "a list where one is wanted": (("status", "is", ["new"]), "value"),
    "one where a list is wanted": (("status", "in", "new"), "value"),
    "an empty list": (("status", "in", []), "value"),
    "an unknown status in a list": (("status", "in", ["new", "lost"]), "value[1]"),
    "an account nobody configured": (("account", "is", "echo-z"), "value"),
    "a channel nobody serves": (("channel", "is", "telex"), "value"),
    "a date that is none": (("created_at", "before", "yesterday"), "value"),
    "a date as a number": (("created_at", "before", 7), "value"),
    "days that are none": (("created_at", "within_days", "7"), "value"),
    "no days": (("created_at", "within_days", 0), "value"),
    "days without end": (("created_at", "within_days", 1e9), "value"),
    "true as days": (("created_at", "within_days", True), "value"),
    "a word for a flag": (("vip", "is", "yes"), "value"),
    "an empty text": (("text", "matches", "  "), "value"),
    "a priority that is none": (("priority", "at_least", "huge"), "value"),
    "a moment beyond all clocks": (("created_at", "after", "9999999-01-01"), "value"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_condition_that_cannot_be_is_refused_by_its_path(gateway: Gateway, case: str) -> None:
    one, where = BROKEN[case]
    asked = conditions(("status", "is", "new"), one)
    for path, body in (
        ("preview", {"conditions": asked}),
        ("", {"title": "Broken", "conditions": asked}),
    ):
        answer = await gateway.call("POST", f"{V1}/views/{path}".rstrip("/"), json=body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_condition"), answer.body
        assert answer.json["field"] == f"conditions.all[1].{where}"


BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "no title": ({"conditions": OPEN}, "title"),
    "an empty title": ({"title": "", "conditions": OPEN}, "title"),
    "no conditions": ({"title": "x"}, "conditions"),
    "a condition without operator": ({"title": "x", "conditions": {"all": [{"field": "status"}]}}, "conditions"),
    "a word too many": ({"title": "x", "conditions": {"all": [], "none": []}}, "conditions"),
    "a sort that is none": ({"title": "x", "conditions": OPEN, "sort": {"by": "subject"}}, "sort.by"),
    "a column that is none": ({"title": "x", "conditions": OPEN, "columns": ["colour"]}, "columns[0]"),
    "no columns": ({"title": "x", "conditions": OPEN, "columns": []}, "columns"),
    "sharing that is none": ({"title": "x", "conditions": OPEN, "sharing": "world"}, "sharing"),
    "a group without name": ({"title": "x", "conditions": OPEN, "sharing": "group"}, "group"),
    "a group for nobody": ({"title": "x", "conditions": OPEN, "group": "second"}, "group"),
    "a position below zero": ({"title": "x", "conditions": OPEN, "position": -1}, "position"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_view_that_cannot_be_is_refused_by_its_field(gateway: Gateway, case: str) -> None:
    body, field = BODIES[case]
    answer = await gateway.call("POST", f"{V1}/views", json=body)
    assert answer.status == 422, answer.body
    assert answer.json["field"].startswith(field), answer.body
    kept = await gateway.ok("GET", f"{V1}/views")
    assert all(view["built_in"] for view in kept["items"])


async def test_a_view_is_kept_changed_counted_and_removed(gateway: Gateway) -> None:
    await three(gateway)
    body = {"title": "New ones", "conditions": conditions(("status", "is", "new")) | {"any": []}, "position": 3,
            "sort": {"by": "created_at", "descending": False}, "columns": ["number", "subject"]}  # fmt: skip
    view = await gateway.ok("POST", f"{V1}/views", 201, json=body)
    assert view | body == view
    assert (view["sharing"], view["active"], view["built_in"], view["mine"]) == ("personal", True, False, True)
    assert await gateway.ok("GET", f"{V1}/views/{view['id']}") == view
    shown = await gateway.ok("GET", f"{V1}/views/{view['id']}/tickets")
    assert [ticket["number"] for ticket in shown["items"]] == [1, 2]
    counts = {entry["id"]: entry["count"] for entry in (await gateway.ok("GET", f"{V1}/views/counts"))["items"]}
    assert counts == {
        "mine": 0, "unassigned": 2, "messaging-mine": 0, "messaging-unassigned": 2, "open": 3, view["id"]: 2,
    }  # fmt: skip
    some = await gateway.ok("GET", f"{V1}/views/counts?ids={view['id']},unassigned")
    assert [entry["id"] for entry in some["items"]] == [view["id"], "unassigned"]
    assert (await gateway.call("GET", f"{V1}/views/counts?ids=nowhere")).status == 404

    changed = await gateway.ok(
        "PATCH", f"{V1}/views/{view['id']}",
        json={"title": "Urgent", "conditions": conditions(("priority", "is", "urgent")), "active": False},
    )  # fmt: skip
    assert (changed["title"], changed["active"], changed["position"]) == ("Urgent", False, 3)
    shown = await gateway.ok("GET", f"{V1}/views/{view['id']}/tickets")
    assert [ticket["number"] for ticket in shown["items"]] == [3]
    active = [entry["id"] for entry in (await gateway.ok("GET", f"{V1}/views?active=true"))["items"]]
    assert view["id"] not in active
    await gateway.ok("DELETE", f"{V1}/views/{view['id']}", 204)
    assert (await gateway.call("GET", f"{V1}/views/{view['id']}")).status == 404
    for method in ("PATCH", "DELETE"):
        answer = await gateway.call(
            method, f"{V1}/views/unassigned", json={"title": "x"} if method == "PATCH" else None
        )
        assert (answer.status, answer.json["code"]) == (409, "built_in_view")


@pytest.mark.parametrize("by", ["created_at", "updated_at", "solved_at", "status", "priority"])
@pytest.mark.parametrize("descending", [True, False])
async def test_pages_follow_each_other_in_the_views_order(gateway: Gateway, by: str, descending: bool) -> None:
    await three(gateway)
    for number in range(4, 8):
        await gateway.customer_writes(f"case {number}", f"+491510000000{number}")
    view = await gateway.ok(
        "POST", f"{V1}/views", 201,
        json={"title": "All", "conditions": {}, "sort": {"by": by, "descending": descending}},
    )  # fmt: skip
    whole = [ticket["number"] for ticket in (await gateway.ok("GET", f"{V1}/views/{view['id']}/tickets"))["items"]]
    assert sorted(whole) == list(range(1, 8))
    if by == "created_at":
        assert whole == sorted(whole, reverse=descending)
    if by in ("status", "priority"):
        assert whole[0 if descending else -1] == 3
    pages: list[int] = []
    cursor = ""
    while True:
        page = await gateway.ok("GET", f"{V1}/views/{view['id']}/tickets?limit=2{cursor}")
        pages += [ticket["number"] for ticket in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert pages == whole
    answer = await gateway.call("GET", f"{V1}/views/{view['id']}/tickets?cursor=abc")
    assert (answer.status, answer.json["code"]) == (400, "invalid_cursor")


async def test_views_are_shared_by_those_who_may(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes("Hi")
    ids = {}
    for name, role in (("mia", "agent"), ("noa", "agent")):
        body = {"email": f"{name}@shop.test", "name": name, "role": role}
        ids[name] = (await gateway.ok("POST", f"{V1}/users", 201, json=body))["id"]
    await gateway.ok("POST", f"{V1}/groups", 201, json={"name": "second", "members": [ids["mia"]]})
    keys = {
        name: (await gateway.ok("POST", f"{V1}/keys", 201, json={"name": name, "scope": "agent", "user": ids[name]}))[
            "key"
        ]
        for name in ids
    }
    await gateway.ok("PATCH", f"{V1}/tickets/{ticket['id']}", json={"assignee": ids["mia"], "group": "second"})

    async def titles(name: str) -> list[str]:
        views = await gateway.ok("GET", f"{V1}/views", key=keys[name])
        return [view["title"] for view in views["items"] if not view["built_in"]]

    async def numbers(name: str, view: str) -> list[int]:
        page = await gateway.ok("GET", f"{V1}/views/{view}/tickets", key=keys[name])
        return [entry["number"] for entry in page["items"]]

    personal = await gateway.ok("POST", f"{V1}/views", 201, key=keys["mia"], json={"title": "Own", "conditions": OPEN})
    team = {"title": "Team", "conditions": conditions(("group", "is", "mine")), "sharing": "group", "group": "second"}
    refused = await gateway.call("POST", f"{V1}/views", key=keys["mia"], json=team)
    assert (refused.status, refused.json["field"]) == (403, "sharing")
    refused = await gateway.call("POST", f"{V1}/views", json=team | {"group": "third"})
    assert (refused.status, refused.json["code"]) == (422, "unknown_group")
    shared = await gateway.ok("POST", f"{V1}/views", 201, json=team)
    everyone = await gateway.ok(
        "POST", f"{V1}/views", 201, json={"title": "X", "conditions": {}, "sharing": "everyone"}
    )
    assert await titles("mia") == ["Own", "Team", "X"]
    assert await titles("noa") == ["X"]
    assert await numbers("mia", shared["id"]) == [1]
    assert (await gateway.call("GET", f"{V1}/views/{personal['id']}", key=keys["noa"])).status == 404
    assert (await gateway.call("GET", f"{V1}/views/{shared['id']}/tickets", key=keys["noa"])).status == 404
    refused = await gateway.call("DELETE", f"{V1}/views/{everyone['id']}", key=keys["noa"])
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert await numbers("mia", "mine") == [1]
    assert await numbers("noa", "mine") == []
    assert await numbers("noa", "unassigned") == []
    assert await numbers("mia", "messaging-mine") == [1]
    unknown = conditions(("assignee", "is", "nobody"))
    answer = await gateway.call("POST", f"{V1}/views/preview", json={"conditions": unknown})
    assert answer.json["field"] == "conditions.all[0].value"


async def test_a_view_shows_no_hidden_account(gateway: Gateway) -> None:
    await three(gateway)
    key = await gateway.make_key("b", "admin", ["echo-b"])
    assert await found(gateway, {}, key=key) == [2]
    hidden = conditions(("account", "is", "echo-a"))
    answer = await gateway.call("POST", f"{V1}/views/preview", key=key, json={"conditions": hidden})
    assert answer.json["field"] == "conditions.all[0].value"
    assert b"echo-a" not in answer.body.replace(b"there is no account 'echo-a'", b"")
    own = {"title": "Mine", "conditions": {}, "sharing": "everyone"}
    theirs = await gateway.make_key("a", "admin", ["echo-a"])
    view = await gateway.ok("POST", f"{V1}/views", 201, key=theirs, json=own)
    assert (await gateway.call("GET", f"{V1}/views/{view['id']}", key=key)).status == 404
    assert (await gateway.call("GET", f"{V1}/views/{view['id']}")).status == 200


# --- custom fields ----------------------------------------------------------------------------------------------------


FIELDS = (
    {"name": "order", "title": "Order", "type": "text"},
    {"name": "amount", "type": "number"},
    {"name": "due", "type": "date"},
    {"name": "legal", "type": "checkbox"},
    {"name": "topic", "title": "Topic", "type": "choice", "choices": ["parcel", "bill"], "required": True},
)
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown field": ({"colour": "red"}, "unknown_field", "fields.colour"),
    "a number for a text": ({"order": 7}, "wrong_type", "fields.order"),
    "a text for a number": ({"amount": "7"}, "wrong_type", "fields.amount"),
    "true for a number": ({"amount": True}, "wrong_type", "fields.amount"),
    "a date that is none": ({"due": "2026-02-30"}, "wrong_type", "fields.due"),
    "a moment for a date": ({"due": "2026-02-03T00:00:00Z"}, "wrong_type", "fields.due"),
    "a word for a box": ({"legal": "yes"}, "wrong_type", "fields.legal"),
    "another choice": ({"topic": "weather"}, "unknown_choice", "fields.topic"),
    "a list": ({"order": ["7"]}, "wrong_type", "fields.order"),
}


async def with_fields(gateway: Gateway) -> dict[str, Any]:
    for field in FIELDS:
        await gateway.ok("POST", f"{V1}/ticket-fields", 201, json=field)
    return await gateway.customer_writes("Where is it?")


@pytest.mark.parametrize("case", WRONG)
async def test_a_value_a_field_does_not_take_is_refused(gateway: Gateway, case: str) -> None:
    fields, code, field = WRONG[case]
    ticket = await with_fields(gateway)
    answer = await gateway.call("PATCH", f"{V1}/tickets/{ticket['id']}", json={"fields": fields, "priority": "high"})
    assert (answer.status, answer.json["code"], answer.json["field"]) == (422, code, field)
    assert (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}"))["priority"] == "normal"


async def test_fields_are_filled_asked_for_and_needed_to_solve(gateway: Gateway) -> None:
    ticket = await with_fields(gateway)
    path = f"{V1}/tickets/{ticket['id']}"
    for method, way, body in (
        ("PATCH", path, {"status": "solved"}),
        ("POST", f"{path}/replies", {"text": "Bye", "status": "solved"}),
    ):
        answer = await gateway.call(method, way, json=body)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "required_field", "fields.topic")
    assert (await gateway.ok("GET", f"{path}/messages"))["items"][1:] == []
    values = {"order": "A-77", "amount": 12.5, "due": "2026-12-01", "legal": True, "topic": "parcel"}
    assert (await gateway.ok("PATCH", path, json={"fields": values}))["fields"] == values
    for asked, numbers in (
        (("fields.order", "is", "A-77"), [1]),
        (("fields.order", "is_not", "A-77"), []),
        (("fields.amount", "at_least", 12.5), [1]),
        (("fields.amount", "at_most", 12), []),
        (("fields.due", "before", "2026-12-02"), [1]),
        (("fields.due", "after", "2026-12-01"), []),
        (("fields.legal", "is", True), [1]),
        (("fields.topic", "in", ["bill"]), []),
        (("fields.topic", "is_set", True), [1]),
    ):
        assert await found(gateway, conditions(asked)) == numbers, asked
    answer = await gateway.call(
        "POST", f"{V1}/views/preview", json={"conditions": conditions(("fields.topic", "is", "weather"))}
    )
    assert answer.json["field"] == "conditions.all[0].value"
    assert [one["id"] for one in (await gateway.ok("GET", f"{V1}/tickets?q=a-77"))["items"]] == [ticket["id"]]
    answer = await gateway.call("PATCH", path, json={"fields": {"topic": None}})
    assert (answer.status, answer.json["code"]) == (422, "required_field")
    assert (await gateway.ok("PATCH", path, json={"status": "solved"}))["status"] == "solved"
    await gateway.ok("DELETE", f"{V1}/ticket-fields/order", 204)
    assert "order" not in (await gateway.ok("GET", path))["fields"]
    assert (await gateway.ok("GET", f"{V1}/tickets?q=a-77"))["items"] == []


async def test_fields_are_made_changed_and_listed(gateway: Gateway) -> None:
    await with_fields(gateway)
    listed = await gateway.ok("GET", f"{V1}/ticket-fields")
    assert [field["name"] for field in listed["items"]] == ["amount", "due", "legal", "order", "topic"]
    patched = await gateway.ok("PATCH", f"{V1}/ticket-fields/topic", json={"choices": ["bill"], "position": 2})
    assert (patched["choices"], patched["position"], patched["type"]) == (["bill"], 2, "choice")
    for method, path, body, status, code in (
        ("POST", "", {"name": "order"}, 409, "ticket_field_exists"),
        ("POST", "", {"name": "Order No"}, 422, "invalid_body"),
        ("POST", "", {"name": "x", "type": "colour"}, 422, "invalid_body"),
        ("POST", "", {"name": "x", "type": "choice"}, 422, "invalid_value"),
        ("POST", "", {"name": "x", "choices": ["a"]}, 422, "invalid_value"),
        ("PATCH", "/order", {"choices": ["a"]}, 422, "invalid_value"),
        ("PATCH", "/nothing", {"title": "a"}, 404, "not_found"),
        ("DELETE", "/nothing", None, 404, "not_found"),
    ):
        answer = await gateway.call(method, f"{V1}/ticket-fields{path}", json=body)
        assert (answer.status, answer.json["code"]) == (status, code), (method, path, body)
    limited = await gateway.make_key("b", "admin", ["echo-b"])
    assert (await gateway.call("POST", f"{V1}/ticket-fields", key=limited, json={"name": "x"})).status == 403


# --- many at once, and edits that know what they saw ------------------------------------------------------------------


async def test_many_tickets_are_changed_each_for_itself(gateway: Gateway) -> None:
    made = await three(gateway)
    await gateway.ok("PATCH", f"{V1}/tickets/{made[0]['id']}", json={"status": "closed"})
    ids = [ticket["id"] for ticket in made]
    nobody = "0" * 32
    body = {"ids": [*ids, nobody, ids[1]], "changes": {"status": "pending", "tags": ["bulk"]}}
    report = await gateway.ok("POST", f"{V1}/tickets/bulk", json=body)
    assert [(one["id"], one["outcome"], one["code"]) for one in report["items"]] == [
        (ids[0], "refused", "ticket_closed"), (ids[1], "changed", ""), (ids[2], "changed", ""),
        (nobody, "refused", "not_found"),
    ]  # fmt: skip
    again = await gateway.ok("POST", f"{V1}/tickets/bulk", json={"ids": ids[1:], "changes": {"status": "pending"}})
    assert [one["outcome"] for one in again["items"]] == ["unchanged", "unchanged"]
    assert await found(gateway, conditions(("tags", "has", "bulk"))) == [2, 3]
    report = await gateway.ok("POST", f"{V1}/tickets/bulk", json={"view": "open", "changes": {"priority": "low"}})
    assert ([one["outcome"] for one in report["items"]], report["next"]) == (["changed", "changed"], None)
    limited = await gateway.make_key("b", "agent", ["echo-b"])
    report = await gateway.ok("POST", f"{V1}/tickets/bulk", key=limited, json={"ids": ids, "changes": {"tags": []}})
    assert [one["code"] for one in report["items"]] == ["not_found", "", "not_found"]
    for broken, field in (
        ({"changes": {}}, "ids"),
        ({"ids": ids, "view": "open", "changes": {}}, "ids"),
        ({"ids": ids, "cursor": "abc", "changes": {}}, "cursor"),
        ({"ids": [], "changes": {}}, "ids"),
        ({"ids": ["x"], "changes": {}}, "ids[0]"),
        ({"ids": ids, "changes": {"colour": 1}}, "changes.colour"),
        ({"view": "nowhere", "changes": {}}, "view"),
        ({"view": "open", "cursor": "abc", "changes": {}}, "cursor"),
        ({"ids": ids}, "changes"),
    ):
        answer = await gateway.call("POST", f"{V1}/tickets/bulk", json=broken)
        assert 400 <= answer.status < 500, broken
        assert answer.json["field"] == field, (broken, answer.body)


async def test_an_edit_of_what_somebody_else_changed_is_refused(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes("Hi")
    path = f"{V1}/tickets/{ticket['id']}"
    first = await gateway.call("GET", path)
    tag = first.headers["ETag"]
    assert tag == f'"{first.json["sequence"]}"'
    second = await gateway.call("PATCH", path, json={"priority": "high"}, headers={"If-Match": tag})
    assert second.status == 200
    assert second.headers["ETag"] != tag
    late = await gateway.call("PATCH", path, json={"priority": "low"}, headers={"If-Match": tag})
    assert (late.status, late.json["code"], late.json["field"]) == (412, "precondition_failed", "If-Match")
    safe = {"priority": "low", "safe_update": True}
    late = await gateway.call("PATCH", path, json=safe | {"updated_at": "2020-01-01T00:00:00.000Z"})
    assert (late.status, late.json["code"]) == (409, "edit_conflict")
    late = await gateway.call("PATCH", path, json=safe)
    assert (late.status, late.json["field"]) == (422, "updated_at")
    for headers in ({"If-Match": "*"}, {"If-Match": f'"0", {second.headers["ETag"]}'}):
        answer = await gateway.call("PATCH", path, json={"subject": str(headers)}, headers=headers)
        assert answer.status == (200 if headers["If-Match"] == "*" else 412)
    now = await gateway.ok("GET", path)
    assert (now["priority"], now["channel"], now["via"], now["updated_via"]) == ("high", "echo", "echo", "api")
    assert (await gateway.ok("PATCH", path, json=safe | {"updated_at": now["updated_at"]}))["priority"] == "low"
