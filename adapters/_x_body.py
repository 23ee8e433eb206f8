"""Our message as X reads it: pure. Sources: X, Create Post; Create DM message in one-to-one conversation, 2026-08.

Bodies hold nothing X does not know: an unknown key is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from adapters._channel import AnswerRule
from adapters._errors import SendError
from adapters._weighted import weight
from adapters._x_facts import DIRECT, POST_FILES, POSTS, SUMMONED, UNRESTRICTED
from normalizers._x_text import unescaped
from normalizers.model import OutboundFile, OutboundMessage

_CASHTAG = re.compile(r"(?<![\w$])\$[A-Za-z]{1,6}(?![\w$])")
_LINK = re.compile(r"\S*\w\.[a-zA-Z]{2,}\S*|https?://\S+")


def files_of(message: OutboundMessage) -> tuple[OutboundFile, ...]:
    return (*filter(None, (message.file,)), *message.files)


def metadata_of(message: OutboundMessage) -> Mapping[str, Any]:
    """What the normaliser kept of the message answered."""
    return message.context.metadata if message.context is not None else {}


def refused(code: str, detail: str) -> SendError:
    return SendError("permanent", code, detail)


# --- posts ------------------------------------------------------------------------------------------------------------


def post_body(message: OutboundMessage, media_ids: Sequence[str], text_max: int) -> dict[str, Any]:
    """A public reply. Raises `SendError` for what X would refuse, or what must not be said in public."""
    _check_said(message)
    if message.thread.kind != "public" or message.visibility == "private":
        raise refused("not-public", "what is private is not answered in public")
    parent = message.context.reply_to if message.context is not None else ""
    if not parent:
        raise refused("no-post", "a post of ours must answer a post")
    size = weight(message.text)
    if size > text_max:
        raise SendError("permanent", "186", f"the post weighs {size}; X takes {text_max}")
    if cashtags(message.text) > 1:
        raise refused("cashtags", "X takes one stock symbol in a post")
    reply: dict[str, Any] = {"in_reply_to_tweet_id": parent}
    if third := metadata_of(message).get("mentioned"):  # X would mention everybody in the thread again
        reply["exclude_reply_user_ids"] = [str(one) for one in third][:100]
    body: dict[str, Any] = {"text": message.text, "reply": reply}
    return body | ({"media": {"media_ids": list(media_ids)}} if media_ids else {})


def check_permission(message: OutboundMessage, rules: Sequence[AnswerRule]) -> None:
    """Raises `SendError` when the post must not be answered. Nothing known of it: X decides."""
    facts = metadata_of(message)
    if SUMMONED in rules and facts.get("summoned") is False:
        raise SendError("window-closed", "not-summoned", SUMMONED.reason)
    settings = facts.get("reply_settings", "everyone")
    if UNRESTRICTED in rules and settings != "everyone" and facts.get("summoned") is False:
        raise SendError("window-closed", "replies-restricted", UNRESTRICTED.reason)


def check_files(files: Sequence[OutboundFile], *, public: bool) -> None:
    """Four pictures, or one moving one. Raises `SendError`."""
    moving = [file for file in files if file.kind == "video" or file.media_type == "image/gif"]
    if len(files) > (POST_FILES if public else DIRECT.limits.files_per_message) or (moving and len(files) > 1):
        raise refused("files", "up to four pictures, or one video or GIF" if public else "one file in a message")


def cashtags(words: str) -> int:
    """How many stock symbols ($ABC) a text names."""
    return len(_CASHTAG.findall(words))


# --- direct messages --------------------------------------------------------------------------------------------------


def direct_path(message: OutboundMessage) -> str:
    """Where a direct message is posted to: the group's conversation, or the one with a person."""
    if message.thread.kind == "group":
        return f"/2/dm_conversations/{quote(message.thread.key, safe='')}/messages"
    if message.thread.kind == "public" or message.visibility == "public":
        raise refused("not-private", "what is public is not answered in a direct message")
    return f"/2/dm_conversations/with/{quote(person_of(message), safe='')}/messages"


def person_of(message: OutboundMessage) -> str:
    """The id of who is written to. Raises `SendError`."""
    found = next((one.value for one in message.to if one.kind in POSTS.address_kinds), "")
    if not found:
        raise SendError("bad-recipient", "no-user-id", "the person has no user id on X")
    return found


def direct_body(message: OutboundMessage, media_ids: Sequence[str]) -> dict[str, Any]:
    """Raises `SendError` for what cannot be said."""
    _check_said(message)
    body: dict[str, Any] = {"text": message.text} if message.text else {}
    return body | ({"attachments": [{"media_id": one} for one in media_ids]} if media_ids else {})


def _check_said(message: OutboundMessage) -> None:
    if message.content is not None or message.template is not None:
        raise refused("content", "X takes text and files only")
    if message.reaction is not None:
        raise refused("reaction", "no reaction can be sent")
    if not message.text and not files_of(message):
        raise refused("empty", "nothing to send")


# --- finding a message again ------------------------------------------------------------------------------------------


def essence(words: str) -> str:
    """A text without what X changes in it: links, escapes, leading handles, blanks, Unicode forms."""
    plain = _LINK.sub(" ", unicodedata.normalize("NFC", unescaped(words)))
    return " ".join(re.sub(r"^(?:\s*@\w+)+", " ", plain).split())
