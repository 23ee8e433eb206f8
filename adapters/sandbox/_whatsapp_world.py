"""What the WhatsApp sandbox knows of customers and templates, and the rules by which it refuses: no network here.

Sources: Meta, WhatsApp Cloud API, Service messages; Media; Throughput; Error codes, 2026-05.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

WINDOW_S = 24 * 3600
PAIR_S = 6.0
TEXT_MAX = 4096
CAPTION_MAX = 1024
_MEDIA = frozenset({"image", "video", "audio", "document", "sticker"})

TITLES: Mapping[int, str] = {
    0: "AuthException", 33: "Parameter value is not valid", 100: "Invalid parameter", 190: "Access token has expired",
    130429: "Rate limit hit", 131000: "Something went wrong", 131008: "Required parameter is missing",
    131009: "Parameter value is not valid", 131021: "Recipient cannot be sender", 131026: "Message undeliverable",
    131047: "Re-engagement message", 131050: "User stopped marketing messages", 131052: "Media download error",
    131053: "Media upload error", 131056: "Pair rate limit hit", 132000: "Template parameter count mismatch",
    132001: "Template does not exist", 132012: "Parameter format does not match", 132015: "Template is paused",
}  # fmt: skip
STATUSES: Mapping[int, int] = {190: 401, 0: 401, 130429: 429, 131000: 500}  # HTTP, where it is not 400


class Refusal(Exception):
    """The platform refuses a call with one of its codes."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(f"{code} {details}")
        self.code, self.details = code, details


@dataclass(slots=True)
class Customer:
    """Somebody on WhatsApp. `last_wrote`: Unix time of their last message to us, None before the first."""

    wa_id: str
    user_id: str
    name: str = "Mara Lind"
    username: str = ""
    hide_phone: bool = False  # a username holder whose number the platform keeps back
    reads: bool = False  # read receipts are on
    stopped_marketing: bool = False
    fails_with: int = 0  # an error code instead of delivery
    last_wrote: float | None = None
    slots: float = 0.0  # left of the pair rate, counted at `slots_at`
    slots_at: float | None = None


@dataclass(frozen=True, slots=True)
class Approved:
    """A template. `parameters`: of its body; `header`: what its header takes (text, image, video, document, location);
    `buttons`: what each takes, by the platform's word (url, quick_reply, copy_code, ...); `cards` of its carousel."""

    name: str
    language: str
    parameters: int = 0
    category: str = "UTILITY"
    status: str = "APPROVED"
    header: str = ""
    buttons: tuple[str, ...] = ()
    cards: int = 0

    def shown(self) -> dict[str, Any]:
        """As the list of templates shows it."""
        places = " ".join(f"{{{{{place}}}}}" for place in range(1, self.parameters + 1))
        components: list[dict[str, Any]] = [{"type": "BODY", "text": f"Hello {places}".strip()}]
        if self.header:
            components.insert(0, {"type": "HEADER", "format": self.header.upper()})
        if self.buttons:
            components.append({"type": "BUTTONS", "buttons": [{"type": kind.upper()} for kind in self.buttons]})
        shown = {"name": self.name, "language": self.language, "status": self.status, "category": self.category}
        return shown | {"components": components, "id": f"{self.name}:{self.language}"}


def template_page(templates: Iterable[Approved], query: Mapping[str, str], most: int, here: str) -> dict[str, Any]:
    """One page of the list: `limit` templates (at most `most`) behind the cursor `after`."""
    listed = list(templates)
    begin, size = int(query.get("after", "0")), min(int(query.get("limit", "25")), most)
    shown = [template.shown() for template in listed[begin : begin + size]]
    end = begin + len(shown)
    paging: dict[str, Any] = {"cursors": {"before": str(begin), "after": str(end)}}
    if end < len(listed):
        paging["next"] = f"{here}?after={end}"
    return {"data": shown, "paging": paging}


@dataclass(slots=True)
class Behaviour:
    """What the platform does, changeable at any time."""

    refuse_closed_window: bool = False  # answer 131047 at once instead of by receipt
    pair_burst: float | None = None  # messages to one customer before 131056; one more every 6 s
    per_second: int | None = None  # messages before 130429 in one second of the platform's clock
    report_ids: bool = True  # receipts carry `biz_opaque_callback_data`
    statuses: tuple[str, ...] = ("sent", "delivered")
    corrupt_media: bool = False  # downloads differ from their hash


def check_content(
    body: Mapping[str, Any], templates: Mapping[tuple[str, str], Approved], files: Mapping[str, Any]
) -> Approved | None:
    """The template, when the message is one. Raises `Refusal` for what the platform refuses at once."""
    kind = str(body.get("type", "text"))
    content = body.get(kind)
    if kind == "contacts" and isinstance(content, list) and 0 < len(content) <= 257:
        return None
    if not isinstance(content, Mapping):
        raise Refusal(131008, kind)
    if kind == "template":
        return _check_template(content, templates)
    if kind == "text":
        if not content.get("body"):
            raise Refusal(131008, "text.body")
        _check_length("text.body", content["body"], TEXT_MAX)
    elif kind == "interactive":
        _check_interactive(content)
    elif kind == "reaction" and not content.get("message_id"):
        raise Refusal(131008, "reaction.message_id")
    elif kind in _MEDIA:
        if "id" in content and content["id"] not in files:
            raise Refusal(131009, f"{kind}.id")
        if not content.get("id") and not content.get("link"):
            raise Refusal(131008, f"{kind}.id or {kind}.link")
        if content.get("caption") and kind in ("audio", "sticker"):
            raise Refusal(100, f"unexpected key caption on {kind}")
        _check_length(f"{kind}.caption", content.get("caption", ""), CAPTION_MAX)
    return None


