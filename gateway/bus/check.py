"""Whether the Redis that is configured is there and of use, for `gateway check`."""

from __future__ import annotations

import asyncio


async def trouble_of_redis(url: str, *, alone: bool) -> list[tuple[str, bool]]:
    """What is wrong, in words, and whether a person must mend the configuration. `alone`: there is one process only."""
    from redis.exceptions import (
        AuthenticationError,
        NoPermissionError,
        RedisError,
    )  # takes long to load; most need none

    from gateway.bus.relay import ANSWER_TIMEOUT_S, client

    found: list[tuple[str, bool]] = []
    try:
        redis = client(url)
    except ValueError:
        return [("not an address of a Redis", True)]
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await redis.ping()
    except (AuthenticationError, NoPermissionError):
        found.append(("Redis refuses the credentials", True))
    except (RedisError, OSError) as error:
        found.append((f"Redis does not answer: {type(error).__name__}", False))
    finally:
        await redis.aclose()
    if alone:
        found.append(("of no use: the embedded store has one process, which needs no Redis", False))
    return found
