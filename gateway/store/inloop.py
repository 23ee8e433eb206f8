"""Writes that take a while and are waited for, on a store that is reached over a connection: without a thread.

A thread that claims and one that records want the interpreter together with the loop that sends, and each waits for
another at every statement. Here the same plain function of a connection runs in the event loop, which does other work
whenever the function waits for the server (SQLAlchemy, "Asynchronous I/O", `run_sync`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from gateway.store import dialect
from gateway.store.dialect import StoreUnavailable

T = TypeVar("T")

CONTENDED_TRIES = 5
CONTENDED_WAIT_S = 0.05


class InLoop:
    """Jobs with a transaction each, side by side. A job must not take long to think: nothing else runs meanwhile."""

    def __init__(self, url: URL) -> None:
        self._engine = dialect.loop_engine(url)
        self._jobs: set[asyncio.Task[object]] = set()

    async def write(self, job: Callable[[Connection], T]) -> T:
        """What `job` returns, once it is durable. Who stops waiting does not stop the job.

        Raises `StoreUnavailable`; other errors of the job come out as they are, and nothing was changed.
        """
        task = asyncio.get_running_loop().create_task(self._write(job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Let jobs end, and close the connections."""
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self._engine.dispose()

    async def _write(self, job: Callable[[Connection], T]) -> T:
        for tries in range(1, CONTENDED_TRIES + 1):
            try:
                async with self._engine.connect() as connection, connection.begin():
                    return await connection.run_sync(job)
            except Exception as error:
                if dialect.unavailable(error) and not dialect.contended(error):
                    raise StoreUnavailable(dialect.cause(error)) from error
                if tries == CONTENDED_TRIES or not dialect.contended(error):
                    raise
            await asyncio.sleep(random.uniform(0, CONTENDED_WAIT_S))  # noqa: S311 - so that two do not meet again
        raise AssertionError("the last try returns or raises")
