"""A platform nobody has heard of, its adapter, and a gateway's store around it: what outbox tests stand on.

The platform is a real server on loopback with scripted faults; the store is a real SQLite file; only the clock is set.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import msgspec
from aiohttp import web
from sqlalchemy import Connection, Table, insert, select

from adapters import (
    OK,
    Adapter,
    Answer,
    Callback,
    Channel,
    ErrorRule,
    Http,
    Keywords,
    Limits,
    MediaRule,
    Pace,
    SendError,
    Sent,
    Window,
    platform_error,
)
from adapters._channel import Quota
from adapters._media import MediaClient
from adapters.sandbox._base import Accepted, Platform
from config.outbox import FallbackSettings
from config.secret import Secret
from config.settings import AccountSettings, GatewaySettings, Settings
from gateway.accounts import Accounts, BoundAccount
from gateway.blobs import Blobs
from gateway.bus import Bus
from gateway.core import Core
from gateway.ids import micros, new_id
from gateway.metrics import Metrics
from gateway.store import dialect, schema
from gateway.store.engine import Database
from gateway.store.outbox import OutboxStore
from gateway.tokens import Tokens
from normalizers.model import Account, Event, OutboundMessage, Received
from outbox.dispatcher import Dispatcher
from outbox.policy import USUAL, Policy

PATIENCE_S = 5.0  # a busy machine must not look like a silent platform
START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ERRORS = {
    "gone": ErrorRule("bad-recipient", "nobody lives there"),
    "late": ErrorRule("window-closed", "they wrote too long ago"),
    "stop": ErrorRule("opted-out", "they want no more pigeons"),
    "token": ErrorRule("auth", "the ring is false", pause="account"),
    "busy": ErrorRule("throttle", "too many pigeons", pause="account", wait=timedelta(seconds=7)),
    "rain": ErrorRule("retry", "it rains", not_processed=True, resend_safe=True),
}
PIGEON = Channel(
    name="pigeon",
    title="Pigeon Post",
    limits=Limits(
        text_max=100,
        source="Pigeon, Limits",
        caption_max=20,
        media=(
            MediaRule("image", ("image/png",), 1000),
            MediaRule("audio", ("audio/*",), 1000, caption=False),
            MediaRule("file", ("image/*", "application/pdf"), 5000),
        ),
    ),
    pace=Pace(1000, "Pigeon, Pace"),
    window=Window(timedelta(hours=24), "Pigeon, Window", template_outside=True),
    keywords=Keywords(scope="marketing"),
    errors=ERRORS,
    receipts=("sent", "delivered", "read"),
    delivered_after_failed=True,
    templates=True,
    template_parameters=True,
    address_kinds=("ring",),
)
KEYED = replace(PIGEON, name="keyed", key="request", window=None)
OPEN = replace(PIGEON, name="open", window=None)
POST = replace(
    OPEN, name="post", key="message_id", retry="mail", address_kinds=("email",), attribute_of={"email": "email"},
    templates=False,
    limits=Limits(10_000, "Post, Limits", split=False, html=True, files_per_message=9, caption_max=10_000),
)  # fmt: skip
SLOW = replace(OPEN, name="slow", pace=Pace(1000, "Slow, Pace", pair_seconds=6, pair_burst=2))
FINAL = replace(OPEN, name="final", delivered_after_failed=False)  # what failed there arrives no more
TIGHT = replace(OPEN, name="tight", pace=Pace(1000, "Tight, Pace", quotas=(Quota(5, timedelta(minutes=15)),), daily=8))


class FakeClock:
    """A clock that moves when told to."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **delta: float) -> None:
        self.now += timedelta(**delta)


