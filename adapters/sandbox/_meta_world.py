"""What Meta's sandboxes share: refusals as Graph words them, signed webhooks, and the rules of private messaging.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Error codes, 2026-03; Private Replies, 2026-04.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from adapters.sandbox._base import Webhook

WINDOW_S, HUMAN_AGENT_S, PRIVATE_REPLY_S = 24 * 3600, 7 * 24 * 3600, 7 * 24 * 3600
TEXT_MAX = 1999
_KINDS = frozenset({"image", "audio", "video", "file", "template"})


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
    """Somebody on the platform. `last_wrote`: Unix time of their last word in private, None before the first."""

    psid: str
    name: str = "Jo Example"
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


@dataclass(slots=True)
class Behaviour:
    """What the platform does, changeable at any time."""

    human_agent: bool = False  # the app may use the tag
    templates: set[tuple[str, str]] = field(default_factory=set)  # approved: (name, language)
    restricted: bool = False  # answers 10/1893063
    mids_in_deliveries: bool = True
    demand_proof: bool = False


def signed(url: str, app_secret: str, tree: Mapping[str, Any]) -> Webhook:
    """One POST, signed over what is sent: escaped to ASCII, slashes too."""
    body = json.dumps(tree, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/").encode()
    mac = hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()
    return Webhook(url, body, {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={mac}"})


def check_message(message: Mapping[str, Any], attachments: Mapping[str, Any]) -> None:
    """Raise `Refusal` for what can be no message: text and file together, too long, of an unknown type."""
    said = [key for key in ("text", "attachment", "template") if key in message]
    if len(said) != 1:
        raise Refusal(100, "param message must be non-empty, with either text or attachment", 2018015)
    if len(str(message.get("text", ""))) > TEXT_MAX:
        raise Refusal(100, "Length of param message[text] must be less than or equal to 2000")
    if len(str(message.get("metadata", ""))) >= 1000:
        raise Refusal(100, "Length of param message[metadata]")
    if len(message.get("quick_replies", ())) > 13:
        raise Refusal(100, "too many quick replies")
    attachment = message.get("attachment")
    if attachment is None:
        return
    payload = attachment.get("payload") or {}
    if attachment.get("type") not in _KINDS:
        raise Refusal(100, "param attachment[type]")
    if "attachment_id" in payload and payload["attachment_id"] not in attachments:
        raise Refusal(100, "invalid attachment id", 2018047)
    if attachment["type"] != "template" and not (payload.get("attachment_id") or payload.get("url")):
        raise Refusal(100, "upload attachment failure", 2018047)


def check_window(customer: Customer, body: Mapping[str, Any], behaviour: Behaviour, now: float) -> None:
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
        raise Refusal(10, "This message is sent outside of allowed window.", 2018278, 403)
