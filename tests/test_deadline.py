"""The limit to how long a send may take, as `asyncio.timeout` would have it."""

from __future__ import annotations

import asyncio

import pytest

from adapters._deadline import Deadline


async def test_what_takes_too_long_ends_with_a_timeout() -> None:
    with pytest.raises(TimeoutError), Deadline(0.01):
        await asyncio.sleep(5)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_ends_in_time_is_left_alone_afterwards() -> None:
    for _ in range(3):
        with Deadline(0.01):
            await asyncio.sleep(0)
    await asyncio.sleep(0.03)


async def test_other_errors_pass() -> None:
    with pytest.raises(LookupError), Deadline(5):
        raise LookupError


async def test_an_error_raised_for_the_timeout_is_heard_and_the_task_goes_on() -> None:
    with pytest.raises(LookupError), Deadline(0.01):
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise LookupError from None
    with Deadline(5):
        await asyncio.sleep(0)


async def waiting(begun: asyncio.Event, seconds: float) -> None:
    with Deadline(seconds):
        begun.set()
        await asyncio.sleep(5)


async def test_a_cancellation_is_no_timeout() -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(waiting(begun, 5))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_meets_the_timeout_is_heard() -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(waiting(begun, 0.0))
    await begun.wait()
    task.cancel()  # and the deadline, too, before the task runs again
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_within_another_ends_first() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError), Deadline(5), Deadline(0.01):
            await asyncio.sleep(5)
