"""Twilio's error codes and what each means for a message of ours, on any channel Twilio carries.

Source: Twilio, "Error and Warning Dictionary" and the error pages of the codes named, 2026-09. The list is open-ended:
a code that is missing here is permanent and shown with its number.

`resend_safe` stands where Twilio or the carrier says that the message was not handed on. A carrier's "unknown error"
(30008) says nothing of the kind. 63019 and 63037 (a file the channel could not
take) are permanent: the file must change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from adapters._errors import ErrorClass, ErrorRule

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def _all(error_class: ErrorClass, **meanings: str) -> dict[str, ErrorRule]:
    """Rules of one class: code with a leading underscore -> meaning."""
    return {code[1:]: ErrorRule(error_class, meaning) for code, meaning in meanings.items()}


_ACCOUNT = _all(
    "auth",
    _20005="the account is not active",
    _20006="access denied",
    _10001="the account is not active",
    _30002="the account is suspended",
    _30018="the sender is not registered for this country",
    _30032="the toll-free number is not verified",
    _30034="the sender is in no A2P 10DLC campaign",
    _63001="the channel refuses Twilio's credentials for this sender",
    _63002="the channel does not know this sender",
    _63007="the channel has no such sender of this account",
    _63008="the channel is not set up for this account",
    _63020="the channel's business account is not accepted",
    _63022="the sender's business set-up is not complete",
) | {"20003": ErrorRule("auth", "wrong credentials", not_processed=True, pause="account")}

_CONFIGURATION = _all(
    "permanent",
    _20404="no such resource: a wrong SID",
    _21701="the messaging service does not exist",
    _21703="the messaging service has no sender",
    _21704="the messaging service has no phone number",
    _21705="the messaging service is not valid",
    _21212="the sender is not valid",
    _21603="the sender is missing",
    _21606="the sender cannot send to this recipient",
    _21601="the sender cannot send text messages",
    _21616="the sender belongs to several accounts",
    _21659="the sender is not ours (assumed: the code's page could not be read)",
    _30024="the sender is not supported by the carrier",
    _21408="the recipient's country is not enabled",
    _21608="a trial account sends to verified numbers only",
    _21219="a trial account sends to verified numbers only",
) | {
    "63040": ErrorRule("permanent", "the template is rejected", template="rejected"),
    "63041": ErrorRule("permanent", "the template is paused", template="paused"),
}

_REQUEST = _all(
    "permanent",
    _21602="the text is missing",
    _21617="the text is longer than 1600 characters",
    _21618="the text is not valid",
    _21609="the status callback's address is not valid",
    _21205="an address is not valid",
    _21624="the validity period is not valid",
    _35114="the schedule is not valid",
    _35118="the schedule is not valid",
    _30010="the price limit is exceeded",
    _30012="the validity period is too small",
    _30013="the validity period is too large",
    _30008="the carrier reports an unknown error",
    _63005="the channel refused the content",
    _63013="the message breaks the channel's policy",
    _63021="the channel refused the content",
    _63006="the channel takes no such content",
    _63011="the channel found the request invalid",
    _63030="the channel takes no such parameter",
    _63034="the media is larger than the channel takes",
    _21656="the template's variables are not valid",
    _63027="the template does not exist in that language",
    _63028="wrong number of template variables",
    _63029="the template could not be fetched",
) | {"30007": ErrorRule("policy", "filtered as spam by Twilio or the carrier; the same text will be again")}

_MEDIA = _all(
    "permanent",
    _21620="the media address is not valid",
    _21621="the media is not accepted",
    _21622="the media is not accepted",
    _21623="too many or too large media",
    _11751="the media is larger than the carrier takes",
    _30011="the recipient's carrier takes no MMS",
    _30019="the media is larger than the carrier takes",
    _63019="the channel could not fetch the media",
    _63037="the channel could not take the media",
)

_RECIPIENT = _all(
    "bad-recipient",
    _21211="the number is not valid",
    _21604="the recipient is missing",
    _21217="the number is not valid",
    _21401="the number is not valid",
    _30014="the recipient is not valid",
    _21612="there is no route from this sender to this recipient",
    _21614="the number is no mobile number",
    _21635="the number is a landline",
    _30006="a landline, or a carrier out of reach",
    _30004="blocked by the recipient or the carrier",
    _30005="the number is unknown or no longer in service",
    _63003="the recipient is not valid on this channel",
    _63024="the recipient is not valid on this channel",
    _63032="the channel does not deliver to this person",
    _63015="the person has not joined the sandbox",
    _63031="recipient and sender are the same",
)

_CONSENT = {  # Twilio and the channel let nothing more through, whatever our own STOP covers
    code: ErrorRule("opted-out", meaning, scope="all")
    for code, meaning in {
        "21610": "the recipient has opted out",
        "30640": "the number is on a list of known litigators",
        "63014": "the recipient has blocked us",
        "63033": "the recipient has withdrawn consent",
    }.items()
} | _all(
    "window-closed",
    _63016="outside of the reply window",
    _30610="the recipient's quiet hours",
)

_CAP_REACHED = ErrorRule(  # of one carrier, so only some recipients must wait
    "throttle", "the carrier's daily cap is reached", resend_safe=True, pause="recipient", wait=_DAY
)
_THROTTLE: Mapping[str, ErrorRule] = {
    "20429": ErrorRule("throttle", "too many requests at once", not_processed=True, pause="endpoint"),
    "21611": ErrorRule("throttle", "the sender's queue is full", not_processed=True, pause="endpoint"),
    "30001": ErrorRule("throttle", "the sender's queue overflowed", resend_safe=True, pause="endpoint"),
    "30022": ErrorRule("throttle", "the 10DLC campaign's rate is exceeded", resend_safe=True, pause="endpoint"),
    "30025": ErrorRule("throttle", "half of the carrier's daily cap is used"),
    "30026": ErrorRule("throttle", "70 % of the carrier's daily cap is used"),
    "30023": _CAP_REACHED,
    "30027": _CAP_REACHED,
    "30450": ErrorRule(
        "throttle",
        "held back by the protection against SMS pumping, 15 to 30 minutes",
        resend_safe=True,
        pause="recipient",
        wait=timedelta(minutes=30),
    ),
    "63017": ErrorRule("throttle", "the channel's rate is exceeded", resend_safe=True, pause="endpoint"),
    "63018": ErrorRule("throttle", "the channel's rate is exceeded", resend_safe=True, pause="endpoint"),
    "63038": ErrorRule("throttle", "the daily limit is reached", resend_safe=True, pause="endpoint", wait=_HOUR),
    "63026": ErrorRule("throttle", "the sender is flagged as spam", pause="endpoint", wait=_HOUR),
    "14107": ErrorRule("throttle", "too many replies to one number: a loop of two machines?", pause="recipient"),
}  # fmt: skip

_TRANSIENT: Mapping[str, ErrorRule] = {
    "20500": ErrorRule("retry", "an error inside Twilio"),
    "20503": ErrorRule("retry", "Twilio is not available"),
    "30003": ErrorRule("retry", "the handset is off or out of reach", resend_safe=True, wait=_HOUR),
    "30017": ErrorRule("retry", "the carrier is congested", resend_safe=True, wait=timedelta(minutes=10)),
    "30047": ErrorRule("retry", "quiet hours, and rescheduling failed", resend_safe=True, wait=_HOUR),
    "63009": ErrorRule("retry", "an error inside the channel"),
    "63010": ErrorRule("retry", "an error inside Twilio's channel"),
    "63012": ErrorRule("retry", "an error inside the channel"),
}

_OURS = _all(  # about our webhooks and what came in, never about a message of ours: for alarms
    "permanent",
    _11200="our webhook failed",
    _11205="our webhook could not be reached",
    _11220="our webhook's certificate is not accepted",
    _12100="our webhook's answer is no TwiML",
    _12300="our webhook's answer has a wrong content type",
    _57012="our webhook refused the signature",
    _30009="a segment of an inbound message is missing",
)

ERRORS: Final[Mapping[str, ErrorRule]] = {
    **_ACCOUNT, **_CONFIGURATION, **_REQUEST, **_MEDIA, **_RECIPIENT, **_CONSENT, **_THROTTLE, **_TRANSIENT, **_OURS,
}  # fmt: skip
