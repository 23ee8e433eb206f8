"""Instagram Direct and comments as data. Sources: Meta, pages as named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from adapters._channel import NO_FILES, AnswerRule, Channel, Limits, MediaRule, Pace, PrivateReply, Quota, Window
from adapters._errors import ErrorRule
from adapters._meta_facts import (
    HIDDEN,
    HUMAN_AGENT,
    HUMAN_AGENT_WINDOW,
    KEYWORDS,
    MESSAGING_ERRORS,
    OPENED_BY,
    STANDBY,
    WINDOW,
)
from adapters._meta_messaging import Surface

_MB = 2**20
TEXT_MAX: Final = 1000  # bytes of UTF-8
COMMENT_MAX: Final = 2200  # characters, unverified
_SEND = "Meta, Instagram Messaging, Send a message, 2026-07"
_RATES = "Meta, Instagram Messaging, Rate limits, 2026-07"
_PRIVATE = "Meta, Instagram Platform, Private replies, 2026-06"

_ERRORS: Final[Mapping[str, ErrorRule]] = {
    **MESSAGING_ERRORS,
    "230": ErrorRule("auth", "the person has not agreed to be looked up"),  # of profiles only
    # on a look-up right after the webhook (unverified)
    **{
        code: ErrorRule("retry", "not ready yet", not_processed=True) for code in ("9007", "9010")
    },
}  # fmt: skip

INSTAGRAM: Final = Channel(
    name="instagram",
    title="Instagram",
    limits=Limits(
        text_max=TEXT_MAX,
        text_unit="bytes",
        media=(
            MediaRule("image", ("image/png", "image/jpeg", "image/gif"), 8 * _MB, caption=False),
            MediaRule(
                "audio",
                ("audio/aac", "audio/mp4", "audio/m4a", "audio/x-m4a", "audio/wav", "audio/x-wav", "audio/vnd.wave"),
                25 * _MB, caption=False,
            ),
            MediaRule(
                "video",
                ("video/mp4", "video/ogg", "video/x-msvideo", "video/avi", "video/quicktime", "video/webm"),
                25 * _MB, caption=False,
            ),
            MediaRule("file", ("application/pdf",), 25 * _MB, caption=False),
        ),
        source=_SEND,
    ),
    pace=Pace(per_second=100, source=_RATES),  # of texts, links and reactions; 10 a second of sound and film
    window=Window(
        duration=WINDOW,
        opened_by=OPENED_BY,
        tags={HUMAN_AGENT: HUMAN_AGENT_WINDOW},
        source=_SEND,
    ),
    keywords=KEYWORDS,
    errors=_ERRORS,
    receipts=("read",),  # nothing is told of delivery (unverified)
    address_kinds=("igsid",),
    proactive=False,
    contents=frozenset({"interactive"}),
    quotes=True,  # since 2025-12
    reactions=True,
    edits=True,
    echoes_by_text=True,  # that a message's `metadata` comes back is unverified
    answer_rules=(STANDBY,),
    sources=(_SEND, "Meta, Instagram Messaging, Webhooks, 2026-07", "Meta, Instagram Messaging, Upload media, 2026-04"),
)  # fmt: skip

LIVE: Final = AnswerRule(
    flag="live",
    absent=True,
    reason="comments on a live broadcast take no public answer",
    remedy='answer in private ("visibility": "private") while the broadcast lasts',
    source="Meta, Instagram Platform, Comment moderation, 2025-11",
)

COMMENT_ERRORS: Final[Mapping[str, ErrorRule]] = {
    **_ERRORS,
    "100/33": ErrorRule("permanent", "the comment is gone, hidden, or not below a post of ours"),
}

COMMENTS: Final = Channel(
    name="instagram_comment",
    title="Instagram comment",
    limits=Limits(
        text_max=COMMENT_MAX,
        split=False,
        media=NO_FILES,
        source="Meta, Instagram Platform, Comment moderation, 2025-11",
    ),
    # no number is published for comments; too many calls answer 80002
    pace=Pace(per_second=1, source="our own caution; Meta, Instagram Platform, names no number, 2025-11"),
    private=False,
    messaging=False,
    errors=COMMENT_ERRORS,
    address_kinds=("igsid",),
    proactive=False,
    answer_rules=(LIVE, HIDDEN),
    private_reply=PrivateReply(
        duration=timedelta(days=7),
        limits=Limits(text_max=TEXT_MAX, text_unit="bytes", split=False, media=NO_FILES, source=_PRIVATE),
        # of posts and reels; 100 a second under live broadcasts
        pace=Pace(per_second=1, quotas=(Quota(750, timedelta(hours=1)),), source=_RATES),
        answers_on="instagram",
        source=_PRIVATE,
    ),
    sources=(
        "Meta, Instagram Platform, Webhooks; Comment moderation, 2025-11",
        "Meta, Instagram Platform, IG User mentions; mentioned_comment; mentioned_media, 2025-11",
        _PRIVATE,
    ),
)

PAGE_PACE: Final = Pace(per_second=300, source=_RATES)
"""Of an account that is linked to a Page and sends through the Messenger Platform."""


def by_page(channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """The channels of an account that is reached through its Page."""
    return tuple(replace(one, pace=PAGE_PACE) if one.name == INSTAGRAM.name else one for one in channels)


DIRECT: Final = Surface("instagram", purposes={}, reactions={"❤": "love"}, metadata=False, uploads=False)
"""By Instagram Login. It is not documented whether a message may carry `metadata` here, nor an upload of bytes."""

DIRECT_BY_PAGE: Final = replace(DIRECT, metadata=True, uploads=True)
"""Through the Page's Send API, whose messages may carry `metadata`; that it comes back in the echo is unverified."""

SUBSCRIBED_FIELDS: Final = (
    "messages", "message_echoes", "message_reactions", "message_edit", "messaging_postbacks", "messaging_seen",
    "messaging_referral", "comments", "live_comments",
)  # fmt: skip
"""What the account must post to us; an account subscribed to anything posts all fields its app has.

Source: Meta, Instagram Platform, Webhooks, 2025-11.
"""

PAGE_FIELDS: Final = ("messages",)
"""The Page's subscription, which lets its Instagram account's events through: its fields are the Page's own."""
