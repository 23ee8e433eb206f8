"""What an SMTP answer means for a message of ours, as one table.

The first enhanced code decides, else the basic code, else the first digit. A refusal of the whole connection concerns
the lane, not the message. Sources: RFC 3463 (class.subject.detail), 5321 section 4.2, 4954; Google, SMTP error
reference; Microsoft, NDR codes; all read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Literal

from adapters._errors import ErrorRule, SendError, Suppress, Throttled, hide

Stage = Literal["connect", "login", "mail", "rcpt", "data"]

_DAY = timedelta(days=1)
_RETRY = ErrorRule("retry", "temporary failure at the recipient's side", not_processed=True)
_GREYLISTED = ErrorRule(
    "retry", "greylisted", not_processed=True, wait=timedelta(minutes=5),
    then_wait=(timedelta(minutes=10), timedelta(minutes=20)),
)  # fmt: skip
_FULL_NOW = ErrorRule(
    "retry", "mailbox full", not_processed=True, wait=timedelta(hours=1), patience=_DAY, then="bad-recipient"
)
_THROTTLED = ErrorRule("throttle", "too much mail from us", not_processed=True, pause="endpoint")
_GONE = ErrorRule("bad-recipient", "no such recipient", suppress=Suppress(after=1, lasts=None))
_DISABLED = ErrorRule("bad-recipient", "the mailbox is disabled", suppress=Suppress(after=3, lasts=180 * _DAY))
_NO_RECIPIENT = ErrorRule("bad-recipient", "no such recipient", suppress=Suppress(after=3, lasts=90 * _DAY))
_FULL = ErrorRule("bad-recipient", "mailbox full")
_NO_DOMAIN = ErrorRule("bad-recipient", "the domain takes no mail")
_OURS = ErrorRule("permanent", "the server does not take what we said or wrote")
_TOO_BIG = ErrorRule("permanent", "too big: send the files as links")
_LOGIN = ErrorRule("auth", "the server does not let us in", not_processed=True, pause="account")
_POLICY = ErrorRule("policy", "refused as spam or by policy")

RULES: Mapping[str, ErrorRule] = {
    # enhanced codes; "4.7" stands for all of the subject that are not listed
    "4.2.0": _GREYLISTED, "4.2.2": _FULL_NOW, "4.5.3": _THROTTLED, "4.7": _THROTTLED, "4.7.1": _GREYLISTED,
    "4.2": _RETRY, "4.3": _RETRY, "4.4": _RETRY, "4.7.8": _LOGIN, "4.7.9": _LOGIN,
    "5.1.1": _GONE, "5.1.10": _GONE, "5.1.7": _OURS, "5.1.8": _OURS, "5.1": _NO_RECIPIENT,
    "5.2.1": _DISABLED, "5.2.2": _FULL, "5.2.3": _TOO_BIG,
    "5.3.4": _TOO_BIG, "5.4": _NO_DOMAIN, "5.5": _OURS, "5.6": _OURS,
    "5.7.3": _LOGIN, "5.7.8": _LOGIN, "5.7.9": _LOGIN, "5.7.11": _LOGIN, "5.7": _POLICY,
    # basic codes
    "421": _RETRY, "450": _RETRY, "451": _RETRY, "452": _RETRY, "454": _RETRY,
    "501": _OURS, "503": _OURS, "504": _OURS, "530": _LOGIN, "534": _LOGIN, "535": _LOGIN, "538": _LOGIN,
    "551": _NO_RECIPIENT, "552": _TOO_BIG, "553": _NO_RECIPIENT, "555": _OURS, "556": _NO_DOMAIN,
}  # fmt: skip

LOGIN_CODES = frozenset({530, 534, 535, 538})  # RFC 4954 section 6, RFC 3207 section 4
_WORDS: tuple[tuple[str, re.Pattern[str], ErrorRule], ...] = (  # where the codes say little; first digit, text, rule
    ("4", re.compile(r"grey-?list|gray-?list", re.IGNORECASE), _GREYLISTED),
    ("4", re.compile(r"too many|throttl|rate limit|slow down", re.IGNORECASE), _THROTTLED),
    (
        "5",
        re.compile(r"user unknown|unknown user|no such (?:user|mailbox)|not exist", re.IGNORECASE),
        _GONE,
    ),
    ("5", re.compile(r"spam|block(?:ed|list)|\brbl\b|dmarc|policy|reputation", re.IGNORECASE), _POLICY),
)
_ENHANCED = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")


def rule_for(code: int, text: str) -> tuple[str, ErrorRule]:
    """The code to show and the rule for one answer."""
    enhanced = _ENHANCED.search(text[:500])
    shown = f"{code} {enhanced[0]}" if enhanced is not None else str(code)
    first = str(code)[:1]
    if code in LOGIN_CODES:  # their enhanced codes are vague: 530 5.7.0 asks for STARTTLS, 5.7.0 elsewhere is policy
        return shown, _LOGIN
    if enhanced is not None and enhanced[1] == first:
        found = RULES.get(enhanced[0])
        if found is None:
            found = _by_words(first, text) or RULES.get(f"{enhanced[1]}.{enhanced[2]}")
        if found is not None:
            return shown, found
    by_text = _by_words(first, text)
    if by_text is not None:
        return shown, by_text
    return shown, RULES.get(str(code), _RETRY if first == "4" else _OURS)


def _by_words(first: str, text: str) -> ErrorRule | None:
    return next((rule for digit, words, rule in _WORDS if digit == first and words.search(text[:500])), None)


def too_big(error: SendError) -> bool:
    """Whether the server refused the mail for its size."""
    return error.rule is _TOO_BIG


def shortened(text: str, secrets: Iterable[str], limit: int = 300) -> str:
    """The server's words on one line. Credentials go first: of one that is cut at the limit a part would stay."""
    return " ".join(hide(text, secrets).split())[:limit]


def refusal(code: int, text: str, stage: Stage, secrets: Iterable[str] = ()) -> SendError:
    """The error for an answer that is no success. All of them are certain: the server said that it has not taken it.

    At RCPT a refusal concerns one recipient, at MAIL and DATA the message, at connect and login the lane: the server
    turns the whole connection away, and every message would fail alike. `secrets` are cut from what is shown.
    """
    known = tuple(secrets)
    shown, rule = rule_for(code, text)
    shown, detail = hide(shown, known), shortened(text, known)
    if stage in ("connect", "login") and code >= 500 and rule is not _LOGIN:
        rule = _LOGIN if stage == "login" else _TURNED_AWAY
    if stage == "mail" and rule.error_class == "bad-recipient":
        rule = _SENDER  # nobody was named yet: what the server objects to is our own address
    wait = rule.wait.total_seconds() if rule.wait is not None else None
    if rule.error_class == "throttle":
        return Throttled(shown, detail, retry_after_s=wait, pause=rule.pause, rule=rule)
    return SendError(rule.error_class, shown, detail, retry_after_s=wait, pause=rule.pause, rule=rule)


_TURNED_AWAY = ErrorRule(
    "throttle", "the server takes no mail from us now", not_processed=True, pause="account", wait=timedelta(minutes=5)
)
_SENDER = ErrorRule("permanent", "the server does not take our own address")
