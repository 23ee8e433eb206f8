"""Twilio on loopback: the Messages API, status callbacks, inbound SMS and MMS, media, and the block list of STOP.

Sources: Twilio, "Message resource", "Outbound Message Status in Status Callbacks", "Twilio's request to your incoming
message Webhook URL", "Advanced Opt-Out", 2026-09. Webhooks are signed by the official library.
"""

from __future__ import annotations

import base64
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from yarl import URL

from adapters._segments import count
from adapters.sandbox._base import Accepted, Platform, Webhook
from adapters.sandbox._twilio_rules import API, Refused, SendRequest, error, keyword, refusal, resource
from adapters.sandbox._twilio_whatsapp import PREFIX, ContentTemplate, Person, WhatsAppWorld

__all__ = ["ContentTemplate", "Person", "TwilioSimulator"]

_Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(slots=True)
class _Media:
    media_type: str
    content: bytes
    missing: int  # times to answer 404 still


class TwilioSimulator(Platform):
    """One account with its numbers and messaging services.

    `webhook_url` is where inbound messages go, `whatsapp_url` where those of WhatsApp go. When our side names itself by
    another address than the one it listens on, `public_url` is that name and `local_url` the way there: signatures are
    made for the first, posts go to the second. `separate_cdn` puts files on another port, as Twilio keeps them on
    another host.
    """

    def __init__(
        self,
        *,
        account_sid: str = "AC" + "0" * 31 + "1",
        auth_token: str = "sandbox-token",  # noqa: S107 - of a simulator
        numbers: Sequence[str] = ("+15550199999",),
        services: Mapping[str, Sequence[str]] | None = None,
        whatsapp_numbers: Sequence[str] = (),
        webhook_url: str = "",
        whatsapp_url: str = "",
        public_url: str = "",
        local_url: str = "",
        separate_cdn: bool = False,
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(port=port, seed=seed)
        self.account_sid, self.auth_token = account_sid, auth_token
        self.numbers = tuple(numbers)
        self.services = {name: tuple(pool) for name, pool in (services or {}).items()}
        self.webhook_url, self.public_url, self.local_url = webhook_url, public_url, local_url
        self.whatsapp, self.whatsapp_url = WhatsAppWorld(tuple(whatsapp_numbers)), whatsapp_url
        self.clock_ahead_s = 0.0
        self.custom_keywords: dict[str, str] = {}  # of Advanced Opt-Out: word -> STOP, START or HELP
        self.opted_out: set[tuple[str, str]] = set()  # (service or number, customer)
        self.refusals: dict[str, int] = {}  # customer -> code of the 4xx answer to a send
        self.failures: dict[str, int] = {}  # customer -> error code reported afterwards
        self.carrier_receipts = True  # False: "sent" is the last word
        self.advanced_opt_out = False  # tell in the webhook which keyword matched
        self.media_missing = 0  # times a new file answers 404 first
        self.auto_replies: list[tuple[str, str]] = []  # (customer, keyword) that the platform answered by itself
        self.messages: dict[str, dict[str, Any]] = {}
        self._media: dict[str, _Media] = {}
        self._separate_cdn, self._cdn = separate_cdn, ""
        self._cdn_runner: web.AppRunner | None = None
        self._ids = itertools.count(1)

    # --- for tests and demos ------------------------------------------------------------------------------------------

    async def customer_writes(
        self,
        text: str = "",
        *,
        sender: str = "+15550100001",
        to: str = "",
        service: str = "",
        media: Iterable[tuple[str, bytes]] = (),
        fields: Mapping[str, str] | None = None,
    ) -> str:
        """A customer sends a message: keep its files and post it. Returns its id.

        A keyword alone changes the block list, and the platform answers it by itself; the webhook is posted all the
        same. `fields` are added to the form.
        """
        files = list(media)
        sid = self._sid("MM" if files else "SM")
        to = to or (self.services[service][0] if service else self.numbers[0])
        form = {"ToCountry": "US", "ToState": "", "SmsMessageSid": sid, "NumMedia": str(len(files)), "ToCity": ""}
        form |= {"FromZip": "", "SmsSid": sid, "FromState": "CA", "SmsStatus": "received", "FromCity": ""}
        form |= {"Body": text, "FromCountry": "US", "To": to, "ToZip": "", "MessageSid": sid, "From": sender}
        form |= {"NumSegments": str(max(1, count(text).segments)), "AccountSid": self.account_sid}
        form |= {"ApiVersion": "2010-04-01"} | ({"MessagingServiceSid": service} if service else {})
        for index, (media_type, content) in enumerate(files):
            form[f"MediaUrl{index}"] = self._keep(sid, media_type, content)
            form[f"MediaContentType{index}"] = media_type
        if matched := self._keyword(text, service or to, sender):
            form |= {"OptOutType": matched} if self.advanced_opt_out else {}
        form |= dict(fields or {})
        self.messages[sid] = resource(
            self.account_sid,
            sid,
            direction="inbound",
            sender=sender,
            to=to,
            body=text,
            status="received",
            service=service,
            files=len(files),
        )
        await self._post_inbound(self.webhook_url, form)
        return sid

    async def person_writes(
        self,
        person: Person,
        text: str = "",
        *,
        to: str = "",
        media: Iterable[tuple[str, bytes]] = (),
        fields: Mapping[str, str] | None = None,
    ) -> str:
        """A person writes on WhatsApp, which opens the window. Returns the message's id.

        `fields` are added to the form (`ButtonPayload`, `Latitude`, `ReferralSourceId`, ...).
        """
        files = list(media)
        sid = self._sid("MM" if files else "SM")
        to = f"{PREFIX}{to or self.whatsapp.numbers[0]}"
        form = {"SmsMessageSid": sid, "NumMedia": str(len(files)), "MessageType": "text", "SmsSid": sid}
        form |= {"SmsStatus": "received", "Body": text, "Forwarded": "false", "FrequentlyForwarded": "false", "To": to}
        form |= {"NumSegments": "1", "ReferralNumMedia": "0", "MessageSid": sid, "AccountSid": self.account_sid}
        form |= {"ApiVersion": "2010-04-01", **self.whatsapp.add(person).fields()}
        for index, (media_type, content) in enumerate(files):
            form[f"MediaUrl{index}"] = self._keep(sid, media_type, content)
            form[f"MediaContentType{index}"] = media_type
            form["MessageType"] = media_type.partition("/")[0]
        form |= dict(fields or {})
        person.last_wrote = self.now()
        self.messages[sid] = resource(
            self.account_sid, sid, direction="inbound", sender=form["From"], to=to, body=text, status="received",
            service="", files=len(files),
        )  # fmt: skip
        await self._post_inbound(self.whatsapp_url, form)
        return sid

    def now(self) -> float:
        """The platform's clock, Unix seconds; `clock_ahead_s` moves it."""
        return time.time() + self.clock_ahead_s

    # --- the platform -------------------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The Messages API, the account, and media."""
        return (
            web.post(f"{API}/Messages.json", self._create),
            web.get(f"{API}/Messages.json", self._guarded(self._list)),
            web.get(f"{API}/Messages/{{message}}.json", self._guarded(self._read)),
            web.get(f"{API}/Messages/{{message}}/Media/{{media}}", self._guarded(self._redirect)),
            web.get(f"{API}.json", self._guarded(self._account)),
            web.get("/cdn/{media}", self._file),
        )

    def throttled(self) -> web.Response:
        """20429: too many requests at once."""
        return error(20429, 429, "Too Many Requests")

    def broken(self) -> web.Response:
        """20500: an error inside."""
        return error(20500, 500, "An internal server error has occurred")

    async def start(self) -> None:
        """Listen on loopback, with a second port for files if they have one."""
        await super().start()
        if self._separate_cdn:
            app = web.Application()
            app.router.add_get("/cdn/{media}", self._file)
            self._cdn_runner = web.AppRunner(app, access_log=None)
            await self._cdn_runner.setup()
            await web.TCPSite(self._cdn_runner, "127.0.0.1", 0).start()
            self._cdn = f"http://127.0.0.1:{self._cdn_runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._cdn_runner is not None:
            await self._cdn_runner.cleanup()
            self._cdn_runner = None
        await super().stop()

    async def _create(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()

        async def accept(_: web.Request) -> web.Response:
            return web.json_response(self._accept(SendRequest.read(form)), status=201)

        return await self.answer(request, lambda: self._guarded(accept)(request))

    def _accept(self, send: SendRequest) -> dict[str, Any]:
        send.check(self.numbers, self.services, self.whatsapp)
        if (send.service or send.sender, send.to) in self.opted_out:
            raise Refused(21610)
        if send.to in self.refusals:
            raise Refused(self.refusals[send.to])
        sid = self._sid("MM" if send.media else "SM")
        message = self.messages[sid] = resource(
            self.account_sid,
            sid,
            direction="outbound-api",
            sender=send.sender or self.services[send.service][0],
            to=send.to,
            body=send.body or (f"(template {send.content})" if send.content else ""),
            status="accepted" if send.service else "queued",
            service=send.service,
            files=len(send.media),
        )
        ours = parse_qs(urlsplit(send.callback).query).get("mid", [""])[0]
        self.record(Accepted(ours, sid, send.to, send))
        answer = dict(message)
        code = self.failures.get(send.to, 0)
        if send.to.startswith(PREFIX):
            code = code or self.whatsapp.failure(send.to, send.content, send.variables, self.now())
        self._report(message, send.callback, code)
        return answer

    def _report(self, message: dict[str, Any], callback: str, code: int) -> None:
        """Walk the message through its statuses. The first status of all is never reported."""
        steps = ["queued"] if message["status"] == "accepted" else []
        if code == 30001:
            steps.append("failed")  # never left
        else:
            last = ["undelivered"] if code else ["delivered"] if self.carrier_receipts else []
            steps += ["sending", "sent", *last]
        person = self.whatsapp.people.get(message["to"])
        if person is not None and person.reads and not code:
            steps.append("read")
        message |= {"status": steps[-1], "error_code": code or None}
        if not callback:
            return
        fields = {"AccountSid": self.account_sid, "ApiVersion": "2010-04-01", "MessageSid": message["sid"]}
        fields |= {"SmsSid": message["sid"], "From": message["from"], "To": message["to"]}
        if message["to"].startswith(PREFIX):
            fields["ChannelPrefix"] = "whatsapp"
        if message["messaging_service_sid"]:
            fields["MessagingServiceSid"] = message["messaging_service_sid"]
        failure = {"ErrorCode": str(code), "ErrorMessage": ""} if code else {}
        self.report(
            self._signed(
                callback, {**fields, "MessageStatus": step, "SmsStatus": step, **(failure if step == steps[-1] else {})}
            )
            for step in steps
        )

    async def _list(self, request: web.Request) -> web.Response:
        """Newest first; `To`, `From` and `DateSent` (with `<` or `>` for "and before", "and after") narrow it."""
        query = request.query
        found = [
            message
            for message in reversed(self.messages.values())
            if query.get("To", message["to"]) == message["to"]
            and query.get("From", message["from"]) == message["from"]
            and _sent_within(message, query)
        ]
        size = int(query.get("PageSize", "50"))
        page = {"page": 0, "page_size": size, "start": 0, "end": len(found[:size]), "next_page_uri": None}
        return web.json_response({"messages": found[:size], **page})

    async def _read(self, request: web.Request) -> web.Response:
        if (message := self.messages.get(request.match_info["message"])) is None:
            raise Refused(20404, 404)
        return web.json_response(message)

    async def _account(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"sid": self.account_sid, "status": "active", "type": "Full", "friendly_name": "Sandbox"}
        )

    async def _redirect(self, request: web.Request) -> web.Response:
        """A file's address: 404 for a while, then a redirect to where it lies."""
        file = self._media.get(request.match_info["media"])
        if file is None or file.missing:
            if file is not None:
                file.missing -= 1
            raise Refused(20404, 404)
        location = f"{self._cdn or self.url}/cdn/{request.match_info['media']}?Signature=s%2Bx"
        return web.Response(status=307, headers={"Location": location})

    async def _file(self, request: web.Request) -> web.Response:
        """Storage knows signed addresses only, and refuses a second credential beside one."""
        file = self._media.get(request.match_info["media"])
        if file is None or (self._separate_cdn and "Authorization" in request.headers):
            return web.Response(status=404 if file is None else 400)
        return web.Response(body=file.content, content_type=file.media_type)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _guarded(self, handler: _Handler) -> _Handler:
        """The call behind the account's credentials, its refusals as the API words them."""

        async def guarded(request: web.Request) -> web.Response:
            try:
                self._authorise(request)
                return await handler(request)
            except Refused as refused:
                return refusal(refused)

        return guarded

    def _authorise(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        expected = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        if given != f"Basic {expected}":
            raise Refused(20003, 401)
        if request.match_info["account"] != self.account_sid:
            raise Refused(20404, 404)

    def _keyword(self, text: str, ours: str, customer: str) -> str:
        """STOP, START or HELP when the whole message is such a word; the block list follows."""
        kind = self.custom_keywords.get(text.strip().lower(), "") if self.advanced_opt_out else ""
        kind = kind or keyword(text)
        if kind == "STOP":
            self.opted_out.add((ours, customer))
        elif kind == "START":
            self.opted_out.discard((ours, customer))
        if kind:
            self.auto_replies.append((customer, kind))
        return kind

    async def _post_inbound(self, url: str, form: Mapping[str, str]) -> None:
        webhook = self._signed(url, form)
        headers = {**webhook.headers, "I-Twilio-Idempotency-Token": str(uuid.UUID(int=self.random.getrandbits(128)))}
        await self.post_webhook(webhook.url, webhook.body, headers)

    def _signed(self, url: str, form: Mapping[str, str]) -> Webhook:
        """A POST of the form, signed for the address as our side is known by, without its fragment."""
        named = str(URL(url).with_fragment(None))
        signature = RequestValidator(self.auth_token).compute_signature(named, form)
        reached = named
        if self.public_url and named.startswith(self.public_url):
            reached = self.local_url + named[len(self.public_url) :]
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "X-Twilio-Signature": signature}
        return Webhook(reached, urlencode(form).encode(), headers)

    def _sid(self, prefix: str) -> str:
        return f"{prefix}{next(self._ids):032x}"

    def _keep(self, sid: str, media_type: str, content: bytes) -> str:
        media = self._sid("ME")
        self._media[media] = _Media(media_type, content, self.media_missing)
        return f"{self.url}{API.format(account=self.account_sid)}/Messages/{sid}/Media/{media}"


def _sent_within(message: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """By day, as the API compares: `DateSent`, `DateSent>` (and after), `DateSent<` (and before)."""
    day = parsedate_to_datetime(message["date_sent"]).date().isoformat()
    on, after, before = (query.get(f"DateSent{sign}", day)[:10] for sign in ("", ">", "<"))
    return on == day and after <= day <= before
