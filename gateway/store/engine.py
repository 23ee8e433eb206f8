"""One door to the database: reads side by side, writes grouped so that all that wait share one commit.

A writer thread takes everything that waits and runs it in one transaction, each job in a savepoint of its own, so
that a job that fails takes nobody with it. One fsync then serves them all; only after it does anybody hear of success.
This is what lets one process accept thousands of deliveries a second with every one of them on disk.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.store import dialect
from gateway.store.dialect import StoreUnavailable
from gateway.store.inloop import CONTENDED_TRIES, CONTENDED_WAIT_S, InLoop
from gateway.store.many import insert_many
from gateway.store.schema import deliveries

T = TypeVar("T")
Job = Callable[[Connection], Any]

log = logging.getLogger(__name__)
GROUP_MAX = 512
CROWD = 4  # jobs in one commit from which on more are waited for
GATHER_S = 0.003  # how long: fewer, larger commits leave the event loop more of the processor


class _Waiting:
    """A job and who waits for it. `job` None: a delivery to keep, `row`. `alone`: it shares no transaction."""

    __slots__ = ("alone", "error", "future", "job", "loop", "result", "row")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, job: Job | None, row: dict[str, Any] | None, *, alone: bool
    ) -> None:
        self.loop, self.job, self.row, self.alone = loop, job, row, alone
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None


def _settle(batch: Sequence[_Waiting]) -> None:
    """In the event loop: tell everybody at once."""
    for waiting in batch:
        if waiting.future.done():
            continue
        if waiting.error is not None:
            waiting.future.set_exception(waiting.error)
        else:
            waiting.future.set_result(waiting.result)


class Database:
    """Reads and writes for all of the gateway. Jobs are plain functions of a connection, run in a thread.

    Raises `StoreUnavailable` when the store cannot take or answer now; other errors of a job come out as they are.
    """

    def __init__(self, url: URL, *, queue_max: int = 20_000) -> None:
        self.url = url
        self._writes = dialect.write_engine(url)
        self._reads = dialect.read_engine(url)
        self._in_loop = InLoop(url) if dialect.waits_in_loop(url) else None
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="store-read")
        self._queue_max = queue_max
        self._small: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self.commit_s = 0.0  # of the last commit, for metrics

    def start(self) -> None:
        """Start the writer threads."""
        for number in range(dialect.writer_count(self.url)):
            thread = threading.Thread(target=self._run, name=f"store-write-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    async def stop(self) -> None:
        """Finish what waits, then close. Later jobs are refused."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        if self._in_loop is not None:
            await self._in_loop.stop()
        self._readers.shutdown(wait=True)
        self._reads.dispose()
        self._writes.dispose()

    # --- asking ---

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run `job` on a consistent view of what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    def _read(self, job: Callable[[Connection], T]) -> T:
        again = True  # over another connection, when the one at hand had died unnoticed
        while True:
            try:
                with self._reads.connect() as connection:
                    return job(connection)
            except Exception as error:
                if again and isinstance(error, DBAPIError) and error.connection_invalidated:
                    again = False
                    continue
                if dialect.unavailable(error):
                    raise StoreUnavailable(dialect.cause(error)) from error
                raise

    async def write(self, job: Callable[[Connection], T], *, alone: bool = False) -> T:
        """Run `job` in a transaction shared with whatever else waits; returns once it is durable.

        Keep it short. Raising undoes this job alone. `alone`: it takes a while and somebody waits for it: it has a
        transaction of its own, and on a store that one waits for runs in the event loop (`inloop`).
        """
        if alone and self._in_loop is not None:
            return await self._in_loop.write(job)
        result: T = await self._submit(self._small, job, None, alone=alone)
        return result

    async def bulk(self, job: Callable[[Connection], T]) -> T:
        """Run a long job in a transaction of its own; returns once it is durable."""
        result: T = await self._submit(self._bulk, job, None)
        return result

    async def scrub(self) -> None:
        """What was removed is gone from the store's own log too, as far as the store does that on request."""
        try:
            await asyncio.to_thread(dialect.scrub, self._writes)
        except Exception as error:
            if not dialect.unavailable(error) and not isinstance(error, PoolTimeout):
                raise
            log.warning("store.not_scrubbed", extra={"error": type(error).__name__})

    def keep(self, row: dict[str, Any]) -> asyncio.Future[None]:
        """Keep one delivery: the future is done once the row is durable. Raises `StoreUnavailable` when full."""
        return self._submit(self._small, None, row)

    def _submit(
        self, queue: deque[_Waiting], job: Job | None, row: dict[str, Any] | None, *, alone: bool = False
    ) -> asyncio.Future[Any]:
        if self._stopping or len(queue) >= self._queue_max:
            raise StoreUnavailable("the store is stopping" if self._stopping else "too much waits for the store")
        waiting = _Waiting(asyncio.get_running_loop(), job, row, alone=alone)
        with self._wake:
            queue.append(waiting)
            self._wake.notify()
        return waiting.future

    # --- writing ---

    def _run(self) -> None:
        crowded = False
        while True:
            with self._wake:
                while not self._small and not self._bulk and not self._stopping:
                    self._wake.wait()
                if not self._small and not self._bulk:
                    return
            if crowded:
                time.sleep(GATHER_S)
            with self._wake:
                small = self._group()
                long = [self._bulk.popleft()] if self._bulk else []
            crowded = len(small) >= CROWD
            for batch in (small, long):
                if batch:
                    self._commit(batch)

    def _group(self) -> list[_Waiting]:
        """The next jobs that share a commit."""
        found: list[_Waiting] = []
        while self._small and len(found) < GROUP_MAX and not (found and (found[0].alone or self._small[0].alone)):
            found.append(self._small.popleft())
        return found

    def _commit(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            self._try(batch)
        except Exception as error:
            if dialect.contended(error) and len(batch) > 1:
                for waiting in batch:  # another process took the same rows in another order: alone, each takes few
                    waiting.error = None
                    self._commit([waiting])
                return
            failure: Exception = error
            if dialect.unavailable(error):
                log.error("store.commit_failed", extra={"error": dialect.cause(error), "waiting": len(batch)})
                failure = StoreUnavailable(dialect.cause(error))
                failure.__cause__ = error
            for waiting in batch:
                waiting.error = waiting.error or failure
        self.commit_s = time.perf_counter() - started
        by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        for waiting in batch:
            by_loop.setdefault(waiting.loop, []).append(waiting)
        for loop, group in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, group)

    def _try(self, batch: list[_Waiting]) -> None:
        """One transaction. One that lost a deadlock against another process has changed nothing, and is tried again."""
        for tries in range(1, CONTENDED_TRIES + 1):
            try:
                with self._writes.connect() as connection, connection.begin():
                    self._work(connection, batch)
                return
            except Exception as error:
                if len(batch) > 1 or tries == CONTENDED_TRIES or not dialect.contended(error):
                    raise
            time.sleep(random.uniform(0, CONTENDED_WAIT_S))  # noqa: S311 - so that two do not meet again

    def _work(self, connection: Connection, batch: list[_Waiting]) -> None:
        rows = [waiting.row for waiting in batch if waiting.row is not None]
        if rows:
            insert_many(connection, deliveries, rows)
        jobs = [waiting for waiting in batch if waiting.job is not None]
        alone = len(batch) == 1
        for waiting in jobs:
            assert waiting.job is not None
            if alone:
                waiting.result = waiting.job(connection)
                continue
            connection.exec_driver_sql("SAVEPOINT job")  # the library's own are named anew and written out each time
            try:
                waiting.result = waiting.job(connection)
                connection.exec_driver_sql("RELEASE SAVEPOINT job")
            except Exception as error:
                if dialect.unavailable(error):
                    raise
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT job")
                connection.exec_driver_sql("RELEASE SAVEPOINT job")
                waiting.error = error
