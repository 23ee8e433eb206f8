"""The one schema, for every store.

Ids are UUIDv7 in 32 hex digits: time-ordered, so that indexes stay cheap as they grow. Moments are whole microseconds
since 1970 UTC, JSON is text, raw payloads are bytes: nothing here differs between stores. Unique keys are what makes
"once" true; `gateway/store/README.md` tells which table promises what.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

from gateway.store.dialect import create_search

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# Rows that change often leave room on their page: a new version beside the old one that changes no indexed column
# touches no index (PostgreSQL, "Heap-Only Tuples"). In per cent of a page.
_CHANGES = {"fillfactor": "70"}


def _id(name: str = "id", **more: bool) -> Column[str]:
    return Column(name, String(32), **more)  # type: ignore[arg-type]


def _moment(name: str, *, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _json(name: str, default: str = "{}") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _text(name: str, size: int | None = None) -> Column[str]:
    return Column(name, String(size) if size else Text, nullable=False, server_default="")


# --- in ---------------------------------------------------------------------------------------------------------------

# One row per accepted request or mail, exactly as it came. Committed before anything is answered.
deliveries = Table(
    "deliveries",
    metadata,
    _id(primary_key=True),
    _text("account", 64),
    _text("source", 16),  # webhook, smtp, imap, api
    _text("url"),
    _json("headers"),
    _json("query"),
    Column("body", LargeBinary, nullable=False),
    _moment("received_at", nullable=False),
    Column("state", String(12), nullable=False, server_default="received"),  # received, done, retry, dead
    Column("attempts", Integer, nullable=False, server_default="0"),
    _moment("not_before"),
    _text("error"),
    Index(
        "ix_deliveries_open",
        "id",
        sqlite_where=text("state IN ('received', 'retry')"),
        postgresql_where=text("state IN ('received', 'retry')"),
    ),
    Index("ix_deliveries_received_at", "received_at"),
)

# One row per event a delivery was normalised into. (account, kind, dedupe_key) is the inbound promise of "once".
# `account` is empty where the routing key names an account nobody configured: kept and counted.
events = Table(
    "events",
    metadata,
    _id(primary_key=True),
    _id("delivery_id", nullable=False),
    _text("account", 64),
    _text("kind", 32),
    _text("dedupe_key"),
    Column("lane", BigInteger, nullable=False, server_default="0"),
    _json("payload"),
    _moment("received_at", nullable=False),
    # new, retry (ours to repeat), parked (waits for `waits_for`), suspended, done, ignored, unroutable, dead
    Column("state", String(12), nullable=False, server_default="new"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _moment("not_before"),
    _text("waits_for"),
    _text("released"),  # the causes of a suspension that a person has waived, separated by commas
    _text("error"),
    UniqueConstraint("account", "kind", "dedupe_key"),
    Index(
        "ix_events_open",
        "id",
        sqlite_where=text("state IN ('new', 'retry')"),
        postgresql_where=text("state IN ('new', 'retry')"),
    ),
    Index(
        "ix_events_parked",
        "account",
        "waits_for",
        sqlite_where=text("state = 'parked'"),
        postgresql_where=text("state = 'parked'"),
    ),
    Index("ix_events_delivery_id", "delivery_id"),
)

# How far a mailbox has been read, written in the transaction that keeps the mail; and who reads it now.
mailboxes = Table(
    "mailboxes",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("folder", String(255), primary_key=True),
    Column("uidvalidity", BigInteger, nullable=False, server_default="0"),
    Column("last_uid", BigInteger, nullable=False, server_default="0"),
    Column("since", BigInteger, nullable=False, server_default="0"),  # what came before is not ours to import
    Column("known_until", BigInteger, nullable=False, server_default="0"),  # mails whose date is asked for that
    _text("owner", 64),
    _moment("lease_until"),
    _text("problem"),
    _moment("problem_at"),
    _moment("read_at"),
)

# Messages put aside before they became part of any ticket, with the cause; `id` is the event's, which keeps the words.
suspended = Table(
    "suspended",
    metadata,
    _id(primary_key=True),
    _id("delivery_id", nullable=False),
    _text("account", 64),
    _text("channel", 32),
    _text("cause", 32),
    _json("causes", "[]"),
    _text("sender"),
    _text("name"),
    _text("subject"),
    _text("own_address"),
    _id("ticket_id"),  # the ticket it would have gone to
    _moment("received_at", nullable=False),
    _moment("created_at", nullable=False),
    _moment("expires_at", nullable=False),
    Column("state", String(8), nullable=False, server_default="open"),  # open, released, dropped
    _moment("settled_at"),
    _text("settled_by"),
    Index("ix_suspended_sender", "sender"),
    Index(
        "ix_suspended_open",
        "id",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

# --- people -----------------------------------------------------------------------------------------------------------

contacts = Table(
    "contacts",
    metadata,
    _id(primary_key=True),
    _text("name"),
    _text("language", 35),
    _text("organization"),
    _json("tags", "[]"),
    Column("vip", Boolean, nullable=False, server_default=text("false")),
    _json("attributes"),  # custom attributes by name
    _json("attribute_origins"),  # who set each of them, and email, phone and vip: {name: {source, by, at}}
    _moment("created_at", nullable=False),
    _moment("last_seen_at", nullable=False),
    _id("merged_into"),
    _moment("deleted_at"),
    Index("ix_contacts_merged_into", "merged_into"),
)

# What one channel knows as one person. Consent and window are kept per identity.
identities = Table(
    "identities",
    metadata,
    _id(primary_key=True),
    _id("contact_id", nullable=False),
    _id("home_id"),  # the contact it was first of, and goes back to when it is taken out of another
    _text("channel", 32),
    _text("account", 64),
    _text("external_id"),  # the address the platform keys by
    _text("name"),
    _text("handle"),
    _text("language", 35),
    _json("profile"),
    Column("state", String(12), nullable=False, server_default="active"),  # active, opted_out, blocked
    _json("optouts", "[]"),  # further scopes: marketing, automatic
    _json("heard"),  # moments of the last word on consent, by its matter: a late one changes nothing
    _moment("opened_at"),  # the platform's moment of what last opened the window
    Column(
        "window_used", Integer, nullable=False, server_default="0"
    ),  # ours since, where limited; below 0: allowed more
    _moment("allowed_until"),  # until when a smaller right (a menu click's) lets us write, window or not
    _id("private_reply_ticket"),  # of a private reply to a public comment that this person has not answered yet
    _moment("last_inbound_at"),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),  # unmerged by hand: not linked by itself
    _moment("created_at", nullable=False),
    _moment("profile_at"),  # when the platform was asked for the profile of a nameless one
    Index("ix_identities_contact_id", "contact_id"),
    Index(
        "ix_identities_nameless",
        "account",
        "id",
        sqlite_where=text("name = '' AND profile_at IS NULL"),
        postgresql_where=text("name = '' AND profile_at IS NULL"),
    ),
    postgresql_with=_CHANGES,
)

# `account` is part of the key whatever the scope: the same number on two accounts is two identities.
addresses = Table(
    "addresses",
    metadata,
    _id(primary_key=True),
    _id("identity_id", nullable=False),
    _text("channel", 32),
    _text("account", 64),
    _text("kind", 32),
    _text("value"),
    _text("scope", 12),
    _text("evidence", 16),
    _moment("attested_at", nullable=False),
    UniqueConstraint("value", "kind", "channel", "account"),
    Index("ix_addresses_identity_id", "identity_id"),
)

# Normalised values contacts can be matched and found by: phone, email, and what else is made a matching attribute.
# `identity_id` tells which identity brought the value; empty: set by a person or the API.
contact_values = Table(
    "contact_values",
    metadata,
    _id(primary_key=True),
    _id("contact_id", nullable=False),
    _id("identity_id", nullable=False),
    _text("attribute", 64),
    _text("value"),
    _text("evidence", 16),
    _moment("at", nullable=False),
    UniqueConstraint("attribute", "value", "contact_id", "identity_id"),
    Index("ix_contact_values_contact_id", "contact_id"),
)

# The journal of merges: who went into whom, why, on what evidence, and what the winner took over of the loser's.
# One that is undone says when and by whom. An identity taken out alone is an entry of kind "unmerge".
merges = Table(
    "merges",
    metadata,
    _id(primary_key=True),
    Column("kind", String(8), nullable=False, server_default="merge"),  # merge, unmerge
    _id("winner", nullable=False),
    _id("loser", nullable=False),
    _text("attribute", 64),
    _text("value"),
    _text("evidence", 16),
    _text("reason"),
    _text("actor"),
    _json("identities", "[]"),
    _json("loser_before"),
    _json("gained"),
    _moment("at", nullable=False),
    _moment("undone_at"),
    _text("undone_by"),
    Index("ix_merges_winner", "winner"),
    Index("ix_merges_loser", "loser"),
)

# Two contacts that match but contradict each other, each named by one identity of it, so that the question follows
# them wherever they go. A person decides; those who are kept apart are never linked again by themselves.
conflicts = Table(
    "conflicts",
    metadata,
    _id(primary_key=True),
    _id("identity_id", nullable=False),  # the smaller id of the two
    _id("other_identity_id", nullable=False),
    _text("attribute", 64),
    _text("value"),
    _text("reason"),
    _moment("at", nullable=False),
    _text("decision", 12),  # "", merged, kept_apart
    _text("decided_by"),
    _moment("decided_at"),
    UniqueConstraint("identity_id", "other_identity_id"),
    Index("ix_conflicts_other_identity_id", "other_identity_id"),
)

# Addresses nothing is sent to. `active` false: failures are only counted yet. One row for each scope of an address.
suppressions = Table(
    "suppressions",
    metadata,
    _id(primary_key=True),
    _text("channel", 32),
    _text("address"),  # folded
    _text("scope", 12),  # all, automatic, marketing
    _text("reason", 16),  # bounce, complaint, manual
    _text("detail"),
    _id("message_id"),  # whose failure it was
    _text("created_by"),
    Column("strikes", Integer, nullable=False, server_default="0"),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    _moment("created_at", nullable=False),
    _moment("expires_at"),
    UniqueConstraint("address", "channel", "scope"),
    Index("ix_suppressions_expires_at", "expires_at"),
)

attributes = Table(
    "attributes",
    metadata,
    Column("name", String(64), primary_key=True),
    _text("title"),
    _text("kind", 12),  # platform, custom
    _text("type", 12),  # text, choice
    _json("choices", "[]"),
    Column("position", Integer, nullable=False, server_default="0"),
    Column("visible", Boolean, nullable=False, server_default=text("true")),
    Column("unique_value", Boolean, nullable=False, server_default=text("false")),
)

# Which channels told which platform attributes of anybody: they list themselves.
platform_attributes = Table(
    "platform_attributes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("channel", String(32), primary_key=True),
)

# Whom a CRM knows a contact as.
crm_links = Table(
    "crm_links",
    metadata,
    Column("crm", String(64), primary_key=True),
    _id("contact_id", primary_key=True),
    _text("remote_id", 255),
    _moment("at", nullable=False),
    Index("ix_crm_links_contact_id", "contact_id"),
)

# What agents changed of a CRM's attributes and the CRM has not been told yet: it goes with the next change of status.
crm_edits = Table(
    "crm_edits",
    metadata,
    Column("crm", String(64), primary_key=True),
    _id("contact_id", primary_key=True),
    Column("attribute", String(64), primary_key=True),
    Column("value", Text),  # none: it was removed
    _text("by"),
    _moment("at", nullable=False),
    Index("ix_crm_edits_contact_id", "contact_id"),
)

# --- conversations and tickets ----------------------------------------------------------------------------------------

conversations = Table(
    "conversations",
    metadata,
    _id(primary_key=True),
    _id("identity_id", nullable=False),
    _text("account", 64),
    _text("channel", 32),
    _text("kind", 12),
    _text("key"),  # identity, group, root post, session; a mail thread's is its own id
    _text("subject"),
    _json("participants", "[]"),  # addresses that may write in public where a thread is open to others (mail)
    _moment("created_at", nullable=False),
    UniqueConstraint("account", "channel", "key"),
    Index("ix_conversations_identity_id", "identity_id"),
)

tickets = Table(
    "tickets",
    metadata,
    _id(primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    _id("conversation_id", nullable=False),
    _id("contact_id", nullable=False),
    _id("identity_id", nullable=False),
    _text("channel", 32),
    _text("account", 64),
    _text("subject"),
    Column("status", String(8), nullable=False, server_default="new"),
    Column("priority", String(8), nullable=False, server_default="normal"),
    _text("via", 32),
    _text("updated_via", 32),
    _text("assignee"),
    _text("group_name"),
    _json("tags", "[]"),
    _json("fields"),
    _json("channel_info"),
    _id("follow_up_of"),
    Column("conversation_state", String(8), nullable=False, server_default="started"),
    _json("external_refs"),
    Column("sequence", Integer, nullable=False, server_default="0"),  # of its events
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    _moment("solved_at"),
    _moment("closed_at"),
    Index("ix_tickets_conversation_id", "conversation_id", "id"),
    Index("ix_tickets_contact_id", "contact_id"),
    Index("ix_tickets_follow_up_of", "follow_up_of"),
    Index("ix_tickets_status_updated_at", "status", "updated_at"),
    Index("ix_tickets_assignee_updated_at", "assignee", "updated_at"),
    Index("ix_tickets_priority", "priority", "id"),
    Index("ix_tickets_updated_at", "updated_at"),
    postgresql_with=_CHANGES,
)

ticket_tags = Table(
    "ticket_tags",
    metadata,
    _id("ticket_id", primary_key=True),
    Column("tag", String(255), primary_key=True),
    Index("ix_ticket_tags_tag", "tag"),
)

# What tickets have in their custom fields, to be asked by views; `tickets.fields` is what they really have.
ticket_field_values = Table(
    "ticket_field_values",
    metadata,
    _id("ticket_id", primary_key=True),
    Column("name", String(64), primary_key=True),
    _text("value", 255),
    Column("number", Double),
    Index("ix_ticket_field_values_name", "name", "value"),
)

ticket_fields = Table(
    "ticket_fields",
    metadata,
    Column("name", String(64), primary_key=True),
    _text("title"),
    _text("type", 12),  # text, number, date, checkbox, choice
    _json("choices", "[]"),
    Column("required", Boolean, nullable=False, server_default=text("false")),
    Column("position", Integer, nullable=False, server_default="0"),
)

# Views that somebody keeps. `owner` is a user's or a key's id; `accounts` what the owner saw, empty: all.
views = Table(
    "views",
    metadata,
    _id(primary_key=True),
    _text("title"),
    _id("owner", nullable=False),
    _text("owner_name"),
    _text("sharing", 12),  # personal, group, everyone
    _text("group_name"),
    _json("accounts", "[]"),
    _json("conditions"),
    _text("sort_by", 16),
    Column("descending", Boolean, nullable=False, server_default=text("true")),
    _json("columns", "[]"),
    Column("position", Integer, nullable=False, server_default="0"),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    Index("ix_views_owner", "owner"),
)

ticket_events = Table(
    "ticket_events",
    metadata,
    _id(primary_key=True),
    _id("ticket_id", nullable=False),
    Column("sequence", Integer, nullable=False),
    _text("kind", 48),
    _json("actor"),
    _json("data"),
    _moment("at", nullable=False),
    UniqueConstraint("ticket_id", "sequence"),
)

messages = Table(
    "messages",
    metadata,
    _id(primary_key=True),
    _id("ticket_id", nullable=False),
    _id("conversation_id", nullable=False),
    _id("contact_id", nullable=False),
    _id("identity_id", nullable=False),
    _text("direction", 8),
    _text("visibility", 8),
    _text("channel", 32),
    _text("account", 64),
    _text("external_id"),
    _text("kind", 16),
    _text("subject"),
    _text("text"),
    _text("html"),
    _text("full_text"),
    Column("content", Text),
    Column("context", Text),
    Column("fallback", Text),  # what is left of its chain, while it may still be refused
    _id("in_reply_to"),
    _json("author"),
    _text("purpose", 16),
    _text("automatic", 16),
    _json("flags", "[]"),
    _json("reactions", "[]"),
    _text("status", 12),
    Column("error", Text),
    _moment("sent_at"),
    _moment("received_at"),
    _moment("created_at", nullable=False),
    _moment("edited_at"),
    _moment("deleted_at"),
    _id("delivery_id"),
    _text("raw_path"),
    _text("reply_token"),  # a customer's: the one-time right to answer, emptied when it is used
    _text("words", 32),  # ours: a hash of what is said, where the platform minds repeats
    Index("ix_messages_ticket_id", "ticket_id", "id"),
    Index("ix_messages_conversation_id", "conversation_id", "id"),
    Index("ix_messages_contact_id", "contact_id"),
    Index(
        "ix_messages_reply_token",
        "conversation_id",
        "received_at",
        sqlite_where=text("reply_token <> ''"),
        postgresql_where=text("reply_token <> ''"),
    ),
    Index(
        "ix_messages_words",
        "words",
        "created_at",
        sqlite_where=text("words <> ''"),
        postgresql_where=text("words <> ''"),
    ),
    postgresql_with=_CHANGES,
)

# Every id the platform may name a message by. The first to come keeps the reference.
message_refs = Table(
    "message_refs",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("ref", Text, primary_key=True),
    _id("message_id", nullable=False),
    _id("outbox_id"),  # the part, where it was a message of ours
    Index("ix_message_refs_message_id", "message_id"),
)

attachments = Table(
    "attachments",
    metadata,
    _id(primary_key=True),
    _id("message_id", nullable=False),
    Column("position", Integer, nullable=False, server_default="0"),
    _text("kind", 12),
    _text("media_type"),
    _text("filename"),
    Column("size", BigInteger),
    _text("sha256", 64),
    Column("state", String(8), nullable=False, server_default="pending"),  # pending, stored, failed, linked, deleted
    _text("reason"),
    _text("ref"),
    _text("url"),
    _text("content_id"),
    _text("path"),  # in the blob store
    Column("attempts", Integer, nullable=False, server_default="0"),
    _moment("not_before"),
    Index("ix_attachments_message_id", "message_id"),
    Index(
        "ix_attachments_pending",
        "id",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "ix_attachments_gone",
        "id",
        sqlite_where=text("state = 'deleted' AND path <> ''"),
        postgresql_where=text("state = 'deleted' AND path <> ''"),
    ),
)

# Messages whose delivery was only a pointer, until the platform has told what they say; `event_id` is how they came.
# `not_before` is the lease too: who asks puts it off first. `attempts` tells an old lease from a new one.
lookups = Table(
    "lookups",
    metadata,
    _id("message_id", primary_key=True),
    _id("event_id", nullable=False),
    _text("account", 64),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),  # those that count
    _moment("not_before", nullable=False),
    _text("reason"),  # why it is not done yet
    _moment("created_at", nullable=False),
    Index("ix_lookups_not_before", "not_before"),
)

# --- out --------------------------------------------------------------------------------------------------------------

# One row per part of a message that leaves: a long text and three pictures are four rows of one message. Id order is
# the order of the conversation. `fence` rises with each claim: who holds an older one may record, not send.
outbox = Table(
    "outbox",
    metadata,
    _id(primary_key=True),
    _id("message_id", nullable=False),
    Column("part", Integer, nullable=False, server_default="0"),
    _id("conversation_id", nullable=False),
    _text("account", 64),
    _text("channel", 32),
    Column("priority", Integer, nullable=False, server_default="0"),  # 0 replies, 1 bulk
    Column("state", String(12), nullable=False, server_default="queued"),
    _json("payload"),  # OutboundMessage
    _text("key", 36),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    _text("owner", 64),
    _moment("lease_until"),
    _moment("not_before"),
    _moment("queued_at", nullable=False),
    _moment("expires_at"),
    Column("error", Text),
    _text("external_id"),
    _moment("sent_at"),
    _moment("unknown_at"),
    _moment("asked_at"),  # when a person was told that an unknown one waits for a decision
    Column("settled", Boolean, nullable=False, server_default=text("false")),  # unknown: decided; cancelled: sent on
    Index("ix_outbox_message_id", "message_id"),
    Index(
        "ix_outbox_open",
        "conversation_id",
        "id",
        sqlite_where=text("state IN ('queued', 'held', 'sending', 'unknown') AND NOT settled"),
        postgresql_where=text("state IN ('queued', 'held', 'sending', 'unknown') AND NOT settled"),
    ),
    Index(
        "ix_outbox_due",
        "account",
        "priority",
        "not_before",
        "id",
        sqlite_where=text("state IN ('queued', 'held')"),
        postgresql_where=text("state IN ('queued', 'held')"),
    ),
    Index(
        "ix_outbox_leased",
        "lease_until",
        sqlite_where=text("state = 'sending'"),
        postgresql_where=text("state = 'sending'"),
    ),
    Index(
        "ix_outbox_unknown",
        "unknown_at",
        sqlite_where=text("state = 'unknown' AND NOT settled"),
        postgresql_where=text("state = 'unknown' AND NOT settled"),
    ),
    postgresql_with=_CHANGES,
)

attempts = Table(
    "attempts",
    metadata,
    _id(primary_key=True),
    _id("outbox_id", nullable=False),
    _id("message_id", nullable=False),
    Column("number", Integer, nullable=False),
    _moment("started_at", nullable=False),
    _moment("finished_at"),
    _text("outcome", 16),  # sent, retry, throttle, failed, unknown, held
    _text("error_class", 16),
    _text("code"),
    _text("detail"),
    _text("request_id"),
    Index("ix_attempts_message_id", "message_id"),
    Index("ix_attempts_outbox_id", "outbox_id"),
    postgresql_with=_CHANGES,
)

receipts = Table(
    "receipts",
    metadata,
    _id(primary_key=True),
    _id("message_id", nullable=False),
    _id("outbox_id"),
    _text("status", 12),
    _text("recipient"),
    Column("error", Text),
    Column("applied", Boolean, nullable=False, server_default=text("true")),
    _moment("at", nullable=False),
    _moment("received_at", nullable=False),
    Index("ix_receipts_message_id", "message_id"),
)

# What an account waits for: a dead token, a platform's rate limit, an open breaker.
account_states = Table(
    "account_states",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("scope", String(160), primary_key=True, server_default=""),  # "" the whole account, else a recipient
    _moment("paused_until", nullable=False),
    _text("error_class", 16),
    _text("reason"),
    _moment("at", nullable=False),
)

# Access tokens of platforms, sealed with the gateway's key. `owner` fetches the next one until `lease_until`; `version`
# rises with each that is kept, so that a slow owner overwrites nobody's newer one.
platform_tokens = Table(
    "platform_tokens",
    metadata,
    Column("name", String(255), primary_key=True),
    _text("sealed"),
    _moment("renew_at"),
    Column("version", Integer, nullable=False, server_default="0"),
    _text("owner", 32),
    _moment("lease_until"),
    _moment("saved_at"),
)

# What was taken of an account's pace, written down with the messages that took it.
paces = Table(
    "paces",
    metadata,
    Column("key", String(255), primary_key=True),
    _json("taken"),
    Column("full_until", BigInteger, nullable=False, server_default="0"),  # before this, nothing more may go
    Column("until", BigInteger, nullable=False, server_default="0"),  # from then on all is free again
    Index("ix_paces_until", "until"),
    postgresql_with=_CHANGES,
)

# Work for other systems, done after the commit that wants it and repeated until it is done or dead. One at a time in a
# lane, in order; `(kind, target, key)` is wanted once; the row's id is the key a repeat is known by over there.
errands = Table(
    "errands",
    metadata,
    _id(primary_key=True),
    _text("kind", 32),
    _text("target", 64),  # whose: a CRM's id, later a sink's
    _text("lane", 160),
    _text("key", 160),
    _id("subject"),  # the contact it is about, whose erasure it does not outlive
    _json("payload"),
    Column("state", String(8), nullable=False, server_default="waiting"),  # waiting, running, done, dead
    Column("attempts", Integer, nullable=False, server_default="0"),
    _moment("not_before", nullable=False),
    _moment("expires_at"),
    _text("owner", 64),
    _moment("lease_until"),
    _text("error_class", 16),
    _text("code"),
    _text("detail"),
    _moment("created_at", nullable=False),
    _moment("finished_at"),
    UniqueConstraint("kind", "target", "key"),
    Index("ix_errands_subject", "subject"),
    Index("ix_errands_finished_at", "finished_at"),
    Index(
        "ix_errands_open",
        "target",
        "lane",
        "id",
        sqlite_where=text("state IN ('waiting', 'running')"),
        postgresql_where=text("state IN ('waiting', 'running')"),
    ),
)

templates = Table(
    "templates",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("name", String(512), primary_key=True),
    Column("language", String(16), primary_key=True),
    _text("status", 24),  # approved, paused, disabled, rejected, ...
    _text("category", 24),
    Column("parameters", Integer),
    _moment("at", nullable=False),
)

# --- the rest ---------------------------------------------------------------------------------------------------------

dead_letters = Table(
    "dead_letters",
    metadata,
    _id(primary_key=True),
    _text("direction", 8),  # inbound, outbound
    _text("kind", 16),  # delivery, event, message
    _id("ref", nullable=False),
    _text("account", 64),
    _text("channel", 32),  # of an outbound one
    _id("message_id"),
    _text("error_class", 16),
    _text("code"),
    _text("detail"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _moment("created_at", nullable=False),
    _moment("replayed_at"),
    _moment("dropped_at"),
    Index("ix_dead_letters_ref", "ref"),
    Index(
        "ix_dead_letters_open",
        "id",
        sqlite_where=text("replayed_at IS NULL AND dropped_at IS NULL"),
        postgresql_where=text("replayed_at IS NULL AND dropped_at IS NULL"),
    ),
)

# Many dead letters handled by one order, a few a second: it goes on after a restart.
dead_jobs = Table(
    "dead_jobs",
    metadata,
    _id(primary_key=True),
    _text("action", 8),  # replay, drop
    _json("filter"),
    Column("per_second", Integer, nullable=False, server_default="10"),
    Column("state", String(12), nullable=False, server_default="running"),  # running, done, cancelled
    _json("actor"),
    _text("last_id", 32),  # of the letters handled so far
    _id("end_id", nullable=False),  # letters made after the order are not part of it
    Column("total", Integer, nullable=False, server_default="0"),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("refused", Integer, nullable=False, server_default="0"),
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    _moment("not_before", nullable=False),
    Index("ix_dead_jobs_state", "state", "id"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("scope", String(64), primary_key=True),  # the API key
    Column("key", String(255), primary_key=True),
    _text("fingerprint", 64),
    Column("status", Integer, nullable=False, server_default="0"),
    _text("response"),
    _moment("created_at", nullable=False),
    Index("ix_idempotency_created_at", "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(primary_key=True),
    _text("name"),
    Column("hash", String(64), nullable=False, unique=True),
    _text("scope", 32),
    _json("accounts", "[]"),  # empty: all
    _id("user_id"),  # whose key it is; none: a machine's
    _moment("created_at", nullable=False),
    _moment("last_used_at"),
    _moment("revoked_at"),
)

# --- agents -----------------------------------------------------------------------------------------------------------

# Who works here. `email` is folded and unique; `accounts` limits what the person sees, empty: all.
users = Table(
    "users",
    metadata,
    _id(primary_key=True),
    Column("email", String(320), nullable=False, unique=True),
    _text("name"),
    _text("role", 64),
    _json("accounts", "[]"),
    _text("password_hash"),  # argon2id; empty: cannot sign in
    _moment("created_at", nullable=False),
    _moment("last_seen_at"),
    _moment("deactivated_at"),
)

# Roles of the operator's own, beside those built in (`gateway/permissions.py`).
roles = Table(
    "roles",
    metadata,
    Column("name", String(64), primary_key=True),
    _text("title"),
    _json("permissions", "[]"),
)

groups = Table(
    "groups",
    metadata,
    _id(primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    _moment("created_at", nullable=False),
)

group_members = Table(
    "group_members",
    metadata,
    _id("group_id", primary_key=True),
    _id("user_id", primary_key=True),
    Index("ix_group_members_user_id", "user_id"),
)

# Somebody signed in at the console. Only the hash of the cookie is kept.
sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    _id("user_id", nullable=False),
    _text("csrf", 64),
    _moment("created_at", nullable=False),
    _moment("last_used_at", nullable=False),
    _moment("expires_at", nullable=False),
    Index("ix_sessions_user_id", "user_id"),
)

# --- search ---

# What is found by words: of a ticket, its person and each of its messages one entry, of a contact one and one of each
# identity. `id` sorts the newest ticket (contact) first; `ref` is whose words these are (a ticket's, message's or
# contact's id); `account` who may find it, empty: whoever sees the contact. Entries are made and removed, never
# changed.
search_entries = Table(
    "search_entries",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _id("ref", nullable=False),
    _text("account", 64),
    _text("words"),
    Index("ix_search_entries_ref", "ref"),
)
event.listen(search_entries, "after_create", lambda _table, connection, **_more: create_search(connection))

uploads = Table(
    "uploads",
    metadata,
    _id(primary_key=True),
    _text("filename"),
    _text("media_type"),
    Column("size", BigInteger, nullable=False),
    _text("path"),
    _text("owner", 64),
    _moment("created_at", nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

deletions = Table(
    "deletions",
    metadata,
    _id(primary_key=True),
    _id("contact_id", nullable=False),
    _text("deleted_by"),
    _moment("deleted_at", nullable=False),
    _json("channels", "[]"),
    _json("removed"),  # how much of what
    Index("ix_deletions_contact_id", "contact_id"),
)

# Keyed hashes of dedupe ids whose messages were erased: a late redelivery does not bring them back.
erased = Table(
    "erased",
    metadata,
    Column("hash", String(64), primary_key=True),
    _moment("at", nullable=False),
)
