"""`gateway check`: every fault by its place, and what only may be wrong."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adapters import Adviser, Closing, Probe, SendError
from adapters._http import new_session
from adapters._media import MediaClient
from config.settings import ConfigError, Fault, Settings
from gateway import runtime
from gateway.accounts import BoundAccount
from gateway.advice import about_matching
from gateway.bus.check import trouble_of_redis
from gateway.cli import load
from gateway.control_socket import check_length
from gateway.crm import Crm, clients_of
from gateway.crm import probe as probe_crm
from gateway.ids import system_clock
from gateway.loading import bind
from gateway.lock import DataLock, Locked, make_data_dir
from gateway.secret_key import secret_keys
from gateway.store import dialect, migrate

PROBE_TIMEOUT_S = 10.0


def check(parsed: argparse.Namespace) -> int:
    """Every fault on a line of its own; what only may be wrong is a warning."""
    faults, warnings = asyncio.run(_check(parsed.config))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("ok")
    return 2 if faults else 0


async def _check(path: Path) -> tuple[list[Fault], list[Fault]]:
    try:
        settings, found = load(path)
        secret_keys(settings)
    except ConfigError as error:
        return list(error.faults), []
    except OSError as error:
        return [Fault("gateway.data_dir", f"cannot be used: {error}")], []
    faults = _check_store(settings)
    warnings: list[Fault] = []
    session = new_session()
    media = MediaClient(allow_private=False, max_bytes=1)
    try:
        accounts = bind(settings, found, runtime.http_maker(session, media))
        warnings += _without_address(settings, accounts)
        checks = [_probe(f"accounts[{account.settings.index}]", account.adapter) for account in accounts]
        crms = clients_of(settings.crm, session, media, system_clock)
        checks += [_probe_crm(f"crm[{index}]", crms[crm.id]) for index, crm in enumerate(settings.crm)]
        for fault, fatal in filter(None, await asyncio.gather(*checks)):
            (faults if fatal else warnings).append(fault)
        for account in accounts:
            if isinstance(account.adapter, Closing):
                await account.adapter.aclose()
            if isinstance(account.adapter, Adviser):
                where = f"accounts[{account.settings.index}]"
                warnings += [Fault(f"{where}.{key}", words) for key, words in account.adapter.advice()]
    except ConfigError as error:
        faults += error.faults
    finally:
        await media.aclose()
        await session.close()
    if redis := settings.gateway.redis.reveal():
        for words, fatal in await trouble_of_redis(redis, alone=runtime.is_embedded(settings)):
            (faults if fatal else warnings).append(Fault("gateway.redis", words))
    if not faults:
        warnings += _without_effect(settings)
    return faults, warnings


def _without_address(settings: Settings, accounts: Iterable[BoundAccount]) -> list[Fault]:
    """Whose signatures cover an address that nobody told us."""
    signed = [account.id for account in accounts if getattr(account.adapter, "signs_address", False)]
    if not signed or settings.gateway.public_url:
        return []
    words = f"missing: behind a proxy no webhook of {', '.join(signed)} passes, as its signature covers the address"
    return [Fault("gateway.public_url", words)]


def _without_effect(settings: Settings) -> list[Fault]:
    """What is written well, and yet nothing comes of it."""
    found = [Fault(f"sinks[{index}]", runtime.NO_SINK) for index in range(len(settings.sinks))]
    return found + about_matching(settings)


def _check_store(settings: Settings) -> list[Fault]:
    """Whether the store can be opened and brought to the newest schema."""
    if runtime.is_embedded(settings):
        try:
            check_length(settings.data_dir)
            make_data_dir(settings.data_dir)
            with DataLock(settings.data_dir):
                return _open(settings, "gateway.data_dir")
        except Locked:
            return []  # a gateway runs on it: it works
        except ConfigError as error:
            return list(error.faults)
        except OSError as error:
            return [Fault("gateway.data_dir", f"cannot be written: {error.strerror}")]
    return _open(settings, "gateway.database")


def _open(settings: Settings, key: str) -> list[Fault]:
    engine = dialect.write_engine(runtime.store_url(settings))
    try:
        migrate.upgrade(engine)
    except Exception as error:
        return [Fault(key, f"the store cannot be opened: {migrate.trouble(error)}")]
    finally:
        engine.dispose()
    return []


async def _probe(where: str, adapter: Any) -> tuple[Fault, bool] | None:
    """Whether the platform takes our credentials. That it cannot be reached now is no fault of the configuration."""
    if not isinstance(adapter, Probe):
        return None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await adapter.probe()
    except SendError as error:
        fatal = error.error_class == "auth"
        words = "the platform refuses the credentials" if fatal else "the platform cannot be reached"
        return Fault(where, f"{words}: {error.code}"), fatal
    except TimeoutError:
        return Fault(where, "the platform does not answer"), False
    return None


async def _probe_crm(where: str, client: Crm) -> tuple[Fault, bool] | None:
    """Whether a CRM lets us in and answers as it should."""
    error = await probe_crm(client, PROBE_TIMEOUT_S)
    if error is None:
        return None
    if error.error_class == "auth":
        return Fault(where, f"the CRM refuses the credentials: {error.code}"), True
    words = "does not answer as it should" if error.error_class == "permanent" else "cannot be reached"
    return Fault(where, f"the CRM {words}: {error.code} {error.detail}".rstrip()), False
