"""The local door of a running gateway: commands that write go through the one process that may.

A socket in the data directory, readable by its owner alone. When nothing listens there, a command takes the lock and
does the same work itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from config.settings import ConfigError, Fault
from gateway.control import COMMANDS, CommandError
from gateway.core import Core
from gateway.store.dialect import StoreUnavailable

log = logging.getLogger(__name__)

SOCKET = "control.sock"
_PATH_MAX = 103  # bytes of a socket's path that every system takes (sun_path: 108 on Linux, 104 on macOS)


def check_length(data_dir: Path) -> None:
    """Raise `ConfigError` where the system's limit on a socket's path leaves no room for ours."""
    if (over := len(os.fsencode(data_dir / SOCKET)) - _PATH_MAX) > 0:
        words = f"too long by {over} bytes: the system limits the path of the socket in it; name a shorter folder"
        raise ConfigError(Fault("gateway.data_dir", words))


class Control:
    """Serves commands on the socket while the gateway runs."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._path = core.settings.data_dir / SOCKET
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises `ConfigError` as `check_length` does."""
        check_length(self._path.parent)
        app = web.Application()
        app.router.add_post("/{command}", self._command)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o600)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _command(self, request: web.Request) -> web.Response:
        command = COMMANDS.get(request.match_info["command"])
        if command is None:
            return web.json_response({"error": "unknown command"}, status=404)
        try:
            arguments = msgspec.json.decode(await request.read(), type=dict[str, Any])
            result = await command(self._core, arguments)
        except (CommandError, msgspec.DecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except StoreUnavailable as error:
            return web.json_response({"error": str(error)}, status=503)
        except Exception as error:
            log.exception("control.failed")
            words = f"{type(error).__name__} in the running gateway: its log says where"
            return web.json_response({"error": words}, status=500)
        return web.json_response(result)


@contextlib.contextmanager
def _hung_up() -> Iterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorError:
        raise  # nobody listens
    except aiohttp.ClientError as error:
        words = f"the running gateway went away before it answered ({type(error).__name__}): see what it has done"
        raise CommandError(words) from None


async def ask_running(data_dir: Path, command: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Have the running gateway carry a command out; None when none runs. Raises `CommandError`."""
    path = data_dir / SOCKET
    if not path.exists():
        return None
    connector = aiohttp.UnixConnector(str(path))
    patient = aiohttp.ClientTimeout(total=None)  # a large import, or a rule applied to a large store, takes its time
    async with aiohttp.ClientSession(connector=connector, timeout=patient) as session:
        with contextlib.suppress(aiohttp.ClientConnectorError), _hung_up():
            async with session.post(f"http://gateway/{command}", data=msgspec.json.encode(dict(arguments))) as answer:
                try:
                    result: dict[str, Any] = await answer.json()
                except (aiohttp.ClientError, ValueError):
                    raise CommandError(f"the running gateway answered {answer.status} without a word") from None
                if answer.status != 200:
                    raise CommandError(str(result.get("error", "it failed")))
                return result
    return None
