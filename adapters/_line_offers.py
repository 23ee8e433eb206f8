"""What LINE makes of choices: quick replies, templates, flex messages. Pure.

Source: LINE, Messaging API reference, Quick reply; Template messages; Actions; Flex Message, 2026-07. Labels, titles
and texts of templates are counted in grapheme clusters.
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
    graphemes,
    kind_of,
    needs_text,
    short,
)
from adapters._line_facts import (
    ALT_TEXT_MAX,
    BUTTONS_TEXT_MAX,
    CARDS_MAX,
    CONFIRM_TEXT_MAX,
    LABEL_MAX,
    POSTBACK_MAX,
    QUICK_REPLIES_MAX,
    TITLE_MAX,
    TITLED_TEXT_MAX,
    URI_MAX,
    URL_MAX,
)

Object: TypeAlias = dict[str, Any]
Values: TypeAlias = Mapping[str, Any]

_QUICK: Final = ChoiceLimits(LABEL_MAX, POSTBACK_MAX, size=graphemes)
_ACTION: Final = ChoiceLimits(LABEL_MAX, POSTBACK_MAX, url=URI_MAX, size=graphemes)
_BUTTONS_MAX, _CARD_ACTIONS_MAX = 4, 3


def offered(values: Values, text: str) -> list[Object]:
    """The message objects, the text among them, by what `values` hold. Raises `ContentRefused`."""
    return _MAKERS[kind_of(values, _MAKERS)](values, text)


def _own_object(values: Values, text: str) -> list[Object]:
    given = values["object"]
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise ContentRefused("is a message object of LINE, with its type", f"{VALUES}.object")
    return [*_words(text), dict(given)]


def _flex(values: Values, text: str) -> list[Object]:
    """The text is what notifications show; it does not stand in the chat."""
    contents = values["flex"]
    if not isinstance(contents, Mapping) or contents.get("type") not in ("bubble", "carousel"):
        raise ContentRefused("is a flex container: an object of type bubble or carousel", f"{VALUES}.flex")
    return [{"type": "flex", "altText": short(needs_text(text), ALT_TEXT_MAX, "text"), "contents": dict(contents)}]


def _quick_replies(values: Values, text: str) -> list[Object]:
    name = "buttons" if "buttons" in values else "rows"
    words = _text(needs_text(text))
    items = [{"type": "action", "action": _action(one)} for one in choices(values, name, _QUICK, QUICK_REPLIES_MAX)]
    return [words | {"quickReply": {"items": items}}]


def _buttons(values: Values, text: str) -> list[Object]:
    """Up to four buttons below a text, with a title and a picture where there are."""
    template: Object = {"type": "buttons"}
    if values.get("image"):
        template["thumbnailImageUrl"] = address(values["image"], URL_MAX, f"{VALUES}.image", https=True)
    if values.get("title"):
        template["title"] = short(values["title"], TITLE_MAX, f"{VALUES}.title", size=graphemes)
    most = TITLED_TEXT_MAX if len(template) > 1 else BUTTONS_TEXT_MAX
    template["text"] = needs_text(text, most, size=graphemes)
    template["actions"] = [_action(one) for one in choices(values, "actions", _ACTION, _BUTTONS_MAX)]
    return [_template(text, template)]


def _confirm(values: Values, text: str) -> list[Object]:
    words = needs_text(text, CONFIRM_TEXT_MAX, size=graphemes)
    actions = [_action(one) for one in choices(values, "confirm", _ACTION, 2, 2)]
    return [_template(text, {"type": "confirm", "text": words, "actions": actions})]


def _carousel(values: Values, text: str) -> list[Object]:
    """Cards alike: all with as many buttons, all or none with a title, all or none with a picture. A text stands in
    front of them: the template shows none but the cards'."""
    found = cards(
        values, _ACTION, most=CARDS_MAX, title_max=TITLE_MAX, text_max=120, actions_max=_CARD_ACTIONS_MAX,
        actions_min=1, image_max=URL_MAX, image_https=True,
    )  # fmt: skip
    columns: list[Object] = []
    for index, card in enumerate(found):
        place = f"{VALUES}.cards[{index}]"
        most = TITLED_TEXT_MAX if card.title or card.image else 120
        column: Object = {"text": short(card.text, most, f"{place}.text", size=graphemes, needed=True)}
        column |= {"title": card.title} if card.title else {}
        column |= {"thumbnailImageUrl": card.image} if card.image else {}
        column["actions"] = [_action(one) for one in card.actions]
        first = columns[0] if columns else column
        if column.keys() != first.keys() or len(column["actions"]) != len(first["actions"]):
            raise ContentRefused("must have what the first card has: title, image, as many actions", place)
        columns.append(column)
    words = text or found[0].title or found[0].text
    return [*_words(text), _template(words, {"type": "carousel", "columns": columns})]


def _link(values: Values, text: str) -> list[Object]:
    """A button that opens an address. A text too long for the button's template stands in front of it."""
    words, url = needs_text(text), address(values["url"], URI_MAX, f"{VALUES}.url")
    label = short(values["label"], LABEL_MAX, f"{VALUES}.label", size=graphemes) if values.get("label") else ""
    label = label or url[:LABEL_MAX]
    long = graphemes(words) > BUTTONS_TEXT_MAX
    action = {"type": "uri", "label": label, "uri": url}
    button = _template(words, {"type": "buttons", "text": label if long else words, "actions": [action]})
    return [_text(words), button] if long else [button]


def _template(text: str, template: Object) -> Object:
    return {"type": "template", "altText": text[:ALT_TEXT_MAX], "template": template}


def _action(one: Choice) -> Object:
    """The answer comes back as a postback with the id; the title shows in the chat as the person's word."""
    if one.url:
        return {"type": "uri", "label": one.title, "uri": one.url}
    return {"type": "postback", "label": one.title, "data": one.id, "displayText": one.title}


def _text(words: str) -> Object:
    return {"type": "text", "text": words}


def _words(text: str) -> list[Object]:
    return [_text(text)] if text else []


_MAKERS: Final[Mapping[str, Callable[[Values, str], list[Object]]]] = {
    "object": _own_object,  # any message object, as LINE words it
    "flex": _flex,  # a bubble or carousel
    "cards": _carousel,  # [{"title", "text", "image", "actions"}], at most 10
    "confirm": _confirm,  # two of [{"id", "title"} or {"url", "title"}]
    "actions": _buttons,  # up to four of them, with "title" and "image"
    "url": _link,  # with "label"
    "buttons": _quick_replies,  # [{"id", "title"}], at most 13, gone after the next message
    "rows": _quick_replies,
}
