"""A gateway's core on an embedded store of its own, with one WhatsApp account, for the benchmarks."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sqlite3
import time
from pathlib import Path

from adapters import Http
from adapters.whatsapp import Settings as WhatsAppSettings
from adapters.whatsapp import WhatsAppAdapter
from config.secret import Secret
from config.settings import AccountSettings, GatewaySettings, LimitSettings, Settings
from gateway.accounts import Accounts, BoundAccount
from gateway.blobs import Blobs
from gateway.bus import Bus
from gateway.core import Core
from gateway.ids import system_clock
from gateway.metrics import Metrics
from gateway.store import dialect
from gateway.store.engine import Database
from gateway.store.schema import metadata
from gateway.tokens import Tokens
from normalizers.model import Account

ACCOUNT = "wa"
APP_SECRET = "bench-app-secret"  # opens nothing
NUMBER_ID = "900"
STORE = "gateway.db"


def make_core(
    directory: Path, *, api_base: str = "http://127.0.0.1:9", http: Http | None = None, database: str = "",
    matching: tuple[str, ...] = ("phone",),
) -> Core:  # fmt: skip
    """A core with its store started: a file in `directory`, or an empty `database`. Rate limits are lifted: they are
    not what is measured."""
    url = dialect.url_of(database, str(directory / STORE))
    engine = dialect.write_engine(url)
    metadata.create_all(engine)
    engine.dispose()
    store = Database(url)
    store.start()
    options = WhatsAppSettings(
        phone_number_id=NUMBER_ID, access_token=(Secret("bench"),), app_secret=(Secret(APP_SECRET),),
        verify_token=(Secret("bench"),), api_base=api_base,
    )  # fmt: skip
    adapter = WhatsAppAdapter(Account(ACCOUNT, "whatsapp"), options, http)  # type: ignore[arg-type] # hearing needs none
    settings = Settings(
        gateway=GatewaySettings(matching_attribute=matching, data_dir="."),
        limits=LimitSettings(webhook_per_minute_per_ip=10**9, api_per_minute=10**9),
        base_dir=directory,
    )
    account = AccountSettings(ACCOUNT, "whatsapp", options, rate=100_000.0)
    return Core(
        settings=settings,
        database=store,
        accounts=Accounts([BoundAccount(ACCOUNT, adapter, account, {c.name: c for c in adapter.channels})]),
        bus=Bus(),
        clock=system_clock,
        tokens=Tokens([Secret("bench" * 8)]),
        blobs=Blobs(directory / "media"),
        metrics=Metrics(),
    )


def message_body(customer: int, number: int, *, text: str = "Where is my parcel? It was due on Monday.") -> bytes:
    """A text message as the platform posts it."""
    return (
        b'{"object":"whatsapp_business_account","entry":[{"id":"7","changes":[{"field":"messages","value":'
        b'{"messaging_product":"whatsapp","metadata":{"display_phone_number":"4930111222","phone_number_id":"%s"},'
        b'"contacts":[{"profile":{"name":"Customer %d"},"wa_id":"49155%07d","user_id":"DE.%012d"}],"messages":[{'
        b'"id":"wamid.%09d","from":"49155%07d","from_user_id":"DE.%012d","timestamp":"%d","type":"text",'
        b'"text":{"body":"%s"}}]}}]}]}'
        % (NUMBER_ID.encode(), customer, customer, customer, number, customer, customer, int(time.time()),
           text.encode())
    )  # fmt: skip


def signature(body: bytes) -> str:
    """What the platform signs the body with."""
    return "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()


def count(directory: Path, table: str) -> int:
    """The rows of a table, as another process sees them: what is committed."""
    connection = sqlite3.connect(f"file:{directory / STORE}?mode=ro", uri=True)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


async def keep_all(core: Core, bodies: list[bytes], first_id: int = 0) -> None:
    """Keep these deliveries, as the accept path would."""
    from gateway.ids import micros, new_id

    rows = [
        {
            "id": new_id(), "account": ACCOUNT, "source": "webhook", "url": "", "headers": "{}", "query": "{}",
            "body": body, "received_at": micros(core.clock()),
        }
        for body in bodies
    ]  # fmt: skip
    for start in range(0, len(rows), 5000):
        await asyncio.gather(*(core.database.keep(row) for row in rows[start : start + 5000]))
