"""Attributes: where values come from, what may change them, and that none is lost without a word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from config.people import CrmSettings, VipSettings
from config.secret import Secret
from gateway.store import people_views
from gateway.store.schema import contacts
from tests.web.conftest import Gateway, running

V1 = "/api/v1"
CRM = CrmSettings(
    "hs", "hubspot", token=Secret("t"), api_base="http://127.0.0.1:1",
    attributes={"tier": "tier", "note": "gw_note"}, editable=("note",),
)  # fmt: skip


@pytest.fixture
async def managed(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose CRM manages `tier`, and `note`, which agents may edit."""
    async with running(tmp_path, crm=(CRM,), vip=VipSettings("urgent", "Care")) as found:
        yield found


async def person(gateway: Gateway, **more: Any) -> str:
    return str((await gateway.customer_writes("Hello", **more))["contact_id"])


def values_of(contact: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [value for value in contact["values"] if value["name"] == name]


async def test_platform_attributes_list_themselves_and_nobody_edits_them(gateway: Gateway) -> None:
    assert all(entry["kind"] == "custom" for entry in (await gateway.ok("GET", f"{V1}/attributes"))["items"])
    contact_id = await person(gateway, profile={"city": "Oslo", "verified": True, "geo": {"lat": 1}})
    found = {entry["name"]: entry for entry in (await gateway.ok("GET", f"{V1}/attributes"))["items"]}
    city = found["city"]
    assert (city["kind"], city["channels"], city["editable"], city["visible"]) == ("platform", ["echo"], False, True)
    path = f"{V1}/contacts/{contact_id}"
    contact = await gateway.ok("GET", path)
    assert contact["attributes"] == {"phone": "+4915112345678", "city": "Oslo", "verified": True}
    identity = contact["identities"][0]["id"]
    assert values_of(contact, "city") == [
        {"name": "city", "value": "Oslo", "kind": "platform", "source": "platform", "by": "", "at": None,
         "channel": "echo", "account": "echo-a", "identity_id": identity}
    ]  # fmt: skip
    (phone,) = values_of(contact, "phone")
    assert (phone["source"], phone["channel"], phone["identity_id"]) == ("platform", "echo", identity)
    answer = await gateway.call("PATCH", path, json={"attributes": {"city": "Bergen"}})
    assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "read_only_attribute", "attributes.city")
    assert [c["id"] for c in (await gateway.ok("GET", f"{V1}/contacts?attribute.city=Oslo"))["items"]] == [contact_id]
    moved = await gateway.ok("PATCH", f"{V1}/attributes/city", json={"title": "Town", "visible": False, "position": 1})
    assert (moved["title"], moved["visible"], moved["channels"]) == ("Town", False, ["echo"])
    answer = await gateway.call("PATCH", f"{V1}/attributes/city", json={"type": "choice", "choices": ["a", "b"]})
    assert answer.json["code"] == "standard_attribute"
    assert (await gateway.call("DELETE", f"{V1}/attributes/city")).json["code"] == "standard_attribute"
    taken = await gateway.call("POST", f"{V1}/attributes", json={"name": "city"})
    assert (taken.status, taken.json["code"]) == (409, "attribute_exists")


async def test_each_value_says_who_set_it(gateway: Gateway) -> None:
    path = f"{V1}/contacts/{await person(gateway)}"
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan"})
    first = await gateway.ok("PATCH", path, json={"attributes": {"plan": "a", "email": "a@example.com"}, "vip": True})
    for name, value in (("plan", "a"), ("email", "a@example.com"), ("vip", True)):
        (entry,) = values_of(first, name)
        assert (entry["value"], entry["source"], entry["by"]) == (value, "api", "tests")
        assert entry["at"]
    second = await gateway.ok("PATCH", path, json={"attributes": {"plan": "b"}, "source": "automatic"})
    assert [(e["value"], e["source"]) for e in values_of(second, "plan")] == [("b", "automatic")]
    same = await gateway.ok("PATCH", path, json={"attributes": {"plan": "b", "email": "a@example.com"}})
    assert same["values"] == second["values"]  # setting what is there changes nobody's word
    gone = await gateway.ok("PATCH", path, json={"attributes": {"plan": None}})
    assert values_of(gone, "plan") == []


async def test_no_value_is_lost_when_a_definition_changes(gateway: Gateway) -> None:
    path = f"{V1}/contacts/{await person(gateway)}"
    plan = f"{V1}/attributes/plan"
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan"})
    await gateway.ok("PATCH", path, json={"attributes": {"plan": "old"}})
    narrow = {"type": "choice", "choices": ["a", "b"]}
    answer = await gateway.call("PATCH", plan, json=narrow)
    assert (answer.status, answer.json["code"], answer.json["field"]) == (409, "attribute_in_use", "choices")
    assert "1;" in answer.json["detail"]
    assert (await gateway.ok("PATCH", f"{plan}?values=keep", json=narrow))["type"] == "choice"
    assert (await gateway.ok("GET", path))["attributes"]["plan"] == "old"
    await gateway.ok("PATCH", f"{plan}?values=discard", json={"choices": ["a", "c"]})
    assert "plan" not in (await gateway.ok("GET", path))["attributes"]
    await gateway.ok("PATCH", path, json={"attributes": {"plan": "a"}})
    await gateway.ok("DELETE", plan, 204)
    assert "plan" not in (await gateway.ok("GET", path))["attributes"]
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan"})
    assert (await gateway.ok("GET", path))["attributes"]["plan"] == "a"  # made again, it is there again
    await gateway.ok("DELETE", f"{plan}?values=discard", 204)
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan"})
    assert "plan" not in (await gateway.ok("GET", path))["attributes"]


