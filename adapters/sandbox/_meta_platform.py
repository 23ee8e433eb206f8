"""What a simulated Page and a simulated Instagram account do alike: calls, private messages, files, reports.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Private Replies, 2026-04; Instagram Messaging, Send a
message, 2026-07.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias

import aiohttp
from aiohttp import web

from adapters.sandbox._base import Accepted, Platform, Webhook
from adapters.sandbox._meta_world import (
    PRIVATE_REPLY_S,
    Behaviour,
    Comment,
    Customer,
    Pace,
    Refusal,
    Rules,
    check_file,
    check_message,
    check_window,
    signed,
)

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]


class MetaPlatform(Platform):
    """One account of one app. `webhook_url` is where our gateway listens; empty: nothing is posted.

    `account_id` is what webhooks call the account, `nodes` what calls may be made on.
    """

    object_name: ClassVar[str]
    rules: ClassVar[Rules]
    inbox: ClassVar[int]  # the app staff write with

    def __init__(
        self,
        account_id: str,
        *,
        app_id: str,
        access_token: str,
        app_secret: str,
        webhook_url: str,
        version: str,
        port: int,
        seed: int,
    ) -> None:
        super().__init__(port=port, seed=seed)
        self.account_id, self.app_id = account_id, app_id
        self.nodes = {account_id, "me"}
        self.access_token, self.app_secret = access_token, app_secret
        self.webhook_url, self.version = webhook_url, version
        self.behaviour = Behaviour()
        self.clock_ahead_s = 0.0
        self.customers: dict[str, Customer] = {}
        self.comments: dict[str, Comment] = {}  # posts too
        self.subscribed: tuple[str, ...] = ()
        self.refuses_reads: list[Refusal] = []  # of the next reads of a node, in order
        self.reads = 0  # of nodes
        self._files: dict[str, tuple[bytes, str]] = {}
        self._messages: dict[str, tuple[str, ...]] = {}  # mid -> its files
        self._expired: set[str] = set()  # download keys
        self._sent_pace, self._private_pace = Pace(), Pace()
        self._last_id = 7000

    @property
    def api_base(self) -> str:
        """What the account's `api_base` must be."""
        return f"{self.url}/{self.version}"

    def now(self) -> float:
        """The platform's clock, Unix seconds; `clock_ahead_s` moves it."""
        return time.time() + self.clock_ahead_s

    # --- the platform's calls -----------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The edges of Graph that both know."""
        edge = f"/{self.version}/{{node}}"
        return (
            web.post(edge + "/messages", self._sending(self._message)),
            web.post(edge + "/message_attachments", self._called(self._upload)),
            web.get(edge + "/subscribed_apps", self._called(self._subscriptions)),
            web.post(edge + "/subscribed_apps", self._called(self._subscribe)),
            web.get("/files/{key}", self._download),
        )

    def throttled(self) -> web.Response:
        """613, with the header that tells how long to wait."""
        response = Refusal(613, "Calls to this api have exceeded the rate limit.").answer()
        usage = {self.account_id: [{"type": "messenger", "call_count": 100, "estimated_time_to_regain_access": 3}]}
        response.headers["X-Business-Use-Case-Usage"] = json.dumps(usage)
        return response

    def broken(self) -> web.Response:
        """2: a fault of the platform."""
        return Refusal(2, "Service temporarily unavailable", status=500).answer()

    def _called(self, handler: _Handler) -> _Handler:
        async def guarded(request: web.Request) -> web.Response:
            try:
                self._check_caller(request)
                return await handler(request)
            except ValueError:
                return Refusal(100, "the body is not JSON").answer()
            except Refusal as refusal:
                return refusal.answer()

        return guarded

    def _sending(self, handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        guarded = self._called(handler)

        async def answered(request: web.Request) -> web.StreamResponse:
            return await self.answer(request, lambda: guarded(request))

        return answered

    def _check_caller(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {self.access_token}":
            raise Refusal(190, "Error validating access token", 463, 401)
        if self.behaviour.demand_proof:
            proof = hmac.new(self.app_secret.encode(), self.access_token.encode(), hashlib.sha256).hexdigest()
            if request.query.get("appsecret_proof") != proof:
                raise Refusal(100, "API calls from the server require an appsecret_proof argument")

    async def _message(self, request: web.Request) -> web.Response:
        self._check_node(request)
        body = await request.json()
        if self.behaviour.restricted:
            raise Refusal(10, "temporarily restricted from sending", 1893063, 403)
        self._sent_pace.spend(self.now(), self.behaviour.sends_per_second, 1.0)
        recipient = body.get("recipient") or {}
        customer = self._recipient(recipient)
        if "sender_action" in body:
            return web.json_response({"recipient_id": customer.id})
        message = body.get("message") or {}
        check_message(message, self._files, self.rules)
        await self._look_at(message.get("attachment") or {})
        if "id" in recipient:
            check_window(customer, body, self.behaviour, self.now(), self.rules)
        else:
            self._use_private_reply(str(recipient.get("comment_id") or recipient.get("post_id")), message)
        mid = self._new_id(self._mid_prefix)
        self.record(Accepted(str(message.get("metadata", "")), mid, customer.id, body))
        self.report(self._reports(mid, customer, message) if self.webhook_url else [])
        return web.json_response({"recipient_id": customer.id, "message_id": mid})

    _mid_prefix: ClassVar[str] = "m_"

    def _read(self) -> None:
        """A node is read. Raises `Refusal` where a test wants it."""
        self.reads += 1
        if self.refuses_reads:
            raise self.refuses_reads.pop(0)

    def _check_node(self, request: web.Request) -> None:
        if request.match_info["node"] not in self.nodes:
            raise Refusal(100, "Unsupported post request", 33)

    def _recipient(self, recipient: Mapping[str, Any]) -> Customer:
        if "id" in recipient:
            found = self.customers.get(str(recipient["id"]))
        else:
            comment = self.comments.get(str(recipient.get("comment_id") or recipient.get("post_id")))
            if comment is None:
                raise Refusal(100, "Unsupported post request", 33)
            found = self._author(comment)
        if found is None:
            raise Refusal(100, "No matching user found", 2018001)
        return found

    async def _look_at(self, attachment: Mapping[str, Any]) -> None:
        """Fetch a file given by its address, without following redirects, and see that the surface takes it."""
        url = (attachment.get("payload") or {}).get("url")
        if not self.behaviour.fetches or not url or attachment["type"] in self.rules.other:
            return
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as answer:
            content = await answer.read()
            if answer.status != 200:
                raise Refusal(100, "the attachment could not be fetched", 2018008)
            check_file(attachment["type"], answer.content_type, len(content), self.rules)

    def _use_private_reply(self, ref: str, message: Mapping[str, Any]) -> None:
        comment = self.comments[ref]
        if comment.answered:
            raise Refusal(10900, "Activity already replied to")  # code unverified
        if self.now() - comment.at >= PRIVATE_REPLY_S:
            raise Refusal(10, "This message is sent outside of allowed window.", self.rules.closed, 403)
        self._private_pace.spend(self.now(), self.behaviour.private_replies_per_hour, 3600.0)
        comment.answered = True

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        part = form.get("filedata") or form.get("source")
        if not isinstance(part, web.FileField):
            raise Refusal(100, "upload attachment failure", 2018047)
        content = part.file.read()
        if "source" in form:
            return web.json_response({"id": self.add_file(content, part.content_type)})
        described = json.loads(str(form.get("message", "{}"))).get("attachment") or {}
        check_file(described.get("type", ""), part.content_type, len(content), self.rules)
        return web.json_response({"attachment_id": self.add_file(content, part.content_type)})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        listed = [{"id": self.app_id, "subscribed_fields": list(self.subscribed)}] if self.subscribed else []
        return web.json_response({"data": listed})

    async def _subscribe(self, request: web.Request) -> web.Response:
        self.subscribed = tuple(str((await request.json())["subscribed_fields"]).split(","))
        return web.json_response({"success": True})

    async def _download(self, request: web.Request) -> web.Response:
        """Storage knows signed addresses only."""
        key = request.match_info["key"]
        file = self._files.get(key.partition("-")[0])
        if file is None or key in self._expired:
            return web.Response(status=403, text="URL signature expired")
        return web.Response(body=file[0], content_type=file[1])

    def _files_of(self, mid: str) -> dict[str, Any]:
        """A message as the API shows it when asked for its files."""
        listed = [{"id": file, "image_data": {"url": self.address_of(file)}} for file in self._messages[mid]]
        return {"id": mid, "attachments": {"data": listed}}

    # --- what tests and demos set up ----------------------------------------------------------------------------------

    def add_customer(self, customer: Customer) -> Customer:
        """Make somebody known to the platform."""
        self.customers[customer.id] = customer
        return customer

    def add_file(self, content: bytes, media_type: str) -> str:
        """Keep a file; its id."""
        file_id = str(10**14 + len(self._files))
        self._files[file_id] = (content, media_type)
        return file_id

    def address_of(self, file_id: str) -> str:
        """A signed address of a file, another each time."""
        return f"{self.url}/files/{file_id}-{self.random.getrandbits(64):016x}"

    def expire(self, url: str) -> None:
        """From now on the file's address answers 403."""
        self._expired.add(url.rpartition("/")[2])

    # --- what people and the platform do ------------------------------------------------------------------------------

    async def customer_writes(self, customer: Customer, text: str = "Hi", **content: Any) -> str:
        """A private message, posted to our webhook; its mid. `content` replaces the text."""
        mid = self._new_id(self._mid_prefix)
        await self.customer_does(customer, message={"mid": mid, **(content or {"text": text})})
        return mid

    async def customer_sends_file(
        self, customer: Customer, content: bytes, media_type: str, kind: str = "image"
    ) -> str:
        """A file at a signed address; the message's mid."""
        mid, file_id = self._new_id(self._mid_prefix), self.add_file(content, media_type)
        self._messages[mid] = (file_id,)
        attachment = {"type": kind, "payload": {"url": self.address_of(file_id)}}
        await self.customer_does(customer, message={"mid": mid, "attachments": [attachment]})
        return mid

    async def customer_does(self, customer: Customer, *, standby: bool = False, **event: Any) -> int:
        """Any private event of this person: `postback={...}`, `reaction={...}`, `referral={...}`."""
        self.add_customer(customer)
        if event.keys() & {"message", "postback", "reaction", "referral"}:
            customer.last_wrote = self.now()
        return await self.post(**{"standby" if standby else "messaging": [self._item(customer, event)]})

    async def staff_writes(self, customer: Customer, text: str, *, app_id: int = 0) -> str:
        """A person of the business answers in the platform's own inbox, or another app does: an echo; its mid."""
        mid = self._new_id(self._mid_prefix)
        await self.post(messaging=[self._echo(mid, customer, {"text": text}, app_id or self.inbox)])
        return mid

    def delivery(self, **content: Any) -> Webhook:
        """One signed POST with this in one entry: lists of events, or a change. Feeds count in seconds."""
        private = content.keys() & {"messaging", "standby"}
        entry = {"id": self.account_id, "time": int(self.now() * (1000 if private else 1)), **content}
        return signed(self.webhook_url, self.app_secret, {"object": self.object_name, "entry": [entry]})

    async def post(self, **content: Any) -> int:
        """Post this now; the last status, 0 for no answer or without a webhook."""
        webhook = self.delivery(**content)
        return await self.post_webhook(webhook.url, webhook.body, webhook.headers) if webhook.url else 0

    async def handshake(self, verify_token: str, challenge: str = "1158201444") -> tuple[int, str]:
        """Ask our webhook to prove itself, as on each change of its address; status and body of the answer."""
        query = {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": challenge}
        async with aiohttp.ClientSession() as session, session.get(self.webhook_url, params=query) as answer:
            return answer.status, await answer.text()

    # --- inside -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _reports(self, mid: str, customer: Customer, message: Mapping[str, Any]) -> list[Webhook]:
        """What the platform tells of a message it took."""

    def _author(self, comment: Comment) -> Customer | None:
        return next((one for one in self.customers.values() if (one.commenter or one.id) == comment.author), None)

    def _item(self, customer: Customer, event: Mapping[str, Any]) -> dict[str, Any]:
        people = {"sender": {"id": customer.id}, "recipient": {"id": self.account_id}}
        return {**people, "timestamp": int(self.now() * 1000), **event}

    def _echo(self, mid: str, customer: Customer, message: Mapping[str, Any], app_id: int) -> dict[str, Any]:
        people = {"sender": {"id": self.account_id}, "recipient": {"id": customer.id}}
        echoed = {"mid": mid, "is_echo": True, "app_id": app_id, **message}
        return {**people, "timestamp": int(self.now() * 1000), "message": echoed}

    def _new_id(self, prefix: str) -> str:
        self._last_id += 1
        return f"{prefix}{self._last_id}"


def echoed(message: Mapping[str, Any]) -> dict[str, Any]:
    """What of a message comes back in its echo."""
    kept = {key: message[key] for key in ("text", "metadata") if key in message}
    return kept | ({"attachments": [message["attachment"]]} if "attachment" in message else {})


def iso(at: float) -> str:
    """A moment as the API writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
