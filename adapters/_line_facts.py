"""LINE as data: limits, pace, reply tokens, error answers. Sources: LINE Developers, pages as named, 2026-08."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from adapters._channel import AnswerRule, Channel, Keywords, Limits, MediaRule, Pace
from adapters._errors import ErrorRule

_MB = 1_000_000  # bytes

OBJECTS_MAX: Final = 5  # message objects of one call
URL_MAX: Final = 2000  # characters of an address
PREVIEW_MAX: Final = 1 * _MB  # a picture up to this size is its own preview
QUICK_REPLIES_MAX: Final = 13
LABEL_MAX: Final = 20  # grapheme clusters, as titles and texts of templates
POSTBACK_MAX: Final = 300  # characters of a button's data
URI_MAX: Final = 1000  # characters of an address a button opens
TITLE_MAX: Final = 40
BUTTONS_TEXT_MAX: Final = 160  # text of a buttons template without a picture
TITLED_TEXT_MAX: Final = 60  # of one with a title or picture, and of a card
CONFIRM_TEXT_MAX: Final = 240
CARDS_MAX: Final = 10
ALT_TEXT_MAX: Final = 400  # what a notification shows of a template
REQUEST_ID: Final = "x-line-request-id"
ACCEPTED_REQUEST_ID: Final = "x-line-accepted-request-id"  # beside 409: of the call that was taken before

INVALID_TOKEN: Final = "invalid-reply-token"  # noqa: S105 - the name of an error
ALREADY_ACCEPTED: Final = 409
UNAUTHORIZED: Final = 401
ACCEPTED: Final = 202  # with an empty body
TYPING_S: Final = 20  # a multiple of 5, up to 60

ERRORS: Mapping[str, ErrorRule] = {
    INVALID_TOKEN: ErrorRule("window-closed", "the reply token was used before, or has expired"),
    "failed-to-send": ErrorRule("bad-recipient", "LINE knows no such user, or the bot is not in the group"),
    "monthly-limit": ErrorRule(
        "throttle", "the month's messages are used up", pause="endpoint", wait=timedelta(hours=1)
    ),
    "rate-limit": ErrorRule("throttle", "call rate of the endpoint", pause="endpoint", wait=timedelta(seconds=5)),
    "429": ErrorRule("throttle", "too many requests", pause="endpoint", wait=timedelta(seconds=30)),
    "400": ErrorRule("permanent", "the request is not what LINE takes"),
    "401": ErrorRule("auth", "the channel access token is wrong or has expired", pause="account"),
    "403": ErrorRule("auth", "the account's plan does not have this call"),
    "410": ErrorRule("permanent", "gone"),
    "413": ErrorRule("permanent", "a request of more than 2 MB"),
    "415": ErrorRule("permanent", "a media type LINE does not take"),
}
"""By a word of ours, or by status: LINE's errors have no number. Waits are ours: LINE sends no Retry-After."""

PHRASES: tuple[tuple[int, str, str], ...] = (
    (400, "Invalid reply token", INVALID_TOKEN),
    (400, "Failed to send messages", "failed-to-send"),
    (429, "You have reached your monthly limit", "monthly-limit"),
    (429, "The API rate limit has been exceeded", "rate-limit"),
)
"""Status and the beginning of the message, and the word of ours for it. Source: Messaging API reference, 2026-08."""


def code_of(status: int, message: str) -> str:
    """The key into `ERRORS`."""
    for wanted, beginning, code in PHRASES:
        if status == wanted and message.startswith(beginning):
            return code
    return str(status)


MEDIA = (
    MediaRule("image", ("image/jpeg", "image/png"), 10 * _MB),
    MediaRule("video", ("video/mp4",), 200 * _MB),
    MediaRule(  # mp3 is unverified
        "audio", ("audio/mp4", "audio/m4a", "audio/x-m4a", "audio/mp4a-latm", "audio/mpeg", "audio/mp3"), 200 * _MB
    ),
    MediaRule("file", ("*/*",), 200 * _MB),  # as a link in a text: nothing is uploaded, the size is our own bound
)

KEYWORDS = Keywords(
    stop=frozenset({"stop", "stop all", "stopall", "unsubscribe", "opt out", "optout",
                    "配信停止", "停止", "取消訂閱", "退訂", "退订", "ยกเลิก", "수신거부"}),
    start=frozenset({"start", "unstop", "subscribe", "opt in", "optin", "配信再開", "訂閱", "订阅", "수신동의"}),
    scope="marketing",
    source="our own list; LINE itself knows no words, only blocking",
)  # fmt: skip

STANDBY = AnswerRule(
    flag="standby",
    absent=True,
    reason="another module holds the conversation",
    remedy="answer there, or wait until it passes the conversation on",
    source="LINE, Messaging API reference, Common properties (mode), 2026-07",
)
LEFT = AnswerRule(
    flag="left",
    absent=True,
    reason="the account was taken out of the group or room, or it was closed",
    remedy="write to its people one by one, or wait until the account is added again",
    source="LINE, Messaging API reference, Leave event, 2026-07",
)

CHANNEL = Channel(
    name="line",
    title="LINE",
    limits=Limits(
        text_max=5000,
        text_unit="utf16",
        caption_max=5000,
        files_per_message=OBJECTS_MAX - 1,  # beside the text
        media=MEDIA,
        fetches="https",
        link_max_bytes=URL_MAX,
        source="LINE, Character counting in a text; Messaging API reference, Message objects, 2026-07",
    ),
    pace=Pace(per_second=2000, source="LINE, Messaging API reference, Rate limits, 2026-08"),
    key="request",  # X-Line-Retry-Key
    key_valid=timedelta(hours=24),
    reply_token_valid=timedelta(seconds=50),  # LINE promises one minute; the rest is for the way there
    keywords=KEYWORDS,
    errors=ERRORS,
    receipts=(),  # ordinary messages have none; only a video tells that it was watched to its end
    address_kinds=("user_id",),
    proactive=False,  # only ids seen in a signed event may be written to
    invited_by=frozenset({"follow"}),
    answer_rules=(STANDBY, LEFT),
    contents=frozenset({"location", "sticker", "interactive"}),
    quotes=True,
    quote_tokens=True,
    edits=True,  # of text messages in groups
    sources=(
        "LINE, Messaging API reference, 2026-07",
        "LINE, Retry failed API requests, 2026-07",
        "LINE, Messaging API development guidelines, 2026-07",
    ),
)
