"""Hear and speak: one module per channel says what the platform is, how it proves itself and how one speaks to it."""

from adapters._base import (
    OK,
    Adapter,
    Adviser,
    Answer,
    Callback,
    Channel,
    Closing,
    Dresser,
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
    Subscriber,
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
    Suppress,
    Throttled,
    Unreachable,
    VerificationError,
    platform_error,
    rule_of,
)
from adapters._http import Http, HttpAnswer
from adapters._links import too_large, with_links
from adapters._text_template import Places, TemplateFault, TextTemplate

__all__ = [
    "OK", "Adapter", "AdapterError", "Adviser", "Ambiguous", "Answer", "Callback", "Channel", "Closing", "Dresser",
    "ErrorClass", "ErrorRule", "Handshake", "HandshakeRefused", "Http", "HttpAnswer", "Keywords", "Limits", "Lookups",
    "MalformedBody", "MediaError", "MediaFetcher", "MediaRule", "Pace", "Places", "PrivateReply", "Probe", "Profiles",
    "Reconciler", "SendError", "Sent", "SettingsError", "Subscriber", "Suppress", "TemplateFault", "TextTemplate",
    "Throttled", "Unreachable", "VerificationError", "Window", "platform_error", "rule_of", "too_large", "with_links",
]  # fmt: skip
