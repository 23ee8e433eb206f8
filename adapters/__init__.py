"""Hear and speak: one module per channel says what the platform is, how it proves itself and how one speaks to it."""

from adapters._base import (
    OK,
    Adapter,
    Adviser,
    Answer,
    Callback,
    Closing,
    ContentCheck,
    Dresser,
    Handshake,
    Lookups,
    MediaFetcher,
    MemberProfiles,
    Moderator,
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
    Suppress,
    Throttled,
    Unreachable,
    VerificationError,
    platform_error,
    rule_of,
)
from adapters._http import Http, HttpAnswer
from adapters._interactive import ContentRefused
from adapters._links import too_large, with_links
from adapters._mailbox import Mailbox, ReadsMailbox
from adapters._text_template import Places, TemplateFault, TextTemplate
from adapters._tokens import Token, TokenCache, TokenHolder

__all__ = [
    "OK", "Adapter", "AdapterError", "Adviser", "Allowance", "Ambiguous", "Answer", "AnswerRule", "Callback", "Channel",
    "Closing", "ContentCheck", "ContentRefused", "Dresser", "ErrorClass", "ErrorRule", "Handshake", "HandshakeRefused",
    "Http", "HttpAnswer", "Keywords", "Limits", "Lookups", "Mailbox", "MailboxTrouble", "MalformedBody", "MediaError",
    "MediaFetcher", "MediaRule", "MemberProfiles", "Moderator", "Pace", "Places", "PrivateReply", "Probe", "Profiles",
    "ReadsMailbox", "Reconciler", "RepeatRule", "SendError", "Sent", "SettingsError", "SharedAddress", "SharedKeys",
    "Subscriber", "Suppress", "TemplateCatalogue", "TemplateFault", "TextTemplate", "Throttled", "Token", "TokenCache",
    "TokenHolder", "TypingSignal", "Unreachable", "Variants", "VerificationError", "Window", "platform_error",
    "rule_of", "too_large", "with_links",
]  # fmt: skip