async def test_a_unique_value_has_one_owner(gateway: Gateway) -> None:
    one = f"{V1}/contacts/{await person(gateway)}"
    two = f"{V1}/contacts/{await person(gateway, sender='+4917099999999')}"
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "number"})
    for path in (one, two):
        await gateway.ok("PATCH", path, json={"attributes": {"number": "7"}})
    answer = await gateway.call("PATCH", f"{V1}/attributes/number", json={"unique": True})
    assert (answer.status, answer.json["code"], answer.json["field"]) == (409, "values_not_unique", "unique")
    await gateway.ok("PATCH", two, json={"attributes": {"number": "8"}})
    assert (await gateway.ok("PATCH", f"{V1}/attributes/number", json={"unique": True}))["unique"] is True
    answer = await gateway.call("PATCH", two, json={"attributes": {"number": "7"}})
    assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "value_taken", "attributes.number")
    await gateway.ok("PATCH", one, json={"attributes": {"number": None}})
    assert (await gateway.ok("PATCH", two, json={"attributes": {"number": "7"}}))["attributes"]["number"] == "7"


async def test_attributes_are_put_in_order(gateway: Gateway) -> None:
    for name in ("size", "plan"):
        await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": name})
    found = await gateway.ok("PUT", f"{V1}/attributes", json={"names": ["plan", "vip"]})
    assert [entry["name"] for entry in found["items"]] == ["plan", "vip", "email", "phone", "size"]
    for names, code, field in (
        (["plan", "x"], "unknown_attribute", "names[1]"),
        (["plan", "plan"], "invalid_body", "names[1]"),
        ([], "invalid_body", "names"),
    ):
        answer = await gateway.call("PUT", f"{V1}/attributes", json={"names": names})
        assert (answer.status, answer.json["code"], answer.json["field"]) == (422, code, field)


@pytest.mark.parametrize("name", ["id", "name", "tags", "vip", "created_at"])
async def test_no_attribute_is_called_like_a_field(gateway: Gateway, name: str) -> None:
    answer = await gateway.call("POST", f"{V1}/attributes", json={"name": name})
    assert (answer.status, answer.json["code"], answer.json["field"]) == (409, "attribute_exists", "name")


async def test_values_of_a_wrong_kind_are_refused_by_name(gateway: Gateway) -> None:
    path = f"{V1}/contacts/{await person(gateway)}"
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan", "type": "choice", "choices": ["a", "b"]})
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "note"})
    before = await gateway.ok("GET", path)
    for name, value, code in (
        ("plan", "c", "unknown_choice"), ("plan", "", "unknown_choice"), ("note", 7, "wrong_type"),
        ("note", True, "wrong_type"), ("note", ["a"], "wrong_type"), ("note", "x" * 10_001, "invalid_value"),
        ("nope", "x", "unknown_attribute"), ("note", {"a": 1}, "invalid_body"), ("note", "a\0", "invalid_body"),
    ):  # fmt: skip
        answer = await gateway.call("PATCH", path, json={"attributes": {"email": "x@example.com", name: value}})
        assert (answer.status, answer.json["code"]) == (422, code), answer.body
        assert answer.json["field"] == f"attributes.{name}" or code == "invalid_body", answer.body
    assert await gateway.ok("GET", path) == before  # nothing half done


async def test_what_a_crm_manages_is_its_own(managed: Gateway) -> None:
    gateway = managed
    found = {entry["name"]: entry for entry in (await gateway.ok("GET", f"{V1}/attributes"))["items"]}
    assert (found["tier"]["managed_by"], found["tier"]["editable"]) == ("hs", False)
    assert (found["note"]["managed_by"], found["note"]["editable"]) == ("hs", True)
    path = f"{V1}/contacts/{await person(gateway)}"
    answer = await gateway.call("PATCH", path, json={"attributes": {"tier": "gold"}})
    assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "read_only_attribute", "attributes.tier")
    changed = await gateway.ok("PATCH", path, json={"attributes": {"note": "likes tea"}})
    assert changed["attributes"]["note"] == "likes tea"
    assert (await gateway.call("DELETE", f"{V1}/attributes/tier")).json["code"] == "standard_attribute"
    choice = {"type": "choice", "choices": ["gold", "silver"], "title": "Tier"}
    assert (await gateway.ok("PATCH", f"{V1}/attributes/tier", json=choice))["managed_by"] == "hs"


