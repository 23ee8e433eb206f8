"""What the API takes, as types. All of it is strict: an unknown field, or a wrong value, is refused by its name.

Replies and first messages stand in `gateway.requests`, the changes of a ticket in `gateway.tickets.Patch`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from adapters import ErrorClass
from gateway.bounds import AGE_S, PER_SECOND
from gateway.conditions import Conditions
from gateway.tickets import Patch
from gateway.web.types import Id, Moment

Age = Annotated[int, Meta(ge=int(AGE_S.low), le=int(AGE_S.high))]  # in seconds


class In(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Something the API takes."""


Choices = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=500)]


class InboundFrom(In):
    """Who wrote over the API channel. All of it is claimed."""

    id: Annotated[str, Meta(max_length=200)] = ""
    name: Annotated[str, Meta(max_length=500)] = ""
    email: Annotated[str, Meta(max_length=320)] = ""
    phone: Annotated[str, Meta(max_length=40)] = ""


class InboundFile(In):
    """A file that comes with an inbound message: an upload of ours, or an address to fetch it from."""

    upload: Id | UnsetType = UNSET
    url: Annotated[str, Meta(max_length=2000, pattern="^https?://")] | UnsetType = UNSET
    filename: Annotated[str, Meta(max_length=255)] = ""


class InboundRequest(In):
    """A customer's message over the API channel. `id` is the caller's own: the same one again changes nothing."""

    direction: Literal["inbound"]
    sender: InboundFrom = msgspec.field(name="from")
    text: Annotated[str, Meta(max_length=200_000)] = ""
    html: Annotated[str, Meta(max_length=2_000_000)] = ""
    subject: Annotated[str, Meta(max_length=1000)] = ""
    attachments: Annotated[list[InboundFile], Meta(max_length=100)] = []
    metadata: dict[str, Any] = {}
    id: Annotated[str, Meta(max_length=200)] = ""
    channel: Literal["api"] = "api"
    account: Literal["api"] = "api"


class ContactPatch(In):
    """Changes of a contact; what is left out stays. An attribute set to null goes."""

    name: Annotated[str, Meta(max_length=500)] | UnsetType = UNSET
    language: Annotated[str, Meta(max_length=35)] | UnsetType = UNSET
    organization: Annotated[str, Meta(max_length=500)] | UnsetType = UNSET
    tags: Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(max_length=200)] | UnsetType = UNSET
    vip: bool | UnsetType = UNSET
    attributes: dict[str, str | bool | int | float | list[str] | None] | UnsetType = UNSET
    source: Literal["api", "automatic"] | UnsetType = UNSET  # a machine's key: whether it is an automatic answer


class SuppressionRequest(In):
    """An address to leave alone. Without `expires_at` until somebody takes it off the list."""

    channel: Annotated[str, Meta(min_length=1, max_length=32)]
    address: Annotated[str, Meta(min_length=1, max_length=320)]
    scope: Literal["all", "automatic", "marketing"] = "all"
    reason: Annotated[str, Meta(max_length=500)] = ""
    expires_at: datetime | None = None


