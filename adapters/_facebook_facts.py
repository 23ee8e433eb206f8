"""Messenger and the public side of a Facebook Page as data. Sources: Meta, pages as named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from adapters._channel import Channel, Limits, MediaRule, Pace, PrivateReply, Quota, Window
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

_MB = 2**20
_TEXT_MAX = 1999  # characters: "less than 2000"

_MESSENGER_MEDIA = (
    MediaRule("image", ("image/jpeg", "image/png", "image/gif", "image/webp"), 8 * _MB, caption=False),  # unverified
    MediaRule("audio", ("audio/*",), 25 * _MB, caption=False),
    MediaRule("video", ("video/*",), 25 * _MB, caption=False),
    MediaRule("file", ("*/*",), 25 * _MB, caption=False),
)

MESSENGER: Final = Channel(
    name="messenger",
    title="Messenger",
    limits=Limits(
        text_max=_TEXT_MAX,
        media=_MESSENGER_MEDIA,
        source="Meta, Messenger Platform, Send API, 2026-05",
    ),
    # of texts; 10 a second of sound and film. Above 40 the Page's own inbox no longer follows
    pace=Pace(per_second=300, source="Meta, Messenger Platform, Rate limits, 2026-03"),
    window=Window(
        duration=WINDOW,
        opened_by=OPENED_BY,
        template_outside=True,  # utility templates only: the platform has no others
        tags={HUMAN_AGENT: HUMAN_AGENT_WINDOW},
        source="Meta, Messenger Platform, Send a message: messaging windows, 2026-05",
    ),
    keywords=KEYWORDS,
    errors=MESSAGING_ERRORS,
    receipts=("sent", "delivered", "read"),
    templates=True,
    template_parameters=True,
    address_kinds=("psid", "user_ref"),
    proactive=False,
    answer_rules=(replace(STANDBY, automatic_only=True),),
    contents=frozenset({"interactive"}),
    quotes=True,
    reactions=True,
    edits=True,
    sources=(
        "Meta, Messenger Platform, Send a message, 2026-05",
        "Meta, Messenger Platform, Error codes, 2026-03",
        "Meta, Messenger Platform, Changelog, 2026-06",
    ),
)

FEED_ERRORS: Final[Mapping[str, ErrorRule]] = {
    **MESSAGING_ERRORS,
    "100/33": ErrorRule("permanent", "the comment or post is gone, hidden, or not ours"),
}

FACEBOOK: Final = Channel(
    name="facebook",
    title="Facebook",
    limits=Limits(
        text_max=8000,  # unverified
        split=False,
        caption_max=8000,
        media=(MediaRule("image", ("image/jpeg", "image/png", "image/gif"), 10 * _MB),),  # size unverified
        source="Meta, Pages API, Comments and @mentions, 2026-04",
    ),
    # no number is published; a Page that comments too fast is blocked (368)
    pace=Pace(per_second=1, source="our own caution; Meta, Pages API, names no number, 2026-04"),
    private=False,
    messaging=False,
    errors=FEED_ERRORS,
    address_kinds=("commenter",),
    proactive=False,
    reactions=True,
    edits=True,
    answer_rules=(HIDDEN,),
    duplicates="Meta, Pages API, Error codes (506), 2026-04",
    private_reply=PrivateReply(
        duration=timedelta(days=7),
        limits=Limits(
            text_max=_TEXT_MAX, split=False, media=_MESSENGER_MEDIA,
            source="Meta, Messenger Platform, Private Replies, 2026-04",
        ),
        pace=Pace(
            per_second=1, quotas=(Quota(750, timedelta(hours=1)),),
            source="Meta, Messenger Platform, Rate limits, 2026-03",
        ),
        answers_on="messenger",
        source="Meta, Messenger Platform, Private Replies, 2026-04",
    ),
    sources=(
        "Meta, Pages API, Comments and @mentions, 2026-04",
        "Meta, Pages API, Webhooks for Pages, 2026-04",
        "Meta, Messenger Platform, Private Replies, 2026-04",
    ),
)  # fmt: skip

SUBSCRIBED_FIELDS: Final = (
    "messages", "messaging_postbacks", "message_deliveries", "message_reads", "message_echoes", "message_reactions",
    "message_edits", "messaging_referrals", "messaging_optins", "messaging_handovers", "standby",
    "messaging_policy_enforcement", "feed", "mention",
)  # fmt: skip
"""What the Page must post to us. Source: Meta, Messenger Platform, Webhooks; Pages API, Webhooks for Pages, 2026-04."""
