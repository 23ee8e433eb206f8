"""The API from outside: real requests, the real store, the real intake."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import update

from gateway.ids import new_id
from gateway.store.schema import messages
from tests.web.conftest import Gateway

V1 = "/api/v1"


async def with_intake(gateway: Gateway, work: Any) -> Any:
    """Await `work` while the intake runs, as it does in a whole gateway."""
    intake = asyncio.create_task(gateway.intake.run())
    try:
        return await work
    finally:
        intake.cancel()
        with suppress(asyncio.CancelledError):
            await intake


# --- tickets ----------------------------------------------------------------------------------------------------------


async def test_a_ticket_has_what_the_contract_says(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes("My parcel is lost", name="Ann")
    assert (
        ticket
        | {
            "subject": "My parcel is lost",
            "number": 1,
            "status": "new",
            "priority": "normal",
            "channel": "echo",
            "account": "echo-a",
            "via": "echo",
            "assignee": None,
            "group": None,
            "tags": ["echo", "messaging_support"],
            "fields": {},
            "follow_up_of": None,
            "follow_ups": [],
            "conversation_state": "started",
            "closed_at": None,
            "external_refs": {},
            "contact_name": "Ann",
        }
        == ticket
    )
    assert await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}") == ticket
    assert ticket["created_at"].endswith("Z")


async def test_lists_are_filtered_and_paged(gateway: Gateway) -> None:
    made = [await gateway.customer_writes(f"case {n}", f"+49151123456{n}0") for n in range(3)]
    other = await gateway.customer_writes("elsewhere", "+33612345678", account="echo-b", handle="x")
    await gateway.ok(
        "PATCH", f"{V1}/tickets/{made[0]['id']}", json={"status": "solved", "assignee": "u1", "tags": ["a", "b"]}
    )

    async def ids(query: str) -> list[str]:
        return [item["id"] for item in (await gateway.ok("GET", f"{V1}/tickets?{query}"))["items"]]

    newest_first = [other["id"], *(ticket["id"] for ticket in reversed(made))]
    assert await ids("") == newest_first
    assert await ids("status=&q=") == newest_first
    assert await ids("status=solved") == [made[0]["id"]]
    assert await ids("status=new,solved&account=echo-a") == newest_first[1:]
    assert await ids("channel=echo&account=echo-b") == [other["id"]]
    assert await ids("channel=sms") == []
    assert await ids("assignee=u1") == [made[0]["id"]]
    assert await ids("assignee=none") == newest_first[:3]
    assert await ids("tag=b") == [made[0]["id"]]
    assert await ids(f"contact={made[1]['contact_id']}") == [made[1]["id"]]
    assert await ids("q=ELSE") == [other["id"]]
    assert await ids("q=%2333") == []
    assert await ids(f"q=%23{made[2]['number']}") == [made[2]["id"]]
    assert await ids("q=0151 123 456 10") == [made[1]["id"]]
    assert await ids("q=0033 6 12 34 56 78") == [other["id"]]
    assert await ids("q=100%25") == []

    seen, cursor = [], ""
    while True:
        page = await gateway.ok("GET", f"{V1}/tickets?limit=3{cursor}")
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == newest_first
    assert len((await gateway.ok("GET", f"{V1}/tickets?limit=100"))["items"]) == 4


async def test_a_change_is_an_event_and_a_closed_ticket_takes_none(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    path = f"{V1}/tickets/{ticket['id']}"
    patch = {"status": "pending", "priority": "high", "assignee": "u7", "group": "g", "tags": ["x"], "fields": {"a": 1}}
    changed = await gateway.ok("PATCH", path, json=patch)
    assert {name: changed[name] for name in patch} == patch
    assert changed["updated_via"] == "api"
    events = (await gateway.ok("GET", f"{path}/events"))["items"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    [status] = [event for event in events if event["kind"] == "ticket.status_changed"]
    assert status["data"] == {"from": "new", "to": "pending"}
    assert status["actor"]["name"] == "tests"
    page = await gateway.ok("GET", f"{path}/events?limit=2")
    rest = await gateway.ok("GET", f"{path}/events?limit=200&cursor={page['next']}")
    assert page["items"] + rest["items"] == events
    assert (await gateway.ok("PATCH", path, json={"assignee": None}))["assignee"] is None
    closed = await gateway.ok("PATCH", path, json={"status": "closed"})
    assert closed["closed_at"] is not None
    answer = await gateway.call("PATCH", path, json={"priority": "low"})
    assert (answer.status, answer.json["code"]) == (409, "ticket_closed")


# --- messages ---------------------------------------------------------------------------------------------------------


async def test_a_thread_is_shown_oldest_first(gateway: Gateway) -> None:
    for text in ("one", "two", "three"):
        ticket = await gateway.customer_writes(text)
    path = f"{V1}/tickets/{ticket['id']}/messages"
    found = (await gateway.ok("GET", path))["items"]
    assert [message["text"] for message in found] == ["one", "two", "three"]
    first = await gateway.ok("GET", f"{path}?limit=2")
    rest = await gateway.ok("GET", f"{path}?limit=2&cursor={first['next']}")
    assert [message["text"] for message in first["items"] + rest["items"]] == ["one", "two", "three"]
    detail = await gateway.ok("GET", f"{V1}/messages/{found[0]['id']}")
    assert detail == found[0] | {"attempts": [], "receipts": [], "parts": [], "waiting": None, "undecided": False}
    assert found[0] | {
        "direction": "inbound", "visibility": "private", "kind": "text", "status": "received", "external_id": "m1",
        "error": None, "content": None, "attachments": [], "in_reply_to": None, "reactions": [], "edited_at": None,
        "contact_id": ticket["contact_id"], "ticket_id": ticket["id"], "account": "echo-a",
    } == found[0]  # fmt: skip
    assert found[0]["author"]["type"] == "customer"


CONTENT: dict[str, tuple[str, dict[str, Any]]] = {
    "a location": (
        '{"kind": "location", "latitude": 1.5, "longitude": 2.0, "name": "Home"}',
        {"location": {"latitude": 1.5, "longitude": 2.0, "name": "Home", "address": "", "url": ""}},
    ),
    "contact cards": (
        '{"kind": "contacts", "contacts": [{"name": "Bo", "phones": ["+1"]}]}',
        {"contacts": [{"name": "Bo", "phones": ["+1"], "emails": [], "organization": ""}]},
    ),
    "a button": (
        '{"kind": "interactive", "id": "b1", "title": "Yes"}',
        {"interactive": {"id": "b1", "title": "Yes", "description": "", "type": "", "values": {}}},
    ),
    "of a version to come": ('{"kind": "hologram", "depth": 3}', {"hologram": {"depth": 3}}),
}


@pytest.mark.parametrize("case", CONTENT)
async def test_content_stands_under_its_kind(gateway: Gateway, case: str) -> None:
    stored, shown = CONTENT[case]
    ticket = await gateway.customer_writes()
    await gateway.core.database.write(lambda c: c.execute(update(messages).values(content=stored)))
    [message] = (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}/messages"))["items"]
    assert message["content"] == shown


async def test_inline_pictures_point_at_our_copies(gateway: Gateway) -> None:
    html = '<img src="cid:a@b"><img src="cid:other"><img src="cid:A%40b">'
    ticket = await gateway.customer_writes(html=html, files=[{"url": "https://x/p", "cid": "a@b"}])
    [message] = (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}/messages"))["items"]
    [picture] = message["attachments"]
    assert picture["state"] == "linked"
    ours = f'<img src="/api/v1/attachments/{picture["id"]}">'
    assert message["html"] == f'{ours}<img src="cid:other">{ours}'


# --- the API channel --------------------------------------------------------------------------------------------------

INBOUND = {
    "direction": "inbound",
    "from": {"id": "c-1", "name": "Cy", "email": "cy@example.com"},
    "text": "From the app",
}


async def test_a_message_over_the_api_makes_a_ticket_of_the_channel_api(gateway: Gateway) -> None:
    message = await with_intake(gateway, gateway.ok("POST", f"{V1}/messages", 202, json=INBOUND))
    assert (message["text"], message["direction"], message["channel"]) == ("From the app", "inbound", "api")
    ticket = await gateway.ok("GET", f"{V1}/tickets/{message['ticket_id']}")
    assert (ticket["channel"], ticket["via"], ticket["tags"]) == ("api", "api", ["api"])


async def test_the_same_idempotency_key_is_the_same_message(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "k1"}

    async def work() -> None:
        one, two = await asyncio.gather(
            *(gateway.ok("POST", f"{V1}/messages", 202, json=INBOUND, headers=headers) for _ in range(2))
        )
        assert one == two
        again = await gateway.ok("POST", f"{V1}/messages", 202, json=INBOUND, headers=headers)
        assert again["id"] == one["id"]
        other = await gateway.call("POST", f"{V1}/messages", json=INBOUND | {"text": "else"}, headers=headers)
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")

    await with_intake(gateway, work())
    assert len((await gateway.ok("GET", f"{V1}/tickets"))["items"]) == 1


# --- contacts ---------------------------------------------------------------------------------------------------------


async def test_contacts_are_found_by_what_is_known_of_them(gateway: Gateway) -> None:
    ann = await gateway.customer_writes(
        "the purple bicycle", "+4915112345678", name="Ann Ärger", profile={"city": "Köln"}
    )
    bob = await gateway.customer_writes("hi", "+4917099999999", name="Bob")
    await gateway.ok("PATCH", f"{V1}/contacts/{bob['contact_id']}", json={"vip": True, "tags": ["gold"]})

    async def ids(query: str) -> list[str]:
        return [item["id"] for item in (await gateway.ok("GET", f"{V1}/contacts?{query}"))["items"]]

    one, two = ann["contact_id"], bob["contact_id"]
    assert await ids("") == [two, one]
    for query in (
        "q=ann", "q=ärger", "q=%2B49 151 1234 5678", "q=0151-12345678", "q=(0151) 12345678", "q=köln", "q=purple",
        "attribute.phone=%2B4915112345678", "attribute.phone=0151 12345678", "attribute.city=Köln",
    ):  # fmt: skip
        assert await ids(query) == [one], query
    assert await ids("vip=true") == [two]
    assert await ids("attribute.vip=true") == [two]
    assert await ids("vip=false") == [one]
    assert await ids("attribute.phone=12345") == []
    assert await ids("q=%25") == []
    contact = await gateway.ok("GET", f"{V1}/contacts/{one}")
    assert contact["attributes"]["phone"] == "+4915112345678"
    [identity] = contact["identities"]
    assert identity["window"]["open"] is True
    assert (identity["channel"], identity["account"], identity["state"]) == ("echo", "echo-a", "active")
    assert identity["profile"] == {"city": "Köln"}


@pytest.mark.parametrize("path", ["contacts", "contacts/export"])
async def test_an_attribute_without_a_value_does_not_mean_everybody(gateway: Gateway, path: str) -> None:
    await gateway.customer_writes(name="Ann")
    for query in ("attribute.email=", "attribute.email", "attribute.phone=%2B4915112345678&attribute.email=&vip=false"):
        answer = await gateway.call("GET", f"{V1}/{path}?{query}")
        assert (answer.status, answer.json["code"]) == (400, "invalid_parameter"), query
        assert (answer.json["field"], answer.json["detail"]) == ("attribute.email", "a value is wanted")
    assert len((await gateway.ok("GET", f"{V1}/contacts?q=&vip="))["items"]) == 1  # a search box left empty


async def test_a_contact_is_edited_within_its_attributes(gateway: Gateway) -> None:
    contact_id = (await gateway.customer_writes())["contact_id"]
    path = f"{V1}/contacts/{contact_id}"
    made = await gateway.ok(
        "POST", f"{V1}/attributes", 201, json={"name": "plan", "type": "choice", "choices": ["a", "b"]}
    )
    assert made["kind"] == "custom"
    body = {"name": "Ann", "organization": "Acme", "attributes": {"plan": "a", "email": "Ann@Example.com"}}
    changed = await gateway.ok("PATCH", path, json=body)
    assert (changed["name"], changed["organization"]) == ("Ann", "Acme")
    assert changed["attributes"] == {"plan": "a", "email": "ann@example.com", "phone": "+4915112345678"}
    assert [c["id"] for c in (await gateway.ok("GET", f"{V1}/contacts?attribute.plan=a"))["items"]] == [contact_id]
    for attributes, code, field in (
        ({"plan": "c"}, "unknown_choice", "attributes.plan"),
        ({"nope": "c"}, "unknown_attribute", "attributes.nope"),
        ({"phone": "+4915100000000"}, "attested_value", "attributes.phone"),
        ({"email": "not a mail"}, "invalid_value", "attributes.email"),
    ):
        answer = await gateway.call("PATCH", path, json={"attributes": attributes})
        assert (answer.status, answer.json["code"], answer.json["field"]) == (422, code, field)
    await gateway.ok("DELETE", f"{V1}/attributes/plan", 204)
    assert "plan" not in (await gateway.ok("GET", path))["attributes"]


async def test_what_is_set_replaces_what_the_customer_typed(gateway: Gateway) -> None:
    sender = {"id": "u1", "phone": "+49 151 1234 5678"}
    told = await with_intake(gateway, gateway.ok("POST", f"{V1}/messages", 202, json={**INBOUND, "from": sender}))
    path = f"{V1}/contacts/{told['contact_id']}"
    assert (await gateway.ok("GET", path))["attributes"]["phone"] == "+4915112345678"
    changed = await gateway.ok("PATCH", path, json={"attributes": {"phone": "+49 30 123456"}})
    assert changed["attributes"]["phone"] == "+4930123456"


async def test_contacts_are_merged_and_taken_apart(gateway: Gateway) -> None:
    one = await gateway.customer_writes("a", "+4915112345678")
    two = await gateway.customer_writes("b", "+4917099999999", account="echo-b")
    merged = await gateway.ok("POST", f"{V1}/contacts/{two['contact_id']}/merge", json={"into": one["contact_id"]})
    assert len(merged["identities"]) == 2
    assert sorted(merged["attributes"]["phone"]) == ["+4915112345678", "+4917099999999"]
    assert [c["id"] for c in (await gateway.ok("GET", f"{V1}/contacts"))["items"]] == [one["contact_id"]]
    assert (await gateway.ok("GET", f"{V1}/contacts/{two['contact_id']}"))["id"] == one["contact_id"]
    assert (await gateway.ok("GET", f"{V1}/tickets/{two['id']}"))["contact_id"] == one["contact_id"]
    identity = next(entry for entry in merged["identities"] if entry["account"] == "echo-b")
    undone = await gateway.ok("POST", f"{V1}/contacts/{one['contact_id']}/unmerge", json={"identity": identity["id"]})
    assert undone["contact_id"] == two["contact_id"]
    assert (await gateway.ok("GET", f"{V1}/tickets/{two['id']}"))["contact_id"] == two["contact_id"]
    for path, body, code in (
        ("merge", {"into": one["contact_id"]}, (422, "merge_into_itself")),
        ("merge", {"into": new_id()}, (404, "not_found")),
        ("unmerge", {"identity": one["identity_id"]}, (409, "last_identity")),
    ):
        answer = await gateway.call("POST", f"{V1}/contacts/{one['contact_id']}/{path}", json=body)
        assert (answer.status, answer.json["code"]) == code


async def test_a_deleted_contact_is_gone_and_the_deletion_is_known(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes("a secret")
    await gateway.ok("DELETE", f"{V1}/contacts/{ticket['contact_id']}", 204)
    for path in (f"contacts/{ticket['contact_id']}", f"tickets/{ticket['id']}"):
        assert (await gateway.call("GET", f"{V1}/{path}")).status == 404
    assert (await gateway.call("DELETE", f"{V1}/contacts/{ticket['contact_id']}")).status == 404
    [deletion] = (await gateway.ok("GET", f"{V1}/deletions"))["items"]
    assert deletion | {"contact_id": ticket["contact_id"], "deleted_by": "tests", "channels": ["echo"]} == deletion


async def test_attributes_can_be_made_moved_and_removed_but_for_the_standard_ones(gateway: Gateway) -> None:
    path = f"{V1}/attributes"
    assert [a["name"] for a in (await gateway.ok("GET", path))["items"]] == ["email", "phone", "vip"]
    await gateway.ok("POST", path, 201, json={"name": "size", "title": "Size"})
    assert (await gateway.call("POST", path, json={"name": "size"})).json["code"] == "attribute_exists"
    assert (await gateway.call("POST", path, json={"name": "email"})).json["code"] == "attribute_exists"
    assert (await gateway.call("POST", path, json={"name": "c", "type": "choice", "choices": ["x"]})).status == 422
    assert (await gateway.ok("PATCH", f"{path}/vip", json={"visible": False, "position": 9}))["visible"] is False
    assert [a["name"] for a in (await gateway.ok("GET", path))["items"]] == ["email", "phone", "size", "vip"]
    assert (await gateway.call("PATCH", f"{path}/email", json={"type": "choice"})).json["code"] == "standard_attribute"
    assert (await gateway.call("DELETE", f"{path}/phone")).json["code"] == "standard_attribute"
    await gateway.ok("DELETE", f"{path}/size", 204)
    assert (await gateway.call("DELETE", f"{path}/size")).status == 404


# --- queues and the gateway itself ------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_replayed_and_dropped(gateway: Gateway) -> None:
    await gateway.webhook(b'{"messages": [{"id": "bad"}]}')
    await gateway.intake.drain()
    [letter] = (await gateway.ok("GET", f"{V1}/dead?direction=inbound"))["items"]
    assert (letter["account"], letter["direction"]) == ("echo-a", "inbound")
    await gateway.ok("POST", f"{V1}/dead/{letter['id']}/replay", 202)
    await gateway.ok("POST", f"{V1}/dead/{letter['id']}/replay", 202)
    await gateway.intake.drain()
    [again] = (await gateway.ok("GET", f"{V1}/dead"))["items"]
    await gateway.ok("POST", f"{V1}/dead/{again['id']}/drop", 204)
    for action in ("drop", "replay"):
        answer = await gateway.call("POST", f"{V1}/dead/{again['id']}/{action}")
        assert (answer.status, answer.json["code"]) == (409, "wrong_state")
    assert (await gateway.ok("GET", f"{V1}/dead"))["items"] == []


async def test_channels_and_accounts_say_what_there_is(gateway: Gateway) -> None:
    channels = {entry["name"]: entry for entry in (await gateway.ok("GET", f"{V1}/channels"))["items"]}
    assert channels["echo"]["accounts"] == ["echo-a", "echo-b"]
    assert channels["echo"]["capabilities"]["window"]["duration"] == 86400
    accounts = (await gateway.ok("GET", f"{V1}/accounts"))["items"]
    assert [entry["id"] for entry in accounts] == ["echo-a", "echo-b", "api"]
    assert accounts[0]["webhook"] == "/webhooks/echo-a"


async def test_health_needs_no_key(gateway: Gateway) -> None:
    assert (await gateway.ok("GET", "/healthz", key=""))["status"] == "ok"
    ready = await gateway.ok("GET", "/readyz", key="")
    assert ready["checks"] == {"store": "ok", "schema": "ok", "disk": "ok"}
    gateway.health.draining = True
    assert (await gateway.ok("GET", "/readyz", 503, key=""))["checks"]["draining"] == "stopping"
    assert b"gateway_outbox_messages" in (await gateway.call("GET", "/metrics", key="")).body


async def test_readiness_notices_a_store_that_does_not_write(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(_job: Any) -> None:
        raise OSError("postgresql://user:password@host is away")

    monkeypatch.setattr(gateway.core.database, "write", down)
    answer = await gateway.call("GET", "/readyz", key="")
    assert (answer.status, answer.json["checks"]["store"]) == (503, "OSError")
