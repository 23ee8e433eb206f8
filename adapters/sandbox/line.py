"""The LINE Messaging API on loopback: reply tokens, pushes with retry keys, files, profiles, people who write.

Sources: LINE, Messaging API reference; Receive messages (webhook); Retry failed API requests, 2026-07. Who has blocked
the account gets nothing, and the platform says 200 all the same. Files are served on a port of their own, as LINE keeps
them on a host of their own that knows no other calls.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from adapters.sandbox._base import Accepted, Platform, Webhook
from adapters.sandbox._line_files import FILE_CALLS, FILE_PATH, File
from adapters.sandbox._line_rules import (
    REPLY_TOKEN_S,
    RETRY_KEY_S,
    Group,
    Refusal,
    Taken,
    Token,
    User,
    check_objects,
    load_body,
    shown,
)
from adapters.sandbox._line_tokens import TokenDesk

__all__ = ["Group", "LineSimulator", "User"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class LineSimulator(Platform):
    """One official account. `webhook_url` is where our gateway listens; empty: nothing is posted."""

    def __init__(
        self,
        *,
        channel_secret: str = "sandbox-channel-secret",  # noqa: S107 - opens nothing but this sandbox
        access_token: str = "sandbox-token",  # noqa: S107
        bot_user_id: str = "U" + "b" * 32,
        channel_id: str = "1650000000",
        webhook_url: str = "",
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(port=port, seed=seed)
        self.channel_secret, self.access_token, self.bot_user_id = channel_secret, access_token, bot_user_id
        self.webhook_url = webhook_url
        self.issued = TokenDesk(channel_id, lambda: self.channel_secret, self.now)
        self.clock_ahead_s = 0.0
        self.quota: int | None = None  # messages a month, by recipient; None: without limit
        self.used = self.profile_calls = 0
        self.typing: list[str] = []  # who was shown that somebody writes
        self.per_second: int | None = None  # calls before 429
        self.inbox: list[tuple[str, Mapping[str, Any]]] = []  # (user or group, object) that really arrived
        self.users: dict[str, User] = {}
        self.groups: dict[str, Group] = {}
        self.files: dict[str, File] = {}  # by message id
        self._tokens: dict[str, Token] = {}
        self._taken: dict[str, Taken] = {}  # by retry key
        self._called_at: deque[float] = deque(maxlen=5000)
        self._last_id = 700_000_000_000_000_000
        self._data_runner: web.AppRunner | None = None

    # --- the server ---------------------------------------------------------------------------------------------------

    @property
    def data_base(self) -> str:
        """What the account's `data_base` must be."""
        assert self._data_runner is not None, "not started"
        return f"http://127.0.0.1:{self._data_runner.addresses[0][1]}"

    def now(self) -> float:
        """The platform's clock, Unix seconds; `clock_ahead_s` moves it."""
        return time.time() + self.clock_ahead_s

    async def start(self) -> None:
        """Listen on two ports of loopback."""
        await super().start()
        app = web.Application()
        app.add_routes(
            (
                web.get(f"{FILE_PATH}{end}", self._guarded(functools.partial(answer, self.files)))
                for end, answer in FILE_CALLS.items()
            )
        )
        self._data_runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._data_runner.setup()
        await web.TCPSite(self._data_runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._data_runner is not None:
            await self._data_runner.cleanup()
            self._data_runner = None
        await super().stop()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The calls of the API host."""
        return (
            web.post("/v2/bot/message/reply", self._sending(self._reply)),
            web.post("/v2/bot/message/push", self._sending(self._push)),
            web.get("/v2/bot/info", self._guarded(self._info)),
            web.get("/v2/bot/profile/{user}", self._guarded(self._profile)),
            web.get("/v2/bot/{kind:group|room}/{group}/member/{user}", self._guarded(self._member)),
            web.get("/v2/bot/{kind:group|room}/{group}/members/count", self._guarded(self._count)),
            web.get("/v2/bot/message/quota", self._guarded(self._quota)),
            web.get("/v2/bot/message/quota/consumption", self._guarded(self._consumption)),
            web.post("/v2/bot/chat/loading/start", self._guarded(self._loading)),
            *self.issued.routes(),
        )

    def throttled(self) -> web.Response:
        return self._refused(Refusal(429, "The API rate limit has been exceeded. Try again later."))

    def broken(self) -> web.Response:
        return self._refused(Refusal(500, "Internal server error"))

    # --- sending ------------------------------------------------------------------------------------------------------

    def _sending(self, accept: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        guarded = self._guarded(accept)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self.answer(request, lambda: guarded(request))

        return handle

    async def _reply(self, request: web.Request) -> web.Response:
        """Once per token, within a minute, free of charge; a retry key is not known here."""
        if "X-Line-Retry-Key" in request.headers:
            raise Refusal(400, "The retry key is not supported by this endpoint")
        body = await self._body(request)
        check_objects(body.get("messages"))
        token = self._tokens.get(str(body.get("replyToken")))
        if token is None or token.used or self.now() - token.at > REPLY_TOKEN_S:
            raise Refusal(400, "Invalid reply token")
        token.used = True
        return web.json_response(self._accept("", token.to, body), headers=self._request_id())

    async def _push(self, request: web.Request) -> web.Response:
        """Counted by recipient. A retry key seen within a day brings the answer of the first time."""
        body, key = await self._body(request), request.headers.get("X-Line-Retry-Key", "")
        if key:
            try:
                uuid.UUID(key)
            except ValueError:
                raise Refusal(400, "The retry key is not a UUID") from None
            if (taken := self._taken.get(key)) is not None and self.now() - taken.at < RETRY_KEY_S:
                answer = {"message": "The retry key is already accepted", **taken.answer}
                headers = self._request_id() | {"x-line-accepted-request-id": taken.request_id}
                return web.json_response(answer, status=409, headers=headers)
        check_objects(body.get("messages"))
        to = str(body.get("to", ""))
        cost = self._cost(to)
        if self.quota is not None and self.used + cost > self.quota:
            raise Refusal(429, "You have reached your monthly limit.")
        self.used += cost
        answer, headers = self._accept(key, to, body), self._request_id()
        if key:
            self._taken[key] = Taken(self.now(), headers["X-Line-Request-Id"], answer)
        return web.json_response(answer, headers=headers)

    def _cost(self, to: str) -> int:
        """Recipients that count. Raises `Refusal` for who does not exist."""
        if (user := self.users.get(to)) is not None:
            return 0 if user.blocked else 1
        if (group := self.groups.get(to)) is not None and group.joined:
            return len(group.members)
        raise Refusal(400, "Failed to send messages")

    def _accept(self, key: str, to: str, body: Mapping[str, Any]) -> dict[str, Any]:
        objects: Sequence[Mapping[str, Any]] = body["messages"]
        ids = [self._new_id() for _ in objects]
        self.record(Accepted(key, ids[0], to, body))
        user = self.users.get(to)
        if user is None or not user.blocked:
            self.inbox += [(to, one) for one in objects]
            self._watch(user, objects)
        quotable = ("text", "sticker", "image", "video", "template")
        return {
            "sentMessages": [
                {"id": name} | ({"quoteToken": f"quote-{name}"} if one["type"] in quotable else {})
                for name, one in zip(ids, objects, strict=True)
            ]
        }

    def _watch(self, user: User | None, objects: Iterable[Mapping[str, Any]]) -> None:
        if user is None or not user.watches or not self.webhook_url:
            return
        self.report(
            self.delivery([self.event("videoPlayComplete", user, videoPlayComplete={"trackingId": one["trackingId"]})])
            for one in objects
            if one["type"] == "video" and "trackingId" in one
        )

    async def _body(self, request: web.Request) -> dict[str, Any]:
        body = load_body(await request.read(), request.content_type)
        self._called_at.append(self.now())
        if self.per_second is not None:
            recent = sum(self.now() - at < 1 for at in self._called_at)
            if recent > self.per_second:
                raise Refusal(429, "The API rate limit has been exceeded. Try again later.")
        return body

    # --- the other calls ----------------------------------------------------------------------------------------------

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response({"userId": self.bot_user_id, "basicId": "@sandbox", "displayName": "Sandbox"})

    async def _profile(self, request: web.Request) -> web.Response:
        self.profile_calls += 1
        user = self.users.get(request.match_info["user"])
        if user is None or user.blocked or not user.friend:
            raise Refusal(404, "Not found")
        return web.json_response(shown(user))

    async def _member(self, request: web.Request) -> web.Response:
        members = {user.user_id: user for user in self._joined(request).members}
        if (user := members.get(request.match_info["user"])) is None:
            raise Refusal(404, "Not found")
        return web.json_response({"displayName": user.name, "userId": user.user_id})

    def _joined(self, request: web.Request) -> Group:
        group = self.groups.get(request.match_info["group"])
        if group is None or group.kind != request.match_info["kind"] or not group.joined:
            raise Refusal(404, "Not found")
        return group

    async def _loading(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if body.get("chatId") not in self.users or body.get("loadingSeconds") not in range(5, 61, 5):
            raise Refusal(400, "The request body has 1 error(s)")
        self.typing.append(str(body["chatId"]))
        return web.Response(status=202)

    async def _count(self, request: web.Request) -> web.Response:
        return web.json_response({"count": len(self._joined(request).members)})

    async def _quota(self, request: web.Request) -> web.Response:
        return web.json_response({"type": "none"} if self.quota is None else {"type": "limited", "value": self.quota})

    async def _consumption(self, request: web.Request) -> web.Response:
        return web.json_response({"totalUsage": self.used})

    def _guarded(self, handler: _Handler) -> _Handler:
        """The call behind the access token, its refusals as the API words them."""

        async def guarded(request: web.Request) -> web.Response:
            try:
                given = request.headers.get("Authorization", "").removeprefix("Bearer ")
                if given != self.access_token and not self.issued.valid(given):
                    raise Refusal(401, "Authentication failed due to the following reason: invalid token.")
                return await handler(request)
            except Refusal as refusal:
                return self._refused(refusal)

        return guarded

    def _refused(self, refusal: Refusal) -> web.Response:
        return web.json_response(refusal.body(), status=refusal.status, headers=self._request_id())

    def _request_id(self) -> dict[str, str]:
        return {"X-Line-Request-Id": str(uuid.UUID(int=self.random.getrandbits(128)))}

    # --- what tests and demos set up, and what people do --------------------------------------------------------------

    def add_user(self, user: User) -> User:
        """Make somebody known."""
        self.users[user.user_id] = user
        return user

    def add_group(self, group: Group) -> Group:
        """Make a group and its people known, without telling our side."""
        self.groups[group.group_id] = group
        for user in group.members:
            self.add_user(user)
        return group

    async def customer_writes(
        self, user: User, text: str = "Hi", *, group: Group | None = None, reply_to: str = "", **content: Any
    ) -> str:
        """A message, posted to our webhook; its id. `content` replaces the text: `type="location", latitude=...`."""
        message = self.message(**(content or {"type": "text", "text": text}))
        if reply_to:
            message["quotedMessageId"] = reply_to
        await self.post([self.event("message", user, group, message=message)])
        return str(message["id"])

    async def customer_sends_file(
        self, user: User, content: bytes, media_type: str, *, kind: str = "image", preparing: Sequence[str] = (),
        preview: bytes = b"", **fields: Any,
    ) -> str:  # fmt: skip
        """A file that LINE keeps; the message's id. `preparing`: what it says of it before it can be fetched."""
        own = {"fileName": "file.bin", "fileSize": len(content)} if kind == "file" else {
            "contentProvider": {"type": "line"}, **({} if kind == "image" else {"duration": 3000})
        }  # fmt: skip
        message = self.message(type=kind, **own | fields)
        self.files[message["id"]] = File(content, media_type, list(preparing), preview)
        await self.post([self.event("message", user, message=message)])
        return str(message["id"])

    async def customer_unsends(self, user: User, message_id: str) -> None:
        """A message taken back; its file goes."""
        self.files.pop(message_id, None)
        await self.post([self.event("unsend", user, unsend={"messageId": message_id})])

    async def customer_presses(self, user: User, data: str, **params: str) -> None:
        """A button with a postback."""
        postback = {"data": data} | ({"params": params} if params else {})
        await self.post([self.event("postback", user, postback=postback)])

    async def customer_follows(self, user: User) -> None:
        """Added as a friend, or unblocked."""
        again, user.friend, user.blocked = user.blocked, True, False
        await self.post([self.event("follow", user, follow={"isUnblocked": again})])

    async def customer_blocks(self, user: User) -> None:
        """From now on nothing arrives, and no answer of the API tells."""
        user.friend, user.blocked = False, True
        await self.post([self.event("unfollow", user)])

    async def bot_joins(self, group: Group) -> None:
        """Somebody adds the account to a group."""
        self.add_group(group).joined = True
        await self.post([self.event("join", None, group)])

    async def bot_leaves(self, group: Group) -> None:
        """Somebody removes it."""
        group.joined = False
        await self.post([self.event("leave", None, group)])

    def message(self, **content: Any) -> dict[str, Any]:
        """A message object with a new id."""
        name = self._new_id()
        return {"id": name, "quoteToken": f"quote-{name}", **content}

    def event(self, kind: str, user: User | None, group: Group | None = None, **fields: Any) -> dict[str, Any]:
        """One event, with a reply token where the platform gives one; for batches of several."""
        if user is not None and user.user_id not in self.users:
            self.add_user(user)
        source: dict[str, Any] = {"type": "user"} if group is None else {
            "type": group.kind, f"{group.kind}Id": group.group_id
        }  # fmt: skip
        if user is not None and (group is None or user.consents):
            source["userId"] = user.user_id
        event = {
            "type": kind, "mode": "active", "timestamp": int(self.now() * 1000),
            "webhookEventId": f"01K{self._new_id():0>23}", "deliveryContext": {"isRedelivery": False},
            "source": source, **fields,
        }  # fmt: skip
        if kind not in ("unsend", "unfollow", "leave", "memberLeft"):
            event["replyToken"] = token = f"{self.random.getrandbits(128):032x}"
            to = group.group_id if group is not None else user.user_id if user is not None else ""
            self._tokens[token] = Token(to, self.now())
        return event

    def delivery(self, events: Sequence[Mapping[str, Any]]) -> Webhook:
        """One signed POST with these events."""
        tree = {"destination": self.bot_user_id, "events": list(events)}
        body = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
        mac = hmac.digest(self.channel_secret.encode(), body, hashlib.sha256)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "X-Line-Signature": base64.b64encode(mac).decode(),
        }
        return Webhook(self.webhook_url, body, headers)

    async def post(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Post these events now; the last status, 0 for no answer or without a webhook.

        What is not answered 2xx comes again as `redelivery` says: under the same ids, marked as a redelivery.
        """
        status = 0
        for attempt in range(self.redelivery.tries if self.webhook_url else 0):
            again = {"deliveryContext": {"isRedelivery": attempt > 0}}
            status = await self._post_once(self.delivery([{**event, **again} for event in events]))
            if 200 <= status < 300:
                break
        return status

    async def verify_webhook(self) -> int:
        """The console's button: a signed POST without events; the status of the answer."""
        return await self.post([])

    def _new_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)
