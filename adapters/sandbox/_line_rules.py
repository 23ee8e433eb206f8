"""What the LINE sandbox knows of people and groups, and the rules by which it refuses: no network here.

Sources: LINE, Messaging API reference, Message objects; Error responses; Retry failed API requests, 2026-07.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import regex

REPLY_TOKEN_S = 60.0
RETRY_KEY_S = 24 * 3600.0
OBJECTS_MAX = 5
TEXT_MAX = 5000  # UTF-16 code units
URL_MAX = 2000
BODY_MAX = 2 * 2**20  # bytes


class Refusal(Exception):
    """The platform refuses a call: status, words, and the properties that are wrong."""

    def __init__(self, status: int, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {message}")
        self.status, self.message, self.details = status, message, dict(details or {})

    def body(self) -> dict[str, Any]:
        details = [{"message": message, "property": name} for name, message in self.details.items()]
        return {"message": self.message} | ({"details": details} if details else {})


@dataclass(slots=True)
class User:
    """Somebody on LINE. `friend`: has added the account and not blocked it."""

    user_id: str
    name: str = "Mika"
    picture: str = ""
    status: str = ""
    language: str = "ja"
    friend: bool = True
    blocked: bool = False
    consents: bool = True  # to being named in groups
    watches: bool = False  # looks at every video to its end


@dataclass(slots=True)
class Group:
    """A group chat, or a room (an older kind of it), with the people in it."""

    group_id: str
    name: str = "Family"
    kind: Literal["group", "room"] = "group"
    members: list[User] = field(default_factory=list)
    joined: bool = True  # the bot is in it


@dataclass(slots=True)
class Token:
    """A right to reply: to whom, since when, and whether it was used."""

    to: str
    at: float
    used: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A push that was taken under a retry key."""

    at: float
    request_id: str
    answer: Mapping[str, Any]


def load_body(raw: bytes, content_type: str) -> dict[str, Any]:
    """The JSON of a request. Raises `Refusal`."""
    if content_type != "application/json":
        raise Refusal(415, "Unsupported media type")
    if len(raw) > BODY_MAX:
        raise Refusal(413, "Payload too large")
    try:
        return dict(json.loads(raw))
    except ValueError:
        raise Refusal(400, "The request body could not be parsed as JSON") from None


def check_objects(objects: Any) -> None:
    """Raise `Refusal` unless these are message objects the platform takes."""
    if not isinstance(objects, list) or not 1 <= len(objects) <= OBJECTS_MAX:
        faults = {"messages": f"Size must be between 1 and {OBJECTS_MAX}"}
    else:
        faults = {
            f"messages[{index}].{name}": problem
            for index, one in enumerate(objects)
            for name, problem in (_faults(one) if isinstance(one, dict) else [("type", "May not be empty")])
        }
    if faults:
        raise Refusal(400, f"The request body has {len(faults)} error(s)", faults)


