"""The demo's world: a gateway, a simulator of every platform, and a client of its API. All of it on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp

from adapters._load import find
from adapters.sandbox.facebook import Customer as FacebookCustomer
from adapters.sandbox.instagram import Customer as InstagramCustomer
from adapters.sandbox.meta_whatsapp import Customer
from adapters.sandbox.x import User as XUser
from config import settings as configuration
from gateway.control import create_key
from gateway.demo.platforms import Platforms
from gateway.loading import settings_types
from gateway.runtime import Gateway

T = TypeVar("T")
BEN = "+12025550142"  # by text message and on WhatsApp
PATIENCE_S = 20.0


class NotAsTold(Exception):
    """The story and what happened are not the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API."""

    status: int
    json: Any


class World:
    """`async with World(directory) as world:`"""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.on = Platforms()
        self.ben = Customer(BEN[1:], "US.1000000000000000142", name="Ben Okafor")
        self.cleo = Customer("12025550143", "US.1000000000000000143", name="Cleo Park", reads=True)
        self.dana = Customer("12025550144", "US.1000000000000000144", name="Dana Ruiz")
        self.marco = FacebookCustomer("9988776601", "Marco Bell", reads=True)
        self.nina = FacebookCustomer("9988776602", "Nina Holm")
        self.tess = FacebookCustomer("9988776603", "Tess Moran", commenter="4455667703")
        self.lena = InstagramCustomer("62000000007", "Lena Vogt", "lena.vogt", reads=True)
        self.omar = XUser("800000000000000021", "omar_h", "Omar Haddad")
        self.raj = XUser("800000000000000022", "raj_writes", "Raj Patel")
        self.gateway: Gateway
        self.address = self.key = ""
        self._session: aiohttp.ClientSession
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            for place in self.on:
                await place.simulator.start()
                stack.push_async_callback(place.simulator.stop)
            self._session = await stack.enter_async_context(aiohttp.ClientSession())
            found = find()
            tree = self._configuration(f"127.0.0.1:{_free_port()}")
            settings = configuration.parse(tree, settings_types(found), base_dir=self.directory)
            self.gateway = Gateway(settings, found=found)
            await self.gateway.start()
            stack.push_async_callback(self.gateway.stop)
            self.address = self.gateway.address
            for place in self.on:
                place.connect(self.gateway)
            self.key = (await create_key(self.gateway.core, {"name": "demo", "scope": "admin"}))["key"]
            self._exit = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    def _configuration(self, listen: str) -> dict[str, Any]:
        """What an operator would have written in gateway.toml."""
        return {
            "gateway": {
                "listen": listen, "public_url": f"http://{listen}", "data_dir": "var",
                "matching_attribute": ["phone", "email"],
            },
            "smtp": {"listen": "127.0.0.1:0"},
            "media": {"allow_private_networks": True},  # the platforms' files lie on loopback, too
            "accounts": [{"id": place.id, "adapter": place.adapter, **place.account()} for place in self.on],
        }  # fmt: skip

    # --- the API ---

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        """One request with the demo's key."""
        async with self._session.request(
            method, f"{self.address}{path}", json=body, headers={"Authorization": f"Bearer {self.key}", **headers}
        ) as answer:
            return Answer(answer.status, await answer.json(content_type=None))

    async def get(self, path: str) -> Any:
        """What the API shows. Raises `NotAsTold` when it shows nothing."""
        answer = await self.call("GET", path)
        if answer.status != 200:
            raise NotAsTold(f"GET {path} is answered {answer.status}")
        return answer.json

    async def tickets(self, channel: str = "") -> list[dict[str, Any]]:
        """All tickets, or those of a channel, the first one first."""
        only = f"&channel={channel}" if channel else ""
        items: list[dict[str, Any]] = (await self.get(f"/api/v1/tickets?limit=100{only}"))["items"]
        return sorted(items, key=lambda ticket: int(ticket["number"]))

    async def ticket(self, number: int) -> dict[str, Any]:
        """The ticket of a number."""
        return next(ticket for ticket in await self.tickets() if ticket["number"] == number)

    async def messages(self, ticket: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The ticket's thread."""
        items: list[dict[str, Any]] = (await self.get(f"/api/v1/tickets/{ticket['id']}/messages?limit=100"))["items"]
        return items

    async def filed(self, channel: str, text: str, since: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        """The ticket and the message that a customer's words on a channel became, `since` a moment of `now`."""

        async def look() -> tuple[dict[str, Any], dict[str, Any]] | None:
            for ticket in reversed(await self.tickets(channel)):
                for message in reversed(await self.messages(ticket)):
                    if message["direction"] == "inbound" and text in message["text"] and message["created_at"] >= since:
                        # the ticket as it is now, not before the message
                        return await self.get(f"/api/v1/tickets/{ticket['id']}"), message
            return None

        return await self.until(look, f"no ticket holds {text!r}")

    def now(self) -> str:
        """The gateway's time, as its API writes it."""
        return f"{self.gateway.core.clock():%Y-%m-%dT%H:%M:%S.%fZ}"

    async def message_is(self, message_id: str, *wanted: str) -> dict[str, Any]:
        """The message, once it is in one of these states."""

        found: dict[str, Any] = {}

        async def look() -> dict[str, Any] | None:
            found.update(await self.get(f"/api/v1/messages/{message_id}"))
            return found if found["status"] in wanted else None

        try:
            return await self.until(look, "")
        except NotAsTold:
            words = f"the message is {found['status']}, not {' or '.join(wanted)}: {found['error']}"
            raise NotAsTold(words) from None

    async def upload(self, filename: str, media_type: str, content: bytes) -> str:
        """The id of an uploaded file."""
        form = aiohttp.FormData()
        form.add_field("file", content, filename=filename, content_type=media_type)
        async with self._session.post(
            f"{self.address}/api/v1/uploads", data=form, headers={"Authorization": f"Bearer {self.key}"}
        ) as answer:
            found = await answer.json(content_type=None)
            return str(found["id"])

    async def until(self, look: Callable[[], Awaitable[T | None]], problem: str) -> T:
        """What `look` finds, once it finds something. Raises `NotAsTold` with `problem` when that takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    if (found := await look()) is not None:
                        return found
                    await asyncio.sleep(0.02)
        raise NotAsTold(problem)


def told(condition: object, words: str) -> None:
    """Raise `NotAsTold` unless the condition holds."""
    if not condition:
        raise NotAsTold(words)


def _free_port() -> int:
    """A port nobody listens on: signatures cover our address, so it must be known before we listen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
