"""What Meta's sandboxes share: refusals as Graph words them, signed webhooks, and the rules of private messaging.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Error codes, 2026-03; Private Replies, 2026-04.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from adapters.sandbox._base import Webhook

WINDOW_S, HUMAN_AGENT_S, PRIVATE_REPLY_S = 24 * 3600, 7 * 24 * 3600, 7 * 24 * 3600
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Rules:
    """What one private surface takes. `media`: attachment type -> (media types, most bytes)."""

    text_max: int
    text_size: Callable[[str], int]
    closed: int  # subcode of "outside of the allowed window"
    media: Mapping[str, tuple[tuple[str, ...], int]]
    other: frozenset[str] = frozenset({"template"})  # types of attachments that are no file
    templates: bool = True


MESSENGER: Final = Rules(
    text_max=1999, text_size=len, closed=2018278,
    media=dict.fromkeys(("image", "audio", "video", "file"), (("",), 25 * _MB)),
)  # fmt: skip
DIRECT: Final = Rules(
    text_max=1000,
    text_size=lambda words: len(words.encode()),
    closed=2534022,
    media={
        "image": (("image/png", "image/jpeg", "image/gif"), 8 * _MB),
        "audio": (("audio/",), 25 * _MB),
        "video": (("video/",), 25 * _MB),
        "file": (("application/pdf",), 25 * _MB),
    },
    other=frozenset({"template", "MEDIA_SHARE"}),
    templates=False,
)


class Refusal(Exception):
    """The platform refuses a call: code, subcode (0: none), HTTP status."""

    def __init__(self, code: int, words: str, subcode: int = 0, status: int = 400) -> None:
        super().__init__(f"{code}/{subcode} {words}")
        self.code, self.words, self.subcode, self.status = code, words, subcode, status

    def answer(self) -> web.Response:
        """The refusal as the platform answers it."""
        error: dict[str, Any] = {"message": f"(#{self.code}) {self.words}", "type": "OAuthException", "code": self.code}
        if self.subcode:
            error["error_subcode"] = self.subcode
        return web.json_response({"error": error | {"fbtrace_id": "Asandbox"}}, status=self.status)


@dataclass(slots=True)
class Customer:
    """Somebody on the platform, by the id the account knows them by in private (PSID, IGSID).

    `last_wrote`: Unix time of their last word in private, None before the first.
    """

    id: str
    name: str = "Jo Example"
    handle: str = ""
    commenter: str = ""  # their id in public; empty: the same
    blocked: bool = False  # answers 551
    reads: bool = False
    hidden: bool = False  # no profile is told, only the conversation's participants
    last_wrote: float | None = None


@dataclass(slots=True)
class Comment:
    """A comment or post. `author`: the id it is told by."""

    id: str
    post: str
    parent: str
    author: str
    text: str
    at: float
    hidden: bool = False
    answered: bool = False  # its one private reply is used
    attachment: Mapping[str, Any] = field(default_factory=dict)
    live: bool = False  # below a broadcast


@dataclass(slots=True)
class Behaviour:
    """What the platform does, changeable at any time."""

    human_agent: bool = False  # the app may use the tag
    templates: set[tuple[str, str]] = field(default_factory=set)  # approved: (name, language)
    restricted: bool = False  # answers 10/1893063
    mids_in_deliveries: bool = True
    demand_proof: bool = False
    fetches: bool = False  # files given by address are fetched and looked at
    sends_per_second: int = 1000
    private_replies_per_hour: int = 750


def signed(url: str, app_secret: str, tree: Mapping[str, Any]) -> Webhook:
    """One POST, signed over what is sent: escaped to ASCII, slashes too."""
    body = json.dumps(tree, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/").encode()
    mac = hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()
    return Webhook(url, body, {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={mac}"})


class Pace:
    """At most so many calls within a span. Raises `Refusal` 613 for one more."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()

    def spend(self, now: float, most: int, span_s: float) -> None:
        """Count one call."""
        while self._at and self._at[0] <= now - span_s:
            self._at.popleft()
        if len(self._at) >= most:
            raise Refusal(613, "Calls to this api have exceeded the rate limit.")
        self._at.append(now)


