"""What stands in a WhatsApp message, by its type. Source: Meta, WhatsApp Cloud API, Webhooks reference, 2026-05."""

from __future__ import annotations

from binascii import a2b_base64, a2b_hex
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from normalizers._fields import Broken, NotWellFormed, clean, items, load_json, mapping, number, plain, text
from normalizers.model import (
    Attachment,
    ContactCard,
    ContactCards,
    Content,
    Context,
    Interactive,
    Location,
    MediaKind,
    MessageKind,
    Order,
    OrderItem,
    PlatformError,
    Referral,
    Sticker,
    Unsupported,
)

Item: TypeAlias = Mapping[str, Any]
Part: TypeAlias = tuple[MessageKind, str, tuple[Attachment, ...], Content | None]
"""Kind, what an agent reads, files, structured content."""


def part(item: Item, errors: Any = None) -> Part:
    """The content of one message. `errors`: those that stand beside the message in its webhook. Raises `Broken`.

    A type nobody knows, and one that the platform itself could not pass on, is of kind "unsupported".
    """
    kind = item.get("type")
    if type(kind) is not str or (reader := _READERS.get(kind)) is None:
        return unsupported(item, errors)
    if type(item.get(kind)) is not dict and kind not in ("contacts", "voice"):
        # an interactive message may come empty with error 131000, media with 131052
        if item.get("errors") or errors:
            return unsupported(item, errors)
        raise Broken(f".{kind}", "missing")
    return reader(item)


def unsupported(item: Item, errors: Any = None) -> Part:
    """A message the platform does not hand on, or of a type nobody knows: the agent sees that something came."""
    error = first_error(item.get("errors")) or first_error(errors)
    kind = text(mapping(item, "unsupported"), "type") or text(item, "type")
    detail = f"{error.code} {error.detail or error.title}".rstrip() if error else ""
    return "unsupported", "", (), Unsupported(kind or "unknown", detail)


def first_error(errors: Any) -> PlatformError | None:
    """The first of a list of platform errors; they look alike on messages, statuses and webhooks."""
    if type(errors) is not list or not errors or type(errors[0]) is not dict:
        return None
    error = errors[0]
    title = text(error, "title")
    detail = text(mapping(error, "error_data"), "details") or text(error, "message")
    return PlatformError(text(error, "code"), title, "" if detail == title else detail)


def context_of(item: Item) -> Context | None:
    """What the message answers, whether it was forwarded, and the ad that brought it; None where it tells nothing."""
    about, referral = mapping(item, "context"), mapping(item, "referral")
    if not about and not referral:
        return None
    often = about.get("frequently_forwarded") is True
    product = mapping(about, "referred_product")
    metadata: dict[str, Any] = {"frequently_forwarded": True} if often else {}
    if product:
        metadata["referred_product"] = plain(product)
    return Context(
        reply_to=text(about, "id"),
        forwarded=often or about.get("forwarded") is True,
        referral=_referral(referral) if referral else None,
        metadata=metadata,
    )


def _referral(item: Item) -> Referral:
    return Referral(
        text(item, "source_type"),
        text(item, "source_id"),
        text(item, "source_url"),
        text(item, "headline"),
        text(item, "body"),
        text(item, "ctwa_clid"),
    )


def _text(item: Item) -> Part:
    body = item["text"].get("body")
    if type(body) is not str:
        raise Broken(".text.body", "missing" if body is None else "not a text")
    return "text", clean(body), (), None


def _media(name: str, kind: MediaKind) -> Callable[[Item], Part]:
    def read(item: Item) -> Part:
        media = mapping(item, name) or mapping(item, "audio")
        ref = text(media, "id")
        if not ref:
            if item.get("errors"):
                return unsupported(item)
            raise Broken(f".{name}.id", "missing")
        attachment = Attachment(
            kind=kind,
            media_type=text(media, "mime_type").partition(";")[0].strip().lower(),
            filename=text(media, "filename"),
            sha256=sha256_hex(media.get("sha256")),
            ref=ref,
        )
        sticker = Sticker(animated=media.get("animated") is True) if kind == "sticker" else None
        return kind, text(media, "caption"), (attachment,), sticker

    return read


