"""X as data: limits, pace, rules for answers, error codes. Sources: X, pages as named, 2026-08.

Where two pages of X name different rates the stricter one stands here; X's own answer headers have the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from adapters._channel import AnswerRule, Channel, Keywords, Limits, MediaRule, Pace, Quota, RepeatRule
from adapters._errors import ErrorClass, ErrorRule, PauseScope

_MB = 2**20
_QUARTER, _DAY = timedelta(minutes=15), timedelta(days=1)
POST_MAX = 280  # weight, see `adapters._weighted`
DIRECT_MAX = 10_000  # characters; X's older limit, unverified for the current endpoints
POST_FILES = 4


def _rules(
    error_class: ErrorClass, meanings: Mapping[str, str], pause: PauseScope | None = None, wait: timedelta | None = None
) -> dict[str, ErrorRule]:
    return {code: ErrorRule(error_class, meaning, pause=pause, wait=wait) for code, meaning in meanings.items()}


ERRORS: Mapping[str, ErrorRule] = {
    **_rules(
        "throttle",
        {"429": "rate limit", "88": "rate limit", "185": "posting limit of the account"},
        pause="endpoint",
        wait=_QUARTER,
    ),
    **_rules("retry", {"130": "over capacity", "131": "internal fault"}),
    **_rules(
        "auth",
        {
            "401": "credentials refused",
            "32": "credentials refused",
            "89": "the token is invalid or has expired",
            "99": "credentials cannot be verified",
            "215": "bad authentication data",
            "135": "our clock differs from X's",
            "64": "our account is suspended",
            "326": "our account is locked: its user must unlock it",
            "usage-capped": "the app's credits or monthly cap are used up",
        },
        pause="account",
    ),
    **_rules(
        "auth",
        {
            "client-forbidden": "the app lacks access to this endpoint",
            "unsupported-authentication": "this kind of credential is not accepted here",
            "oauth1-permissions": "the app lacks a permission",
            "87": "the client may not do this",
            "93": "the app may not read or write direct messages",
            "220": "these credentials give no access",
            "261": "the app may not write",
            "416": "the app is suspended",
            "453": "the app's access level does not cover this",  # unverified
        },
    ),
    **_rules("policy", {"226": "the request looks automated"}, pause="account", wait=_QUARTER),
    **_rules(
        "bad-recipient",
        {
            "150": "the person does not follow us",
            "349": "this person takes no direct messages from us",
            "151": "the direct message could not be sent",
            "136": "the author has blocked us",  # unverified
            "108": "no such user",  # unverified
            "17": "no such user",
            "34": "no such user or post",
            "50": "no such user",
            "63": "the user is suspended",
            "404": "no such user or post",
            "resource-not-found": "no such user or post",
        },
    ),
    **_rules(
        "window-closed",
        {
            "144": "the post answered is gone",
            "385": "the post answered is deleted or not visible to us",
            "421": "the post answered is gone",
            "422": "the post answered is gone",
            "433": "the author restricted who may reply",
        },
    ),
    **_rules(
        "permanent",
        {
            "187": "the same text was posted before",
            "186": "the post is too long",
            "354": "the direct message is too long",
            "38": "a parameter is missing",
            "44": "a parameter is invalid",
            "324": "the media id is invalid",
            "325": "the media id was not found",
            "386": "too many files or links",
            "407": "the link is invalid",
            "251": "the endpoint is retired",
            "410": "the endpoint is retired",
            "400": "invalid request",
            "invalid-request": "invalid request",
            "403": "refused",  # what is not known is never tried in a loop
        },
    ),
}
"""Numbers are of v1.1 answers, words the last part of a problem's `type`, 4xx the status where there is neither."""

PHRASES: Mapping[str, str] = {
    "duplicate content": "187",
    "have not been mentioned": "433",
    "restricted who can reply": "433",
    "reply to this conversation is not allowed": "433",
    "cannot send messages to this user": "349",
    "permission to dm": "349",
    "who are not following you": "150",
    "deleted or not visible": "385",
    "not configured with the appropriate oauth": "oauth1-permissions",
}
"""Words in a problem's `detail`, lower case -> its code: several refusals have nothing else to tell them apart."""

_MEDIA = (
    MediaRule("image", ("image/jpeg", "image/png", "image/webp"), 5 * _MB),
    MediaRule("image", ("image/gif",), 15 * _MB),
    MediaRule("video", ("video/mp4", "video/quicktime"), 512 * _MB),  # 0.5 to 140 s
)
_POLICY = "X, Developer Policy and Automation Rules, 2026-08"
SUMMONED = AnswerRule(
    flag="summoned",
    reason="X lets an app answer in public only who mentioned the account, or quoted it, in that very post",
    remedy="answer in X itself, by direct message, or wait until the author mentions the account",
    source="X, Developer guidelines, programmatic replies, since 2026-02-23",
)
UNRESTRICTED = AnswerRule(
    flag="replies_restricted",
    absent=True,
    reason="the author restricted who may reply, and did not mention the account",
    remedy="answer by direct message",
    source="X, Post object, reply_settings, 2026-08",
)
KEYWORDS = Keywords(
    stop=frozenset({"stop", "stopp", "stop all", "stopall", "unsubscribe", "opt out", "optout", "abmelden", "baja"}),
    start=frozenset({"start", "unstop", "subscribe", "opt in", "optin"}),
    scope="marketing",
    source="our own list; X demands an easy opt-out and names no words (Automation Rules)",
)
_REPEATS = RepeatRule(recipients=5, duration=timedelta(hours=36), source=_POLICY)  # X names no number
_SOURCES = (
    "X, Webhooks; X Activity API; Account Activity API, 2026-08",
    "X, Rate limits; Response codes and errors; Counting characters, 2026-08",
    _POLICY,
)

POSTS = Channel(
    name="x",
    title="X",
    limits=Limits(
        text_max=POST_MAX,
        text_unit="weighted",
        split=False,
        caption_max=POST_MAX,
        files_per_message=POST_FILES,
        media=_MEDIA,
        source="X, Counting characters; Media best practices, 2026-08",
    ),
    pace=Pace(
        per_second=1.0,
        quotas=(Quota(100, _QUARTER), Quota(300, timedelta(hours=3))),
        source="X, Rate limits and Integration guide, POST /2/tweets, 2026-08",
    ),
    private=False,
    messaging=False,
    key="none",
    keywords=KEYWORDS,
    errors=ERRORS,
    address_kinds=("user_id",),
    proactive=False,
    edits=True,
    answer_rules=(SUMMONED, UNRESTRICTED),
    automatic_per_message=1,
    repeats=_REPEATS,
    duplicates="X, Response codes and errors (187), 2026-08",
    sources=_SOURCES,
)

DIRECT = Channel(
    name="x_dm",
    title="X direct message",
    limits=Limits(
        text_max=DIRECT_MAX,
        text_unit="chars",
        caption_max=DIRECT_MAX,
        media=_MEDIA,
        source="X, Direct Messages; Media best practices, 2026-08",
    ),
    pace=Pace(
        per_second=1.0,
        daily=1440,
        quotas=(Quota(15, _QUARTER), Quota(1440, _DAY)),
        source="X, Rate limits, Direct Messages, 2026-08",
    ),
    key="none",
    keywords=KEYWORDS,
    errors=ERRORS,
    receipts=("read",),
    address_kinds=("user_id",),
    proactive=True,  # to who takes direct messages from everybody; the adapter asks X before it sends
    repeats=_REPEATS,
    sources=_SOURCES,
)