def _faults(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kind = one.get("type")
    check = _CHECKS.get(kind) if isinstance(kind, str) else None
    if check is None:
        yield "type", "The property, 'type', in the request body is invalid"
        return
    yield from check(one)
    if "quoteToken" in one and kind not in ("text", "textV2", "sticker"):
        yield "quoteToken", "unknown field"
    choices = (one.get("quickReply") or {}).get("items", ())
    if len(choices) > 13:
        yield "quickReply/items", "Size must be between 1 and 13"
    for choice in choices:
        yield from _action(choice["action"], "quickReply/items/action")


def _text(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    words = one.get("text")
    if not isinstance(words, str) or not words:
        yield "text", "May not be empty"
    elif len(words.encode("utf-16-le")) // 2 > TEXT_MAX:
        yield "text", f"Length must be between 0 and {TEXT_MAX}"


def _address(one: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    url = one.get(name)
    if not isinstance(url, str) or not url:
        yield name, "May not be empty"
    elif not url.startswith("https://") or len(url) > URL_MAX:
        yield name, "invalid uri scheme"


def _picture(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _address(one, "originalContentUrl")
    yield from _address(one, "previewImageUrl")


def _audio(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _address(one, "originalContentUrl")
    if type(one.get("duration")) is not int or one["duration"] < 1:
        yield "duration", "must be greater than or equal to 1"


def _needs(*names: str) -> Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]]:
    def check(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from ((name, "May not be empty") for name in names if one.get(name) in (None, ""))

    return check


def _action(action: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    if not 1 <= len(regex.findall(r"\X", action.get("label", ""))) <= 20:
        yield f"{place}/label", "Length must be between 1 and 20"
    if action.get("type") == "uri":
        if not action.get("uri", "").startswith(("http://", "https://", "line://", "tel:")):
            yield f"{place}/uri", "invalid uri scheme"
        elif len(action["uri"]) > 1000:
            yield f"{place}/uri", "Length must be between 1 and 1000"
    elif action.get("type") == "postback":
        if not 1 <= len(action.get("data", "")) <= 300:
            yield f"{place}/data", "Length must be between 1 and 300"
    elif action.get("type") not in ("message", "datetimepicker", "camera", "cameraRoll", "location", "clipboard"):
        yield f"{place}/type", "invalid property"


def _length(words: Any, most: int) -> bool:
    return isinstance(words, str) and 1 <= len(regex.findall(r"\X", words)) <= most


def _template(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _needs("altText", "template")(one)
    if len(one.get("altText", "")) > 400:
        yield "altText", "Length must be between 1 and 400"
    template = one.get("template") or {}
    match template.get("type"):
        case "buttons":
            yield from _column(template, 160, 4, "template")
        case "confirm":
            if not _length(template.get("text"), 240):
                yield "template/text", "Length must be between 1 and 240"
            yield from _actions(template, 2, 2, "template")
        case "carousel":
            columns = template.get("columns", ())
            if not 1 <= len(columns) <= 10:
                yield "template/columns", "Size must be between 1 and 10"
            if len({(len(column.get("actions", ())), "title" in column, "thumbnailImageUrl" in column)
                    for column in columns}) > 1:  # fmt: skip
                yield "template/columns", "must be consistent"
            for column in columns:
                yield from _column(column, 120, 3, "template/columns")
        case "image_carousel":
            pass
        case _:
            yield "template/type", "The property, 'type', in the request body is invalid"


def _column(column: Mapping[str, Any], text_max: int, actions_max: int, place: str) -> Iterator[tuple[str, str]]:
    most = 60 if "title" in column or "thumbnailImageUrl" in column else text_max
    if not _length(column.get("text"), most):
        yield f"{place}/text", f"Length must be between 1 and {most}"
    if "title" in column and not _length(column["title"], 40):
        yield f"{place}/title", "Length must be between 1 and 40"
    if "thumbnailImageUrl" in column:
        yield from _address(column, "thumbnailImageUrl")
    yield from _actions(column, 1, actions_max, place)


def _actions(holder: Mapping[str, Any], least: int, most: int, place: str) -> Iterator[tuple[str, str]]:
    actions = holder.get("actions", ())
    if not least <= len(actions) <= most:
        yield f"{place}/actions", f"Size must be between {least} and {most}"
    for action in actions:
        yield from _action(action, f"{place}/actions")


def _flex(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _needs("altText", "contents")(one)
    if (one.get("contents") or {}).get("type") not in ("bubble", "carousel"):
        yield "contents/type", "invalid property"


def _imagemap(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _address(one, "baseUrl")
    yield from _needs("altText", "baseSize")(one)
    if not 1 <= len(one.get("actions", ())) <= 50:
        yield "actions", "Size must be between 1 and 50"


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]]] = {
    "text": _text,
    "image": _picture,
    "video": _picture,
    "audio": _audio,
    "location": _needs("title", "address", "latitude", "longitude"),
    "sticker": _needs("packageId", "stickerId"),
    "template": _template,
    "flex": _flex,
    "textV2": _text,
    "imagemap": _imagemap,
    "coupon": _needs("couponId"),
}


def shown(user: User) -> dict[str, str]:
    """A profile as the API tells it."""
    told = {"pictureUrl": user.picture, "statusMessage": user.status, "language": user.language}
    return {"displayName": user.name, "userId": user.user_id} | {name: value for name, value in told.items() if value}
