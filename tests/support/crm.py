"""A CRM behind the open contract, and HubSpot as far as we use it: real servers on loopback, with faults by script."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

from tests.support.signing import verify_standard_webhook

Fault = Literal["timeout", "429", "500", "503", "garbage", "wrong shape", "reset_after", "401", "409"]


@dataclass(slots=True)
class _Server:
    """What both share: `faults` are played one by one, each before or instead of the answer."""

    faults: deque[Fault] = field(default_factory=deque)
    calls: list[tuple[str, Any]] = field(default_factory=list)  # (path, body) of what was understood
    headers: list[dict[str, str]] = field(default_factory=list)
    hold: asyncio.Event | None = None  # answers wait for it
    _runner: web.AppRunner | None = None
    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.headers.append(dict(request.headers))
        fault = self.faults.popleft() if self.faults else None
        match fault:
            case "timeout":
                await asyncio.sleep(3600)
            case "429":
                return web.json_response({"status": "error"}, status=429, headers={"Retry-After": "7"})
            case "503":
                return web.Response(status=503, headers={"Retry-After": "9"})
            case "500" | "401" | "409":
                return web.json_response({"status": "error", "category": "BROKEN"}, status=int(fault))
            case "garbage":
                return web.Response(text="<html>", content_type="text/html")
            case "wrong shape":
                return web.json_response({"matches": "one", "total": "one", "results": {}})
            case "reset_after" | None:
                pass
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answer(request, raw)
        if fault == "reset_after" and request.transport is not None:
            request.transport.abort()
        return answer

    def answer(self, request: web.Request, raw: bytes) -> web.Response:
        raise NotImplementedError


@dataclass(slots=True)
class FakeCrm(_Server):
    """`docs/crm.md`, on the other side: checks signatures, knows repeats by their id."""

    secret: str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> fields
    seen: dict[str, Any] = field(default_factory=dict)  # webhook-id -> answer
    applied: int = 0

    def answer(self, request: web.Request, raw: bytes) -> web.Response:
        if not verify_standard_webhook(self.secret, request.headers, raw):
            return web.json_response({}, status=401)
        body = json.loads(raw)
        self.calls.append((request.path, body))
        key = request.headers["webhook-id"]
        if key not in self.seen:
            self.seen[key] = self._do(body["type"], body["data"])
        return web.json_response(self.seen[key])

    def _do(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        found = self._found(data)
        if len(found) != 1:
            return {"matches": len(found)}
        if kind == "contact.upsert":
            self.applied += 1
            self.records[found[0]] |= data["changes"]
        return {"matches": 1, "id": found[0], "fields": self.records[found[0]]}

    def _found(self, data: dict[str, Any]) -> list[str]:
        if data.get("id") in self.records:
            return [data["id"]]
        for key in data["keys"]:
            fits = [i for i, fields in self.records.items() if fields.get(key["name"]) in key["values"]]
            if fits:
                return fits
        return []


@dataclass(slots=True)
class FakeHubSpot(_Server):
    """HubSpot's contacts: search and update, with its shapes and refusals."""

    token: str = "pat-test"
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    quotes: str = ""  # words of its refusals, which may repeat what it was sent: "{sent}"

    def answer(self, request: web.Request, raw: bytes) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._refused(401, "INVALID_AUTHENTICATION")
        if self.quotes:
            words = self.quotes.replace("{sent}", request.headers["Authorization"])
            return web.json_response({"status": "error", "message": words, "category": words}, status=400)
        base = "/crm/v3/objects/contacts"
        body: Any = json.loads(raw) if raw else None
        self.calls.append((f"{request.method} {request.path}", body))
        if request.path == base and request.method == "GET":
            return web.json_response({"results": []})
        if request.path == f"{base}/search" and request.method == "POST":
            (group,) = body["filterGroups"]
            (only,) = group["filters"]
            assert only["operator"] == "EQ"
            fits = [i for i, f in self.records.items() if f.get(only["propertyName"]) == only["value"]]
            results = [
                {"id": i, "properties": {name: self.records[i].get(name) for name in body["properties"]}}
                for i in fits[: body["limit"]]
            ]
            return web.json_response({"total": len(fits), "results": results})
        record = request.path.removeprefix(f"{base}/")
        if request.method == "PATCH" and record in self.records:
            self.records[record] |= body["properties"]
            return web.json_response({"id": record, "properties": self.records[record]})
        return self._refused(404, "OBJECT_NOT_FOUND")

    @staticmethod
    def _refused(status: int, category: str) -> web.Response:
        body = {"status": "error", "message": "no", "correlationId": "c", "category": category}
        return web.json_response(body, status=status)
