"""WhatsApp as data: limits, pace, window, error codes. Sources: Meta, WhatsApp Cloud API, pages as named, 2026-05."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from adapters._channel import Channel, Keywords, Limits, MediaRule, Pace, Window
from adapters._errors import ErrorClass, ErrorRule
from adapters._meta import GRAPH_ERRORS

_MB = 2**20
_HOUR = timedelta(hours=1)


def _rules(error_class: ErrorClass, meanings: Mapping[int, str]) -> dict[str, ErrorRule]:
    return {str(code): ErrorRule(error_class, meaning) for code, meaning in meanings.items()}


ERRORS: Mapping[str, ErrorRule] = {
    **GRAPH_ERRORS,
    **_rules("window-closed", {131047: "more than 24 hours since the customer's last message", 470: "window closed"}),
    **_rules("opted-out", {131050: "the customer stopped our marketing"}),
    **_rules("policy", {131031: "the account is locked"}),
    **_rules(
        "bad-recipient",
        {
            130472: "the customer is in a marketing experiment; not sent",
            131021: "recipient and sender are the same",
            131026: "undeliverable: no WhatsApp, an old client, terms not accepted, or we are blocked",
            131030: "test number: the recipient is not on its list",
        },
    ),
    **_rules(
        "auth",
        {
            131005: "access denied",
            131045: "the number is not registered, or its certificate is wrong",
            133010: "the number is not registered",  # unverified
        },
    ),
    **_rules(
        "permanent",
        {
            130497: "the business may not write to this country",
            131008: "a parameter is missing",
            131009: "a parameter has a bad value",
            131014: "the media link could not be fetched",
            131020: "bad group",
            131037: "the display name is not approved",
            131041: "unknown group",
            131042: "payment problem",
            131044: "payment or eligibility problem",
            131051: "unsupported message type",
            131060: "the message is unavailable",  # on inbound placeholders; unverified
            131062: "this message cannot go to a user id, only to a phone number",
            131063: "marketing templates are switched off for the Cloud API",
            132000: "wrong number of template parameters",
            132001: "no approved template of that name in that language",
            132005: "the template's text is too long with its parameters",
            132007: "the template breaks a policy",
            132008: "bad template parameter",
            132012: "bad format of a template parameter",
            132068: "the flow is blocked",
            137000: "the customer's identity key has changed",
        },
    ),
    **_rules(
        "retry",
        {
            131000: "unknown error",
            131016: "service unavailable",
            131052: "the customer's file could not be downloaded",
            135000: "generic error",
        },
    ),
    "132015": ErrorRule("permanent", "the template is paused", template="paused"),
    "132016": ErrorRule("permanent", "the template is disabled", template="disabled"),
    # the message needs its file: without it nothing was sent
    "131053": ErrorRule("retry", "our file could not be uploaded or fetched", not_processed=True),
    "131057": ErrorRule(
        "retry", "the account is in maintenance", not_processed=True, resend_safe=True, wait=timedelta(minutes=5)
    ),
    # refused for a rate: surely not sent. Waits are ours; Meta names only the pair rate's
    "80007": ErrorRule("throttle", "rate of the business account", resend_safe=True, pause="endpoint", wait=_HOUR / 60),
    "80008": ErrorRule("throttle", "rate of the management API", resend_safe=True, pause="endpoint", wait=_HOUR / 60),
    "130429": ErrorRule("throttle", "throughput of the number", resend_safe=True, pause="endpoint", wait=_HOUR / 3600),
    "131048": ErrorRule("throttle", "spam restriction on our number", pause="endpoint", wait=_HOUR),
    "131049": ErrorRule("throttle", "marketing cap of this customer", pause="recipient", wait=timedelta(hours=24)),
    "131056": ErrorRule(
        "throttle", "rate to this customer", resend_safe=True, pause="recipient", wait=timedelta(seconds=6)
    ),
    "131064": ErrorRule("throttle", "messaging limit cut for misclassified templates", pause="endpoint", wait=_HOUR),
    "132069": ErrorRule("throttle", "the flow is limited to 10 per hour", pause="recipient", wait=_HOUR / 10),
    "133016": ErrorRule("throttle", "too many tries to register the number", pause="endpoint", wait=_HOUR),
}
"""Error codes, page "Error codes". The same table reads the answer to a send and the errors of a failed status."""

MEDIA = (
    MediaRule("image", ("image/jpeg", "image/png"), 5 * _MB),
    MediaRule("audio", ("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"), 16 * _MB, caption=False),
    MediaRule("video", ("video/mp4", "video/3gpp"), 16 * _MB),
    # 100 KB when it does not move; the platform tells the two apart
    MediaRule("sticker", ("image/webp",), 500 * 1024, caption=False),
    MediaRule("file", ("application/*", "text/*", "image/*", "audio/*", "video/*"), 100 * _MB),
)

KEYWORDS = Keywords(
    stop=frozenset({"stop", "stopp", "stop all", "stopall", "unsubscribe", "opt out", "optout", "stop promotions",
                    "abmelden", "baja", "arrêt", "parar"}),
    start=frozenset({"start", "unstop", "subscribe", "opt in", "optin", "anmelden", "alta"}),
    scope="marketing",
    source="our own list; WhatsApp itself knows no words, only the customer's menu",
)  # fmt: skip

CHANNEL = Channel(
    name="whatsapp",
    title="WhatsApp",
    limits=Limits(
        text_max=4096,
        caption_max=1024,
        media=MEDIA,
        link_max_bytes=None,
        source="Meta, WhatsApp Cloud API, Text messages; Media, 2026-05",
    ),
    pace=Pace(
        per_second=80,
        pair_seconds=6.0,
        pair_burst=45,  # unverified: borrowed from the future allowance
        source="Meta, WhatsApp Cloud API, Throughput, 2026-05",
    ),
    window=Window(
        duration=timedelta(hours=24),
        template_outside=True,
        opened_by=frozenset({"call"}),
        source="Meta, WhatsApp Cloud API, Service messages, 2026-05",
    ),
    keywords=KEYWORDS,
    errors=ERRORS,
    receipts=("sent", "delivered", "read"),
    delivered_after_failed=True,  # several devices: one may fail before another gets it
    templates=True,
    template_parameters=True,
    address_kinds=("phone", "bsuid"),  # every kind of message goes to a number; a user id is refused for some (131062)
    contents=frozenset({"location", "contacts", "interactive"}),
    quotes=True,
    reactions=True,
    edits=True,  # of customers of numbers shared with the WhatsApp Business app
    attribute_of={"phone": "phone"},
    sources=("Meta, WhatsApp Cloud API, Error codes, 2026-05", "Meta, WhatsApp Cloud API, Changelog, 2026-08"),
)
