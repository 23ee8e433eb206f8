"""WeChat as data: limits, allowances, media, error codes. Sources: WeChat, Service account, pages as named, 2026."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from adapters._channel import Allowance, Channel, Keywords, Limits, MediaRule, Pace, Window
from adapters._errors import ErrorClass, ErrorRule, PauseScope
from normalizers.model import MediaKind

_MB: Final = 2**20
_MINUTE: Final = timedelta(minutes=1)

TOKEN_REFUSED: Final = frozenset({"40001", "40014", "42001"})
"""The call did nothing, as its access token is not the latest one, malformed or expired: worth one fresh token."""
DAILY_QUOTA: Final = "45009"
NO_SUCH_AGENT: Final = "61452"
MEDIA_GONE: Final = "40007"


def _rules(
    error_class: ErrorClass, meanings: Mapping[int | str, str], pause: PauseScope | None = None
) -> dict[str, ErrorRule]:
    return {str(code): ErrorRule(error_class, meaning, pause=pause) for code, meaning in meanings.items()}


ERRORS: Final[Mapping[str, ErrorRule]] = {
    **_rules("retry", {-1: "the platform is busy", -1000: "fault of the platform"}),  # it may have sent all the same
    **_rules(
        "auth",
        {
            40001: "the access token is not the latest, or the secret is wrong",
            40002: "wrong grant type",
            40013: "wrong app id",
            40014: "the access token is malformed",
            40125: "wrong app secret",
            40164: "our address is not on the account's list of allowed addresses",
            41002: "the app id is missing",
            41004: "the app secret is missing",
            42001: "the access token has expired",
            42007: "the authorisation ended, as the password was changed",
            61004: "our address is not on the third-party platform's list",
            89503: "a call from a new address waits for the account's administrator",
        },
        pause="account",  # no call passes before somebody mends it
    ),
    **_rules("auth", {41001: "the access token is missing", 61007: "the account has not granted this call"}),
    **_rules(
        "bad-recipient",
        {
            40003: "no OpenID of this account",
            43004: "the person does not follow the account",
            43101: "the person refused this subscription, or used it up",
            48002: "the person switched messages off",
            50005: "the person does not follow the account",
            "user block": "the person refuses the account's messages",  # of a template's result
        },
    ),
    **_rules(
        "window-closed",
        {
            45015: "more than 48 hours since the person's last word, or the person left",
            45047: "all messages allowed since the person's last action are used up",
        },
    ),
    **_rules(
        "permanent",
        {
            40004: "wrong type of media",
            40005: "wrong type of file",
            40006: "wrong size of file",
            40007: "the media id is wrong, or older than 3 days",
            40008: "wrong type of message",
            40009: "wrong size of picture",
            40010: "wrong size of voice message",
            40011: "wrong size of video",
            40012: "wrong size of thumbnail",
            40036: "wrong length of the template id",
            40037: "wrong template id",
            40200: "this kind of account may not do this",  # unverified
            43002: "the call must be a POST",
            43003: "the call must use https",
            44002: "an empty body",
            45001: "the file is too large",
            45002: "the text is too long",
            45007: "the voice message is too long",
            45008: "more than one article",
            45162: "wrong type of message",
            47001: "the body is not JSON",
            47003: "a field of the template does not fit",  # unverified
            48001: "the account may not use this call: it is not certified",
            48004: "the platform has banned the account from this call",
            48008: "the account may not send this type of message",
            50002: "the account or the person is restricted",
            61452: "no such customer service account",
        },
    ),
    "freq limit": ErrorRule("throttle", "templates to this person are limited", pause="recipient"),  # of a result
    "system failed": ErrorRule("retry", "fault of the platform"),  # of a result; spelling unverified
    DAILY_QUOTA: ErrorRule("throttle", "the call's quota of the day", pause="endpoint"),
    "45011": ErrorRule("throttle", "the call's quota of the minute", pause="endpoint", wait=_MINUTE),
}
"""Pages "Global return codes" and "Template messages". An answer is 200 with its `errcode` in the body."""


@dataclass(frozen=True, slots=True)
class Upload:
    """How a file is uploaded. `suffix`: the platform judges a file by its name."""

    type: str
    suffix: str
    max_bytes: int


_IMAGE, _VOICE, _VIDEO = 10 * _MB, 2 * _MB, 10 * _MB  # bytes; one place of the same page says 2 MB for pictures
UPLOADS: Final[Mapping[tuple[MediaKind, str], Upload]] = {
    ("image", "image/jpeg"): Upload("image", "jpg", _IMAGE),
    ("image", "image/png"): Upload("image", "png", _IMAGE),
    ("image", "image/gif"): Upload("image", "gif", _IMAGE),
    ("audio", "audio/amr"): Upload("voice", "amr", _VOICE),
    ("audio", "audio/mpeg"): Upload("voice", "mp3", _VOICE),
    ("video", "video/mp4"): Upload("video", "mp4", _VIDEO),
}
"""Page "Upload temporary media". Other files are not taken: a link must do."""
THUMB: Final = Upload("thumb", "jpg", 64 * 1024)
VOICE_MAX: Final = timedelta(seconds=60)

MEDIA: Final = tuple(
    MediaRule(kind, (media_type,), upload.max_bytes, caption=False) for (kind, media_type), upload in UPLOADS.items()
)

_CLICK: Final = Allowance(_MINUTE, 3)
WINDOW: Final = Window(
    duration=timedelta(hours=48),
    max_messages=5,
    template_outside=True,
    allowances=dict.fromkeys(("click", "follow", "msgmenu", "scan", "scancode_push", "scancode_waitmsg"), _CLICK),
    source="WeChat, Service account, Send customer service messages, 2026: since 2023-06-12; 20 before that",
)  # fmt: skip

CHANNEL: Final = Channel(
    name="wechat",
    title="WeChat",
    limits=Limits(
        text_max=2048,
        text_unit="bytes",  # of UTF-8: some 680 Chinese characters
        media=MEDIA,
        source="text: measured by users (error 45002), not documented; media: WeChat, Upload temporary media, 2026",
    ),
    pace=Pace(per_second=20, source="assumed: WeChat documents quotas for a day and a minute, but names none here"),
    key="none",
    window=WINDOW,
    keywords=Keywords(
        stop=frozenset({"stop", "unsubscribe", "td", "退订", "取消订阅"}),
        start=frozenset({"start", "subscribe", "订阅"}),
        scope="marketing",
        source="our own list; WeChat itself knows no words, only unfollowing",
    ),
    errors=ERRORS,
    receipts=("delivered",),  # of templates and notices only
    templates=True,
    address_kinds=("openid",),
    proactive=True,  # by template, to followers
    contents=frozenset({"interactive", "link"}),  # a menu (certified accounts) or a link; one article
    links_in_text=True,
    sources=(
        "WeChat, Service account, Global return codes, 2026",
        "WeChat, Service account, Message encryption, 2026",
        "WeChat, Service account, Get stable access token, 2026",
    ),
)
