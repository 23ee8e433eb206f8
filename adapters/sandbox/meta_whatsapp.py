"""The WhatsApp Cloud API on loopback: sends, templates, files, receipts and customers who write.

Sources: Meta, WhatsApp Cloud API, Service messages; Media; Error codes; Webhooks overview, 2026-05. Where the platform
answers 200 and only later reports a failure (closed window, no such recipient), so does this one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import web

from adapters.sandbox._base import Accepted, Platform, Webhook
from adapters.sandbox._whatsapp_world import (
    STATUSES,
    TITLES,
    Approved,
    Behaviour,
    Customer,
    Refusal,
    check_content,
    contact_of,
    failure_of,
    sha256_of,
    take_slot,
    template_page,
    text_of,
)

__all__ = ["Approved", "Behaviour", "Customer", "MetaWhatsApp"]

MEDIA_URL_S = 300


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str


@dataclass(slots=True)
class _Store:
    customers: dict[str, Customer] = field(default_factory=dict)  # by phone and by user id
    templates: dict[tuple[str, str], Approved] = field(default_factory=dict)
    files: dict[str, _File] = field(default_factory=dict)
    addresses: dict[str, tuple[str, float]] = field(default_factory=dict)  # download key -> file id, valid until
    sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=2000))


class MetaWhatsApp(Platform):
    """One phone number of one business. `webhook_url` is where our gateway listens; empty: nothing is posted."""

    def __init__(
        self,
        *,
        phone_number_id: str = "900800700600",
        waba_id: str = "700100200300",
        display_phone_number: str = "4930111222",
        access_token: str = "sandbox-token",  # noqa: S107 - opens nothing but this sandbox
        app_secret: str = "sandbox-app-secret",  # noqa: S107
        webhook_url: str = "",
        version: str = "v23.0",
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(port=port, seed=seed)
        self.phone_number_id, self.waba_id, self.own_number = phone_number_id, waba_id, display_phone_number
        self.access_token, self.app_secret = access_token, app_secret
        self.webhook_url, self.version = webhook_url, version
        self.behaviour = Behaviour()
        self.clock_ahead_s = 0.0
        self.subscribed, self.page_max, self.uploads = True, 100, 0
        self._store = _Store()
        self._last_id = 0

    @property
    def api_base(self) -> str:
        """What the account's `api_base` must be."""
        return f"{self.url}/{self.version}"

    def now(self) -> float:
        """The platform's clock, Unix seconds; `clock_ahead_s` moves it."""
        return time.time() + self.clock_ahead_s

    # --- the platform's calls -----------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        version = f"/{self.version}"
        return (
            web.post(version + "/{number}/messages", self._messages),
            web.post(version + "/{number}/media", self._upload),
            web.get(version + "/{waba}/message_templates", self._templates),
            web.get(version + "/{waba}/subscribed_apps", self._subscriptions),
            web.post(version + "/{waba}/subscribed_apps", self._subscriptions),
            web.get(version + "/{node}", self._node),
            web.get("/files/{key}", self._download),
        )

    def throttled(self) -> web.Response:
        return self._refused(Refusal(130429, "too many messages from this number"))

    def broken(self) -> web.Response:
        return self._refused(Refusal(131000, "try again"))

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, lambda: self._accept(request))

    async def _accept(self, request: web.Request) -> web.Response:
        try:
            self._check_caller(request, request.match_info["number"])
            return await self._take(await request.json())
        except ValueError:
            return self._refused(Refusal(100, "the body is not JSON"))
        except Refusal as refusal:
            return self._refused(refusal)

    async def _take(self, body: Mapping[str, Any]) -> web.Response:
        """Refuse at once what the platform refuses at once; else accept and report how it went."""
        if body.get("messaging_product") != "whatsapp":
            raise Refusal(100, "messaging_product")
        target = str(body.get("to") or body.get("recipient") or "").lstrip("+")
        if not target:
            raise Refusal(131008, "to or recipient")
        if target == self.own_number:
            raise Refusal(131021, target)
        if len(str(body.get("biz_opaque_callback_data", ""))) > 512:
            raise Refusal(131009, "biz_opaque_callback_data")
        template = check_content(body, self._store.templates, self._store.files)
        customer = self._store.customers.get(target)
        self._take_slots(customer)
        failure = failure_of(customer, template, self.now())
        if failure == 131047 and self.behaviour.refuse_closed_window:
            raise Refusal(131047, "more than 24 hours since the last customer message")
        wamid = self._new_id()
        self.record(Accepted(str(body.get("biz_opaque_callback_data", "")), wamid, target, body))
        contact = {"input": target, "wa_id": customer.wa_id if customer else target}
        if customer:
            contact["user_id"] = customer.user_id
        message = {"id": wamid} | ({"message_status": "accepted"} if template else {})
        self._report(wamid, body, customer, failure)
        return web.json_response({"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]})

    def _take_slots(self, customer: Customer | None) -> None:
        knobs, now, sent_at = self.behaviour, self.now(), self._store.sent_at
        if knobs.per_second is not None and sum(now - at < 1 for at in sent_at) >= knobs.per_second:
            raise Refusal(130429, "message throughput has been reached")
        if knobs.pair_burst is not None and customer is not None:
            take_slot(customer, knobs.pair_burst, now)
        sent_at.append(now)

    async def _upload(self, request: web.Request) -> web.Response:
        try:
            self._check_caller(request, request.match_info["number"])
            form = await request.post()
            part = form.get("file")
            if form.get("messaging_product") != "whatsapp" or not isinstance(part, web.FileField):
                raise Refusal(100, "messaging_product and file are needed")
            kind = str(form.get("type") or part.content_type)
            if kind == "image/webp" and str(part.filename).endswith((".jpg", ".png")):
                raise Refusal(131053, "the file is not what it says")
            self.uploads += 1
            return web.json_response({"id": self.add_file(part.file.read(), kind)})
        except Refusal as refusal:
            return self._refused(refusal)

    async def _node(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        try:
            self._check_caller(request, None)
            if node == self.phone_number_id:
                return web.json_response({"id": node, "display_phone_number": self.own_number})
            if (file := self._store.files.get(node)) is None:
                raise Refusal(33, f"object with id {node!r} does not exist")
        except Refusal as refusal:
            return self._refused(refusal)
        key = f"{self.random.getrandbits(64):016x}"
        self._store.addresses[key] = (node, self.now() + MEDIA_URL_S)
        return web.json_response(
            {
                "url": f"{self.url}/files/{key}", "mime_type": file.media_type, "sha256": sha256_of(file.content),
                "file_size": len(file.content), "id": node, "messaging_product": "whatsapp",
            }
        )  # fmt: skip

    async def _templates(self, request: web.Request) -> web.Response:
        """The business account's templates, page by page."""
        try:
            self._check_business(request)
        except Refusal as refusal:
            return self._refused(refusal)
        here = f"{self.url}{request.path}"
        return web.json_response(template_page(self._store.templates.values(), request.query, self.page_max, here))

    async def _subscriptions(self, request: web.Request) -> web.Response:
        try:
            self._check_business(request)
        except Refusal as refusal:
            return self._refused(refusal)
        if request.method == "POST":
            self.subscribed = True
            return web.json_response({"success": True})
        apps = [{"whatsapp_business_api_data": {"id": "1", "name": "gateway"}}] if self.subscribed else []
        return web.json_response({"data": apps})

    def _check_business(self, request: web.Request) -> None:
        self._check_caller(request, None)
        if request.match_info["waba"] != self.waba_id:
            raise Refusal(33, "no such business account")

    async def _download(self, request: web.Request) -> web.Response:
        file_id, until = self._store.addresses.get(request.match_info["key"], ("", 0.0))
        if request.headers.get("Authorization") != f"Bearer {self.access_token}":
            return web.Response(status=401)
        if self.now() > until:
            return web.Response(status=404)
        file = self._store.files[file_id]
        content = file.content[::-1] if self.behaviour.corrupt_media else file.content
        return web.Response(body=content, content_type=file.media_type)

    def _check_caller(self, request: web.Request, number: str | None) -> None:
        if request.headers.get("Authorization") != f"Bearer {self.access_token}":
            raise Refusal(190, "the access token could not be decrypted")
        if number is not None and number != self.phone_number_id:
            raise Refusal(33, f"object with id {number!r} does not exist")

    @staticmethod
    def _refused(refusal: Refusal) -> web.Response:
        title = TITLES.get(refusal.code, "Error")
        error = {
            "message": f"(#{refusal.code}) {title}", "type": "OAuthException", "code": refusal.code,
            "error_data": {"messaging_product": "whatsapp", "details": refusal.details}, "fbtrace_id": "Asandbox",
        }  # fmt: skip
        return web.json_response({"error": error}, status=STATUSES.get(refusal.code, 400))

    # --- what tests and demos set up ----------------------------------------------------------------------------------

    def add_customer(self, customer: Customer) -> Customer:
        """Make somebody known to the platform by both ids."""
        self._store.customers[customer.wa_id] = self._store.customers[customer.user_id] = customer
        return customer

    def add_template(self, template: Approved) -> None:
        """Have a template approved, or change it."""
        self._store.templates[template.name, template.language] = template

    def drop_template(self, name: str, language: str) -> None:
        """Have a template deleted."""
        del self._store.templates[name, language]

    def drop_files(self) -> None:
        """Forget all uploads, as the platform does after 30 days."""
        self._store.files.clear()

    async def template_judged(self, template: Approved, word: str) -> None:
        """The platform changes a template's status (`word`: APPROVED, PAUSED, ...) and tells so."""
        self.add_template(replace(template, status=word))
        value = {
            "event": word, "message_template_id": 1, "message_template_name": template.name,
            "message_template_language": template.language, "reason": "NONE",
        }  # fmt: skip
        await self.post([{"field": "message_template_status_update", "value": value}])

    def add_file(self, content: bytes, media_type: str) -> str:
        """Keep a file; its id."""
        file_id = str(10**14 + len(self._store.files))
        self._store.files[file_id] = _File(content, media_type)
        return file_id

    # --- what customers and the platform do ---------------------------------------------------------------------------

    async def customer_writes(self, customer: Customer, text: str = "Hi", *, reply_to: str = "", **content: Any) -> str:
        """A message, posted to our webhook; its id. `content` replaces the text: `type="location", location={...}`.

        Everything but a reaction opens the window.
        """
        message = content or text_of(text)
        if reply_to:
            message["context"] = {"from": self.own_number, "id": reply_to}
        wamid = self._new_id()
        await self.post([self.inbound(customer, wamid, message)])
        return wamid

    async def customer_sends_file(
        self, customer: Customer, content: bytes, media_type: str, *, kind: str = "image", caption: str = ""
    ) -> str:
        """A file with its id and hash; the message's id."""
        media = {"id": self.add_file(content, media_type), "mime_type": media_type, "sha256": sha256_of(content)}
        if caption:
            media["caption"] = caption
        message: dict[str, Any] = {"type": kind, kind: media}
        return await self.customer_writes(customer, **message)

    async def customer_sets_marketing(self, customer: Customer, *, stop: bool) -> None:
        """The customer uses the platform's own menu."""
        customer.stopped_marketing = stop
        preference = {
            "wa_id": customer.wa_id, "user_id": customer.user_id, "category": "marketing_messages",
            "value": "stop" if stop else "resume", "timestamp": int(self.now()),
        }  # fmt: skip
        value = self._value() | {"contacts": [contact_of(customer)], "user_preferences": [preference]}
        await self.post([{"field": "user_preferences", "value": value}])

    async def customer_changes_number(self, customer: Customer, wa_id: str, user_id: str) -> None:
        """The customer moves to a new number, which brings a new user id."""
        old = (customer.wa_id, customer.user_id)
        for key in old:
            self._store.customers.pop(key, None)
        customer.wa_id, customer.user_id = wa_id, user_id
        self.add_customer(customer)
        message = {
            "id": self._new_id(), "from": old[0], "timestamp": str(int(self.now())), "type": "system",
            "system": {
                "type": "user_changed_number", "body": f"{customer.name} changed number", "wa_id": wa_id,
                "user_id": user_id, "previous_user_id": old[1],
            },
        }  # fmt: skip
        await self.post([{"field": "messages", "value": self._value() | {"messages": [message]}}])

    async def business_writes(self, customer: Customer, text: str) -> str:
        """A person of the business answers in the WhatsApp Business app: an echo comes; its id. Opens no window."""
        wamid = self._new_id()
        echo = {
            "id": wamid, "from": self.own_number, "to": customer.wa_id, "to_user_id": customer.user_id,
            "timestamp": str(int(self.now())), **text_of(text),
        }  # fmt: skip
        value = self._value() | {"contacts": [contact_of(customer)], "message_echoes": [echo]}
        await self.post([{"field": "smb_message_echoes", "value": value}])
        return wamid

    def inbound(self, customer: Customer, wamid: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """The change that brings a customer's message; for batches of several."""
        if self._store.customers.get(customer.wa_id) is not customer:
            self.add_customer(customer)
        if message.get("type") != "reaction":
            customer.last_wrote = self.now()
        sender = {"from_user_id": customer.user_id} | ({} if customer.hide_phone else {"from": customer.wa_id})
        entry = {"id": wamid, **sender, "timestamp": str(int(self.now())), **message}
        value = self._value() | {"contacts": [contact_of(customer)], "messages": [entry]}
        return {"field": "messages", "value": value}

    def delivery(self, changes: Sequence[Mapping[str, Any]]) -> Webhook:
        """One signed POST with these changes."""
        tree = {"object": "whatsapp_business_account", "entry": [{"id": self.waba_id, "changes": list(changes)}]}
        body = json.dumps(tree, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/").encode()
        mac = hmac.new(self.app_secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={mac}"}
        return Webhook(self.webhook_url, body, headers)

    async def post(self, changes: Sequence[Mapping[str, Any]]) -> int:
        """Post these changes now; the last status, 0 for no answer or without a webhook."""
        webhook = self.delivery(changes)
        return await self.post_webhook(webhook.url, webhook.body, webhook.headers) if webhook.url else 0

    async def handshake(self, verify_token: str, challenge: str = "1158201444") -> tuple[int, str]:
        """Ask our webhook to prove itself, as on each change of its address; status and body of the answer."""
        query = {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": challenge}
        async with aiohttp.ClientSession() as session, session.get(self.webhook_url, params=query) as answer:
            return answer.status, await answer.text()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _report(self, wamid: str, body: Mapping[str, Any], customer: Customer | None, failure: int) -> None:
        if not self.webhook_url:
            return
        reads = ("read",) if customer is not None and customer.reads else ()
        words = ("failed",) if failure else (*self.behaviour.statuses, *reads)
        self.report(self.delivery([self._status(word, wamid, body, customer, failure)]) for word in words)

    def _status(
        self, word: str, wamid: str, body: Mapping[str, Any], customer: Customer | None, failure: int
    ) -> dict[str, Any]:
        status: dict[str, Any] = {"id": wamid, "status": word, "timestamp": str(int(self.now()))}
        if customer is None:
            status["recipient_id"] = str(body.get("to", ""))
        else:
            status |= {"recipient_id": customer.wa_id, "recipient_user_id": customer.user_id}
        if self.behaviour.report_ids and body.get("biz_opaque_callback_data"):
            status["biz_opaque_callback_data"] = body["biz_opaque_callback_data"]
        if failure:
            title = TITLES.get(failure, "Error")
            details = {"details": f"{title}: {failure}"}
            status["errors"] = [{"code": failure, "title": title, "message": title, "error_data": details}]
        return {"field": "messages", "value": self._value() | {"statuses": [status]}}

    def _value(self) -> dict[str, Any]:
        metadata = {"display_phone_number": self.own_number, "phone_number_id": self.phone_number_id}
        return {"messaging_product": "whatsapp", "metadata": metadata}

    def _new_id(self) -> str:
        self._last_id += 1
        return f"wamid.{self.phone_number_id}.{self._last_id:08d}"
