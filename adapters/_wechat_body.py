"""Our message as WeChat reads it: pure.

Sources: WeChat, Service account, Send customer service messages; Template messages; Subscription notifications, 2026.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import unescape
from typing import Any, Final

import msgspec

from adapters._errors import SendError
from adapters._interactive import (
    ChoiceLimits,
    ContentRefused,
    address,
    choices,
    kind_of,
    needs_text,
    no_such,
    refuse_text,
)
from adapters._template_places import unfit, words_of
from adapters._wechat_facts import UPLOADS, VOICE_MAX, Upload
from normalizers.model import Address, Interactive, Link, OutboundFile, OutboundMessage, Template

URL_MAX: Final = 2000  # characters, our own bound
CUSTOM: Final = "/cgi-bin/message/custom/send"
_HREF: Final = re.compile(r"""href\s*=\s*["']?([^"'>]*)""", re.IGNORECASE)
_OPENS: Final = ("https://", "http://", "weixin://")
"""What a link in a text may open: a page, a mini program (which stands beside a page's address), a menu of WeChat's."""


class Request(msgspec.Struct, frozen=True):
    """One call: its path, and the body to be written as JSON."""

    path: str
    body: Mapping[str, Any]


def request_for(message: OutboundMessage, media: Mapping[str, str] | None = None, agent: str = "") -> Request:
    """The call that sends the message. `media`: ids of the uploaded file; `agent`: the customer service account that
    speaks. Raises `SendError` for what cannot be said.
    """
    touser = _recipient(message.to)
    template = message.template or (message.content if isinstance(message.content, Template) else None)
    if template is not None:
        return _template(template, touser, message.key)
    kind, content = _content(message, media)
    body = {"touser": touser, "msgtype": kind, kind: content}
    return Request(CUSTOM, body | ({"customservice": {"kf_account": agent}} if agent else {}))


def check_content(message: OutboundMessage) -> None:
    """Raises `ContentRefused` for structured content, or parameters of a template, the platform would not take."""
    if message.template is not None:
        _template(message.template, "", message.key)
    else:
        _content(message, None)


def file_of(message: OutboundMessage) -> OutboundFile | None:
    """The one file the message carries. Raises `SendError` for several."""
    files = (*filter(None, (message.file,)), *message.files)
    if len(files) > 1:
        raise _refused("files", "one file per message")
    return files[0] if files else None


def upload_for(file: OutboundFile) -> Upload:
    """How the file is uploaded. Raises `SendError` for one the platform does not take."""
    found = UPLOADS.get((file.kind, file.media_type.partition(";")[0].strip().lower()))
    if found is None:
        raise _refused("media-type", f"{file.filename}: no {file.media_type} as {file.kind}; send a link")
    if file.size > found.max_bytes:
        raise _refused("media-size", f"{file.filename}: more than {found.max_bytes} bytes")
    if file.kind == "audio" and (file.duration_ms or 0) > VOICE_MAX.total_seconds() * 1000:
        raise _refused("media-length", f"{file.filename}: longer than {VOICE_MAX.total_seconds():g} seconds")
    return found


def _recipient(to: tuple[Address, ...]) -> str:
    for one in to:
        if one.kind == "openid":
            return one.value
    raise SendError("bad-recipient", "no-openid", "the person has no OpenID of this account")


def _content(message: OutboundMessage, media: Mapping[str, str] | None) -> tuple[str, Mapping[str, Any]]:
    if message.reaction is not None:
        raise _refused("reaction", "WeChat has no reactions")
    if isinstance(message.content, Interactive):
        return _interactive(message.content, message.text)
    if isinstance(message.content, Link):
        refuse_text(message.text, "an article")
        return _news(message.content)
    if message.content is not None:
        raise no_such(message.content)
    if (file := file_of(message)) is not None:
        return _file(file, message.text, media or {})
    if not message.text:
        raise _refused("empty", "nothing to send")
    return "text", {"content": _said(message.text)}


def _said(words: str, field: str = "text") -> str:
    """A text, in which WeChat shows `<a href>` as a link. Raises `ContentRefused` for one that opens anything else."""
    if "<a" in words.lower():
        for href in _HREF.findall(words):
            target = "".join(char for char in unescape(href) if char > " ").lower()
            if not target.startswith(_OPENS):
                raise ContentRefused("holds a link that opens neither a page nor a mini program", field, "link")
    return words


def _file(file: OutboundFile, words: str, media: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    if words:
        raise _refused("caption", "no text can stand beside a file")
    kind = upload_for(file).type
    return kind, {**media, "title": file.filename} if kind == "video" else {**media}


def _news(link: Link) -> tuple[str, Mapping[str, Any]]:
    """One article: more are refused (45008)."""
    address(link.url, URL_MAX, "content.url")
    if link.image_url:
        address(link.image_url, URL_MAX, "content.image_url")
    article = {"title": link.title or link.url, "description": link.description, "url": link.url,
               "picurl": link.image_url}  # fmt: skip
    return "news", {"articles": [article]}


def _refused(code: str, detail: str) -> SendError:
    return SendError("permanent", code, detail)


# --- interactive messages ---------------------------------------------------------------------------------------------


def _interactive(content: Interactive, words: str) -> tuple[str, Mapping[str, Any]]:
    """A menu or a link below a text, by what `values` hold; or an object of the platform's own, by `type`."""
    if content.type in _OWN_OBJECTS:
        refuse_text(words, f"a {content.type}")
        for name in content.values:
            if name.endswith("url") and content.values[name]:  # music
                address(content.values[name], URL_MAX, f"content.values.{name}")
        return content.type, content.values
    return _MAKERS[kind_of(content.values, _MAKERS)](content.values, needs_text(words))


def _menu(values: Mapping[str, Any], words: str) -> tuple[str, Mapping[str, Any]]:
    """The answer comes back as a text with the row's id."""
    rows = choices(values, "buttons" if "buttons" in values else "rows", _ROW, _ROWS_MAX)
    listed = [{"id": row.id, "content": _said(row.title, "content.values")} for row in rows]
    menu: dict[str, Any] = {"head_content": _said(words), "list": listed}
    tail = _said(str(values.get("tail") or ""), "content.values.tail")
    return "msgmenu", menu | ({"tail_content": tail} if tail else {})


def _link(values: Mapping[str, Any], words: str) -> tuple[str, Mapping[str, Any]]:
    url = address(values["url"], URL_MAX, "content.values.url")
    if any(char in url for char in '"<>'):
        raise ContentRefused("holds a character that would end the link", "content.values.url")
    label = _said(str(values.get("label") or url), "content.values.label")
    return "text", {"content": f'{_said(words)}\n<a href="{url}">{label}</a>'}


_OWN_OBJECTS: Final = frozenset({"miniprogrampage", "mpnews", "mpnewsarticle", "music", "wxcard"})
_ROW: Final = ChoiceLimits(title=128, id=128)  # our own bounds, as of the rows: the platform names none
_ROWS_MAX: Final = 20
_MAKERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], tuple[str, Mapping[str, Any]]]]] = {
    "buttons": _menu,  # [{"id", "title"}], with "tail" below; certified accounts only
    "rows": _menu,
    "url": _link,  # with "label"
}


