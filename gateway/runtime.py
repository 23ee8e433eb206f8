"""The one wiring place: settings in, a running gateway out. Nothing else decides what runs where."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiohttp
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError

from adapters import Closing, Http
from adapters._http import new_session
from adapters._load import FoundAdapter
from adapters._load import find as find_adapters
from adapters._media import MediaClient
from config.settings import ConfigError, Fault, Settings
from config.values import UNESCAPED
from gateway import automatic, loading, replies
from gateway.blobs import Blobs
from gateway.bus import Bus
from gateway.control_socket import Control
from gateway.core import Core
from gateway.crm import CrmWorker, clients_of
from gateway.deadletters import Undertaker
from gateway.errands import ErrandWorker
from gateway.fallback import take_over
from gateway.ids import Clock, system_clock
from gateway.intake import IntakeWorker
from gateway.lock import DataLock, make_data_dir
from gateway.lookups import LookupWorker
from gateway.mailboxes import MailCollector
from gateway.mailroom import Mailroom
from gateway.media import MediaWorker
from gateway.metrics import Metrics
from gateway.profiles import ProfileWorker
from gateway.retention import Retention
from gateway.secret_key import secret_keys
from gateway.smtp import SmtpReceiver
from gateway.store import dialect, migrate
from gateway.store.engine import Database
from gateway.store.outbox import OutboxStore
from gateway.tokens import Tokens
from gateway.upkeep import Upkeep
from gateway.vault import Vault
from gateway.web.app import create_app, create_health_app, make_runner
from gateway.web.health import Health
from outbox.dispatcher import Dispatcher
from outbox.rules import load_rules

log = logging.getLogger(__name__)

ROLES = ("web", "worker", "sender")
STOP_TIMEOUT_S = 60.0
ONE_WISH_S = 0.3  # whoever signals a process and then its group means one stop
EMBEDDED_FILE = "gateway.db"
NO_SINK = "no sink is built in yet: nothing is sent there"


def store_url(settings: Settings) -> URL:
    """The address of the store: the embedded one in `data_dir`, or the configured database. Raises `ConfigError`."""
    try:
        return dialect.url_of(settings.gateway.database.reveal(), str(settings.data_dir / EMBEDDED_FILE))
    except (ValueError, ArgumentError):  # their words may quote a part of the password
        words = f"not a postgresql:// address, or there is a character {UNESCAPED}"
        raise ConfigError(Fault("gateway.database", words)) from None


def is_embedded(settings: Settings) -> bool:
    """Whether the store is a file of ours, with one writer."""
    return store_url(settings).get_backend_name() == "sqlite"


def open_database(settings: Settings) -> Database:
    """The store at its newest schema, started. Raises `StoreUnavailable` or `StoreTooNew`."""
    if is_embedded(settings):
        make_data_dir(settings.data_dir)
    url = store_url(settings)
    engine = dialect.write_engine(url)
    try:
        migrate.upgrade(engine)
    except Exception as error:
        refused = isinstance(error, DBAPIError) and error.statement is None  # the connection, for whatever reason
        if refused or dialect.unavailable(error):
            raise dialect.StoreUnavailable(f"the store cannot be opened: {migrate.trouble(error)}") from None
        raise
    finally:
        engine.dispose()
    database = Database(url)
    database.start()
    return database


@dataclass(slots=True)
class Gateway:
    """A gateway in this process: `start`, then `stop`. `roles` say what it does."""

    settings: Settings
    roles: Sequence[str] = ROLES
    clock: Clock = system_clock
    found: Mapping[str, FoundAdapter] | None = None
    core: Core = field(init=False)
    address: str = field(init=False, default="")
    smtp: SmtpReceiver | None = field(init=False, default=None)
    dispatcher: Dispatcher | None = field(init=False, default=None)
    worker: IntakeWorker | None = field(init=False, default=None)
    _health: Health = field(init=False)
    _session: aiohttp.ClientSession = field(init=False)
    _runner: web.AppRunner = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(init=False, default_factory=list)
    _exit: contextlib.AsyncExitStack = field(init=False, default_factory=contextlib.AsyncExitStack)

    async def start(self) -> None:
        """Bring everything up. Raises `ConfigError`, `Locked`, `StoreUnavailable`, `OSError`; then nothing is left."""
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise

    async def _start(self) -> None:
        check_roles(self.settings, self.roles)
        media = await self._open()
        if fault := dialect.wal_reset_fault() if is_embedded(self.settings) else "":
            log.warning("store.sqlite_fault", extra={"detail": fault})
        if self.settings.sinks:
            log.warning(
                "sinks.unused", extra={"detail": NO_SINK, "sinks": [sink["id"] for sink in self.settings.sinks]}
            )
        if HttpRequestParser is HttpRequestParserPy:
            log.warning("web.slow_parser", extra={"detail": "the compiled HTTP parser is not in use"})
        self._health = Health(self.core)
        self._health.warn(self.core.bus.warnings)
        await self._listen()
        if is_embedded(self.settings):
            control = Control(self.core)
            await control.start()
            self._exit.push_async_callback(control.stop)
        self._work(media)  # last, as nothing can fail any more: a start that fails must not have begun to send
        log.info("gateway.started", extra={"address": self.address, "roles": ",".join(self.roles)})

    async def _open(self) -> MediaClient:
        """The core, with store, sessions and adapters; nothing runs yet."""
        settings = self.settings
        keys = secret_keys(settings)
        if is_embedded(settings):
            self._exit.enter_context(DataLock(settings.data_dir))
        database = await asyncio.to_thread(open_database, settings)
        self._exit.push_async_callback(database.stop)
        self._session = session = new_session()
        self._exit.push_async_callback(session.close)
        media = MediaClient(allow_private=settings.media.allow_private_networks, max_bytes=settings.media.max_bytes)
        self._exit.push_async_callback(media.aclose)
        metrics = Metrics()
        self.core = Core(
            settings=settings,
            database=database,
            accounts=loading.bind(settings, self.found or find_adapters(), http_maker(session, media)),
            bus=await self._bus(database, metrics),
            clock=self.clock,
            tokens=Tokens(keys),
            blobs=Blobs(settings.data_dir / "media"),
            metrics=metrics,
        )
        loading.share_tokens(self.core.accounts, Vault(database, keys, self.clock))
        for account in self.core.accounts:
            if isinstance(account.adapter, Closing):
                self._exit.push_async_callback(account.adapter.aclose)
        return media

    async def _bus(self, database: Database, metrics: Metrics) -> Bus:
        """The bus of this process, or with `gateway.redis` the one it shares with others on the same store."""
        bus = Bus()
        if url := self.settings.gateway.redis.reveal():
            from gateway.bus.redis import RedisBus  # its client takes long to load, and most run without

            store = await database.read(dialect.identity)
            try:
                bus = RedisBus(url, hashlib.sha256(store.encode()).hexdigest()[:12], metrics)
            except ValueError:
                raise ConfigError(Fault("gateway.redis", "not an address of a Redis")) from None
        await bus.start()
        self._exit.push_async_callback(bus.stop)
        return bus

    @contextlib.asynccontextmanager
    async def resting(self) -> AsyncIterator[Core]:
        """The core alone, for a command: nothing listens, nothing works."""
        async with self._exit:
            await self._open()
            yield self.core

    def _work(self, media: MediaClient) -> None:
        core, settings = self.core, self.settings
        if "worker" in self.roles:
            self.worker = IntakeWorker(
                core,
                lambda connection, told: automatic.notify(connection, core, replies.file, automatic.notices(told)),
                lambda connection, refused: take_over(connection, core, refused),
            )
            self._run("intake", self.worker.run())
            self._run("media", MediaWorker(core, media).run())
            self._run("profiles", ProfileWorker(core).run())
            self._run("lookups", LookupWorker(core).run())
            self._run("retention", Retention(core).run())
            self._run("dead letters", Undertaker(core).run())
            self._run("upkeep", Upkeep(core).run())
            collector = MailCollector(core, alone=is_embedded(settings))
            self._health.warn(collector.warnings)
            self._run("mailboxes", collector.run())
            crms = CrmWorker(core, clients_of(settings.crm, self._session, media, self.clock))
            self._run("errands", ErrandWorker(core, {crm.id: crms.do for crm in settings.crm}).run())
            self._run("crm", crms.watch())
        if "sender" in self.roles:
            store = OutboxStore(core)
            self.dispatcher = Dispatcher(
                store,
                core.accounts,
                core.clock,
                store.pace,
                owner=f"{os.getpid()}-{secrets.token_hex(4)}",
                rules=load_rules(),
                on_unknown=settings.gateway.on_unknown,
                alone=is_embedded(settings),
                observe=core.metrics.count_send,
            )
            self._run("outbox", self.dispatcher.run())

    async def _listen(self) -> None:
        core, settings = self.core, self.settings
        web_role = "web" in self.roles
        app = create_app(core, health=self._health) if web_role else create_health_app(core, self._health)
        self._runner = make_runner(app)
        await self._runner.setup()
        self._exit.push_async_callback(self._runner.cleanup)
        host, _, port = settings.gateway.listen.rpartition(":")
        site = web.TCPSite(self._runner, host.strip("[]"), int(port), backlog=1024)
        await site.start()
        bound = self._runner.addresses[0]
        self.address = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        if web_role and settings.smtp is not None:
            mailroom = Mailroom(core)
            self.smtp = SmtpReceiver(settings.smtp, mailroom.resolve, mailroom.keep)
            await self.smtp.start()
            self._exit.push_async_callback(self.smtp.stop)

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_ended)
        self._tasks.append(task)

    async def drain(self) -> None:
        """Say that no more work is wanted, and take it for a moment longer: a load balancer has to see it first.

        Where nobody asks `/readyz` nobody would see it, and nothing is waited for.
        """
        self._health.draining = True
        wait_s = self.settings.gateway.drain_s
        if wait_s and "web" in self.roles and self._health.is_watched():
            log.info("gateway.draining", extra={"seconds": wait_s})
            await asyncio.sleep(wait_s)

    async def stop(self) -> None:
        """End: no more work is taken, what runs may end, what waits is left to the next start."""
        self._health.draining = True
        if self.smtp is not None:
            await self.smtp.stop()
        self.core.bus.close()
        await self._runner.cleanup()
        if self.dispatcher is not None:
            await self.dispatcher.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._exit.aclose()
        log.info("gateway.stopped")


def check_roles(settings: Settings, roles: Sequence[str]) -> None:
    """Raise `ConfigError` for roles that cannot run so."""
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise ConfigError(Fault("--roles", f"unknown: {', '.join(unknown)}; known are {', '.join(ROLES)}"))
    if is_embedded(settings) and set(roles) != set(ROLES):
        raise ConfigError(Fault("--roles", "roles apart need PostgreSQL: set gateway.database"))


def http_maker(session: aiohttp.ClientSession, media: MediaClient) -> Callable[[tuple[str, ...]], Http]:
    """Makes each account's `Http`: one session for all, each with its own hosts."""
    return lambda hosts: Http(session, hosts, media)