class PigeonPlatform(Platform):
    """Takes messages, refuses by script (`refuse_next`), recognises keys, and answers what it knows of an id."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[tuple[int, str]] = []
        self.keys: dict[str, str] = {}
        self.order: list[str] = []
        self.gate: asyncio.Event | None = None
        self.good_token = True

    def refuse_next(self, status: int, code: str) -> None:
        self.refusals.append((status, code))

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return [web.post("/notes", self._note), web.get("/ring", self._ring)]

    async def _ring(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=200 if self.good_token else 401)

    async def _note(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            status, code = self.refusals.pop(0)
            return web.json_response({"code": code}, status=status)

        async def accept() -> web.Response:
            key = body.get("key")
            if key and key in self.keys:
                return web.json_response({"id": self.keys[key]})
            external_id = f"p{len(self.sends) + 1}"
            self.record(Accepted(body["ours"], external_id, body["to"], body))
            if key:
                self.keys[key] = external_id
            return web.json_response({"id": external_id})

        return await self.answer(request, accept)


@dataclass(frozen=True, slots=True)
class PigeonSettings:
    api_base: str


class PigeonAdapter:
    name: ClassVar[str] = "pigeon"
    channels: ClassVar[tuple[Channel, ...]] = (PIGEON, KEYED, OPEN, POST, SLOW, TIGHT, FINAL)
    settings_type: ClassVar[type[Any]] = PigeonSettings
    signature_headers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, account: Account, settings: PigeonSettings, http: Http) -> None:
        self.account = account
        self._base, self._http = settings.api_base, http

    def routing_keys(self) -> frozenset[str]:
        return frozenset({self.account.id})

    def verify(self, callback: Callback) -> None:
        return

    def well_formed(self, callback: Callback) -> None:
        return

    def acknowledge(self, callback: Callback) -> Answer:
        return OK

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        return ()

    async def send(self, message: OutboundMessage) -> Sent:
        body = {"ours": message.id, "to": message.to[0].value, "text": message.text}
        if message.channel in ("keyed", "post"):
            body["key"] = message.mail.message_id if message.mail else message.key
        answer = await self._http.request("POST", f"{self._base}/notes", json=msgspec.json.encode(body))
        if answer.status != 200:
            code = str(answer.json_or_empty().get("code", ""))
            raise platform_error(ERRORS, answer.status, code)
        return Sent(answer.json()["id"])

    async def probe(self) -> None:
        answer = await self._http.request("GET", f"{self._base}/ring")
        if answer.status != 200:
            raise SendError("auth", "token", pause="account")


class FindingAdapter(PigeonAdapter):
    """Can say what became of a message."""

    name: ClassVar[str] = "finding"
    truth: ClassVar[dict[str, Sent | None]] = {}

    async def find(self, message: OutboundMessage) -> Sent | None:
        if message.id not in self.truth:
            raise SendError("retry", "cannot-say")
        return self.truth[message.id]


_: type[Adapter] = PigeonAdapter


@dataclass
class World:
    """A gateway without its web side."""

    core: Core
    clock: FakeClock
    platform: PigeonPlatform
    numbers: Iterable[int] = field(default_factory=lambda: iter(range(1001, 99_999)))

    def dispatcher(self, **more: Any) -> Dispatcher:
        store = OutboxStore(self.core)
        defaults: dict[str, Any] = {"owner": "test", "chance": lambda: 0.5}
        return Dispatcher(store, self.core.accounts, self.clock, store.pace, **(defaults | more))

    async def run(self, dispatcher: Dispatcher) -> None:
        """Until nothing more can be sent now."""
        for _ in range(1000):
            if not await dispatcher.round() and not dispatcher.busy:
                return
            await dispatcher.settled()
        raise AssertionError("it never ends")

    async def ticket(self, channel: str = "open", *, account: str = "loft", opened: datetime | None = START,
                     ring: str = "", **columns: Any) -> str:  # fmt: skip
        """A ticket of a new customer on an account."""
        number = next(iter(self.numbers))
        return await self.core.database.write(
            lambda c: _seed(c, channel, account, ring or f"ring-{number}", number, opened, self.clock(), columns)
        )

    async def rows(self, table: Table, *where: Any) -> list[Any]:
        return await self.core.database.read(
            lambda c: list(c.execute(select(table).where(*where).order_by(*table.primary_key.columns)).all())
        )

    async def message(self, message_id: str) -> Any:
        return (await self.rows(schema.messages, schema.messages.c.id == message_id))[0]

    async def status(self, message_id: str) -> str:
        return str((await self.message(message_id)).status)

    async def log(self, ticket_id: str) -> list[str]:
        rows = await self.rows(schema.ticket_events, schema.ticket_events.c.ticket_id == ticket_id)
        return [row.kind for row in sorted(rows, key=lambda row: row.sequence)]

    async def execute(self, statement: Any) -> None:
        def job(connection: Connection) -> None:
            connection.execute(statement)

        await self.core.database.write(job)


def _seed(
    connection: Connection, channel: str, account: str, ring: str, number: int, opened: datetime | None,
    now: datetime, columns: dict[str, Any],
) -> str:  # fmt: skip
    at = micros(now)
    contact, identity, conversation, ticket = new_id(), new_id(), new_id(), new_id()
    kind = columns.pop("kind", "private")
    address_kind = columns.pop("address_kind", "ring")
    connection.execute(insert(schema.contacts).values(id=contact, name="Ann", created_at=at, last_seen_at=at))
    connection.execute(
        insert(schema.identities).values(
            id=identity, contact_id=contact, channel=channel, account=account, external_id=ring,
            opened_at=None if opened is None else micros(opened), created_at=at,
            **{name: columns.pop(name) for name in ("state", "optouts", "window_used") if name in columns},
        )
    )  # fmt: skip
    connection.execute(
        insert(schema.addresses).values(
            id=new_id(), identity_id=identity, channel=channel, account=account, kind=address_kind, value=ring,
            scope="account", evidence="attested", attested_at=at,
        )
    )  # fmt: skip
    connection.execute(
        insert(schema.conversations).values(
            id=conversation, identity_id=identity, account=account, channel=channel, kind=kind,
            key=conversation if kind == "mail" else identity, created_at=at,
        )
    )  # fmt: skip
    connection.execute(
        insert(schema.tickets).values(
            id=ticket, number=number, conversation_id=conversation, contact_id=contact, identity_id=identity,
            channel=channel, account=account, subject="Seeds", created_at=at, updated_at=at, **columns,
        )
    )  # fmt: skip
    return ticket


@asynccontextmanager
async def world(
    directory: Path,
    *,
    rate: float | None = None,
    adapters: dict[str, type[Any]] | None = None,
    database_url: str = "",
    policy: Policy = USUAL,
    fallback: tuple[FallbackSettings, ...] = (),
    **gateway: Any,
) -> AsyncIterator[World]:
    """A gateway with the accounts `loft` and `tower` (or `adapters`), its platform running.

    `database_url` names an empty PostgreSQL database to use instead of a file in `directory`.
    """
    async with PigeonPlatform() as platform, aiohttp.ClientSession() as session:
        media = MediaClient(allow_private=False, max_bytes=1000)
        url = dialect.url_of(database_url, str(directory / "gateway.db"))
        engine = dialect.write_engine(url)
        schema.metadata.create_all(engine)
        engine.dispose()
        database = Database(url)
        database.start()
        clock = FakeClock()
        bound = []
        for name, adapter in (adapters or {"loft": PigeonAdapter, "tower": PigeonAdapter}).items():
            account = Account(name, "pigeon", frozenset({f"{name}@loft.example", name}))
            settings = PigeonSettings(platform.url)
            made = adapter(account, settings, Http(session, [platform.url], media, timeout_s=PATIENCE_S))
            channels = {channel.name: policy.on(channel) for channel in adapter.channels}
            policies = dict.fromkeys(channels, policy)
            bound.append(BoundAccount(name, made, AccountSettings(name, "pigeon", settings, rate), channels, policies))
        core = Core(
            Settings(
                gateway=GatewaySettings(public_url="https://gw.example", **gateway), base_dir=directory,
                fallback=fallback,
            ),
            database, Accounts(bound), Bus(), clock, Tokens([Secret("key")]), Blobs(directory / "media"), Metrics(),
        )  # fmt: skip
        try:
            yield World(core, clock, platform)
        finally:
            await database.stop()
            await media.aclose()


def index_names(plan: Iterable[Any]) -> set[str]:
    """The indexes a query plan of SQLite names."""
    return {found for row in plan for found in re.findall(r"ix_\w+", row[-1])}