async def test_tickets_of_vips_are_raised_and_routed(managed: Gateway) -> None:
    gateway = managed
    await gateway.ok("POST", f"{V1}/groups", 201, json={"name": "Care"})
    await gateway.ok("POST", f"{V1}/groups", 201, json={"name": "Sales"})
    ticket = await gateway.customer_writes("Hello")
    assert (ticket["priority"], ticket["group"]) == ("normal", None)
    await gateway.ok("PATCH", f"{V1}/tickets/{ticket['id']}", json={"group": "Sales"})
    contact = f"{V1}/contacts/{ticket['contact_id']}"
    await gateway.ok("PATCH", contact, json={"vip": True})
    raised = await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}")
    assert (raised["priority"], raised["group"]) == ("urgent", "Sales")  # a group that is set stays
    log = (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}/events"))["items"]
    assert (log[-1]["kind"], log[-1]["data"]) == (
        "ticket.priority_changed", {"from": "normal", "to": "urgent", "why": "the person became a VIP"}
    )  # fmt: skip
    await gateway.ok("PATCH", f"{V1}/tickets/{ticket['id']}", json={"status": "closed"})
    follow = await gateway.customer_writes("Me again")
    assert (follow["number"] != ticket["number"], follow["priority"], follow["group"]) == (True, "urgent", "Care")
    log = (await gateway.ok("GET", f"{V1}/tickets/{follow['id']}/events"))["items"]
    assert [e["data"]["why"] for e in log if e["kind"].endswith(("priority_changed", "group_changed"))] == [
        "the person is a VIP", "the person is a VIP"
    ]  # fmt: skip
    await gateway.ok("PATCH", contact, json={"vip": True, "name": "Ann"})  # a VIP already: nothing moves again
    assert len((await gateway.ok("GET", f"{V1}/tickets/{follow['id']}/events"))["items"]) == len(log)


async def test_a_first_message_of_ours_to_a_vip_is_raised_too(managed: Gateway) -> None:
    gateway = managed
    ticket = await gateway.customer_writes("Hello")
    await gateway.ok("PATCH", f"{V1}/contacts/{ticket['contact_id']}", json={"vip": True})
    await gateway.ok("PATCH", f"{V1}/tickets/{ticket['id']}", json={"status": "solved"})
    body = {"channel": "echo", "account": "echo-a", "contact": ticket["contact_id"], "text": "Hi"}
    message = await gateway.ok("POST", f"{V1}/messages", 202, json=body)
    made = await gateway.ok("GET", f"{V1}/tickets/{message['ticket_id']}")
    assert (made["id"] != ticket["id"], made["priority"], made["group"]) == (True, "urgent", "Care")


async def test_who_is_merged_with_a_vip_is_one(managed: Gateway) -> None:
    gateway = managed
    one, two = await gateway.customer_writes("Hello"), await gateway.customer_writes("Hi", "+4917099999999")
    await gateway.ok("PATCH", f"{V1}/contacts/{one['contact_id']}", json={"vip": True})
    await gateway.ok("POST", f"{V1}/contacts/{one['contact_id']}/merge", json={"into": two["contact_id"]})
    assert (await gateway.ok("GET", f"{V1}/tickets/{two['id']}"))["priority"] == "urgent"


async def test_switched_off_vip_moves_nothing(managed: Gateway) -> None:
    gateway = managed
    await gateway.ok("PATCH", f"{V1}/attributes/vip", json={"visible": False})
    ticket = await gateway.customer_writes("Hello")
    await gateway.ok("PATCH", f"{V1}/contacts/{ticket['contact_id']}", json={"vip": True})
    assert (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}"))["priority"] == "normal"
    await gateway.ok("PATCH", f"{V1}/tickets/{ticket['id']}", json={"status": "closed"})
    assert (await gateway.customer_writes("Again"))["priority"] == "normal"


async def test_an_unknown_group_routes_nothing(managed: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    gateway = managed
    await gateway.ok("POST", f"{V1}/groups", 201, json={"name": "Sales"})
    ticket = await gateway.customer_writes("Hello")
    await gateway.ok("PATCH", f"{V1}/contacts/{ticket['contact_id']}", json={"vip": True})
    found = await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}")
    assert (found["priority"], found["group"]) == ("urgent", None)
    assert "vip.unknown_group" in caplog.text


async def test_merging_keeps_who_set_what(gateway: Gateway) -> None:
    one, two = await person(gateway), await person(gateway, sender="+4917099999999")
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan"})
    await gateway.ok("PATCH", f"{V1}/contacts/{two}", json={"attributes": {"plan": "b"}, "source": "automatic"})
    merged = await gateway.ok("POST", f"{V1}/contacts/{two}/merge", json={"into": one})
    assert [(e["value"], e["source"]) for e in values_of(merged, "plan")] == [("b", "automatic")]
    await gateway.ok("DELETE", f"{V1}/contacts/{one}", 204)

    def left(connection: Any) -> list[str]:
        assert people_views.contact(connection, one, None) is None
        return list(connection.execute(select(contacts.c.attribute_origins)).scalars())

    assert set(await gateway.core.database.read(left)) == {"{}"}