def check_message(message: Mapping[str, Any], files: Mapping[str, Any], rules: Rules) -> None:
    """Raise `Refusal` for what can be no message: text and file together, too long, of an unknown type."""
    said = [key for key in ("text", "attachment", "template") if key in message]
    if len(said) != 1 or (said == ["template"] and not rules.templates):
        raise Refusal(100, "param message must be non-empty, with either text or attachment", 2018015)
    if rules.text_size(str(message.get("text", ""))) > rules.text_max:
        raise Refusal(100, f"Length of param message[text] must be less than or equal to {rules.text_max}")
    if len(str(message.get("metadata", ""))) >= 1000:
        raise Refusal(100, "Length of param message[metadata]")
    replies = message.get("quick_replies", ())
    if len(replies) > 13 or any(
        not 1 <= len(str(one.get("title", ""))) <= 20 or len(str(one.get("payload", ""))) > 1000 for one in replies
    ):
        raise Refusal(100, "quick replies: up to 13, with titles of up to 20 characters", 2018053)
    attachment = message.get("attachment")
    if attachment is None:
        return
    kind, payload = attachment.get("type"), attachment.get("payload") or {}
    if kind == "template":
        check_template(payload)
    if kind not in rules.other and kind not in rules.media:
        raise Refusal(100, "param attachment[type]")
    if "attachment_id" in payload and payload["attachment_id"] not in files:
        raise Refusal(100, "invalid attachment id", 2018047)
    if kind not in rules.other and not (payload.get("attachment_id") or payload.get("url")):
        raise Refusal(100, "upload attachment failure", 2018047)


def check_template(payload: Mapping[str, Any]) -> None:
    """Raise `Refusal` for buttons and cards the platform does not take. Other kinds of templates are not looked at."""
    if payload.get("template_type") == "button":
        if not 1 <= len(str(payload.get("text", ""))) <= 640:
            raise Refusal(100, "param text must be 1 to 640 characters", 2018015)
        _check_buttons(payload.get("buttons", ()), least=1)
    elif payload.get("template_type") == "generic":
        elements = payload.get("elements", ())
        if not 1 <= len(elements) <= 10:
            raise Refusal(100, "param elements must hold 1 to 10", 2018015)
        for element in elements:
            if not 1 <= len(str(element.get("title", ""))) <= 80 or len(str(element.get("subtitle", ""))) > 80:
                raise Refusal(100, "title and subtitle have at most 80 characters", 2018015)
            if not element.keys() - {"title"}:
                raise Refusal(100, "an element needs more than its title", 2018015)
            _check_buttons(element.get("buttons", ()), least=0)


def _check_buttons(buttons: Sequence[Mapping[str, Any]], least: int) -> None:
    if not least <= len(buttons) <= 3:
        raise Refusal(100, "1 to 3 buttons", 2018040)
    for button in buttons:
        target = {"web_url": "url", "postback": "payload"}.get(str(button.get("type")), "")
        if not 1 <= len(str(button.get("title", ""))) <= 20 or not button.get(target):
            raise Refusal(100, "param buttons", 2018041)
        if target == "payload" and len(button[target]) > 1000:
            raise Refusal(100, "param buttons[payload]", 2018041)


def check_file(kind: str, media_type: str, size: int, rules: Rules) -> None:
    """Raise `Refusal` for a file the surface does not take."""
    types, most = rules.media.get(kind, ((), 0))
    if not media_type.startswith(types):
        raise Refusal(100, f"upload attachment failure: {media_type} is no {kind}", 2018047)
    if size > most:
        raise Refusal(100, "the attachment is too large", 2018109)


def check_window(customer: Customer, body: Mapping[str, Any], behaviour: Behaviour, now: float, rules: Rules) -> None:
    """Raise `Refusal` unless the person may be written to in this way now."""
    if customer.blocked:
        raise Refusal(551, "This person isn't available right now.", 1545041)
    kind, tag = body.get("messaging_type", "RESPONSE"), body.get("tag", "")
    if kind == "MESSAGE_TAG" and tag != "HUMAN_AGENT":
        raise Refusal(100, "Invalid parameter")
    if kind == "UTILITY":
        template = body["message"].get("template") or {}
        if (template.get("name"), (template.get("language") or {}).get("code")) not in behaviour.templates:
            raise Refusal(100, "no approved template of that name")
        return
    if kind == "MESSAGE_TAG" and not behaviour.human_agent:
        raise Refusal(10, "the app may not use this tag")
    age = float("inf") if customer.last_wrote is None else now - customer.last_wrote
    if age >= (HUMAN_AGENT_S if kind == "MESSAGE_TAG" else WINDOW_S):
        raise Refusal(10, "This message is sent outside of allowed window.", rules.closed, 403)