def _ended(task: asyncio.Task[None]) -> None:
    """A worker never ends by itself; when one does, that must be seen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("gateway.worker_ended", extra={"worker": task.get_name(), "error": type(error).__name__})


def calm_collector() -> None:
    """What stands at the start lives as long as the process: the collector need not walk it.

    A batch of intake makes thousands of short-lived records: by default the collector would run all the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def serve(settings: Settings, roles: Sequence[str], found: Mapping[str, FoundAdapter] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code. A second signal ends the process at once."""
    gateway = Gateway(settings, roles, found=found)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked_at = 0.0

    def asked() -> None:
        nonlocal asked_at
        if not stopping.is_set():
            asked_at = loop.time()
            stopping.set()
        elif loop.time() - asked_at > ONE_WISH_S:
            _give_up("gateway.stop_cut_short")

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, asked)
    await gateway.start()
    calm_collector()
    print(f"listening on {gateway.address}", flush=True)
    if gateway.smtp is not None:
        print(f"receiving mail on port {gateway.smtp.port}", flush=True)
    await stopping.wait()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await gateway.drain()
            await gateway.stop()
    except TimeoutError:
        _give_up("gateway.stop_timed_out")
    return 0


def _give_up(event: str) -> NoReturn:
    """End now: what is under way is left to the next start."""
    log.critical(event)
    sys.stderr.flush()
    os._exit(1)
