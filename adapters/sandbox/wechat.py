"""A WeChat official account on loopback: access tokens, customer service messages, templates, files, and followers.

Sources: WeChat, Service account, Get stable access token; Send customer service messages; Template messages; Upload
temporary media; Message encryption, 2026. Answers are 200 with an `errcode`, as the platform's are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from adapters._wechat_crypto import Envelope, signature
from adapters.sandbox._base import Accepted, Platform, Webhook
from adapters.sandbox._wechat_world import (
    CLICK,
    MEDIA_S,
    MESSAGE,
    TITLES,
    UPLOADS,
    Behaviour,
    Follower,
    Mode,
    Refusal,
    Stored,
    World,
    check_content,
    to_xml,
)
from config.secret import Secret

__all__ = ["Behaviour", "Follower", "WeChatSimulator"]

TOKEN_S = 7200.0
OVERLAP_S = 300.0  # the token before still passes for so long
_ALLOWING = {"click": CLICK, "scan": CLICK, "scancode_push": CLICK, "scancode_waitmsg": CLICK}


class WeChatSimulator(Platform):
    """One official account. `webhook_url` is where our gateway listens; empty: nothing is posted."""

    def __init__(
        self,
        *,
        app_id: str = "wx00112233445566aa",
        app_secret: str = "sandbox-app-secret",  # noqa: S107 - opens nothing but this sandbox
        token: str = "sandbox-token",  # noqa: S107
        encoding_aes_key: str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFA",
        original_id: str = "gh_sandbox",
        mode: Mode = "plain",
        webhook_url: str = "",
        port: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(port=port, seed=seed)
        self.app_id, self.app_secret, self.token, self.original_id = app_id, app_secret, token, original_id
        self.encoding_aes_key, self.mode, self.webhook_url = encoding_aes_key, mode, webhook_url
        self.behaviour, self.world = Behaviour(), World()
        self.clock_ahead_s = 0.0
        self.token_calls = 0
        self._access: list[tuple[str, float]] = []  # tokens with their end, the newest last
        self._messages: dict[str, int] = {}  # client_msg_id -> msgid
        self._last_id = 0

    @property
    def api_base(self) -> str:
        """What the account's `api_base` must be."""
        return self.url

    def now(self) -> float:
        """The platform's clock, Unix seconds; `clock_ahead_s` moves it."""
        return time.time() + self.clock_ahead_s

    # --- the platform's calls -----------------------------------------------------------------------------------------

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (
            web.post("/cgi-bin/stable_token", self._stable_token),
            web.post("/cgi-bin/message/custom/send", self._custom),
            web.post("/cgi-bin/message/custom/typing", self._typing),
            web.post("/cgi-bin/message/template/send", self._template),
            web.post("/cgi-bin/message/subscribe/bizsend", self._notice),
            web.post("/cgi-bin/media/upload", self._upload),
            web.get("/cgi-bin/media/get", self._media),
            web.get("/cgi-bin/user/info", self._user),
        )

    def throttled(self) -> web.Response:
        return _answer(45011)

    def broken(self) -> web.Response:
        return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")

    async def _stable_token(self, request: web.Request) -> web.Response:
        """The same token to all who ask, until its last five minutes; without `stable` as the older call does."""
        self.token_calls += 1
        try:
            asked = await request.json()
            if not self.behaviour.address_allowed:
                raise Refusal(40164)
            if asked.get("appid") != self.app_id:
                raise Refusal(40013)
            if asked.get("secret") != self.app_secret:
                raise Refusal(40125)
        except Refusal as refusal:
            return _answer(refusal.code)
        if not self.behaviour.stable:
            self.new_token()
        elif not self._access or self.now() >= self._access[-1][1] - OVERLAP_S:
            self.new_token(overlap_s=OVERLAP_S)
        value, until = self._access[-1]
        return web.json_response({"access_token": value, "expires_in": int(until - self.now())})

    async def _custom(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, lambda: self._guarded(request, self._take_custom))

    async def _template(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, lambda: self._guarded(request, self._take_template))

    async def _notice(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, lambda: self._guarded(request, self._take_notice))

    async def _typing(self, request: web.Request) -> web.Response:
        return await self._guarded(request, self._take_typing)

    async def _guarded(self, request: web.Request, take: Any) -> web.Response:
        """The answer of a call that posts JSON."""
        try:
            self._check_token(request)
            if self.behaviour.quota_of_the_day_used:
                raise Refusal(45009)
            body = json.loads(await request.read())
            return web.json_response({"errcode": 0, "errmsg": "ok", **take(body)})
        except ValueError:
            return _answer(47001)
        except Refusal as refusal:
            return _answer(refusal.code)

    def _take_typing(self, body: Mapping[str, Any]) -> dict[str, Any]:
        follower = self._follower(body)
        if not follower.follows or self.now() >= follower.until:
            raise Refusal(45015)
        self.behaviour.typing.append(follower.openid)
        return {}

    def _take_custom(self, body: Mapping[str, Any]) -> dict[str, Any]:
        follower = self._follower(body)
        check_content(body, self.world, self.behaviour, self.now())
        follower.spend(self.now())
        self.record(Accepted("", "", follower.openid, body))
        return {}

    def _take_template(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Sent once for each `client_msg_id`; what became of it is posted later."""
        follower = self._follower(body)
        if not self.behaviour.certified:
            raise Refusal(48001)
        if body.get("template_id") not in self.world.templates:
            raise Refusal(40037)
        if not follower.follows:
            raise Refusal(43004)
        ours = str(body.get("client_msg_id", ""))
        if ours and (known := self._messages.get(ours)):
            return {"msgid": known}
        msgid = self._accept(ours, follower, body)
        result = "failed:user block" if follower.blocks else self.behaviour.template_result
        event = self._event(follower, "TEMPLATESENDJOBFINISH", MsgID=msgid, Status=result)
        self._report(event)
        return {"msgid": msgid}

    def _take_notice(self, body: Mapping[str, Any]) -> dict[str, Any]:
        follower = self._follower(body)
        template = str(body.get("template_id", ""))
        if template not in self.world.templates:
            raise Refusal(40037)
        if template in follower.refuses:
            raise Refusal(43101)
        msgid = self._accept("", follower, body)
        item = {"TemplateId": template, "MsgID": msgid, "ErrorCode": 0, "ErrorStatus": "success"}
        self._report(self._event(follower, "subscribe_msg_sent_event", SubscribeMsgSentEvent={"List": item}))
        return {"msgid": msgid}

    def _accept(self, ours: str, follower: Follower, body: Mapping[str, Any]) -> int:
        msgid = self._new_id()
        self._messages[ours] = msgid
        self.record(Accepted(ours, str(msgid), follower.openid, body))
        return msgid

    async def _upload(self, request: web.Request) -> web.Response:
        try:
            self._check_token(request)
            kind = request.query.get("type", "")
            part = (await request.post()).get("media")
            if kind not in UPLOADS or not isinstance(part, web.FileField):
                raise Refusal(40004)
            suffixes, most = UPLOADS[kind]
            content = part.file.read()
            if part.filename.rpartition(".")[2] not in suffixes:
                raise Refusal(40004)
            if not content or len(content) > most:
                raise Refusal(40006)
        except Refusal as refusal:
            return _answer(refusal.code)
        media_id = self.add_file(content, part.content_type, kind)
        name = "thumb_media_id" if kind == "thumb" else "media_id"
        return web.json_response({"type": kind, name: media_id, "created_at": int(self.now())})

    async def _media(self, request: web.Request) -> web.Response:
        try:
            self._check_token(request)
            stored = self.world.files.get(request.query.get("media_id", ""))
            if stored is None or self.now() >= stored.expires:
                raise Refusal(40007)
        except Refusal as refusal:
            return _answer(refusal.code)
        if stored.type == "video" and self.behaviour.videos_elsewhere:
            return web.json_response({"video_url": self.behaviour.videos_elsewhere})
        return web.Response(body=stored.content, content_type=stored.media_type)

    async def _user(self, request: web.Request) -> web.Response:
        try:
            self._check_token(request)
            follower = self._follower({"touser": request.query.get("openid", "")})
        except Refusal as refusal:
            return _answer(refusal.code)
        union = {"unionid": follower.unionid} if follower.unionid else {}
        if not follower.follows:
            return web.json_response({"subscribe": 0, "openid": follower.openid, **union})
        return web.json_response(
            {
                "subscribe": 1, "openid": follower.openid, "nickname": "", "sex": 0, "language": "zh_CN", "city": "",
                "headimgurl": "", "subscribe_time": 1_750_000_000, "remark": "", "groupid": 0, "tagid_list": [2],
                "subscribe_scene": "ADD_SCENE_QR_CODE", "qr_scene": 0, "qr_scene_str": "shop7", **union,
            }
        )  # fmt: skip

    def _check_token(self, request: web.Request) -> None:
        given, now = request.query.get("access_token", ""), self.now()
        if not given:
            raise Refusal(41001)
        until = next((until for value, until in self._access if value == given), None)
        if until is None or self.behaviour.refuse_tokens:
            raise Refusal(40001)
        if now >= until:
            raise Refusal(42001)

    def _follower(self, body: Mapping[str, Any]) -> Follower:
        follower = self.world.followers.get(str(body.get("touser", "")))
        if follower is None:
            raise Refusal(40003)
        return follower

    # --- what tests and demos set up ----------------------------------------------------------------------------------

    def add_follower(self, follower: Follower) -> Follower:
        """Make somebody known to the account."""
        self.world.followers[follower.openid] = follower
        return follower

    def add_file(self, content: bytes, media_type: str, type: str = "image") -> str:
        """Keep a file for three days; its id."""
        media_id = f"media-{self._new_id()}"
        self.world.files[media_id] = Stored(content, media_type, type, self.now() + MEDIA_S)
        return media_id

    def new_token(self, *, overlap_s: float = 0.0) -> str:
        """Another access token; the one before passes for `overlap_s` more seconds, or is refused as not the latest."""
        now = self.now()
        self._access = [(value, min(until, now + overlap_s)) for value, until in self._access[-1:] if overlap_s]
        self._access.append((f"access-{self.random.getrandbits(128):032x}", now + TOKEN_S))
        return self._access[-1][0]

    # --- what followers and the platform do ---------------------------------------------------------------------------

    async def customer_writes(self, follower: Follower, text: str = "Hi", **fields: Any) -> str:
        """A message, posted to our webhook; its id. `fields` replace the text: `MsgType="location", Location_X=...`.

        It allows 5 messages in 48 hours; an answer to a menu of ours counts as a click.
        """
        message_id = str(10**16 + self._new_id())
        content = fields if "MsgType" in fields else {"MsgType": "text", "Content": text, **fields}
        follower.grant(CLICK if "bizmsgmenuid" in fields else MESSAGE, self.now())
        await self.post(self._from(follower) | content | {"MsgId": int(message_id)})
        return message_id

    async def customer_sends_file(
        self, follower: Follower, content: bytes, media_type: str, *, kind: str = "image", **fields: Any
    ) -> str:
        """A picture, voice message or film; the message's id."""
        media_id = self.add_file(content, media_type, kind)
        return await self.customer_writes(follower, MsgType=kind, MediaId=media_id, **fields)

    async def customer_follows(self, follower: Follower, scene: str = "") -> None:
        """By a QR code when there is a scene."""
        follower.follows = True
        follower.grant(CLICK, self.now())
        by_code = {"EventKey": f"qrscene_{scene}", "Ticket": "ticket-1"} if scene else {"EventKey": ""}
        await self.post(self._event(follower, "subscribe", **by_code))

    async def customer_leaves(self, follower: Follower) -> None:
        """Unfollows: nothing can be sent any more."""
        follower.follows, follower.remaining = False, 0
        await self.post(self._event(follower, "unsubscribe", EventKey=""))

    async def customer_acts(self, follower: Follower, event: str, key: str = "", **fields: Any) -> None:
        """Any other event: `CLICK`, `SCAN`, `VIEW`, ..."""
        if (allowance := _ALLOWING.get(event.lower())) is not None:
            follower.grant(allowance, self.now())
        await self.post(self._event(follower, event, EventKey=key, **fields))

    def delivery(self, fields: Mapping[str, Any]) -> Webhook:
        """One POST of these fields, signed, and encrypted as `mode` says."""
        timestamp, nonce = str(int(self.now())), f"{self.random.getrandbits(32)}"
        query = {"signature": signature(self.token, timestamp, nonce), "timestamp": timestamp, "nonce": nonce,
                 "openid": str(fields.get("FromUserName", ""))}  # fmt: skip
        body = to_xml(fields)
        if self.mode != "plain":
            salt = self.random.getrandbits(128).to_bytes(16, "big")
            sealed = Envelope(self.app_id, (Secret(self.encoding_aes_key),)).seal(body.encode(), salt)
            clear = fields if self.mode == "compatible" else {"ToUserName": fields.get("ToUserName", "")}
            body = to_xml({**clear, "Encrypt": sealed})
            query |= {"encrypt_type": "aes", "msg_signature": signature(self.token, timestamp, nonce, sealed)}
        return Webhook(f"{self.webhook_url}?{urlencode(query)}", body.encode(), {"Content-Type": "text/xml"})

    async def post(self, fields: Mapping[str, Any]) -> int:
        """Post these fields now; the last status, 0 for no answer or without a webhook."""
        if not self.webhook_url:
            return 0
        webhook = self.delivery(fields)
        return await self.post_webhook(webhook.url, webhook.body, webhook.headers)

    async def handshake(self, token: str = "", echo: str = "5318241234567890123") -> tuple[int, str]:
        """Ask our webhook to prove itself, as when the address is entered; status and body of the answer."""
        timestamp, nonce = str(int(self.now())), "nonce42"
        query = {"signature": signature(token or self.token, timestamp, nonce), "timestamp": timestamp,
                 "nonce": nonce, "echostr": echo}  # fmt: skip
        async with aiohttp.ClientSession() as session, session.get(self.webhook_url, params=query) as answer:
            return answer.status, await answer.text()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _from(self, follower: Follower) -> dict[str, Any]:
        self.add_follower(follower)
        return {"ToUserName": self.original_id, "FromUserName": follower.openid, "CreateTime": int(self.now())}

    def _event(self, follower: Follower, event: str, **fields: Any) -> dict[str, Any]:
        return self._from(follower) | {"MsgType": "event", "Event": event, **fields}

    def _report(self, fields: Mapping[str, Any]) -> None:
        if self.webhook_url:
            self.report([self.delivery(fields)])

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _answer(code: int) -> web.Response:
    return web.json_response({"errcode": code, "errmsg": f"{TITLES.get(code, 'error')} rid: 6500-sandbox"})