def sha256_hex(given: Any) -> str:
    """The hash, given in base64 or in hex, in hex; "" when it is none."""
    if type(given) is not str or not given.isascii():
        return ""
    try:
        raw = a2b_hex(given) if len(given) == 64 else a2b_base64(given)
    except ValueError:
        return ""
    return raw.hex() if len(raw) == 32 else ""


def _location(item: Item) -> Part:
    place = item["location"]
    latitude, longitude = number(place, "latitude"), number(place, "longitude")
    if latitude is None or longitude is None:
        raise Broken(".location", "no coordinates")
    name, address = text(place, "name"), text(place, "address")
    words = ", ".join(filter(None, (name, address))) or f"{latitude}, {longitude}"
    return "location", words, (), Location(latitude, longitude, name, address, text(place, "url"))


def _contacts(item: Item) -> Part:
    cards = tuple(_card(card) for _, card in items(item, "contacts"))
    if not cards:
        raise Broken(".contacts", "missing")
    return "contacts", ", ".join(card.name for card in cards if card.name), (), ContactCards(cards)


def _card(item: Item) -> ContactCard:
    phones = (text(phone, "phone") or _plus(text(phone, "wa_id")) for _, phone in items(item, "phones"))
    emails = (text(email, "email") for _, email in items(item, "emails"))
    name = mapping(item, "name")
    return ContactCard(
        text(name, "formatted_name") or text(name, "first_name"),
        tuple(filter(None, phones)),
        tuple(filter(None, emails)),
        text(mapping(item, "org"), "company"),
    )


def _plus(digits: str) -> str:
    return f"+{digits}" if digits else ""


def _interactive(item: Item) -> Part:
    answer = item["interactive"]
    kind = text(answer, "type")
    chosen = mapping(answer, kind)
    if kind == "nfm_reply":
        words = text(chosen, "body")
        return "interactive", words, (), Interactive(title=text(chosen, "name"), type=kind, values=_form(chosen))
    if kind in ("button_reply", "list_reply"):
        title = text(chosen, "title")
        return "interactive", title, (), Interactive(text(chosen, "id"), title, text(chosen, "description"), kind)
    if not kind:
        if item.get("errors"):
            return unsupported(item)
        raise Broken(".interactive.type", "missing")
    return "interactive", "", (), Interactive(type=kind, values=plain(chosen))  # call permission and what comes next


def _form(reply: Item) -> Mapping[str, Any]:
    """A form's answers. They come as JSON inside a text, written by the form: anything may stand there."""
    given = reply.get("response_json")
    if type(given) is dict:
        return dict(plain(given))
    if type(given) is not str:
        return {}
    try:
        answers = load_json(given.encode("utf-8", "replace"))
    except NotWellFormed:
        return {"response_json": clean(given)}
    return dict(plain(answers)) if type(answers) is dict else {"response_json": clean(given)}


def _button(item: Item) -> Part:
    button = item["button"]
    title = text(button, "text")
    return "interactive", title, (), Interactive(text(button, "payload"), title, type="button")


def _order(item: Item) -> Part:
    order = item["order"]
    goods = tuple(_good(good) for _, good in items(order, "product_items"))
    return "order", text(order, "text"), (), Order(text(order, "catalog_id"), goods)


def _good(item: Item) -> OrderItem:
    price = item.get("item_price")
    price_text = repr(price) if type(price) is float else text(item, "item_price")
    quantity = number(item, "quantity")
    return OrderItem(
        text(item, "product_retailer_id"), 1 if quantity is None else quantity, price_text, text(item, "currency")
    )


_READERS: dict[str, Callable[[Item], Part]] = {
    "text": _text,
    "image": _media("image", "image"),
    "video": _media("video", "video"),
    "audio": _media("audio", "audio"),
    "voice": _media("voice", "audio"),  # older spelling of a voice note
    "document": _media("document", "file"),
    "sticker": _media("sticker", "sticker"),
    "location": _location,
    "contacts": _contacts,
    "interactive": _interactive,
    "button": _button,
    "order": _order,
}
