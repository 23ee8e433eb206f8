"""What the API refuses, and how: wrong keys, wrong bodies, wrong parameters, other tenants' things."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from config.settings import LimitSettings
from gateway.ids import micros
from gateway.store import keys
from gateway.web.problems import PROBLEMS
from tests.web.conftest import Answered, Gateway, running

V1 = "/api/v1"
NOBODY = "0" * 32


def check_problem(answer: Answered, status: int, code: str, field: str | None = None) -> None:
    """The answer is the problem it should be."""
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer
    assert (answer.status, answer.json["code"], answer.json["status"]) == (status, code, status), answer.body
    assert PROBLEMS[code].status == status
    if field is not None:
        assert answer.json.get("field", "") == field, answer.body


def form(name: str, size: int = 1) -> aiohttp.FormData:
    """A form with a file."""
    data = aiohttp.FormData()
    data.add_field(name, b"x" * size, filename="x.bin")
    return data


# --- keys -------------------------------------------------------------------------------------------------------------

WRONG_KEYS = {
    "none": {},
    "empty": {"Authorization": "Bearer "},
    "another scheme": {"Authorization": "Basic Z3c6"},
    "no prefix": {"Authorization": "Bearer abc"},
    "unknown": {"Authorization": f"Bearer gw_{'A' * 43}"},
    "far too long": {"Authorization": f"Bearer gw_{'A' * 4000}"},
    "not ASCII": {"Authorization": "Bearer gw_ä"},
}


@pytest.mark.parametrize("case", WRONG_KEYS)
async def test_a_wrong_key_is_401_and_says_nothing(gateway: Gateway, case: str) -> None:
    answer = await gateway.call("GET", f"{V1}/tickets", key="", headers=WRONG_KEYS[case])
    check_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "detail" not in answer.json


async def test_a_revoked_key_is_worth_nothing_at_once_and_use_is_noted(gateway: Gateway) -> None:
    key = await gateway.make_key("short")
    await gateway.ok("GET", f"{V1}/tickets", key=key)
    row = await gateway.core.database.read(lambda c: keys.find(c, key))
    assert row is not None
    assert key not in row["hash"]
    while True:
        listed = await gateway.core.database.read(keys.listing)
        if next(entry for entry in listed if entry["name"] == "short")["last_used_at"]:
            break
        await asyncio.sleep(0.001)
    assert all("hash" not in entry for entry in listed)
    await gateway.core.database.write(lambda c: keys.revoke(c, row["id"], micros(gateway.core.clock())))
    check_problem(await gateway.call("GET", f"{V1}/tickets", key=key), 401, "unauthorized")


async def test_scopes_are_a_ladder(gateway: Gateway) -> None:
    read, agent = await gateway.make_key("r", "read"), await gateway.make_key("a", "agent")
    patch = {"json": {"status": "open"}}
    for key, method, path, more, status in (
        (read, "GET", "/tickets", {}, 200),
        (read, "PATCH", f"/tickets/{NOBODY}", patch, 403),
        (agent, "PATCH", f"/tickets/{NOBODY}", patch, 404),
        (agent, "POST", "/attributes", {"json": {"name": "x"}}, 403),
        (agent, "DELETE", f"/contacts/{NOBODY}", {}, 403),
        (read, "POST", "/uploads", {"data": form("file")}, 403),
    ):
        answer = await gateway.call(method, V1 + path, key=key, **more)
        assert answer.status == status, (method, path)
    with pytest.raises(ValueError, match="scope"):
        await gateway.make_key("z", "root")


async def test_too_many_requests_are_429_per_key(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitSettings(api_per_minute=3)) as gateway:
        other = await gateway.make_key("other")
        answers = [await gateway.call("GET", f"{V1}/attributes") for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        check_problem(answers[-1], 429, "rate_limited")
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        await gateway.ok("GET", f"{V1}/attributes", key=other)


# --- paths, methods, parameters, bodies -------------------------------------------------------------------------------

DEEP = b'{"fields":' + b'{"a":' * 80 + b"1" + b"}" * 81
GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
T = f"{V1}/tickets/{NOBODY}"
C = f"{V1}/contacts/{NOBODY}"
JSON = {"Content-Type": "application/json"}
WRONG: dict[str, tuple[str, str, dict[str, Any], int, str, str | None]] = {
    "no such path": ("GET", f"{V1}/nothing", {}, 404, "not_found", None),
    "no such path at all": ("GET", "/etc/passwd", {}, 404, "not_found", None),
    "no such ticket": ("GET", T, {}, 404, "not_found", None),
    "an id that is none": ("GET", f"{V1}/tickets/%00%27%22--", {}, 404, "not_found", None),
    "no such message": ("GET", f"{V1}/messages/x", {}, 404, "not_found", None),
    "no such contact": ("GET", C, {}, 404, "not_found", None),
    "no such attachment": ("GET", f"{V1}/attachments/x", {}, 404, "not_found", None),
    "no such dead letter": ("POST", f"{V1}/dead/x/replay", {}, 404, "not_found", None),
    "a made-up media token": ("GET", "/media/a.b.c", {}, 404, "not_found", None),
    "a method too many": ("PUT", T, {}, 405, "method_not_allowed", None),
    "an odd method": ("OPTIONS", f"{V1}/tickets", {}, 405, "method_not_allowed", None),
    "an unknown parameter": ("GET", f"{V1}/tickets?colour=red", {}, 400, "invalid_parameter", "colour"),
    "a parameter twice": ("GET", f"{V1}/tickets?q=a&q=b", {}, 400, "invalid_parameter", "q"),
    "an unknown status": ("GET", f"{V1}/tickets?status=new,lost", {}, 400, "invalid_parameter", "status"),
    "limit 0": ("GET", f"{V1}/tickets?limit=0", {}, 400, "invalid_parameter", "limit"),
    "limit -1": ("GET", f"{V1}/tickets?limit=-1", {}, 400, "invalid_parameter", "limit"),
    "limit 201": ("GET", f"{V1}/tickets?limit=201", {}, 400, "invalid_parameter", "limit"),
    "limit in words": ("GET", f"{V1}/tickets?limit=ten", {}, 400, "invalid_parameter", "limit"),
    "limit in other digits": ("GET", f"{V1}/tickets?limit=%D9%A1", {}, 400, "invalid_parameter", "limit"),
    "vip maybe": ("GET", f"{V1}/contacts?vip=maybe", {}, 400, "invalid_parameter", "vip"),
    "an attribute without name": ("GET", f"{V1}/contacts?attribute.=x", {}, 400, "invalid_parameter", "attribute."),
    "NUL in a search": ("GET", f"{V1}/tickets?q=%00", {}, 400, "invalid_parameter", "q"),
    "a cursor of dots": ("GET", f"{V1}/tickets?cursor=...", {}, 400, "invalid_cursor", "cursor"),
    "a cursor of another list": ("GET", f"{V1}/contacts?cursor=WzEsMl0", {}, 400, "invalid_cursor", "cursor"),
    "a cursor beyond 64 bits": (
        "GET", f"{V1}/deletions?cursor=WzEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNF0", {}, 400, "invalid_cursor", "cursor",
    ),
    "no JSON": ("PATCH", T, {"data": b"{no", "headers": JSON}, 400, "malformed_body", None),
    "NaN": ("PATCH", T, {"data": b'{"fields": {"a": NaN}}', "headers": JSON}, 400, "malformed_body", None),
    "not UTF-8": ("PATCH", T, {"data": b'{"assignee": "\xff"}', "headers": JSON}, 400, "malformed_body", None),
    "an empty body": ("PATCH", T, {"data": b"", "headers": JSON}, 400, "malformed_body", None),
    "nested without end": ("PATCH", T, {"data": b"[" * 50_000, "headers": JSON}, 400, "malformed_body", None),
    "nested deeply": (
        "PATCH", T, {"data": DEEP, "headers": JSON}, 422, "invalid_body", None,
    ),
    "a form": ("PATCH", T, {"data": {"status": "open"}}, 415, "unsupported_media_type", None),
    "an encoding": (
        "PATCH", T, {"data": b"{}", "headers": GZIP}, 415, "unsupported_media_type", None,
    ),
    "a list": ("PATCH", T, {"json": []}, 422, "invalid_body", ""),
    "an unknown field": ("PATCH", T, {"json": {"colour": "red"}}, 422, "invalid_body", "colour"),
    "an unknown value": ("PATCH", T, {"json": {"status": "lost"}}, 422, "invalid_body", "status"),
    "a wrong type": ("PATCH", T, {"json": {"tags": "x"}}, 422, "invalid_body", "tags"),
    "a wrong type inside": ("PATCH", T, {"json": {"tags": ["x", 1]}}, 422, "invalid_body", "tags[1]"),
    "NUL in a text": ("PATCH", T, {"json": {"assignee": "a\0b"}}, 422, "invalid_body", "assignee"),
    "a number beyond 64 bits": ("PATCH", T, {"json": {"fields": {"n": 2**70}}}, 422, "invalid_body", "fields.n"),
    "a missing field": ("POST", f"{C}/merge", {"json": {}}, 422, "invalid_body", "into"),
    "an id that is no id": ("POST", f"{C}/merge", {"json": {"into": "x"}}, 422, "invalid_body", "into"),
    "a bad attribute name": ("POST", f"{V1}/attributes", {"json": {"name": "A B"}}, 422, "invalid_body", "name"),
    "inbound from nobody": (
        "POST", f"{V1}/messages", {"json": {"direction": "inbound", "text": "x"}}, 422, "invalid_body", "from",
    ),
    "inbound without words": (
        "POST", f"{V1}/messages", {"json": {"direction": "inbound", "from": {}}}, 422, "invalid_body", "text",
    ),
    "inbound with a stranger's upload": (
        "POST", f"{V1}/messages",
        {"json": {"direction": "inbound", "from": {}, "text": "x", "attachments": [{"upload": NOBODY}]}},
        422, "invalid_body", "attachments[0].upload",
    ),
    "an idempotency key without end": (
        "POST", f"{V1}/messages",
        {"json": {"direction": "inbound", "from": {}, "text": "x"}, "headers": {"Idempotency-Key": "k" * 300}},
        400, "invalid_parameter", "Idempotency-Key",
    ),
    "an upload that is no form": ("POST", f"{V1}/uploads", {"data": b"x"}, 415, "unsupported_media_type", None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named(gateway: Gateway, case: str) -> None:
    method, path, more, status, code, field = WRONG[case]
    if code == "invalid_body" and path == T:  # the body is judged before the ticket is looked for
        assert (await gateway.call("GET", T)).status == 404
    check_problem(await gateway.call(method, path, **more), status, code, field)


async def test_a_body_too_large_is_413(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitSettings(webhook_bytes=2000, upload_bytes=1000)) as gateway:
        check_problem(await gateway.call("PATCH", T, json={"assignee": "x" * 2000}), 413, "too_large")
        check_problem(await gateway.call("POST", f"{V1}/uploads", data=form("file", 1001)), 413, "too_large")
        await gateway.ok("POST", f"{V1}/uploads", 201, data=form("file", 1000))
        assert list((tmp_path / "media").rglob("*.part")) == []


async def test_our_own_faults_are_500_without_a_word_of_why(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_job: Any) -> None:
        raise RuntimeError("the secret is 42")

    key = gateway.key
    find = gateway.core.database.read
    calls = 0

    async def sometimes(job: Any) -> Any:
        nonlocal calls
        calls += 1
        return await (find(job) if calls == 1 else broken(job))

    monkeypatch.setattr(gateway.core.database, "read", sometimes)
    answer = await gateway.call("GET", f"{V1}/tickets", key=key)
    check_problem(answer, 500, "internal")
    assert b"42" not in answer.body


# --- other tenants ----------------------------------------------------------------------------------------------------


async def test_a_limited_key_sees_its_accounts_and_nothing_else(gateway: Gateway) -> None:
    mine = await gateway.customer_writes("mine", "+4915112345678", account="echo-a")
    theirs = await gateway.customer_writes("theirs", "+4917099999999", account="echo-b", files=[{"url": "https://x/y"}])
    [message] = (await gateway.ok("GET", f"{V1}/tickets/{theirs['id']}/messages"))["items"]
    await gateway.webhook(b'{"messages": [{"id": "bad"}]}', "echo-b")
    await gateway.intake.drain()
    [letter] = (await gateway.ok("GET", f"{V1}/dead"))["items"]
    key = await gateway.make_key("tenant a", "admin", ["echo-a"])

    for path in ("tickets", "contacts", "accounts", "dead", "outbox", "deletions"):
        found = (await gateway.ok("GET", f"{V1}/{path}", key=key))["items"]
        text = str(found)
        assert "echo-b" not in text, path
        assert theirs["id"] not in text, path
        assert theirs["contact_id"] not in text, path
    assert [entry["id"] for entry in (await gateway.ok("GET", f"{V1}/tickets", key=key))["items"]] == [mine["id"]]
    assert (await gateway.ok("GET", f"{V1}/tickets?account=echo-b&q=theirs", key=key))["items"] == []
    assert (await gateway.ok("GET", f"{V1}/contacts?q=theirs", key=key))["items"] == []
    [channel] = (await gateway.ok("GET", f"{V1}/channels", key=key))["items"]
    assert channel["accounts"] == ["echo-a"]

    ticket, contact = f"{V1}/tickets/{theirs['id']}", f"{V1}/contacts/{theirs['contact_id']}"
    own = f"{V1}/contacts/{mine['contact_id']}"
    for method, path, more in (
        ("GET", ticket, {}),
        ("PATCH", ticket, {"json": {"status": "open"}}),
        ("GET", f"{ticket}/messages", {}),
        ("GET", f"{ticket}/events", {}),
        ("POST", f"{ticket}/replies", {"json": {"text": "x"}}),
        ("POST", f"{ticket}/replies?dry_run=true", {"json": {"text": "x"}}),
        ("GET", f"{V1}/messages/{message['id']}", {}),
        ("POST", f"{V1}/messages/{message['id']}/retry", {}),
        ("POST", f"{V1}/messages/{message['id']}/cancel", {}),
        ("POST", f"{V1}/messages/{message['id']}/leave", {}),
        ("GET", f"{V1}/attachments/{message['attachments'][0]['id']}", {}),
        ("GET", contact, {}),
        ("PATCH", contact, {"json": {"name": "x"}}),
        ("DELETE", contact, {}),
        ("POST", f"{contact}/merge", {"json": {"into": mine["contact_id"]}}),
        ("POST", f"{own}/merge", {"json": {"into": theirs["contact_id"]}}),
        ("POST", f"{contact}/unmerge", {"json": {"identity": theirs["identity_id"]}}),
        ("POST", f"{own}/unmerge", {"json": {"identity": theirs["identity_id"]}}),
        ("POST", f"{V1}/dead/{letter['id']}/replay", {}),
        ("POST", f"{V1}/dead/{letter['id']}/drop", {}),
    ):  # fmt: skip
        answer = await gateway.call(method, path, key=key, **more)
        assert answer.status == 404, (method, path, answer.status, answer.body)
    forbidden = await gateway.call(
        "POST", f"{V1}/messages", key=key, json={"direction": "inbound", "from": {}, "text": "x"}
    )
    check_problem(forbidden, 403, "forbidden")
    check_problem(await gateway.call("POST", f"{V1}/attributes", key=key, json={"name": "x"}), 403, "forbidden")


async def test_a_contact_shared_with_another_tenant_shows_half_and_is_not_deleted(gateway: Gateway) -> None:
    mine = await gateway.customer_writes("mine", "+4915112345678", account="echo-a")
    theirs = await gateway.customer_writes("theirs", "+4917099999999", account="echo-b")
    await gateway.ok("POST", f"{V1}/contacts/{theirs['contact_id']}/merge", json={"into": mine["contact_id"]})
    key = await gateway.make_key("tenant a", "admin", ["echo-a"])
    path = f"{V1}/contacts/{mine['contact_id']}"
    seen = await gateway.ok("GET", path, key=key)
    assert [entry["account"] for entry in seen["identities"]] == ["echo-a"]
    assert seen["attributes"]["phone"] == "+4915112345678"
    check_problem(await gateway.call("DELETE", path, key=key), 403, "forbidden")
