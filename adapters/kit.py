"""All that an adapter of another package needs, under one roof: the types, the base class, and safe reading of bodies.

    from adapters.kit import Channel, InboundMessage, JsonAdapter, Limits, Pace, Secret, ...

What stands here stays; every other module of `adapters` may change without notice. `gateway adapters new NAME` writes a
package that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from adapters._base import (
    OK,
    Adapter,
    Answer,
    Callback,
    Closing,
    ContentCheck,
    Handshake,
    Lookups,
    MediaFetcher,
    Moderator,
    Probe,
    Profiles,
    Reconciler,
    Sent,
    TemplateCatalogue,
)
from adapters._channel import (
    NO_FILES,
    Allowance,
    AnswerRule,
    Channel,
    Keywords,
    Limits,
    MediaRule,
    Pace,
    PrivateReply,
    Quota,
    RepeatRule,
    Window,
)
from adapters._errors import (
    Ambiguous,
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
)
from adapters._http import Http, HttpAnswer
from adapters._interactive import ContentRefused
from adapters._signing import check_hmac
from adapters._tokens import InProcessTokens, Token, TokenCache, TokenHolder
from adapters._tokens import current as current_token
from config.secret import Secret, Secrets
from normalizers._fields import (
    Broken,
    NotWellFormed,
    digest,
    items,
    load_json,
    mapping,
    moment,
    need,
    number,
    text,
    whole,
)
from normalizers.model import (
    Account,
    Address,
    Attachment,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Location,
    MessageDeleted,
    MessageEdited,
    OutboundFile,
    OutboundMessage,
    Person,
    PlatformError,
    Reaction,
    Received,
    Template,
    TemplateState,
    Thread,
    Unreadable,
    Unsupported,
)

__all__ = [
    "NO_FILES", "OK",
    "Account", "Adapter", "Address", "Allowance", "Ambiguous", "Answer", "AnswerRule", "Attachment", "Broken",
    "Callback", "Channel", "Closing", "ConsentChange", "ContentCheck", "ContentRefused", "Context", "DeliveryUpdate",
    "Echo", "Engagement", "ErrorRule", "Event", "Handshake", "HandshakeRefused", "Http", "HttpAnswer", "Ignored",
    "InProcessTokens", "InboundMessage", "Interactive", "JsonAdapter", "Keywords", "Limits", "Location", "Lookups",
    "MalformedBody", "MediaError", "MediaFetcher", "MediaRule", "MessageDeleted", "MessageEdited", "Moderator",
    "NotWellFormed", "OutboundFile", "OutboundMessage", "Pace", "Person", "PlatformError", "PrivateReply", "Probe",
    "Profiles", "Quota", "Reaction", "Received", "Reconciler", "RepeatRule", "Secret", "Secrets", "SendError", "Sent",
    "SettingsError", "Suppress", "Template", "TemplateCatalogue", "TemplateState", "Thread", "Throttled", "Token",
    "TokenCache", "TokenHolder", "Unreachable", "Unreadable", "Unsupported", "VerificationError", "Window",
    "check_hmac", "current_token", "digest", "items", "load_json", "mapping", "moment", "need", "number",
    "platform_error", "read_list", "text", "whole",
]  # fmt: skip


class JsonAdapter:
    """What adapters of JSON webhooks have in common. A subclass names itself, and adds `verify`, `normalize`, `send`.

    `settings` and `http` are kept as they came; a subclass that needs nothing else needs no `__init__`.
    """

    name: ClassVar[str]
    channels: ClassVar[tuple[Channel, ...]]
    settings_type: ClassVar[type[Any]]
    signature_headers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, account: Account, settings: Any, http: Http) -> None:
        self.account, self.settings, self.http = account, settings, http

    def routing_keys(self) -> frozenset[str]:
        """None: every delivery is for the account whose webhook received it."""
        return frozenset()

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` unless the body is JSON."""
        try:
            load_json(callback.body)
        except NotWellFormed as error:
            raise MalformedBody(str(error)) from None

    def acknowledge(self, callback: Callback) -> Answer:
        """200 with an empty body."""
        return OK


def read_list(
    received: Received, channel: str, key: str, read: Callable[[Mapping[str, Any], str], Event]
) -> tuple[Event, ...]:
    """The events of the list at `key` of a JSON body, each made by `read(item, path)`; at least one for every body.

    Never raises for what came in: an item for which `read` raises `Broken` becomes `Unreadable` with its path, a body
    that is not JSON likewise, and a body without the list `Ignored`. The other items go on.
    """
    at, found = received.received_at, list[Event]()
    try:
        body = load_json(received.body)
    except NotWellFormed as fault:
        return (Unreadable(id=digest(received.body), at=at, channel=channel, path="$", problem=str(fault)),)
    listed = body.get(key) if type(body) is dict else None
    for index, item in enumerate(listed if type(listed) is list else ()):
        path = f"$.{key}[{index}]"
        try:
            if type(item) is not dict:
                raise Broken("", "not an object")
            found.append(read(item, path))
        except Broken as fault:
            where = path + fault.path
            found.append(Unreadable(id=digest([item]), at=at, channel=channel, path=where, problem=fault.problem))
    nothing = Ignored(id=digest(received.body), at=at, channel=channel, path="$", reason=f"nothing under {key!r}")
    return tuple(found) or (nothing,)
