"""Interactive messages of the Cloud API below a text: buttons, lists, links, products. Pure.

Source: Meta, WhatsApp Cloud API, Interactive messages; limits as of 2026-05 (button id and list label unverified).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from adapters._interactive import (
    VALUES,
    Choice,
    ChoiceLimits,
    ContentRefused,
    choices,
    kind_of,
    listed,
    needs_text,
    short,
)
from normalizers.model import Interactive

BODY_MAX, SHORT_MAX = 1024, 60  # characters: body; header and footer
_BUTTONS_MAX, _ROWS_MAX = 3, 10
_TITLE_MAX, _ROW_MAX, _DESCRIPTION_MAX, _LABEL_MAX, _ID_MAX = 20, 24, 72, 20, 256

Values = Mapping[str, Any]
_BUTTON: Final = ChoiceLimits(_TITLE_MAX, _ID_MAX)
_ROW: Final = ChoiceLimits(_ROW_MAX, _ID_MAX, description=_DESCRIPTION_MAX)


def interactive_body(content: Interactive, words: str) -> dict[str, Any]:
    """The `interactive` of one send, by what `values` hold: see `_ACTIONS`. Raises `SendError`.

    `header` (a text, or {"image": {"link": ...}}) and `footer` stand beside any of them.
    """
    values = content.values
    needs_text(words, BODY_MAX)
    kind, action = _ACTIONS[kind_of(values, _ACTIONS)]
    return {"type": kind, **_frame(values), "body": {"text": words}, "action": action(values)}


def _frame(values: Values) -> dict[str, Any]:
    frame: dict[str, Any] = {}
    if header := values.get("header"):
        if isinstance(header, Mapping):
            kind = next(iter(header))
            frame["header"] = {"type": kind, kind: header[kind]}
        else:
            frame["header"] = {"type": "text", "text": _short("header", header, SHORT_MAX)}
    if footer := values.get("footer"):
        frame["footer"] = {"text": _short("footer", footer, SHORT_MAX)}
    return frame


def _reply_buttons(values: Values) -> dict[str, Any]:
    buttons = choices(values, "buttons", _BUTTON, _BUTTONS_MAX)
    return {"buttons": [{"type": "reply", "reply": _shown(button)} for button in buttons]}


def _list(values: Values) -> dict[str, Any]:
    label = _short("label", values.get("label", "…"), _LABEL_MAX)
    if "sections" in values:
        sections = listed(values, "sections", _ROWS_MAX)
        places = [f"{VALUES}.sections[{index}]" for index in range(len(sections))]
    else:
        sections, places = [{"title": values.get("title", label), "rows": values.get("rows", [])}], [VALUES]
    made = []
    for section, place in zip(sections, places, strict=True):
        if not isinstance(section, Mapping):
            raise ContentRefused("is an object with title and rows", place)
        rows = [_shown(row) for row in choices(section, "rows", _ROW, _ROWS_MAX, place=place)]
        made.append({"title": short(section.get("title", label), _ROW_MAX, f"{place}.title"), "rows": rows})
    if sum(len(section["rows"]) for section in made) > _ROWS_MAX:
        raise ContentRefused(f"take at most {_ROWS_MAX} rows together", f"{VALUES}.sections")
    return {"button": label, "sections": made}


def _shown(one: Choice) -> dict[str, str]:
    return {"id": one.id, "title": one.title} | ({"description": one.description} if one.description else {})


def _link(values: Values) -> dict[str, Any]:
    url = str(values["url"])
    label = _short("label", values.get("label", url[:_LABEL_MAX]), _LABEL_MAX)
    return {"name": "cta_url", "parameters": {"display_text": label, "url": url}}


def _ask_location(values: Values) -> dict[str, Any]:
    return {"name": "send_location"}


def _product(values: Values) -> dict[str, Any]:
    return {"catalog_id": str(values.get("catalog", "")), "product_retailer_id": str(values["product"])}


def _products(values: Values) -> dict[str, Any]:
    sections = [
        {
            "title": str(section.get("title", "")),
            "product_items": [{"product_retailer_id": str(item)} for item in section.get("items", ())],
        }
        for section in values["products"]
        if isinstance(section, Mapping)
    ]
    return {"catalog_id": str(values.get("catalog", "")), "sections": sections}


def _flow(values: Values) -> dict[str, Any]:
    flow = values["flow"]
    if not isinstance(flow, Mapping) or not flow.get("id"):
        raise ContentRefused("is an object with id, cta, and token, action, data where needed", f"{VALUES}.flow")
    parameters = {
        "flow_message_version": "3", "flow_id": str(flow["id"]), "flow_cta": _short("cta", flow.get("cta", "…"), 30),
        "flow_token": str(flow.get("token", "unused")), "flow_action": str(flow.get("action", "navigate")),
    }  # fmt: skip
    if "data" in flow:
        parameters["flow_action_payload"] = flow["data"]
    return {"name": "flow", "parameters": parameters}


_ACTIONS: Final[Mapping[str, tuple[str, Callable[[Values], dict[str, Any]]]]] = {
    "buttons": ("button", _reply_buttons),  # [{"id", "title"}], at most 3
    "rows": ("list", _list),  # [{"id", "title", "description"}], at most 10; "label" opens the list
    "sections": ("list", _list),  # [{"title", "rows"}]
    "url": ("cta_url", _link),  # with "label"
    "location_request": ("location_request_message", _ask_location),
    "product": ("product", _product),  # with "catalog"
    "products": ("product_list", _products),  # [{"title", "items"}], with "catalog"
    "flow": ("flow", _flow),
}
"""What `values` hold -> the platform's word and how its action is made."""


def _short(name: str, value: Any, most: int) -> str:
    return short(value, most, f"{VALUES}.{name}")
