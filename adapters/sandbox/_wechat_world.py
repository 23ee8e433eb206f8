"""What the WeChat sandbox knows of followers, templates and files, and the rules by which it refuses: no network here.

Sources: WeChat, Service account, Send customer service messages; Global return codes, 2026. The text's length is
measured by users, not documented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.sax.saxutils import escape

TEXT_MAX = 2048  # bytes
MEDIA_S = 3 * 24 * 3600.0
MESSAGE = (5, 48 * 3600.0)
CLICK = (3, 60.0)
"""How many messages, for how many seconds."""

Mode = Literal["plain", "compatible", "secure"]

TITLES: Mapping[int, str] = {
    0: "ok", -1: "system error", 40001: "invalid credential, access_token is invalid or not latest",
    40003: "invalid openid", 40004: "invalid media type", 40006: "invalid media size", 40007: "invalid media_id",
    40008: "invalid message type", 40013: "invalid appid", 40037: "invalid template_id", 40125: "invalid appsecret",
    40164: "invalid ip, not in whitelist", 41001: "access_token missing", 42001: "access_token expired",
    43004: "require subscribe", 43101: "user refuse to accept the msg", 44002: "empty post data",
    45002: "content size out of limit", 45008: "article size out of limit", 45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit, must slower, retry next minute", 45015: "response out of time limit",
    45047: "out of response count limit", 47001: "data format error", 48001: "api unauthorized",
    48002: "user block receive message", 61452: "invalid kf_account",
}  # fmt: skip
UPLOADS: Mapping[str, tuple[frozenset[str], int]] = {
    "image": (frozenset({"jpg", "jpeg", "png", "gif"}), 10 * 2**20),
    "voice": (frozenset({"amr", "mp3"}), 2 * 2**20),
    "video": (frozenset({"mp4"}), 10 * 2**20),
    "thumb": (frozenset({"jpg"}), 64 * 1024),
}


class Refusal(Exception):
    """The platform refuses a call with one of its codes."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code} {TITLES.get(code, '')}")
        self.code = code


@dataclass(slots=True)
class Follower:
    """Somebody on WeChat, as one account knows them. `remaining` messages may be sent `until` (Unix seconds)."""

    openid: str
    unionid: str = ""
    follows: bool = True
    blocks: bool = False  # switched the account's messages off
    refuses: frozenset[str] = frozenset()  # templates of subscription notices
    remaining: int = 0
    until: float = 0.0

    def grant(self, allowance: tuple[int, float], now: float) -> None:
        """What an action allows: it refreshes what is left, and adds nothing to it."""
        messages, seconds = allowance
        left = self.remaining if now < self.until else 0
        self.remaining, self.until = max(left, messages), max(self.until, now + seconds)

    def spend(self, now: float) -> None:
        """One customer service message. Raises `Refusal`."""
        if not self.follows or now >= self.until:
            raise Refusal(45015)
        if self.blocks:
            raise Refusal(48002)
        if self.remaining < 1:
            raise Refusal(45047)
        self.remaining -= 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A file the platform keeps, until `expires` (Unix seconds)."""

    content: bytes
    media_type: str
    type: str
    expires: float


@dataclass(slots=True)
class Behaviour:
    """What the platform does, changeable at any time."""

    certified: bool = True  # may send templates and menus
    agents: frozenset[str] = frozenset()  # names of customer service accounts
    typing: list[str] = field(default_factory=list)  # who was shown that somebody writes
    stable: bool = True  # False: each call for a token gives another, and the one before is refused at once
    refuse_tokens: bool = False  # another system takes the tokens away: each is "not latest"
    address_allowed: bool = True  # our address is on the account's list
    quota_of_the_day_used: bool = False
    videos_elsewhere: str = ""  # an address that is answered in a film's place
    template_result: str = "success"


@dataclass(slots=True)
class World:
    """All that is known."""

    followers: dict[str, Follower] = field(default_factory=dict)
    templates: set[str] = field(default_factory=set)
    files: dict[str, Stored] = field(default_factory=dict)


def check_content(body: Mapping[str, Any], world: World, behaviour: Behaviour, now: float) -> None:
    """Raises `Refusal` for what a customer service message cannot be."""
    kind = str(body.get("msgtype", ""))
    content = body.get(kind)
    if kind not in _CONTENT or not isinstance(content, Mapping):
        raise Refusal(40008)
    agent = (body.get("customservice") or {}).get("kf_account", "")
    if agent and agent not in behaviour.agents:
        raise Refusal(61452)
    _CONTENT[kind](kind, content, world, behaviour, now)


def _text(_: str, content: Mapping[str, Any], *__: Any) -> None:
    words = str(content.get("content", ""))
    if not words:
        raise Refusal(44002)
    if len(words.encode()) > TEXT_MAX:
        raise Refusal(45002)


def _file(kind: str, content: Mapping[str, Any], world: World, _: Behaviour, now: float) -> None:
    stored = world.files.get(str(content.get("media_id", "")))
    if stored is None or now >= stored.expires:
        raise Refusal(40007)
    if stored.type != kind:
        raise Refusal(40004)


def _news(_: str, content: Mapping[str, Any], *__: Any) -> None:
    if len(content.get("articles", ())) != 1:
        raise Refusal(45008)


def _menu(_: str, content: Mapping[str, Any], __: World, behaviour: Behaviour, ___: float) -> None:
    if not behaviour.certified:
        raise Refusal(48001)
    if not all(set(row) == {"id", "content"} for row in content.get("list", ())):
        raise Refusal(47001)


def _any(*_: Any) -> None:
    """Taken as it stands."""


_CONTENT: Mapping[str, Callable[..., None]] = {
    "text": _text, "image": _file, "voice": _file, "video": _file, "news": _news, "msgmenu": _menu, "music": _any,
    "mpnews": _any, "mpnewsarticle": _any, "wxcard": _any, "miniprogrampage": _any, "link": _any,
}  # fmt: skip


def to_xml(fields: Mapping[str, Any]) -> str:
    """The fields as the platform writes them: numbers bare, texts as CDATA."""
    return f"<xml>{_elements(fields)}</xml>"


def _elements(fields: Mapping[str, Any]) -> str:
    return "".join(
        f"<{name}>{_written(one)}</{name}>"
        for name, value in fields.items()
        for one in (value if isinstance(value, list | tuple) else (value,))
    )


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return _elements(value)
    if isinstance(value, int | float):
        return escape(str(value))
    return "<![CDATA[" + str(value).replace("]]>", "]]]]><![CDATA[>") + "]]>"
