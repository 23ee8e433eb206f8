"""What the bus asks of Redis: keys, scripts, and the form in which things stand there. No command newer than Redis 6.2.

Keys, all below `gateway:{NAME}:` (in braces, so that a cluster keeps them together):

- `live`: hash of `series` (drawn anew whenever Redis has forgotten something), `count` (number of its newest event) and
  `server` (the run of Redis it belongs to)
- `events`: stream of the newest events, each under the id NUMBER-0
- `from:SERIES:ORIGIN`: the newest event a process has published, so that one sent again is not there twice

Channels, too: `wake` carries topics, `news` says that the stream has grown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from gateway.bus.memory import QUEUE_MAX, REPLAY_MAX, LiveEvent

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 2.0
HEALTH_CHECK_S = 10.0
KEEP_S = 7 * 86_400  # what a gateway that is gone leaves behind ends by itself
STREAM_MAX = 10_000  # events kept in Redis, for whoever is behind: more than a listener may have missed
READ_MAX = QUEUE_MAX // 2  # events read at a time; more would cut listeners off

BEGIN = """
local series = redis.call('HGET', KEYS[1], 'series')
if not series or redis.call('HGET', KEYS[1], 'server') ~= ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
  series = ARGV[2]
  redis.call('HSET', KEYS[1], 'series', series, 'server', ARGV[1], 'count', 0)
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return series
"""
PUBLISH = """
if redis.call('HGET', KEYS[1], 'series') ~= ARGV[1] then return 0 end
local seen = tonumber(redis.call('GET', KEYS[3]) or '0')
if ARGV[5] == '1' then redis.call('HINCRBY', KEYS[1], 'count', 1) end
for i = 7, #ARGV do
  local own = tonumber(ARGV[6]) + i - 7
  if own > seen then
    local number = redis.call('HINCRBY', KEYS[1], 'count', 1)
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], string.format('%d-0', number), 'event', ARGV[i])
    seen = own
  end
