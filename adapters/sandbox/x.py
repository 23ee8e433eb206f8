"""X on loopback: posts, direct messages, files, look-ups, webhooks with their CRC, and people who write.

Sources: X, Webhooks; X Activity API; Account Activity API; Create Post; Direct Messages; Media upload, 2026-08.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal

import aiohttp
from aiohttp import web

from adapters.sandbox._base import Accepted, Platform, Webhook
from adapters.sandbox._x_world import Direct, File, Post, Refusal, User, World, check_signature, ms_of

__all__ = ["User", "XSimulator"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]
_WITH = "/2/dm_conversations/with/{user}"


class XSimulator(Platform):
    """One app with one account of ours. `webhook_url` is where our gateway listens; empty: nothing is posted.

    `envelope` is the product events come by. `named` is the address clients sign for, where it is not this server's, as
    for libraries that know no other than X's own.
    """

    def __init__(
        self,
        *,
        user_id: str = "700000000000000001",
        consumer_key: str = "sandbox-consumer",
        consumer_secret: str = "sandbox-consumer-secret",  # noqa: S107 - opens nothing but this sandbox
        access_token: str = "700000000000000001-sandbox",  # noqa: S107
        access_token_secret: str = "sandbox-token-secret",  # noqa: S107
        oauth2: tuple[str, str, str] = ("sandbox-client", "sandbox-client-secret", "sandbox-refresh"),
        webhook_url: str = "",
        envelope: Literal["activity", "account"] = "activity",
        named: str = "",
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(port=port, seed=seed)
        self.consumer_key, self.consumer_secret = consumer_key, consumer_secret
        self.access_token, self.access_token_secret = access_token, access_token_secret
        self.webhook_url, self.envelope, self._named = webhook_url, envelope, named
        self.require_summon = True
        self.reset_s = 900  # until a rate window opens again
        self.processing_polls = 1  # how often a video is still being processed
        self.echoes = True  # our own posts and messages come back
        self.webhook_valid = True
        self.refreshes = 0
        self.world = World(User(user_id, "shop_help", "Shop Help"))
        self.world.users[user_id] = self.world.own
        self._client_id, self._client_secret, self._refresh = oauth2
        self._bearer = ""

    # --- the platform -------------------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        signed, plain = self._signed, self._plain
        return (
            web.post("/2/tweets", self._tweets),
            web.get("/2/tweets/{post}", signed(self._tweet)),
            web.post(f"{_WITH}/messages", self._messages),
            web.get(f"{_WITH}/dm_events", signed(self._events)),
            web.get("/2/dm_conversations/media/{dm}/{media}/{resource}", plain(self._direct_file)),
            web.get("/2/users/me", signed(self._me)),
            web.get("/2/users/{user}", signed(self._user)),
            web.get("/2/users/{user}/tweets", signed(self._timeline)),
            web.post("/2/media/upload", signed(self._upload)),
            web.get("/2/media/upload", signed(self._upload_status)),
            web.post("/2/media/upload/initialize", signed(self._initialize)),
            web.post("/2/media/upload/{media}/append", signed(self._append)),
            web.post("/2/media/upload/{media}/finalize", signed(self._finalize)),
            web.post("/2/oauth2/token", plain(self._token)),
            web.post("/oauth2/token", plain(self._app_token)),
            web.get("/2/webhooks", plain(self._webhooks)),
            web.put("/2/webhooks/{hook}", plain(self._revalidate)),
            web.get("/files/{media}", plain(self._public_file)),
            web.get("/1.1/ton/data/dm/{dm}/{media}/{resource}", signed(self._public_file)),
            web.get("/2/activity/subscriptions", plain(self._subscriptions)),
            web.post("/2/activity/subscriptions", plain(self._subscribe)),
        )

    def throttled(self) -> web.Response:
        reset = str(int(time.time()) + self.reset_s)
        headers = {"x-rate-limit-limit": "15", "x-rate-limit-remaining": "0", "x-rate-limit-reset": reset}
        body = {"title": "Too Many Requests", "detail": "Too Many Requests", "type": "about:blank", "status": 429}
        return web.json_response(body, status=429, headers=headers)

    def broken(self) -> web.Response:
        return web.json_response({"title": "Internal Error", "type": "about:blank", "status": 500}, status=500)

    async def _tweets(self, request: web.Request) -> web.StreamResponse:
        async def accept(request: web.Request) -> web.Response:
            post = self.world.check_post(body := await request.json(), require_summon=self.require_summon)
            self.world.posts[post.id] = post
            self.record(Accepted("", post.id, post.parent, body))
            self._report("post.create", post.shown(self.world.users))
            return web.json_response({"data": {"id": post.id, "text": post.text}}, status=201)

        return await self.answer(request, lambda: self._signed(accept)(request))

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        async def accept(request: web.Request) -> web.Response:
            other = request.match_info["user"]
            sent = self.world.check_direct(body := await request.json(), other)
            self.world.directs.append(sent)
            self.record(Accepted("", sent.id, other, body))
            self._report("dm.sent", self._direct_payload(sent))
            data = {"dm_conversation_id": self._conversation(other), "dm_event_id": sent.id}
            return web.json_response({"data": data}, status=201)

        return await self.answer(request, lambda: self._signed(accept)(request))

    async def _events(self, request: web.Request) -> web.Response:
        other = request.match_info["user"]
        found = [
            {"id": one.id, "event_type": "MessageCreate", "sender_id": one.sender, "text": one.text}
            for one in reversed(self.world.directs)
            if one.other == other
        ]
        return web.json_response({"data": found, "meta": {"result_count": len(found)}})

    async def _timeline(self, request: web.Request) -> web.Response:
        author = request.match_info["user"]
        found = [one.shown(self.world.users) for one in reversed(self.world.posts.values()) if one.author == author]
        return web.json_response({"data": found, "meta": {"result_count": len(found)}})

    async def _tweet(self, request: web.Request) -> web.Response:
        """A post with the files that were given to its author's `customer_mentions`."""
        post = self.world.posts.get(request.match_info["post"])
        if post is None:
            raise Refusal(404, "Could not find tweet.", slug="resource-not-found")
        media = [
            {"media_key": f"3_{key}", "type": "photo", "url": f"{self.url}/files/{key}"} for key in self.world.files
        ]
        return web.json_response({"data": post.shown(self.world.users), "includes": {"media": media}})

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response({"data": self.world.own.shown()})

    async def _user(self, request: web.Request) -> web.Response:
        user = self.world.users.get(request.match_info["user"])
        if user is None:
            raise Refusal(404, "Could not find user.", slug="resource-not-found")
        return web.json_response({"data": user.shown() | {"receives_your_dm": user.open and not user.blocks_us}})

    # --- files --------------------------------------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        field = form["media"]
        content = field.file.read() if isinstance(field, web.FileField) else b""
        return self._uploaded(self._keep(File(str(form["media_category"]), content, ready=True)))

    async def _initialize(self, request: web.Request) -> web.Response:
        body = await request.json()
        return self._uploaded(self._keep(File(str(body["media_category"]), polls=self.processing_polls)))

    async def _append(self, request: web.Request) -> web.Response:
        form = await request.post()
        field = form["media"]
        self.world.files[request.match_info["media"]].content += (
            field.file.read() if isinstance(field, web.FileField) else b""
        )
        return web.json_response({"data": {"expires_at": int(time.time()) + 86400}})

    async def _finalize(self, request: web.Request) -> web.Response:
        return self._uploaded(request.match_info["media"])

    async def _upload_status(self, request: web.Request) -> web.Response:
        self.world.files[request.query["media_id"]].polls -= 1
        return self._uploaded(request.query["media_id"])

    def _uploaded(self, media: str) -> web.Response:
        file = self.world.files[media]
        data: dict[str, Any] = {"id": media, "media_key": f"3_{media}"}
        if not file.category.endswith("image"):
            file.ready = bool(file.content) and file.polls <= 0
            state = {"state": "succeeded"} if file.ready else {"state": "in_progress", "check_after_secs": 0}
            data["processing_info"] = state
        return web.json_response({"data": data})

    def _keep(self, file: File) -> str:
        name = self.world.new_id()
        self.world.files[name] = file
        return name

    async def _public_file(self, request: web.Request) -> web.Response:
        return web.Response(body=self.world.files[request.match_info["media"]].content)

    async def _direct_file(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self._bearer}" or not self._bearer:
            raise Refusal(401, "Unauthorized")
        return web.Response(body=self.world.files[request.match_info["media"]].content)

    # --- tokens and webhooks ------------------------------------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.Response:
        """A refresh token works once."""
        form = await request.post()
        basic = aiohttp.encode_basic_auth(self._client_id, self._client_secret)
        if request.headers.get("Authorization") != basic or form.get("refresh_token") != self._refresh:
            problem = {"error": "invalid_request", "error_description": "Value passed for the token was invalid."}
            return web.json_response(problem, status=400)
        self.refreshes += 1
        self._bearer, self._refresh = f"access-{self.refreshes}", f"refresh-{self.refreshes}"
        tokens = {"access_token": self._bearer, "refresh_token": self._refresh, "expires_in": 7200}
        return web.json_response({"token_type": "bearer", **tokens})

    def revoke_access_token(self) -> None:
        """The access token ends early; the refresh token still works."""
        self._bearer = "nobody"

    async def _app_token(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != aiohttp.encode_basic_auth(self.consumer_key, self.consumer_secret):
            raise Refusal(403, "Unable to verify your credentials", code=99)
        return web.json_response({"token_type": "bearer", "access_token": "app-only"})

    async def _webhooks(self, request: web.Request) -> web.Response:
        self._check_app(request)
        hook = {"id": "1", "url": self.webhook_url, "valid": self.webhook_valid, "created_at": "2026-01-01T00:00:00Z"}
        return web.json_response({"data": [hook]})

    async def _revalidate(self, request: web.Request) -> web.Response:
        self._check_app(request)
        self.webhook_valid = await self.check_webhook()
        if not self.webhook_valid:
            raise Refusal(400, "CrcValidationFailed", slug="invalid-request")
        return web.json_response({"data": {"valid": True}})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        self._check_app(request)
        return web.json_response({"data": self.world.subscriptions})

    async def _subscribe(self, request: web.Request) -> web.Response:
        """One kind of event of one account; private ones take the account's own consent."""
        if request.headers.get("Authorization") != f"Bearer {self._bearer}" or not self._bearer:
            raise Refusal(401, "Unauthorized")
        made = {key: (await request.json())[key] for key in ("event_type", "filter", "tag", "webhook_id")}
        if any(one["event_type"] == made["event_type"] for one in self.world.subscriptions):
            return web.json_response({"title": "DuplicateSubscriptionFailed", "status": 409}, status=409)
        self.world.subscriptions.append({"subscription_id": self.world.new_id(), **made})
        return web.json_response({"data": {"subscription": self.world.subscriptions[-1]}}, status=201)

    @staticmethod
    def _check_app(request: web.Request) -> None:
        if request.headers.get("Authorization") != "Bearer app-only":
            raise Refusal(403, "This endpoint wants an app-only token.", slug="unsupported-authentication")

    async def check_webhook(self) -> bool:
        """The CRC: whether our side proves that it knows the app's secret."""
        token = secrets.token_urlsafe(24)
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.webhook_url, params={"crc_token": token}, allow_redirects=False) as answer,
        ):
            body = await answer.json(content_type=None) if answer.status == 200 else {}
        return bool(body.get("response_token") == f"sha256={self._mac(token.encode())}")

    # --- what people do -----------------------------------------------------------------------------------------------

    def add(self, user: User) -> User:
        """Make somebody known to the platform."""
        self.world.users[user.id] = user
        return user

    async def customer_mentions(
        self, customer: User, text: str, *, reply_to: str = "", mention: bool = True, file: bytes = b"", **more: Any
    ) -> str:
        """A post that mentions us, or answers a post of ours; its id. `more` goes into the post as X shows it."""
        world, name = self.world, self.world.new_id()
        parent = world.posts.get(reply_to)
        post = Post(
            name, self.add(customer).id, text, parent.root if parent else name, reply_to,
            (world.own.id,) if mention else (), more.pop("reply_settings", "everyone"),
        )  # fmt: skip
        world.posts[name] = post
        shown = post.shown(world.users) | more
        if parent is not None:
            shown["in_reply_to_user_id"] = parent.author
        if file:
            shown["attachments"] = {"media_keys": [f"3_{self._keep(File('tweet_image', file, ready=True))}"]}
        kind = "post.reply.create" if parent is not None and parent.author == world.own.id else "post.mention.create"
        await self._post_event(kind, shown, customer)
        return name

    async def customer_writes(self, customer: User, text: str = "Hi", *, file: bytes = b"") -> str:
        """A direct message; its id."""
        media = self._keep(File("dm_image", file, ready=True)) if file else ""
        direct = Direct(self.world.new_id(), self.add(customer).id, customer.id, text, media)
        self.world.directs.append(direct)
        self.world.wrote_to_us.add(customer.id)
        await self._post_event("dm.received", self._direct_payload(direct), customer)
        return direct.id

    async def customer_reads(self, customer: User) -> None:
        """They have seen everything of the conversation."""
        last = next(one for one in reversed(self.world.directs) if one.other == customer.id)
        event = {
            "created_timestamp": str(int(time.time() * 1000)), "sender_id": customer.id,
            "target": {"recipient_id": self.world.own.id}, "last_read_event_id": last.id,
        }  # fmt: skip
        await self._post_event("dm.read", {"direct_message_mark_read_events": [event]}, customer)

    async def customer_chats(self, customer: User) -> str:
        """An encrypted message; its id."""
        name = f"chat-{self.world.new_id()}"
        payload = {
            "id": name, "conversation_id": f"{self.world.own.id}:{customer.id}", "sender_id": customer.id,
            "created_at_msec": str(int(time.time() * 1000)), "encoded_event": "CgABAg==",
        }  # fmt: skip
        await self._post_event("chat.received", payload, customer)
        return name

    async def post_body(self, body: bytes) -> int:
        """Post these bytes, signed; the last status, 0 for no answer or without a webhook."""
        webhook = self._delivery(body)
        return await self.post_webhook(webhook.url, webhook.body, webhook.headers) if webhook.url else 0

    # --- inside -------------------------------------------------------------------------------------------------------

    def _signed(self, handler: _Handler) -> _Handler:
        """The call behind OAuth 1.0a, its refusals as X words them."""

        async def guarded(request: web.Request) -> web.Response:
            check_signature(
                request.method, f"{self._named or self.url}{request.raw_path}",
                request.headers.get("Authorization", ""), self.consumer_key, self.consumer_secret, self.access_token,
                self.access_token_secret,
            )  # fmt: skip
            return await handler(request)

        return self._plain(guarded)

    @staticmethod
    def _plain(handler: _Handler) -> _Handler:
        async def worded(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except Refusal as refusal:
                return web.json_response(refusal.body(), status=refusal.status)

        return worded

    def _conversation(self, other: str) -> str:
        return "-".join(sorted((self.world.own.id, other), key=int))

    def _direct_payload(self, direct: Direct) -> dict[str, Any]:
        target = self.world.own.id if direct.sender == direct.other else direct.other
        message: dict[str, Any] = {"text": direct.text, "entities": {"urls": []}}
        if direct.media:
            link = "https://t.co/" + direct.media[-10:]
            address = f"{self.url}/1.1/ton/data/dm/{direct.id}/{direct.media}/picture.jpg"
            media = {"id_str": direct.media, "type": "photo", "url": link, "media_url_https": address}
            message |= {"text": f"{direct.text} {link}".strip(), "attachment": {"type": "media", "media": media}}
        create = {"target": {"recipient_id": target}, "sender_id": direct.sender, "message_data": message}
        event = {
            "type": "message_create", "id": direct.id, "created_timestamp": ms_of(direct.id), "message_create": create,
        }  # fmt: skip
        return {"direct_message_events": [event]}

    def _report(self, kind: str, payload: Mapping[str, Any]) -> None:
        if self.echoes and self.webhook_url:
            self.report([self._delivery(self._event(kind, payload, self.world.own))])

    async def _post_event(self, kind: str, payload: Mapping[str, Any], author: User) -> None:
        await self.post_body(self._event(kind, payload, author))

    def _event(self, kind: str, payload: Mapping[str, Any], author: User) -> bytes:
        """One event in the envelope of the product; posts come by the newer one only."""
        own, person = self.world.own.id, author.shown()
        if self.envelope == "account" and kind.startswith("dm."):
            named = {"id": author.id, "screen_name": author.username, "name": author.name}
            tree: dict[str, Any] = {"for_user_id": own, **payload, "users": {author.id: named}}
        else:
            people = {"users": {author.id: {"data": person}}} if kind.startswith("dm.") else {}
            data = {
                "event_uuid": str(-int(self.world.new_id())), "event_type": kind, "tag": "sandbox",
                "filter": {"user_id": own}, "payload": {**payload, **people}, "includes": {"users": [person]},
            }  # fmt: skip
            tree = {"data": data}
        return json.dumps(tree, separators=(",", ":")).encode()

    def _delivery(self, body: bytes) -> Webhook:
        headers = {"Content-Type": "application/json", "x-twitter-webhooks-signature": f"sha256={self._mac(body)}"}
        return Webhook(self.webhook_url, body, headers)

    def _mac(self, body: bytes) -> str:
        return base64.b64encode(hmac.new(self.consumer_secret.encode(), body, hashlib.sha256).digest()).decode()
