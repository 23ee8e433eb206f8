"""Hear and speak: one module per channel says what the platform is, how it proves itself and how one speaks to it."""

from adapters._base import (
    OK,
    Adapter,
    Allowance,
    Answer,
    AnswerRule,
    Callback,
    Channel,
    Handshake,
    Keywords,
    Limits,
    Lookups,
    MediaFetcher,
    MediaRule,
    MemberProfiles,
    Pace,
    PrivateReply,
    Probe,
    Profiles,
    Reconciler,
    RepeatRule,
    Sent,
    Subscriber,
    TypingSignal,
    Window,
)
from adapters._errors import (
    AdapterError,
    Ambiguous,
    ErrorClass,
    ErrorRule,
    HandshakeRefused,
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
from adapters._tokens import Token, TokenCache, TokenHolder

__all__ = [
    "OK", "Adapter", "AdapterError", "Allowance", "Ambiguous", "Answer", "AnswerRule", "Callback", "Channel",
    "ErrorClass", "ErrorRule", "Handshake", "HandshakeRefused", "Http", "HttpAnswer", "Keywords", "Limits", "Lookups",
    "MalformedBody", "MediaError", "MediaFetcher", "MediaRule", "MemberProfiles", "Pace", "PrivateReply", "Probe",
    "Profiles", "Reconciler", "RepeatRule", "SendError", "Sent", "SettingsError", "Subscriber", "Throttled", "Token",
    "TokenCache", "TokenHolder", "TypingSignal", "Unreachable", "VerificationError", "Window", "platform_error",
]  # fmt: skip
