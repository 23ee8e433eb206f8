"""The OpenAPI document: every route is in it, and what the gateway answers is what it says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import signed_urls
from gateway.web.api import ROUTES
from gateway.web.app import create_app
from gateway.web.openapi import document
from gateway.web.pages import STATIC
from gateway.web.problems import PROBLEMS
from tests.web.conftest import Answered, Gateway, make_core, running
from tests.web.schema import problems
from tests.web.test_api import INBOUND, with_intake
from tests.web.test_files import PNG, stored

V1 = "/api/v1"


@pytest.fixture
async def described(gateway: Gateway) -> dict[str, Any]:
    """The document as served."""
    answer = await gateway.ok("GET", "/api/openapi.json", key="")
    return dict(answer)


async def test_every_route_is_in_the_document_and_the_other_way_round(tmp_path: Path) -> None:
    core = make_core(tmp_path)
    app = create_app(core)
    routed = {resource.canonical for resource in app.router.resources()}
    await core.database.stop()
    found = document((*ROUTES,))
    listed = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in ROUTES}
    own = {"/", "/healthz", "/readyz", "/metrics", "/api/docs", "/api/openapi.json", "/api/v1/events", "/{anything}"}
    hooks = {"/webhooks/echo-a", "/webhooks/echo-b", "/webhooks/api", "/webhooks/{account}"}
    assert routed == own | hooks | {f"/static/{name}" for name in STATIC} | {path for _, path in listed}


async def test_the_document_is_sound(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    assert "/api/v1/events" in described["paths"]
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    schemas = described["components"]["schemas"]
    for reference in _references(described):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            assert any(int(status) < 300 for status in operation["responses"])


def _references(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        own = [tree["$ref"]] if "$ref" in tree else []
        return own + [found for value in tree.values() for found in _references(value)]
    return [found for value in tree for found in _references(value)] if isinstance(tree, list) else []


def check(described: dict[str, Any], method: str, template: str, answer: Answered) -> None:
    """The answer is one the document promises for the operation."""
    operation = described["paths"][template][method.lower()]
    responses = operation["responses"]
    assert str(answer.status) in responses, (method, template, answer.status, answer.body)
    content = responses[str(answer.status)].get("content")
    if content is None:
        assert answer.body == b""
        return
    media = answer.headers["Content-Type"].partition(";")[0]
    assert media in content, (template, media)
    if media == "application/json" or media.endswith("+json"):
        assert problems(json.loads(answer.body), content[media]["schema"], described) == []


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with something of everything in it."""
    async with running(tmp_path) as gateway:
        await gateway.customer_writes("Hello", name="Ann", files=[{"url": "https://example.com/p"}])
        await gateway.webhook(b'{"messages": [{"id": "bad"}]}')
        await with_intake(gateway, gateway.ok("POST", f"{V1}/messages", 202, json=INBOUND))
        yield gateway


def as_form(content: bytes) -> aiohttp.FormData:
    """A file in a form."""
    form = aiohttp.FormData()
    form.add_field("file", content, filename="people.csv")
    return form


