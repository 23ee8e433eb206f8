"""A Facebook Page on loopback: Messenger, comments and posts, files, receipts, and people who write.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Private Replies, 2026-04; Pages API, Comments, 2026-04.
Failures are told at once, in the answer; deliveries, reads and echoes come as webhooks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import aiohttp
from aiohttp import web

from adapters.sandbox._base import Accepted, Platform, Webhook
from adapters.sandbox._meta_world import (
    PRIVATE_REPLY_S,
    Behaviour,
    Comment,
    Customer,
    Refusal,
    check_message,
    check_window,
    signed,
)

__all__ = ["PAGE_INBOX", "Behaviour", "Comment", "Customer", "FacebookPage"]

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]

PAGE_INBOX: Final = 263902037430900  # the app staff write with


class FacebookPage(Platform):
    """One Page of one app. `webhook_url` is where our gateway listens; empty: nothing is posted."""

    def __init__(
        self,
        *,
        page_id: str = "110220330",
        app_id: str = "555444333",
        access_token: str = "sandbox-token",  # noqa: S107 - opens nothing but this sandbox
        app_secret: str = "sandbox-app-secret",  # noqa: S107
        webhook_url: str = "",
        version: str = "v23.0",
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(port=port, seed=seed)
        self.page_id, self.app_id = page_id, app_id
        self.access_token, self.app_secret = access_token, app_secret
        self.webhook_url, self.version = webhook_url, version
        self.behaviour = Behaviour()
        self.clock_ahead_s = 0.0
        self.customers: dict[str, Customer] = {}
        self.comments: dict[str, Comment] = {}  # posts too
        self.subscribed: tuple[str, ...] = ()
        self._files: dict[str, tuple[bytes, str]] = {}
        self._messages: dict[str, tuple[str, ...]] = {}  # mid -> its files
        self._expired: set[str] = set()  # download keys
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
        """The edges of Graph that a Page's app calls."""
        edge = f"/{self.version}/{{node}}"
        return (
            web.post(edge + "/messages", self._sending(self._message)),
            web.post(edge + "/comments", self._sending(self._comment)),
            web.post(edge + "/message_attachments", self._called(self._upload)),
            web.post(edge + "/photos", self._called(self._upload)),
            web.get(edge + "/comments", self._called(self._list_comments)),
            web.get(edge + "/conversations", self._called(self._conversations)),
            web.get(edge + "/subscribed_apps", self._called(self._subscriptions)),
            web.post(edge + "/subscribed_apps", self._called(self._subscribe)),
            web.get(edge, self._called(self._node)),
            web.get("/files/{key}", self._download),
        )

    def throttled(self) -> web.Response:
        """613, with the header that tells how long to wait."""
        response = Refusal(613, "Calls to this api have exceeded the rate limit.").answer()
        usage = {self.page_id: [{"type": "messenger", "call_count": 100, "estimated_time_to_regain_access": 3}]}
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
        if request.match_info["node"] not in (self.page_id, "me"):
            raise Refusal(100, "Unsupported post request", 33)
        body = await request.json()
        if self.behaviour.restricted:
            raise Refusal(10, "temporarily restricted from sending", 1893063, 403)
        recipient = body.get("recipient") or {}
        customer = self._recipient(recipient)
        if "sender_action" in body:
            return web.json_response({"recipient_id": customer.psid})
        message = body.get("message") or {}
        check_message(message, self._files)
        if "id" in recipient:
            check_window(customer, body, self.behaviour, self.now())
        else:
            self._use_private_reply(str(recipient.get("comment_id") or recipient.get("post_id")))
        mid = self._new_id("m_")
        self.record(Accepted(str(message.get("metadata", "")), mid, customer.psid, body))
        self.report(self._reports(mid, customer, message))
        return web.json_response({"recipient_id": customer.psid, "message_id": mid})

    def _recipient(self, recipient: Mapping[str, Any]) -> Customer:
        if "id" in recipient:
            found = self.customers.get(str(recipient["id"]))
        else:
            comment = self.comments.get(str(recipient.get("comment_id") or recipient.get("post_id")))
            if comment is None:
                raise Refusal(100, "Unsupported post request", 33)
            found = next((one for one in self.customers.values() if _author(one) == comment.author), None)
        if found is None:
            raise Refusal(100, "No matching user found", 2018001)
        return found

    def _use_private_reply(self, ref: str) -> None:
        comment = self.comments[ref]
        if comment.answered:
            raise Refusal(10900, "Activity already replied to")
        if self.now() - comment.at >= PRIVATE_REPLY_S:
            raise Refusal(10, "This message is sent outside of allowed window.", 2018278, 403)
        comment.answered = True

    async def _comment(self, request: web.Request) -> web.Response:
        target = self.comments.get(request.match_info["node"])
        if target is None or target.hidden:
            raise Refusal(100, "Object does not exist or cannot be loaded", 33)
        body = await request.json()
        words = str(body.get("message", ""))
        if not words and not (body.get("attachment_id") or body.get("attachment_url")):
            raise Refusal(100, "message or attachment is needed")
        last = next((one for one in reversed(self.comments.values()) if one.author == self.page_id), None)
        if last is not None and words and last.text == words and last.parent == target.id:
            raise Refusal(506, "Duplicate status message")
        made = self._keep(self.page_id, words, target.post, target.id)
        self.record(Accepted("", made.id, target.id, body))
        self.report([self.delivery(changes=[self._change(made, "comment", "add")])])
        return web.json_response({"id": made.id})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        part = form.get("filedata") or form.get("source")
        if not isinstance(part, web.FileField):
            raise Refusal(100, "upload attachment failure", 2018047)
        file_id = self.add_file(part.file.read(), part.content_type)
        return web.json_response({"id": file_id} if "source" in form else {"attachment_id": file_id})

    async def _list_comments(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        found = [
            _shown(one, self._name(one.author)) for one in self.comments.values() if node in (one.parent, one.post)
        ]
        return web.json_response({"data": found[::-1]})

    async def _conversations(self, request: web.Request) -> web.Response:
        customer = self.customers.get(request.query.get("user_id", ""))
        people = [{"id": customer.psid, "name": customer.name}] if customer else []
        return web.json_response({"data": [{"participants": {"data": people}, "id": "t_1"}] if people else []})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        listed = [{"id": self.app_id, "subscribed_fields": list(self.subscribed)}] if self.subscribed else []
        return web.json_response({"data": listed})

    async def _subscribe(self, request: web.Request) -> web.Response:
        self.subscribed = tuple(str((await request.json())["subscribed_fields"]).split(","))
        return web.json_response({"success": True})

    async def _node(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        if node == self.page_id:
            return web.json_response({"id": node, "name": "The Shop"})
        if (customer := self.customers.get(node)) is not None and not customer.hidden:
            first, _, last = customer.name.partition(" ")
            return web.json_response({"id": node, "first_name": first, "last_name": last, "name": customer.name})
        if (comment := self.comments.get(node)) is not None:
            return web.json_response(_shown(comment, self._name(comment.author)))
        if node in self._messages:
            listed = [{"id": file, "image_data": {"url": self._address(file)}} for file in self._messages[node]]
            return web.json_response({"id": node, "attachments": {"data": listed}})
        raise Refusal(100, f"Object with ID '{node}' does not exist", 33)

    async def _download(self, request: web.Request) -> web.Response:
        """Storage knows signed addresses only."""
        key = request.match_info["key"]
        file = self._files.get(key.partition("-")[0])
        if file is None or key in self._expired:
            return web.Response(status=403, text="URL signature expired")
        return web.Response(body=file[0], content_type=file[1])

    # --- what tests and demos set up ----------------------------------------------------------------------------------

    def add_customer(self, customer: Customer) -> Customer:
        """Make somebody known to the platform."""
        self.customers[customer.psid] = customer
        return customer

    def add_file(self, content: bytes, media_type: str) -> str:
        """Keep a file; its id."""
        file_id = str(10**14 + len(self._files))
        self._files[file_id] = (content, media_type)
        return file_id

    def expire(self, url: str) -> None:
        """From now on the file's address answers 403."""
        self._expired.add(url.rpartition("/")[2])

    def page_post(self, text: str = "News") -> str:
        """The Page posts; the post's id. Nothing is told of it."""
        return self._keep(self.page_id, text).id

    # --- what people and the platform do ------------------------------------------------------------------------------

    async def customer_writes(self, customer: Customer, text: str = "Hi", **content: Any) -> str:
        """A private message, posted to our webhook; its mid. `content` replaces the text."""
        mid = self._new_id("m_")
        await self.customer_does(customer, message={"mid": mid, **(content or {"text": text})})
        return mid

    async def customer_sends_file(
        self, customer: Customer, content: bytes, media_type: str, kind: str = "image"
    ) -> str:
        """A file at a signed address; the message's mid."""
        mid, file_id = self._new_id("m_"), self.add_file(content, media_type)
        self._messages[mid] = (file_id,)
        attachment = {"type": kind, "payload": {"url": self._address(file_id)}}
        await self.customer_does(customer, message={"mid": mid, "attachments": [attachment]})
        return mid

    async def customer_does(self, customer: Customer, *, standby: bool = False, **event: Any) -> int:
        """Any event of Messenger by this person: `postback={...}`, `reaction={...}`, `referral={...}`."""
        self.add_customer(customer)
        if event.keys() & {"message", "postback", "reaction", "referral"}:
            customer.last_wrote = self.now()
        return await self.post(**{"standby" if standby else "messaging": [self._item(customer, event)]})

    async def staff_writes(self, customer: Customer, text: str, *, app_id: int = PAGE_INBOX) -> str:
        """A person of the business answers in the Page's inbox, or another app does: an echo comes; its mid."""
        mid = self._new_id("m_")
        await self.post(messaging=[self._echo(mid, customer, {"text": text}, app_id)])
        return mid

    async def customer_comments(self, customer: Customer, text: str, post: str, parent: str = "", **more: Any) -> str:
        """A comment below a post or a comment; its id. `more` joins what the change tells."""
        self.add_customer(customer)
        made = self._keep(_author(customer), text, post, parent or post)
        change = self._change(made, "comment", "add")
        change["value"] |= more
        await self.post(changes=[change])
        return made.id

    async def customer_posts(self, customer: Customer, text: str) -> str:
        """A visitor's post on the Page; its id."""
        self.add_customer(customer)
        made = self._keep(_author(customer), text)
        await self.post(changes=[self._change(made, "post", "add")])
        return made.id

    async def comment_changes(self, ref: str, verb: str, text: str = "") -> None:
        """A comment is edited, removed, hidden or shown again: the change is posted."""
        comment = self.comments[ref]
        if verb == "edited":
            comment.text = text
        comment.hidden = verb == "hide" or (comment.hidden and verb != "unhide")
        change = self._change(comment, "comment", verb)
        if verb == "remove":
            del self.comments[ref], change["value"]["message"]
        await self.post(changes=[change])

    def delivery(self, **lists: Sequence[Mapping[str, Any]]) -> Webhook:
        """One signed POST with these lists in one entry. Feeds count in seconds, Messenger in milliseconds."""
        moment = int(self.now() * (1 if "changes" in lists else 1000))
        entry = {"id": self.page_id, "time": moment, **lists}
        return signed(self.webhook_url, self.app_secret, {"object": "page", "entry": [entry]})

    async def post(self, **lists: Sequence[Mapping[str, Any]]) -> int:
        """Post these lists now; the last status, 0 for no answer or without a webhook."""
        webhook = self.delivery(**lists)
        return await self.post_webhook(webhook.url, webhook.body, webhook.headers) if webhook.url else 0

    async def handshake(self, verify_token: str, challenge: str = "1158201444") -> tuple[int, str]:
        """Ask our webhook to prove itself, as on each change of its address; status and body of the answer."""
        query = {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": challenge}
        async with aiohttp.ClientSession() as session, session.get(self.webhook_url, params=query) as answer:
            return answer.status, await answer.text()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _item(self, customer: Customer, event: Mapping[str, Any]) -> dict[str, Any]:
        people = {"sender": {"id": customer.psid}, "recipient": {"id": self.page_id}}
        return {**people, "timestamp": int(self.now() * 1000), **event}

    def _echo(self, mid: str, customer: Customer, message: Mapping[str, Any], app_id: int) -> dict[str, Any]:
        people = {"sender": {"id": self.page_id}, "recipient": {"id": customer.psid}}
        echoed = {"mid": mid, "is_echo": True, "app_id": app_id, **message}
        return {**people, "timestamp": int(self.now() * 1000), "message": echoed}

    def _reports(self, mid: str, customer: Customer, message: Mapping[str, Any]) -> list[Webhook]:
        if not self.webhook_url:
            return []
        kept = {key: message[key] for key in ("text", "metadata") if key in message}
        if "attachment" in message:
            kept["attachments"] = [message["attachment"]]
        watermark = int(self.now() * 1000)
        delivery = {"watermark": watermark} | ({"mids": [mid]} if self.behaviour.mids_in_deliveries else {})
        reports = [self._echo(mid, customer, kept, int(self.app_id)), self._item(customer, {"delivery": delivery})]
        if customer.reads:
            reports.append(self._item(customer, {"read": {"watermark": watermark}}))
        return [self.delivery(messaging=[report]) for report in reports]

    def _keep(self, author: str, text: str, post: str = "", parent: str = "") -> Comment:
        number = self._new_id("")
        name = f"{post.rpartition('_')[2]}_{number}" if post else f"{self.page_id}_{number}"
        made = Comment(name, post or name, parent or post or name, author, text, self.now())
        self.comments[name] = made
        return made

    def _change(self, comment: Comment, item: str, verb: str) -> dict[str, Any]:
        value = {
            "item": item, "verb": verb, "post_id": comment.post, "created_time": int(comment.at),
            "from": {"id": comment.author, "name": self._name(comment.author)}, "message": comment.text,
        }  # fmt: skip
        if item == "comment":
            post = {"id": comment.post, "permalink_url": f"https://facebook.example/{comment.post}"}
            value |= {"comment_id": comment.id, "parent_id": comment.parent, "post": post}
        return {"field": "feed", "value": value}

    def _name(self, author: str) -> str:
        return next((one.name for one in self.customers.values() if _author(one) == author), "The Shop")

    def _address(self, file_id: str) -> str:
        return f"{self.url}/files/{file_id}-{self.random.getrandbits(64):016x}"

    def _new_id(self, prefix: str) -> str:
        self._last_id += 1
        return f"{prefix}{self._last_id}"


def _author(customer: Customer) -> str:
    return customer.commenter or customer.psid


def _shown(comment: Comment, name: str) -> dict[str, Any]:
    """A comment as the API shows it when asked."""
    made = datetime.fromtimestamp(comment.at, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
    shown = {
        "id": comment.id, "message": comment.text, "from": {"id": comment.author, "name": name}, "created_time": made,
    }  # fmt: skip
    return shown | ({"attachment": dict(comment.attachment)} if comment.attachment else {})
