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
    Subscriber,
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

__all__ = [
    "OK", "Adapter", "AdapterError", "Ambiguous", "Answer", "Callback", "Channel", "ErrorClass", "ErrorRule",
    "Handshake", "HandshakeRefused", "Http", "HttpAnswer", "Keywords", "Limits", "Lookups", "Mailbox",
    "MailboxTrouble", "MalformedBody", "MediaError", "MediaFetcher", "MediaRule", "Pace", "PrivateReply", "Probe",
    "Profiles", "ReadsMailbox", "Reconciler", "SendError", "Sent", "SettingsError", "Subscriber", "Throttled",
    "Unreachable", "VerificationError", "Window", "platform_error",
]  # fmt: skip