async def test_answers_are_as_documented(busy: Gateway) -> None:
    gateway = busy
    described = await gateway.ok("GET", "/api/openapi.json", key="")
    tickets = (await gateway.ok("GET", f"{V1}/tickets"))["items"]
    ticket = next(entry for entry in tickets if entry["channel"] == "echo")
    [message] = (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}/messages"))["items"]
    ids = {"tickets": ticket["id"], "messages": message["id"], "contacts": ticket["contact_id"], "dead": ""}
    ids["dead"] = (await gateway.ok("GET", f"{V1}/dead"))["items"][0]["id"]
    ids["attachments"] = message["attachments"][0]["id"]
    for route in ROUTES:
        if route.method == "GET":
            resource = route.path.split("/")[3] if route.path.startswith(V1) else ""
            path = route.path.replace("{id}", ids.get(resource, "x")).replace("{token}", "x")
            check(described, "GET", route.path, await gateway.call("GET", path))
    reply = {"text": "Hi Ann", "author": {"type": "agent", "id": "u1", "name": "Bo"}}
    other = await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "size"})
    for method, template, name, more in (
        ("PATCH", "/tickets/{id}", ids["tickets"], {"json": {"status": "open"}}),
        ("PATCH", "/tickets/{id}", ids["tickets"], {"json": {"status": "x"}}),
        ("POST", "/tickets/{id}/replies", ids["tickets"], {"json": reply, "params": {"dry_run": "true"}}),
        ("POST", "/tickets/{id}/replies", ids["tickets"], {"json": reply}),
        ("POST", "/tickets/{id}/replies", ids["tickets"], {"json": {"text": "x" * 101}}),
        ("POST", "/tickets/{id}/replies", ids["tickets"], {"json": {}}),
        ("POST", "/tickets/{id}/typing", ids["tickets"], {}),
        ("POST", "/messages", "", {"json": {"channel": "echo", "to": "+4917012345678", "text": "x"}}),
        ("POST", "/messages", "", {"json": {"channel": "nope", "to": "+4917012345678", "text": "x"}}),
        ("POST", "/messages/{id}/retry", ids["messages"], {}),
        ("POST", "/messages/{id}/cancel", ids["messages"], {}),
        ("POST", "/messages/{id}/leave", ids["messages"], {}),
        ("PATCH", "/contacts/{id}", ids["contacts"], {"json": {"vip": True}}),
        ("POST", "/contacts/{id}/merge", ids["contacts"], {"json": {"into": ids["contacts"]}}),
        ("POST", "/contacts/{id}/unmerge", ids["contacts"], {"json": {"identity": ticket["identity_id"]}}),
        ("POST", "/uploads", "", {"data": b"x"}),
        ("POST", "/attributes", "", {"json": other}),
        ("PUT", "/attributes", "", {"json": {"names": ["vip"]}}),
        ("PUT", "/attributes", "", {"json": {"names": []}}),
        ("PATCH", "/attributes/{name}", "size", {"json": {"title": "Size"}}),
        ("POST", "/contacts/import", "", {"data": b"x"}),
        ("POST", "/contacts/import", "", {"data": as_form(b"name\r\nZoe\r\n"), "params": {"dry_run": "true"}}),
        ("POST", "/contacts/import", "", {"data": as_form(b"nope\r\n")}),
        ("DELETE", "/attributes/{name}", "size", {}),
        ("POST", "/dead/{id}/drop", ids["dead"], {}),
        ("POST", "/dead/{id}/replay", ids["dead"], {}),
        ("DELETE", "/contacts/{id}", ids["contacts"], {}),
    ):  # fmt: skip
        path = V1 + template.replace("{id}", name).replace("{name}", name)
        check(described, method, V1 + template, await gateway.call(method, path, **more))
    for template in ("/tickets", "/outbox", "/deletions"):
        check(described, "GET", V1 + template, await gateway.call("GET", V1 + template))
        check(described, "GET", V1 + template, await gateway.call("GET", V1 + template, key="gw_x"))


CONDITIONS = {  # what is asked of a file -> the answer
    "a part": ({"Range": "bytes=0-3"}, 206, PNG[:4]),
    "known already": ({"If-None-Match": "{etag}"}, 304, b""),
    "known already, by its date": ({"If-Modified-Since": "{modified}"}, 304, b""),
    "another one": ({"If-Match": '"x"'}, 412, b""),
    "an older one": ({"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412, b""),
    "the same one": ({"If-Match": "{etag}"}, 200, PNG),
    "beyond its end": ({"Range": "bytes=5000-"}, 416, b""),
    "no range": ({"Range": "bytes=x"}, 416, b""),
}


async def test_conditions_and_parts_of_files_are_documented(gateway: Gateway, described: dict[str, Any]) -> None:
    attachment_id = await stored(gateway, PNG, "image/png", "a.png")
    token = signed_urls.make(gateway.core.tokens, attachment_id, gateway.core.clock())
    for template, path in (
        (f"{V1}/attachments/{{id}}", f"{V1}/attachments/{attachment_id}"),
        ("/media/{token}", f"/media/{token}"),
    ):
        whole = await gateway.call("GET", path)
        known = {"{etag}": whole.headers["ETag"], "{modified}": whole.headers["Last-Modified"]}
        for name, (headers, status, body) in CONDITIONS.items():
            answer = await gateway.call(
                "GET", path, headers={key: known.get(text, text) for key, text in headers.items()}
            )
            assert (answer.status, answer.body) == (status, body), name
            responses = described["paths"][template]["get"]["responses"]
            assert str(status) in responses, (template, name)
            assert ("content" in responses[str(status)]) is (status < 300), name


async def test_an_export_is_documented_in_both_forms(gateway: Gateway, described: dict[str, Any]) -> None:
    for form in ("csv", "jsonl"):
        answer = await gateway.call("GET", f"{V1}/contacts/export?format={form}")
        check(described, "GET", f"{V1}/contacts/export", answer)


async def test_the_pages_are_whole_and_speak_to_nobody_else(gateway: Gateway) -> None:
    docs = (await gateway.call("GET", "/api/docs", key="")).body.decode()
    for route in ROUTES:
        assert f"id='{route.handler.__name__}'" in docs
    for code in PROBLEMS:
        assert f"id='{code}'" in docs
    for path in ("/", "/api/docs", *(f"/static/{name}" for name in STATIC)):
        answer = await gateway.call("GET", path, key="")
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        text = answer.body.decode()
        assert "https://" not in text
        assert "onclick=" not in text
        again = await gateway.call("GET", path, key="", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
