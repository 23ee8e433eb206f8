"""What Messenger and Instagram Direct make of choices: quick replies, buttons, cards. Pure.

Sources: Meta, Messenger Platform, Send API; Quick replies; Button template; Generic template, 2026-05; Instagram
Messaging, Send a message, 2026-07 (whose ten cards are unverified).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from adapters._interactive import (
    VALUES,
    Choice,
    ChoiceLimits,
    ContentRefused,
    address,
    cards,
    choices,
    kind_of,
    needs_text,
    refuse_text,
    short,
)

Values: TypeAlias = Mapping[str, Any]

QUICK_REPLIES_MAX, BUTTONS_MAX, CARDS_MAX = 13, 3, 10
TITLE_MAX, PAYLOAD_MAX, BUTTON_TEXT_MAX, CARD_TEXT_MAX = 20, 1000, 640, 80  # characters
_URL_MAX: Final = 2000  # our own bound: the platform names none
_QUICK: Final = ChoiceLimits(TITLE_MAX, PAYLOAD_MAX)
_BUTTON: Final = ChoiceLimits(TITLE_MAX, PAYLOAD_MAX, url=_URL_MAX)


def offered(values: Values, text: str) -> dict[str, Any]:
    """The `message` of one send, by what `values` hold. Raises `ContentRefused`."""
    return _MAKERS[kind_of(values, _MAKERS)](values, text)


def _quick_replies(values: Values, text: str) -> dict[str, Any]:
    name = "buttons" if "buttons" in values else "rows"
    found = choices(values, name, _QUICK, QUICK_REPLIES_MAX)
    replies = [{"content_type": "text", "title": one.title, "payload": one.id} for one in found]
    return {"text": needs_text(text), "quick_replies": replies}


def _buttons(values: Values, text: str) -> dict[str, Any]:
    buttons = [_button(one) for one in choices(values, "actions", _BUTTON, BUTTONS_MAX)]
    return _template({"template_type": "button", "text": needs_text(text, BUTTON_TEXT_MAX), "buttons": buttons})


def _link(values: Values, text: str) -> dict[str, Any]:
    url = address(values["url"], _URL_MAX, f"{VALUES}.url")
    label = short(values["label"], TITLE_MAX, f"{VALUES}.label") if values.get("label") else url[:TITLE_MAX]
    button = {"type": "web_url", "url": url, "title": label}
    return _template({"template_type": "button", "text": needs_text(text, BUTTON_TEXT_MAX), "buttons": [button]})


def _cards(values: Values, text: str) -> dict[str, Any]:
    """Cards with a title each, side by side; a text is a message of its own."""
    refuse_text(text, "a row of cards")
    found = cards(
        values, _BUTTON, most=CARDS_MAX, title_max=CARD_TEXT_MAX, text_max=CARD_TEXT_MAX, actions_max=BUTTONS_MAX,
        actions_min=0, image_max=_URL_MAX, image_https=False,
    )  # fmt: skip
    elements: list[dict[str, Any]] = []
    for index, card in enumerate(found):
        place = f"{VALUES}.cards[{index}]"
        if not (card.text or card.image or card.actions):
            raise ContentRefused("needs a text, an image or actions beside its title", place)
        element: dict[str, Any] = {"title": short(card.title, CARD_TEXT_MAX, f"{place}.title", needed=True)}
        element |= {"subtitle": card.text} if card.text else {}
        element |= {"image_url": card.image} if card.image else {}
        element |= {"buttons": [_button(one) for one in card.actions]} if card.actions else {}
        elements.append(element)
    return _template({"template_type": "generic", "elements": elements})


def _own_object(values: Values, text: str) -> dict[str, Any]:
    refuse_text(text, "an attachment")
    given = values["attachment"]
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise ContentRefused("is an attachment as the platform words it, with its type", f"{VALUES}.attachment")
    return {"attachment": dict(given)}


def _template(payload: dict[str, Any]) -> dict[str, Any]:
    return {"attachment": {"type": "template", "payload": payload}}


def _button(one: Choice) -> dict[str, Any]:
    """The answer comes back as a postback with the id."""
    if one.url:
        return {"type": "web_url", "url": one.url, "title": one.title}
    return {"type": "postback", "title": one.title, "payload": one.id}


_MAKERS: Final[Mapping[str, Callable[[Values, str], dict[str, Any]]]] = {
    "attachment": _own_object,  # {"type": "template", "payload": {...}}
    "cards": _cards,  # [{"title", "text", "image", "actions"}], at most 10
    "actions": _buttons,  # up to three of [{"id", "title"} or {"url", "title"}]
    "url": _link,  # with "label"
    "buttons": _quick_replies,  # [{"id", "title"}], at most 13, gone after the next message
    "rows": _quick_replies,
}
