"""Hear and speak: one module per channel says what the platform is, how it proves itself and how one speaks to it."""

from adapters._base import (
    OK,
    Adapter,
    Answer,
    Callback,
    Handshake,
    Lookups,
    MediaFetcher,
    MemberProfiles,
    Probe,
    Profiles,
    Reconciler,
    Sent,
    SharedAddress,
    SharedKeys,
    Subscriber,
    TemplateCatalogue,
    TypingSignal,
    Variants,
)
from adapters._channel import (
    Allowance,
    AnswerRule,
    Channel,
    Keywords,
    Limits,
    MediaRule,
    Pace,
    PrivateReply,
    RepeatRule,
    Window,
)
from adapters._errors import (
    AdapterError,
    Ambiguous,
    ErrorClass,
    ErrorRule,
    HandshakeRefused,
    MailboxTrouble,
    MalformedBody,
    MediaError,
    SendError,
    SettingsError,
    Throttled,
    Unreachable,
    VerificationError,
    platform_error,
)
from adapters._http import Http, HttpAnswer
from adapters._mailbox import Mailbox, ReadsMailbox
from adapters._tokens import Token, TokenCache, TokenHolder

__all__ = [
    "OK", "Adapter", "AdapterError", "Allowance", "Ambiguous", "Answer", "AnswerRule", "Callback", "Channel",
    "ErrorClass", "ErrorRule", "Handshake", "HandshakeRefused", "Http", "HttpAnswer", "Keywords", "Limits", "Lookups",
    "Mailbox", "MailboxTrouble", "MalformedBody", "MediaError", "MediaFetcher", "MediaRule", "MemberProfiles", "Pace",
    "PrivateReply", "Probe", "Profiles", "ReadsMailbox", "Reconciler", "RepeatRule", "SendError", "Sent",
    "SettingsError", "SharedAddress", "SharedKeys", "Subscriber", "TemplateCatalogue", "Throttled", "Token",
    "TokenCache", "TokenHolder",
    "TypingSignal", "Unreachable", "Variants", "VerificationError", "Window", "platform_error",
]  # fmt: skip
