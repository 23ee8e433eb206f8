"""Our message as the Cloud API reads it: pure. Source: Meta, WhatsApp Cloud API, Messages reference, 2026-05."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from adapters._errors import SendError
from adapters._whatsapp_facts import CHANNEL, MEDIA
from normalizers.model import Address, Interactive, MediaKind, OutboundFile, OutboundMessage, Template

KINDS: Final[Mapping[MediaKind, str]] = {
    "image": "image", "audio": "audio", "video": "video", "sticker": "sticker", "file": "document",
}  # fmt: skip
_CAPTIONED = frozenset(rule.kind for rule in MEDIA if rule.caption)
_HEADER_MEDIA = frozenset({"image", "video", "document", "location"})


def body_for(message: OutboundMessage, media_id: str = "") -> dict[str, Any]:
    """The body of one send. `media_id`: of the uploaded file. Raises `SendError` for what cannot be said."""
    if message.thread.kind == "group":
        raise _refused("group", "a reply to a group is not supported")
    body: dict[str, Any] = {"messaging_product": "whatsapp", "recipient_type": "individual"}
    body |= _recipient(message.to)
    if message.context is not None and message.context.reply_to:
        body["context"] = {"message_id": message.context.reply_to}
    body["biz_opaque_callback_data"] = message.id
    kind, content = _content(message, media_id)
    return body | {"type": kind, kind: content}


def file_of(message: OutboundMessage) -> OutboundFile | None:
    """The one file the message carries. Raises `SendError` for several."""
    files = (*filter(None, (message.file,)), *message.files)
    if len(files) > 1:
        raise _refused("files", "one file per message")
    return files[0] if files else None


def _recipient(to: tuple[Address, ...]) -> dict[str, str]:
    """A phone number goes into `to` as digits, a user id into `recipient`."""
    found = {address.kind: address.value for address in reversed(to)}
    for kind in CHANNEL.address_kinds:
        if value := found.get(kind):
            return {"to": value.removeprefix("+")} if kind == "phone" else {"recipient": value}
    raise SendError("bad-recipient", "no-address", "neither a phone number nor a WhatsApp user id")


def _content(message: OutboundMessage, media_id: str) -> tuple[str, dict[str, Any]]:
    template = message.template or (message.content if isinstance(message.content, Template) else None)
    if template is not None:
        return "template", _template(template)
    if isinstance(message.content, Interactive):
        return "interactive", _interactive(message.content, message.text)
    if message.content is not None:
        raise _refused("content", f"{type(message.content).__name__} cannot be sent")
    if (file := file_of(message)) is not None:
        return KINDS[file.kind], _media(file, message.text, media_id)
    if not message.text:
        raise _refused("empty", "nothing to send")
    return "text", {"body": message.text, "preview_url": False}


def _media(file: OutboundFile, caption: str, media_id: str) -> dict[str, Any]:
    """Uploaded files go by id: Meta's own fetching follows no redirect and is limited per hosting network."""
    if not (media_id or file.open_path or file.url):
        raise _refused("file", f"{file.filename}: neither on disk nor at an address")
    media = {"link": file.url} if not (media_id or file.open_path) else {"id": media_id}
    if caption:
        if file.kind not in _CAPTIONED:
            raise _refused("caption", f"no text can stand beside a file of kind {file.kind}")
        media["caption"] = caption
    if file.kind == "file" and file.filename:
        media["filename"] = file.filename
    return media


def _refused(code: str, detail: str) -> SendError:
    return SendError("permanent", code, detail)


# --- templates --------------------------------------------------------------------------------------------------------


def _template(template: Template) -> dict[str, Any]:
    """A list of texts fills the body. An object fills components by name:

    {"header": {"image": {"link": ...}}, "body": ["Mara", "12"] or {"name": "Mara"},
     "buttons": [{"sub_type": "url", "text": "abc"}]}

    `components` is taken as it stands.
    """
    given = template.parameters
    if isinstance(given, Mapping):
        components = given["components"] if "components" in given else _components(given)
    else:
        components = [_component("body", given)] if given else []
    body = {"name": template.name, "language": {"policy": "deterministic", "code": template.language}}
    return body | ({"components": components} if components else {})


def _components(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    components = []
    for name, values in given.items():
        if name == "buttons":
            components += [_button(index, button) for index, button in enumerate(_listed(values))]
        elif name in ("header", "body"):
            components.append(_component(name, values))
        else:
            raise _refused("template", f"no component named {name!r}; known are header, body, buttons, components")
    return components


def _component(kind: str, values: Any) -> dict[str, Any]:
    if isinstance(values, Mapping) and not ({"type", *_HEADER_MEDIA} & values.keys()):
        named = [_parameter(value) | {"parameter_name": name} for name, value in values.items()]  # name unverified
        return {"type": kind, "parameters": named}
    return {"type": kind, "parameters": [_parameter(value) for value in _listed(values)]}


def _parameter(value: Any) -> dict[str, Any]:
    """A text, a ready parameter with its `type`, or a file as {"image": {"link": ...}}."""
    if not isinstance(value, Mapping):
        return {"type": "text", "text": str(value)}
    if "type" in value:
        return dict(value)
    kind = next((name for name in value if name in _HEADER_MEDIA), None)
    if kind is None:
        raise _refused("template", "a parameter is a text, or an object with its type")
    return {"type": kind, kind: value[kind]}


def _button(index: int, button: Any) -> dict[str, Any]:
    if not isinstance(button, Mapping):
        button = {"sub_type": "url", "text": str(button)}
    kind = str(button.get("sub_type", "url"))
    word = "payload" if "payload" in button else "text"
    parameters = button.get("parameters") or [{"type": word, word: str(button.get(word, ""))}]
    return {
        "type": "button", "sub_type": kind, "index": str(button.get("index", index)), "parameters": parameters,
    }  # fmt: skip


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


# --- interactive messages ---------------------------------------------------------------------------------------------


def _interactive(content: Interactive, words: str) -> dict[str, Any]:
    """Buttons, a list or a link below a text, by what `values` hold: see the table."""
    if not words:
        raise _refused("interactive", "needs a text")
    for key, (kind, action) in _ACTIONS.items():
        if key in content.values:
            return {"type": kind, "body": {"text": words}, "action": action(content.values)}
    raise _refused("interactive", f"needs one of {', '.join(_ACTIONS)}")


def _chosen(row: Any) -> dict[str, str]:
    if not isinstance(row, Mapping):
        return {"id": str(row), "title": str(row)}
    title = str(row.get("title", ""))
    more = {"description": str(row["description"])} if row.get("description") else {}
    return {"id": str(row.get("id") or title), "title": title} | more


def _reply_buttons(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"buttons": [{"type": "reply", "reply": _chosen(button)} for button in _listed(values["buttons"])]}


def _rows(values: Mapping[str, Any]) -> dict[str, Any]:
    rows = [_chosen(row) for row in _listed(values["rows"])]
    label = str(values.get("label", "…"))
    return {"button": label, "sections": [{"title": str(values.get("title", label)), "rows": rows}]}


def _link(values: Mapping[str, Any]) -> dict[str, Any]:
    url = str(values["url"])
    return {"name": "cta_url", "parameters": {"display_text": str(values.get("label", url))[:20], "url": url}}


_ACTIONS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "buttons": ("button", _reply_buttons),  # [{"id", "title"}], at most 3
    "rows": ("list", _rows),  # [{"id", "title", "description"}], at most 10; "label" opens the list
    "url": ("cta_url", _link),  # with "label"
}
