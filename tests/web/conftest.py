"""A gateway on a socket: the real application, a real embedded store, the real intake, an adapter of the tests."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from adapters.api import ApiAdapter
from adapters.api import Settings as ApiSettings
from config.secret import Secret
from config.settings import AccountSettings, GatewaySettings, LimitSettings, Settings
from gateway.accounts import Accounts, BoundAccount
from gateway.blobs import Blobs
from gateway.bus import Bus
from gateway.core import Core
from gateway.ids import micros, system_clock
from gateway.intake import IntakeWorker
from gateway.metrics import Metrics
from gateway.store import dialect, keys
from gateway.store.engine import Database
from gateway.store.schema import metadata
from gateway.tokens import Tokens
from gateway.web.app import HEALTH, create_app, make_runner
from gateway.web.health import Health
from normalizers.model import Account
from tests.support.services import missing
from tests.web.echo import EchoAdapter, signed
from tests.web.echo import Settings as EchoSettings

ACCOUNTS = ("echo-a", "echo-b")


@functools.cache
def _empty_store() -> bytes:
    """The file of a store without a row, made once."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "empty.db"
        engine = dialect.write_engine(dialect.url_of("", str(file)))
        metadata.create_all(engine)
        engine.dispose()  # the last connection brings the log into the file
        return file.read_bytes()


def make_core(
    directory: Path, *, limits: LimitSettings | None = None, public_url: str = "", matching: tuple[str, ...] = (),
    **sections: Any,
) -> Core:  # fmt: skip
    """A core on an embedded store in `directory`, with two accounts of the echo channel and the API channel."""
    url = dialect.url_of("", str(directory / "gateway.db"))
    (directory / "gateway.db").write_bytes(_empty_store())
    settings = Settings(
        gateway=GatewaySettings(public_url=public_url, data_dir=".", matching_attribute=matching),
        limits=limits or LimitSettings(),
        base_dir=directory,
        **sections,
    )
    bound: list[BoundAccount] = []
    for account_id in ACCOUNTS:
        options = EchoSettings((Secret("s3cret"),))
        echo = EchoAdapter(Account(account_id, "echo"), options)
        bound.append(
            BoundAccount(account_id, echo, AccountSettings(account_id, "echo", options), {"echo": echo.channels[0]})
        )
    api = ApiAdapter(Account("api", "api"), ApiSettings())
    bound.append(BoundAccount("api", api, AccountSettings("api", "api", ApiSettings()), {"api": api.channels[0]}))
    database = Database(url)
    database.start()
    return Core(
        settings=settings,
        database=database,
        accounts=Accounts(bound),
        bus=Bus(),
        clock=system_clock,
        tokens=Tokens((Secret("a key of the tests"),)),
        blobs=Blobs(directory / "media"),
        metrics=Metrics(),
    )


@dataclasses.dataclass(slots=True)
class Answered:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]  # whatever the case of the names
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """A running gateway and the ways to speak to it."""

    def __init__(self, core: Core, base: str, session: aiohttp.ClientSession, app: web.Application) -> None:
        self.core, self.base, self.session, self.app = core, base, session, app
        self.intake = IntakeWorker(core)
        self.key = ""
        self._ids = itertools.count(1)

    @property
    def health(self) -> Health:
        """What `/readyz` asks."""
        return self.app[HEALTH]

    async def make_key(self, name: str = "tests", scope: str = "admin", accounts: Sequence[str] = ()) -> str:
        now = micros(self.core.clock())
        return (await self.core.database.write(lambda c: keys.create(c, name, scope, accounts, now)))[1]

    async def call(
        self, method: str, path: str, *, key: str | None = None, headers: dict[str, str] | None = None, **more: Any
    ) -> Answered:
        """One request; with the admin key unless another is given ("": none)."""
        sent = dict(headers or {})
        wanted = self.key if key is None else key
        if wanted:
            sent["Authorization"] = f"Bearer {wanted}"
        async with self.session.request(method, self.base + path, headers=sent, **more) as answer:
            return Answered(answer.status, answer.headers, await answer.read())

    async def ok(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        """One request that must succeed; its JSON."""
        answer = await self.call(method, path, **more)
        assert answer.status == status, (answer.status, answer.body)
        return answer.json if answer.body else None

    async def webhook(self, body: bytes, account: str = "echo-a", headers: dict[str, str] | None = None) -> Answered:
        """A signed delivery."""
        return await self.call(
            "POST", f"/webhooks/{account}", key="", data=body, headers={**signed(body), **(headers or {})}
        )

    async def customer_writes(
        self, text: str = "Hello", sender: str = "+4915112345678", account: str = "echo-a", **more: Any
    ) -> dict[str, Any]:
        """A customer's message, filed; the ticket it is on."""
        message = {"id": f"m{next(self._ids)}", "from": sender, "text": text, **more}
        answer = await self.webhook(json.dumps({"messages": [message]}).encode(), account)
        assert answer.status == 200, answer
        await self.intake.drain()
        found = await self.ok("GET", f"/api/v1/tickets?account={account}")
        for ticket in found["items"]:
            contact = await self.ok("GET", f"/api/v1/contacts/{ticket['contact_id']}")
            if any(identity["external_id"] == sender for identity in contact["identities"]):
                return dict(ticket)
        raise AssertionError("no ticket was made")

    def echo(self, account: str = "echo-a") -> EchoAdapter:
        """The adapter of an account."""
        bound = self.core.accounts.get(account)
        assert bound is not None
        assert isinstance(bound.adapter, EchoAdapter)
        return bound.adapter


@asynccontextmanager
async def running(directory: Path, **more: Any) -> AsyncIterator[Gateway]:
    """A gateway that runs until the block ends."""
    core = make_core(directory, **more)
    app = create_app(core)
    runner = make_runner(app, shutdown_timeout_s=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            found = Gateway(core, f"http://127.0.0.1:{runner.addresses[0][1]}", session, app)
            found.key = await found.make_key()
            yield found
    finally:
        core.bus.close()
        await runner.cleanup()
        await core.database.stop()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A running gateway with an admin key."""
    async with running(tmp_path) as found:
        yield found


def chromium() -> str:
    """Where the browser is. Skips the test where there is none, unless services are required."""
    named = os.environ.get("CHROMIUM", "")
    path = named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        missing("no chromium on this machine: the console is not tested in a browser")
    return path


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser without a window."""
    path = chromium()
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        await found.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that must not have a single error on it, a refusal by the Content-Security-Policy among them."""
    found = await browser.new_page()
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
    yield found
    assert faults == []
