"""What Messenger and Instagram Direct share as data: error codes, windows, words.

Sources: Meta, Messenger Platform, Error codes, 2026-03; Send a message, 2026-05; Changelog, 2026-06.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from adapters._channel import AnswerRule, Channel, Keywords
from adapters._errors import ErrorClass, ErrorRule
from adapters._meta import GRAPH_ERRORS

HUMAN_AGENT: Final = "HUMAN_AGENT"
"""The one tag that is left: for people, non-promotional, in apps approved for it. All others fail since April 2026."""

WINDOW: Final = timedelta(hours=24)
HUMAN_AGENT_WINDOW: Final = timedelta(days=7)
OPENED_BY: Final = frozenset({"reaction", "referral"})  # a link into the conversation; an ad only with a message

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)


def _rules(error_class: ErrorClass, meanings: Mapping[str, str]) -> dict[str, ErrorRule]:
    return {code: ErrorRule(error_class, meaning) for code, meaning in meanings.items()}


def _throttles(meanings: Mapping[str, str]) -> dict[str, ErrorRule]:
    """Surely not sent. The wait stands in where the platform's usage header names none."""
    return {code: ErrorRule("throttle", meaning, pause="endpoint", wait=_MINUTE) for code, meaning in meanings.items()}


MESSAGING_ERRORS: Final[Mapping[str, ErrorRule]] = {
    **GRAPH_ERRORS,
    **_rules(
        "window-closed",
        {
            "10/2018278": "outside of the allowed window",
            "10/2018065": "outside of the allowed window",  # unverified
            "10/2534022": "outside of the allowed window",  # Instagram's
        },
    ),
    **_rules(
        "bad-recipient",
        {
            "100/2018001": "no such person",
            "100/2534014": "no such person",  # unverified
            "100/33": "the person cannot be reached with this token",
            "200/1545041": "the person cannot get this message",
            "551": "the person has blocked us, is gone, or has messages switched off",
            "*/2534037": "the person cannot be written to",  # unverified
        },
    ),
    **_rules(
        "auth",
        {
            "1/2853006": "no permission for this action",
            "200/2018028": "the app is not public and the person has no role in it",  # unverified
            "1705": "a user's token where the Page's is needed",
        },
    ),
    **_rules("policy", {"10/2018108": "the Page is blocked by policy"}),  # unverified
    **_rules(
        "permanent",
        {
            "2/2018344": "the Page must accept the terms of inbox labels",
            "100/2018015": "bad body",
            "100/2018040": "bad button",
            "100/2018041": "bad button",
            "100/2018053": "bad payload",
            "100/2018109": "the file is too large",  # unverified
            "546/2018109": "the file is too large",  # unverified
            "200/2069030": "not supported for this kind of Page",
            "200/2069031": "not supported for this kind of Page",
            "200/2069033": "not supported for this kind of Page",
            "10900": "the one private reply is used",  # unverified
            "506": "the same text was just posted",
            "*/2534068": "several pictures at once are not available for this account",
        },
    ),
    "1/99": ErrorRule("retry", "unknown fault, at times a missing permission"),
    "1/1357046": ErrorRule("unknown", "no readable answer inside the platform; the message may be delivered"),
    # the platform says that sending failed for the moment (code 1200 unverified)
    "1200": ErrorRule("retry", "sending failed for the moment", not_processed=True),
    # the message needs its file: without it nothing was sent (codes unverified)
    **{
        f"100/{subcode}": ErrorRule("retry", "our file could not be uploaded or fetched", not_processed=True)
        for subcode in (2018007, 2018008, 2018047)
    },
    "102": ErrorRule("auth", "the session has expired", pause="account"),
    "190/2069032": ErrorRule("auth", "a Page token is needed", pause="account"),
    **_throttles(
        {
            "17": "call rate of the user",
            "32": "call rate of the Page",
            "341": "call rate of the app",
            "613": "rate of this call",
            "613/1996": "uneven request volume",
            "80001": "call rate of the Page",
            "80002": "call rate of the Instagram account",
            "80006": "rate of Messenger for this business",
            "*/1390008": "rate of posts and comments",
        }
    ),
    # the first wait; the platform names none, and lifts such a restriction after hours at most
    **{
        code: ErrorRule("throttle", "the account may not send for a time", pause="endpoint", wait=_HOUR / 2)
        for code in ("10/1893063", "10/2534122", "10/2534029")
    },
    "613/1893016": ErrorRule("throttle", "warned for bothersome behaviour", pause="endpoint", wait=_HOUR),  # unverified
    "4/2018354": ErrorRule("throttle", "marketing sent too soon", pause="recipient", wait=timedelta(hours=24)),
    "9/2018352": ErrorRule("throttle", "marketing cap of this person", pause="recipient", wait=timedelta(hours=24)),
}
"""Codes, refined by their subcode after a slash; after "*/" a subcode whose code is not documented."""

KEYWORDS: Final = Keywords(
    stop=frozenset({"stop", "stopp", "stop all", "stopall", "unsubscribe", "opt out", "optout", "abmelden", "baja",
                    "arrêt", "parar"}),
    start=frozenset({"start", "unstop", "subscribe", "opt in", "optin", "anmelden", "alta"}),
    scope="marketing",
    source="our own list; the platform itself knows no words",
)  # fmt: skip


STANDBY: Final = AnswerRule(
    flag="standby",
    absent=True,
    lapses=timedelta(hours=24),  # of silence; the application's hold then ends
    reason="another application holds the conversation",
    remedy="answer in that application, or wait until it passes the conversation on",
    source="Meta, Conversation Routing, 2025-10",
)
"""Instagram lets nobody else write meanwhile; on Messenger only what is automatic is kept back."""

HIDDEN: Final = AnswerRule(
    flag="hidden",
    absent=True,
    reason="the comment is hidden: nothing public can be said below it",
    remedy="show it again first",
    source="Meta, Pages API, Comments, 2026-04; Instagram Platform, Comment moderation, 2025-11",
)


def without_tags(channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """The channels of an account whose app may not use message tags."""
    return tuple(
        replace(channel, window=replace(channel.window, tags={})) if channel.window is not None else channel
        for channel in channels
    )
