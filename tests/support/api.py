"""A client of the API that waits for what is still on its way."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

WAIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rules(self) -> list[str]:
        """The rules whose verdicts stand in it."""
        return [verdict["rule"] for verdict in self.json["verdicts"]]


class Api:
    """Calls with a key. `get`, `post` and the like want success; `call` takes any answer."""

    def __init__(self, base: str, key: str) -> None:
        self.base, self.key = base, key
        self._session = aiohttp.ClientSession(trust_env=False)

    async def close(self) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """One request."""
        sent = {"Authorization": f"Bearer {self.key}"} | (headers or {})
        url = self.base + (path if path.startswith("/") else f"/api/v1/{path}")
        async with self._session.request(method, url, headers=sent, **more) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def get(self, path: str, **params: str) -> Any:
        return await self._ok("GET", path, params=params)

    async def patch(self, path: str, **body: Any) -> Any:
        return await self._ok("PATCH", path, json=body)

    async def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return await self._ok("POST", path, json={} if body is None else body, **more)

    async def _ok(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.call(method, path, **more)
        assert answer.status < 300, (method, path, answer.status, answer.body)
        return answer.json

    # --- what tests ask for ---

    async def until(self, path: str, holds: Callable[[Any], bool], **params: str) -> Any:
        """What a GET answers once `holds` is true of it."""
        found = None
        try:
            async with asyncio.timeout(WAIT_S):
                while not holds(found := await self.get(path, **params)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{path} stayed {json.dumps(found, indent=1)[:3000]}") from None
        return found

    async def items(self, path: str, count: int, **params: str) -> list[dict[str, Any]]:
        """A list once it has so many entries."""
        found = await self.until(path, lambda page: len(page["items"]) >= count, **params)
        items: list[dict[str, Any]] = found["items"]
        assert len(items) == count, items
        return items

    async def ticket(self, **params: str) -> dict[str, Any]:
        """The only ticket there is (that fits), once there is one."""
        (found,) = await self.items("tickets", 1, **params)
        return found

    async def messages(self, ticket: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """A ticket's messages, once there are so many."""
        return await self.items(f"tickets/{ticket['id']}/messages", count)

    async def reply(self, ticket: dict[str, Any], text: str = "", *, key: str = "", **body: Any) -> Answer:
        """An agent's reply, whatever becomes of it."""
        body = {"author": {"type": "agent", "id": "7", "name": "Kim"}} | ({"text": text} if text else {}) | body
        headers = {"Idempotency-Key": key} if key else {}
        return await self.call("POST", f"tickets/{ticket['id']}/replies", json=body, headers=headers)

    async def replied(self, ticket: dict[str, Any], text: str = "", **body: Any) -> dict[str, Any]:
        """An agent's reply that must be taken; the message."""
        answer = await self.reply(ticket, text, **body)
        assert answer.status == 202, (answer.status, answer.body)
        message: dict[str, Any] = answer.json
        return message

    async def settled(self, message: dict[str, Any], status: str) -> dict[str, Any]:
        """A message with all its history, once it has this status."""
        path = f"messages/{message['id']}"
        found: dict[str, Any] = await self.until(path, lambda detail: detail["status"] == status)
        return found

    async def log(self, ticket: dict[str, Any]) -> list[dict[str, Any]]:
        """A ticket's event log."""
        items: list[dict[str, Any]] = (await self.get(f"tickets/{ticket['id']}/events"))["items"]
        return items

    async def upload(self, content: bytes, filename: str, media_type: str) -> str:
        """Upload a file; its id."""
        form = aiohttp.FormData()
        form.add_field("file", io.BytesIO(content), filename=filename, content_type=media_type)
        found: str = (await self._ok("POST", "uploads", data=form))["id"]
        return found