def _check_interactive(content: Mapping[str, Any]) -> None:
    action, words = content.get("action") or {}, (content.get("body") or {}).get("text", "")
    if not words:
        raise Refusal(131008, "interactive.body")
    _check_length("interactive.body", words, CAPTION_MAX)
    buttons = action.get("buttons", ())
    rows = [row for section in action.get("sections", ()) for row in section.get("rows", ())]
    if len(buttons) > 3 or len(rows) > 10:
        raise Refusal(131009, "interactive.action")
    for one in (*(button.get("reply", {}) for button in buttons), *rows):
        if not one.get("id") or not one.get("title"):
            raise Refusal(131008, "interactive.action: id and title")
        _check_length("title", one["title"], 24 if rows else 20)


def _check_length(name: str, words: str, most: int) -> None:
    if len(words) > most:
        raise Refusal(100, f"{name} must be at most {most} characters long")


def _check_template(content: Mapping[str, Any], templates: Mapping[tuple[str, str], Approved]) -> Approved:
    name, language = str(content.get("name", "")), str((content.get("language") or {}).get("code", ""))
    template = templates.get((name, language))
    if template is None or template.status not in ("APPROVED", "PAUSED"):
        raise Refusal(132001, f"template name ({name}) does not exist in {language}")
    if template.status == "PAUSED":
        raise Refusal(132015, name)
    components = content.get("components", ())
    _check_components(template, components, {"header": template.header, "cards": template.cards})
    return template


_BUTTON_PARAMETER: Mapping[str, str] = {
    "url": "text", "quick_reply": "payload", "copy_code": "coupon_code", "flow": "action", "catalog": "action",
    "mpm": "action",
}  # fmt: skip


def _check_components(template: Approved, components: Any, wanted: Mapping[str, Any]) -> None:
    """Raise `Refusal` unless header, body, buttons and cards are what the template takes."""
    by_type: dict[str, list[Mapping[str, Any]]] = {}
    for one in components:
        by_type.setdefault(str(one.get("type", "")).lower(), []).append(one)
    given = sum(len(one.get("parameters", ())) for one in by_type.get("body", ()))
    if given != template.parameters:
        raise Refusal(132000, f"number of parameters ({given}) does not match the expected ({template.parameters})")
    header = [one for part in by_type.get("header", ()) for one in part.get("parameters", ())]
    if [one.get("type") for one in header] != ([wanted["header"]] if wanted["header"] else []):
        raise Refusal(132012, f"header: expected {wanted['header'] or 'nothing'}")
    if any(not one.get(one["type"]) for one in header):
        raise Refusal(132012, "header: empty")
    for button in by_type.get("button", ()):
        index, kind = int(button.get("index", -1)), str(button.get("sub_type", "")).lower()
        if not 0 <= index < len(template.buttons) or template.buttons[index] != kind:
            raise Refusal(132012, f"button {index} is no {kind}")
        if [one.get("type") for one in button.get("parameters", ())] != [_BUTTON_PARAMETER[kind]]:
            raise Refusal(132012, f"button {index}: bad parameter")
    cards = [card for part in by_type.get("carousel", ()) for card in part.get("cards", ())]
    if [card.get("card_index") for card in cards] != list(range(wanted["cards"])):
        raise Refusal(132012, f"carousel: expected {wanted['cards']} cards")


def take_slot(customer: Customer, burst: float, now: float) -> None:
    """One message of the pair rate. Raises `Refusal` when none is left."""
    slots = burst if customer.slots_at is None else min(burst, customer.slots + (now - customer.slots_at) / PAIR_S)
    if slots < 1:
        raise Refusal(131056, "too many messages to the same phone number")
    customer.slots, customer.slots_at = slots - 1, now


def failure_of(customer: Customer | None, template: Approved | None, now: float) -> int:
    """The code by which delivery will fail; 0: it will not."""
    if customer is None:
        return 131026
    if customer.fails_with:
        return customer.fails_with
    if template is not None:
        return 131050 if template.category == "MARKETING" and customer.stopped_marketing else 0
    is_open = customer.last_wrote is not None and now - customer.last_wrote < WINDOW_S
    return 0 if is_open else 131047


def text_of(body: str) -> dict[str, Any]:
    """A text as it stands in webhooks."""
    return {"type": "text", "text": {"body": body}}


def contact_of(customer: Customer) -> dict[str, Any]:
    """Somebody as webhooks tell of them."""
    profile = {"name": customer.name} | ({"username": customer.username} if customer.username else {})
    phone = {} if customer.hide_phone else {"wa_id": customer.wa_id}
    return {"profile": profile, "user_id": customer.user_id, **phone}


def sha256_of(content: bytes) -> str:
    """The hash of a file as the platform writes it."""
    return b64encode(hashlib.sha256(content).digest()).decode()