# --- templates --------------------------------------------------------------------------------------------------------

_NOTICES: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "template": ("/cgi-bin/message/template/send", frozenset({"url", "miniprogram"})),
    "subscription": ("/cgi-bin/message/subscribe/bizsend", frozenset({"page", "miniprogram"})),
    "once": ("/cgi-bin/message/template/subscribe", frozenset({"url", "miniprogram", "scene", "title"})),
}
"""Word -> path and what may stand beside the fields."""


def _template(template: Template, touser: str, key: str) -> Request:
    """The fields by name, {"thing1": "Parcel 12"}; or with more beside them:

    {"data": {"thing1": "Parcel 12"}, "url": ..., "miniprogram": {...}, "notice": "template" | "subscription" | "once"}
    """
    given = template.parameters
    if not isinstance(given, Mapping):
        if given:
            raise unfit("WeChat's templates name their fields: give an object, not a list")
        given = {}
    data, beside = (given["data"], given) if isinstance(given.get("data"), Mapping) else (given, {})
    path, allowed = _NOTICES.get(str(beside.get("notice", "template")), ("", frozenset()))
    unknown = beside.keys() - allowed - {"data", "notice"}
    if not path or unknown:
        raise unfit(f"not known: {', '.join(sorted(unknown)) or beside['notice']}")
    if beside.get("url"):
        address(beside["url"], URL_MAX, "template.parameters.url")
    page = str(beside.get("page") or "")
    if ":" in re.split("[/?]", page, maxsplit=1)[0] and not page.startswith(("https://", "http://")):
        raise unfit("page: opens neither a page nor a mini program")
    body: dict[str, Any] = {"touser": touser, "template_id": template.name}
    body |= {name: beside[name] for name in beside if name in allowed}
    body["data"] = {name: value if isinstance(value, Mapping) else {"value": words_of(value)}
                    for name, value in data.items()}  # fmt: skip
    if path == _NOTICES["template"][0]:
        body["client_msg_id"] = key.replace("-", "")  # the platform sends it once, within 10 minutes
    return Request(path, body)