class TicketPatch(Patch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The changes of a ticket. With `safe_update` they are made only if it still is as of `updated_at`."""

    safe_update: bool = False
    updated_at: Moment | UnsetType = UNSET


class BulkRequest(In):
    """One change of many tickets: named by id, or those of a view, a hundred at a time."""

    changes: Patch
    ids: Annotated[list[Id], Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    view: Annotated[str, Meta(min_length=1, max_length=32)] | UnsetType = UNSET
    cursor: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class Sort(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """The order of a view."""

    by: Literal["created_at", "updated_at", "solved_at", "status", "priority"] = "updated_at"
    descending: bool = True


ViewTitle = Annotated[str, Meta(min_length=1, max_length=100)]
ViewColumns = Annotated[
    list[
        Literal[
            "number",
            "subject",
            "status",
            "priority",
            "channel",
            "account",
            "via",
            "contact",
            "assignee",
            "group",
            "tags",
            "conversation_state",
            "created_at",
            "updated_at",
        ]
    ],
    Meta(min_length=1, max_length=14),
]
Sharing = Literal["personal", "group", "everyone"]
STANDARD_COLUMNS: list[Any] = ["number", "subject", "status", "channel", "contact", "updated_at"]


class ViewRequest(In):
    """A new view. It is personal unless shared with a group or with everyone."""

    title: ViewTitle
    conditions: Conditions
    sort: Sort = Sort()
    columns: ViewColumns = msgspec.field(default_factory=lambda: list(STANDARD_COLUMNS))
    sharing: Sharing = "personal"
    group: Annotated[str, Meta(max_length=100)] | None = None
    position: Annotated[int, Meta(ge=0, le=10_000)] = 0
    active: bool = True


class ViewPatch(In):
    """Changes of a view; what is left out stays."""

    title: ViewTitle | UnsetType = UNSET
    conditions: Conditions | UnsetType = UNSET
    sort: Sort | UnsetType = UNSET
    columns: ViewColumns | UnsetType = UNSET
    sharing: Sharing | UnsetType = UNSET
    group: Annotated[str, Meta(max_length=100)] | UnsetType | None = UNSET
    position: Annotated[int, Meta(ge=0, le=10_000)] | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class PreviewRequest(In):
    """A view to look at before it is kept."""

    conditions: Conditions
    sort: Sort = Sort()
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class TicketFieldRequest(In):
    """A new custom field of tickets. `choices` for the type choice, and for it alone."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
    title: Annotated[str, Meta(max_length=200)] = ""
    type: Literal["text", "number", "date", "checkbox", "choice"] = "text"
    choices: Choices = []
    required: bool = False
    position: Annotated[int, Meta(ge=0, le=10_000)] = 0


class TicketFieldPatch(In):
    """Changes of a custom field; its name and type stay."""

    title: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    choices: Choices | UnsetType = UNSET
    required: bool | UnsetType = UNSET
    position: Annotated[int, Meta(ge=0, le=10_000)] | UnsetType = UNSET


class MergeRequest(In):
    """Merge this contact into another one."""

    into: Id
    reason: Annotated[str, Meta(max_length=500)] = ""


class UnmergeRequest(In):
    """Take an identity out of this contact again."""

    identity: Id


class ConflictMerge(In):
    """The two contacts of a conflict are one person. `into`: which of them stays; the older unless it is said."""

    into: Id | Literal[""] = ""
    reason: Annotated[str, Meta(max_length=500)] = ""


class AttributeRequest(In):
    """A new custom attribute."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
    title: Annotated[str, Meta(max_length=200)] = ""
    kind: Literal["custom"] = "custom"
    type: Literal["text", "choice"] = "text"
    choices: Choices = []
    position: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    visible: bool = True
    unique: bool = False


class AttributePatch(In):
    """Changes of an attribute; what is left out stays."""

    title: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    type: Literal["text", "choice"] | UnsetType = UNSET
    choices: Choices | UnsetType = UNSET
    position: Annotated[int, Meta(ge=0, le=100_000)] | UnsetType = UNSET
    visible: bool | UnsetType = UNSET
    unique: bool | UnsetType = UNSET


class AttributeOrder(In):
    """Attributes in the order they are to have; those not named follow in the order they had."""

    names: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=10_000)]


Email = Annotated[str, Meta(min_length=3, max_length=320)]
Password = Annotated[str, Meta(min_length=1, max_length=1000)]
AccountIds = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=1000)]


class UserRequest(In):
    """A new user. Without a password nobody can sign in until one is set."""

    email: Email
    name: Annotated[str, Meta(max_length=200)] = ""
    role: Annotated[str, Meta(max_length=64)] = "agent"
    accounts: AccountIds = []
    password: Password | UnsetType = UNSET


class UserPatch(In):
    """Changes of a user; what is left out stays."""

    email: Email | UnsetType = UNSET
    name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    role: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    accounts: AccountIds | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    password: Password | UnsetType = UNSET


class PasswordRequest(In):
    """A new password of one's own."""

    current: Password
    new: Password


class RoleRequest(In):
    """A new role: a name and what it may ("tickets.write", "*.read")."""

    name: Annotated[str, Meta(max_length=64)]
    permissions: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=500)]
    title: Annotated[str, Meta(max_length=200)] = ""


class RolePatch(In):
    """Changes of a role; what is left out stays."""

    title: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    permissions: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=500)] | UnsetType = UNSET


class GroupRequest(In):
    """A new group. `members` are ids of users."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    members: Annotated[list[Id], Meta(max_length=10_000)] = []


class GroupPatch(In):
    """Changes of a group; what is left out stays."""

    name: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    members: Annotated[list[Id], Meta(max_length=10_000)] | UnsetType = UNSET


class KeyRequest(In):
    """A new API key. `accounts` empty: all; `user`: whose it is, who then stands behind what it does."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scope: Literal["read", "agent", "admin"] = "agent"
    accounts: AccountIds = []
    user: Id | UnsetType = UNSET


class SignIn(In):
    """Who signs in."""

    email: Email
    password: Password


class DeadFilter(In):
    """Which dead letters are meant; what is left out says nothing. Ages in seconds."""

    direction: Literal["inbound", "outbound"] | None = None
    account: Annotated[str, Meta(max_length=64)] = ""
    channel: Annotated[str, Meta(max_length=32)] = ""
    kind: Literal["delivery", "event", "message", "errand"] | None = None
    error_class: ErrorClass | None = msgspec.field(name="class", default=None)
    code: Annotated[str, Meta(max_length=200)] = ""
    older_than: Age | None = None
    newer_than: Age | None = None


class DeadJobRequest(In):
    """Replay or drop all dead letters that fit, at most so many a second."""

    action: Literal["replay", "drop"]
    filter: DeadFilter = msgspec.field(default_factory=DeadFilter)
    per_second: Annotated[int, Meta(ge=int(PER_SECOND.low), le=int(PER_SECOND.high))] = 10