end
redis.call('SET', KEYS[3], string.format('%d', seen), 'EX', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[2], '')
return 1
"""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A live event as it stands in the stream: who published it, as its how-manieth, and what it says."""

    origin: str
    own: int
    type: str
    account: str
    data: dict[str, Any]


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A wake-up: who calls, and whom. Without topics it only shows that the way is open."""

    origin: str
    topics: list[str]


class Page(msgspec.Struct, frozen=True):
    """Part of the stream: its series and newest number as of now, and events by number (None: unreadable)."""

    series: str
    count: int
    entries: list[tuple[int, Entry | None]]


_encode = msgspec.json.Encoder(enc_hook=str).encode
_entry = msgspec.json.Decoder(Entry)
_call = msgspec.json.Decoder(Call)


def client(url: str) -> Redis:
    """A client that repeats nothing by itself. Raises `ValueError` for an address that is none, without its words.

    It has no `socket_timeout`: with one it sends under `wait_for`, which on Python 3.11 loses a cancellation that meets
    the end of the sending. Bound its answers by `ANSWER_TIMEOUT_S`.
    """
    try:
        options: dict[str, Any] = {
            "protocol": 2, "decode_responses": False, "retry": Retry(NoBackoff(), 0), "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT_S, "health_check_interval": HEALTH_CHECK_S,
        }  # fmt: skip
        found = Redis.from_url(url, **options)
        known = found.connection_pool.connection_kwargs
        known |= options  # options in the address would go before ours
        found.connection_pool.connection_class(**known)
    except Exception as error:  # it may quote the address, and that holds a password
        raise ValueError(type(error).__name__) from None
    return found


class Relay:
    """One process's way to Redis. All but the constructor raise what the client raises: `RedisError`, `OSError`,
    `TimeoutError`."""

    def __init__(self, url: str, name: str, origin: str) -> None:
        self._redis, self._origin = client(url), origin
        prefix = f"gateway:{{{name}}}:"
        self._live, self._events, self._from = f"{prefix}live", f"{prefix}events", f"{prefix}from:"
        self._wake, self._news = f"{prefix}wake", f"{prefix}news"
        self._begin = self._redis.register_script(BEGIN)
        self._publish = self._redis.register_script(PUBLISH)
        self._hearing: PubSub | None = None

    # --- the stream ---

    async def begin(self, fresh: str) -> str:
        """The series that is under way. It is `fresh` where there was none, or another run of Redis had made it: that
        one may have known more than this one does (a fail-over, a restart from an older copy)."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            try:
                run = str((await self._redis.info("server")).get("run_id", ""))
            except ResponseError:  # not everybody may ask
                run = ""
            series: bytes = await self._begin(keys=[self._live, self._events], args=[run, fresh, KEEP_S])
        return series.decode()

    async def publish(self, series: str, events: Sequence[LiveEvent], *, gap: bool) -> bool:
        """Append events of ours, in order and each once, however often it is tried; False when the series has ended.

        `gap`: something before them is lost, so the numbering skips one.
        """
        entries = [_encode(Entry(self._origin, event.own, event.type, event.account, event.data)) for event in events]
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            done = await self._publish(
                keys=[self._live, self._events, f"{self._from}{series}:{self._origin}"],
                args=[series, self._news, KEEP_S, STREAM_MAX, int(gap), events[0].own, *entries],
            )
        return bool(done)

    async def read(self, after: int) -> Page:
        """What follows the event with that number, as far as it is there; `READ_MAX` at most."""
        return await self._read(lambda pipe: pipe.xrange(self._events, min=f"{after + 1}-0", count=READ_MAX))

    async def newest(self) -> Page:
        """The newest events, as many as are kept for listeners that come back."""
        page = await self._read(lambda pipe: pipe.xrevrange(self._events, count=REPLAY_MAX))
        return Page(page.series, page.count, page.entries[::-1])

    async def _read(self, ask: Callable[[Pipeline], object]) -> Page:
        """Events, together with the series and count at that very moment."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S), self._redis.pipeline(transaction=True) as pipe:
            _ = pipe.hmget(self._live, "series", "count")
            ask(pipe)
            (series, count), entries = await pipe.execute()
        numbered = [(int(name.partition(b"-")[0]), _decoded(fields.get(b"event", b""))) for name, fields in entries]
        return Page((series or b"").decode(), int(count or 0), numbered)

    # --- calls ---

    async def call(self, topics: Iterable[str]) -> None:
        """Wake the topics in all other processes."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self._redis.publish(self._wake, _encode(Call(self._origin, sorted(topics))))

    async def subscribe(self) -> None:
        """From here on nothing that is said goes past `hear`."""
        self._hearing = self._redis.pubsub()
        await self._hearing.subscribe(self._wake, self._news)
        for _ in range(2):
            if await self._hearing.get_message(timeout=ANSWER_TIMEOUT_S) is None:
                raise TimeoutError("a subscription is not confirmed")

    async def hear(self) -> Call | None:
        """The next call, ours included; None when the stream has grown."""
        assert self._hearing is not None
        while True:
            message = await self._hearing.get_message(ignore_subscribe_messages=True, timeout=None)
            if message is None or message["type"] != "message":
                continue
            if message["channel"] == self._news.encode():
                return None
            try:
                return _call.decode(message["data"])
            except msgspec.DecodeError:  # somebody else's
                continue

    async def leave(self) -> None:
        """Close all connections; the next call opens new ones."""
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            await hearing.aclose()  # type: ignore[no-untyped-call]
        await self._redis.connection_pool.disconnect()

    async def close(self) -> None:
        """End for good."""
        await self.leave()
        await self._redis.aclose()


def _decoded(raw: bytes) -> Entry | None:
    try:
        return _entry.decode(raw)
    except msgspec.DecodeError:
        return None
