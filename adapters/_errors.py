"""What can go wrong at an adapter, each error caught in one place above.

The web layer answers `VerificationError`, `MalformedBody` and `HandshakeRefused`; the dispatcher turns a `SendError`
into a retry, an honest `unknown`, or a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from urllib.parse import quote

from config.secret import Secret

ErrorClass = Literal[
    "retry", "throttle", "window-closed", "opted-out", "bad-recipient", "auth", "permanent", "policy", "unknown",
]  # fmt: skip
"""The contract's classes of `error.class`."""

PauseScope = Literal["account", "endpoint", "recipient"]


class AdapterError(Exception):
    """Base of all errors an adapter raises. Its text never holds a secret."""


class VerificationError(AdapterError):
    """The delivery does not prove where it comes from: 401, nothing is stored."""


class MalformedBody(AdapterError):
    """Verified, but not the JSON, XML or form it should be: 400."""


class HandshakeRefused(AdapterError):
    """A GET handshake with a wrong token: 403."""


class SettingsError(AdapterError):
    """A setting that only the adapter can judge. `key` is relative to the account ("smtp.port")."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


class SendError(AdapterError):
    """A send that brought no success.

    `certain` is True when the platform surely did not take the message; only then may it be tried again without a
    platform key. `error_class` says what to do; `code` and `detail` are the platform's own words with secrets cut.
    """

    def __init__(
        self,
        error_class: ErrorClass,
        code: str,
        detail: str = "",
        *,
        certain: bool = True,
        retry_after_s: float | None = None,
        pause: PauseScope | None = None,
        request_id: str = "",
        rule: ErrorRule | None = None,
    ) -> None:
        super().__init__(f"{error_class}: {code} {detail}".rstrip())
        self.error_class: ErrorClass = error_class
        self.code, self.detail, self.certain = code, detail, certain
        self.retry_after_s, self.pause, self.request_id = retry_after_s, pause, request_id
        self.rule = rule  # where one of the platform's table led to this error


class Unreachable(SendError):
    """Not one byte of the request arrived: name lookup, connect, TLS. Safe to try again."""

    def __init__(self, detail: str) -> None:
        super().__init__("retry", "unreachable", detail)


class Throttled(SendError):
    """Refused for its rate and surely not processed. No attempt is counted."""

    def __init__(
        self, code: str, detail: str = "", *, retry_after_s: float | None = None, pause: PauseScope | None = "account",
        request_id: str = "", rule: ErrorRule | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            "throttle", code, detail, retry_after_s=retry_after_s, pause=pause, request_id=request_id, rule=rule
        )


class Ambiguous(SendError):
    """Written, and then no answer we can read: the message may have been taken."""

    def __init__(self, code: str, detail: str = "", *, request_id: str = "") -> None:
        super().__init__("unknown", code, detail, certain=False, request_id=request_id)


class MediaError(AdapterError):
    """A file that could not be fetched. `retryable` tells whether a later try may help."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__(reason)
        self.reason, self.retryable = reason, retryable


TroubleKind = Literal["auth", "certificate", "folder", "mail", "network", "protocol"]


class MailboxTrouble(AdapterError):
    """A mailbox that cannot be read now. "auth", "certificate" and "folder" need a person; "mail" is about one mail."""

    def __init__(self, kind: TroubleKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


@dataclass(frozen=True, slots=True)
class Suppress:
    """Leave an address alone after so many failures of one kind, for so long; `lasts` None: until a person lifts it."""

    after: int = 1
    lasts: timedelta | None = timedelta(days=180)


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What one of the platform's error codes means for us.

    `not_processed`: the platform documents that nothing was done, so that even an unkeyed send may be repeated.
    `resend_safe`: a failure reported later that may be sent again. `pause` is the scope that must wait. `wait` is the
    least wait after the first try, `then_wait` after the ones that follow. `patience`: it is tried for so long at most,
    and is then of class `then`. `suppress`: the address is not written to any more. `scope`: what an
    opt-out covers; None: what the channel's own STOP word covers. `template`: the status of the template that was sent,
    from now on.
    """

    error_class: ErrorClass
    meaning: str
    not_processed: bool = False
    resend_safe: bool = False
    pause: PauseScope | None = None
    wait: timedelta | None = None
    then_wait: tuple[timedelta, ...] = ()
    patience: timedelta | None = None
    then: ErrorClass = "permanent"
    suppress: Suppress | None = None
    scope: Literal["all", "marketing"] | None = None
    template: str = ""

    def wait_after(self, tries: int) -> timedelta | None:
        """The least wait after so many tries."""
        if tries <= 1 or not self.then_wait:
            return self.wait
        return self.then_wait[min(tries - 2, len(self.then_wait) - 1)]


def rule_of(errors: Mapping[str, ErrorRule], words: str) -> ErrorRule | None:
    """The rule for a code as it is shown or reported: "5.1.1", "550 5.1.1", "550 5.1.1 no such user".

    The finest code decides: of two words the second, and where "5.7.26" is not listed, "5.7" stands for it.
    """
    for word in reversed(words.split()[:2]):
        while word:
            if (found := errors.get(word)) is not None:
                return found
            word = word.rpartition(".")[0]
    return None


def hide(words: str, secrets: Iterable[Secret | str | None]) -> str:
    """The platform's words without the account's credentials: some platforms quote what they cannot take."""
    known = {secret.reveal() if isinstance(secret, Secret) else secret for secret in secrets if secret}
    for text in sorted(known, key=len, reverse=True):  # one may hold another
        for form in {text, quote(text, safe="")}:
            words = words.replace(form, "***")
    return words


def platform_error(
    errors: Mapping[str, ErrorRule],
    status: int,
    code: str,
    detail: str = "",
    *,
    retry_after_s: float | None = None,
    request_id: str = "",
    secrets: Iterable[Secret | str | None] = (),
) -> SendError:
    """The error for an answer that is no success.

    429 and codes of class "throttle" are surely not processed. A 5xx proves nothing, whatever its body. A known code
    follows its rule: one of class "retry" is only repeated when the platform documents that nothing was processed.
    `secrets` are the credentials the request was made with: they are cut from code and detail.
    """
    rule, known = errors.get(code), tuple(secrets)
    code, words = hide(code, known), hide(detail, known)[:500]
    if status == 429 or (rule is not None and rule.error_class == "throttle" and status < 500):
        wait = (
            retry_after_s if retry_after_s is not None else (rule.wait.total_seconds() if rule and rule.wait else None)
        )
        pause: PauseScope = rule.pause if rule is not None and rule.pause else "account"
        return Throttled(code or str(status), words, retry_after_s=wait, pause=pause, request_id=request_id)
    if status >= 500:
        return Ambiguous(code or str(status), words, request_id=request_id)
    if rule is None:
        unknown_code: ErrorClass = "auth" if status in (401, 403) else "permanent"
        return SendError(
            unknown_code, code or str(status), words, pause="account" if status == 401 else None, request_id=request_id
        )
    if rule.error_class in ("retry", "unknown") and not rule.not_processed:
        return Ambiguous(code, words, request_id=request_id)
    return SendError(
        rule.error_class,
        code,
        words,
        retry_after_s=rule.wait.total_seconds() if rule.wait else retry_after_s,
        pause=rule.pause,
        request_id=request_id,
    )
