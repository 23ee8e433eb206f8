"""Interactive messages of the Cloud API below a text: buttons, lists, links, products. Pure.

Source: Meta, WhatsApp Cloud API, Interactive messages; limits as of 2026-05 (button id and list label unverified).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from adapters._errors import SendError
from normalizers.model import Interactive

BODY_MAX, SHORT_MAX = 1024, 60  # characters: body; header and footer
_BUTTONS_MAX, _ROWS_MAX = 3, 10
_TITLE_MAX, _ROW_MAX, _DESCRIPTION_MAX, _LABEL_MAX, _ID_MAX = 20, 24, 72, 20, 256

Values = Mapping[str, Any]


def interactive_body(content: Interactive, words: str) -> dict[str, Any]:
    """The `interactive` of one send, by what `values` hold: see `_ACTIONS`. Raises `SendError`.

    `header` (a text, or {"image": {"link": ...}}) and `footer` stand beside any of them.
    """
    values = content.values
    if not words:
        raise _refused("needs a text")
    _short("text", words, BODY_MAX)
    for key, (kind, action) in _ACTIONS.items():
        if key in values:
            return {"type": kind, **_frame(values), "body": {"text": words}, "action": action(values)}
    raise _refused(f"needs one of {', '.join(_ACTIONS)}")


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


def _chosen(row: Any, title_max: int) -> dict[str, str]:
    if not isinstance(row, Mapping):
        row = {"title": str(row)}
    title = _short("title", row.get("title", ""), title_max)
    if not title:
        raise _refused("a button or row needs a title")
    chosen = {"id": _short("id", row.get("id") or title, _ID_MAX), "title": title}
    if row.get("description"):
        chosen["description"] = _short("description", row["description"], _DESCRIPTION_MAX)
    return chosen


def _reply_buttons(values: Values) -> dict[str, Any]:
    buttons = _some("buttons", values["buttons"], _BUTTONS_MAX)
    return {"buttons": [{"type": "reply", "reply": _chosen(button, _TITLE_MAX)} for button in buttons]}


def _list(values: Values) -> dict[str, Any]:
    label = _short("label", values.get("label", "…"), _LABEL_MAX)
    sections = values.get("sections") or [{"title": values.get("title", label), "rows": values.get("rows", [])}]
    made = []
    for section in sections:
        if not isinstance(section, Mapping):
            raise _refused("a section is an object with title and rows")
        rows = [_chosen(row, _ROW_MAX) for row in _some("rows", section.get("rows", []), _ROWS_MAX)]
        made.append({"title": _short("title", section.get("title", label), _ROW_MAX), "rows": rows})
    if sum(len(section["rows"]) for section in made) > _ROWS_MAX:
        raise _refused(f"at most {_ROWS_MAX} rows in all sections")
    return {"button": label, "sections": made}


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
        raise _refused("flow is an object with id, cta, and token, action, data where needed")
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


def _some(name: str, listed: Any, most: int) -> list[Any]:
    found = list(listed) if isinstance(listed, list | tuple) else [listed]
    if not 0 < len(found) <= most:
        raise _refused(f"{name}: 1 to {most}, not {len(found)}")
    return found


def _short(name: str, value: Any, most: int) -> str:
    words = str(value)
    if len(words) > most:
        raise _refused(f"{name} has {len(words)} characters; at most {most}")
    return words


def _refused(detail: str) -> SendError:
    return SendError("permanent", "interactive", detail)
