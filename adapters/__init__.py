"""Hear and speak: one module per channel says what the platform is, how it proves itself and how one speaks to it."""

from adapters._base import (
    OK,
    Adapter,
    Answer,
    Callback,
    Channel,
    Handshake,
    Keywords,
    Limits,
    Lookups,
    MediaFetcher,
    MediaRule,
    Pace,
    PrivateReply,
    Probe,
    Profiles,
    Reconciler,
    Sent,
    SharedKeys,
    Subscriber,
    TemplateCatalogue,
    Variants,
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

__all__ = [
    "OK", "Adapter", "AdapterError", "Ambiguous", "Answer", "Callback", "Channel", "ErrorClass", "ErrorRule",
    "Handshake", "HandshakeRefused", "Http", "HttpAnswer", "Keywords", "Limits", "Lookups", "MalformedBody",
    "MediaError", "MediaFetcher", "MediaRule", "Pace", "PrivateReply", "Probe", "Profiles", "Reconciler", "SendError",
    "Sent", "SettingsError", "SharedKeys", "Subscriber", "TemplateCatalogue", "Throttled", "Unreachable", "Variants",
    "VerificationError", "Window", "platform_error",
]  # fmt: skip
