"""What a Facebook Page and an Instagram account share as accounts of a Meta app: all but what is public.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Attachment upload, 2026-05; Instagram Messaging, Send a
message, 2026-07.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol
from uuid import UUID

import msgspec

from adapters import _meta
from adapters._base import OK, Answer, Callback, Sent
from adapters._channel import Channel
from adapters._errors import ErrorRule, MediaError, SendError
from adapters._http import Http
from adapters._meta_facts import MESSAGING_ERRORS, without_tags
from adapters._meta_graph import Graph
from adapters._meta_messaging import KINDS, Surface, body_for, check_content, file_of, sent_of
from config.secret import Secret, Secrets
from normalizers._fields import items, mapping, moment, text
from normalizers._meta_attachments import address as web_address
from normalizers.model import Account, Attachment, OutboundMessage, Received

_NEVER = datetime.min.replace(tzinfo=UTC)


class MetaSettings(Protocol):
    """What both have among their settings."""

    @property
    def access_token(self) -> Secrets: ...
    @property
    def app_secret(self) -> Secrets: ...
    @property
    def verify_token(self) -> Secrets: ...
    @property
    def human_agent(self) -> bool: ...
    @property
    def api_base(self) -> str: ...
    @property
    def app_id(self) -> str: ...
    @property
    def appsecret_proof(self) -> bool: ...


class MetaAccount:
    """One account. `own`: the ids it goes by; `node`: the one its calls are made on; `token`: the one to use now.

    The instance's `channels` are what this account may do: less than the class declares where its app may use no tags.
    """

    channels: ClassVar[tuple[Channel, ...]]
    signature_headers: ClassVar[tuple[str, ...]] = (_meta.SIGNATURE,)
    subscription_checks: ClassVar[timedelta] = timedelta(hours=1)  # after an hour of failures Meta stops posting

    def __init__(
        self, account: Account, settings: MetaSettings, http: Http, *, node: str, own: Iterable[str], surface: Surface,
        token: Callable[[], Awaitable[Secret]] | None = None,
    ) -> None:  # fmt: skip
        self._node, self._own, self._surface, self._http = node, frozenset(own), surface, http
        self.account = msgspec.structs.replace(
            account,
            own_addresses=account.own_addresses | self._own,
            options={**account.options, "app_id": settings.app_id},
        )
        self._common = settings
        self._graph = Graph(
            http, settings.api_base, settings.access_token, settings.app_secret, prove=settings.appsecret_proof,
            token=token,
        )  # fmt: skip
        if not settings.human_agent:  # what the class declares is what an app may be approved for
            vars(self)["channels"] = without_tags(self.channels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.account.id!r})"

    def routing_keys(self) -> frozenset[str]:
        """The ids by which the entries of a delivery name the account."""
        return self._own

    # --- hearing ------------------------------------------------------------------------------------------------------

    def handshake(self, callback: Callback) -> Answer:
        """Answer the GET that follows each change of the webhook's address. Raises `HandshakeRefused`."""
        return _meta.answer_handshake(callback, self._common.verify_token)

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless one of our secrets signed the body."""
        _meta.check_signature(callback, self._common.app_secret)

    def meant_for(self, received: Received) -> str:
        """Which of Meta's platforms the delivery is of."""
        return _meta.meant_for(received)

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` unless the body is JSON."""
        _meta.check_json(callback)

    def acknowledge(self, callback: Callback) -> Answer:
        """Meta wants a bare 200."""
        return OK

    async def _subscribe(self, wanted: tuple[str, ...], *, all_of_them: bool) -> bool:
        """See that our app is subscribed to the account, to every wanted field or (else) to any; ask for it if not."""
        found = await self._graph.get(f"{self._node}/subscribed_apps", MESSAGING_ERRORS)
        app = self._common.app_id
        for _, entry in items(found, "data"):
            given = entry.get("subscribed_fields")
            fields = set(map(str, given)) if isinstance(given, list) else set()
            if app and text(entry, "id") not in ("", app):
                continue
            if set(wanted) <= fields if all_of_them else fields:
                return False
        body = {"subscribed_fields": ",".join(wanted)}
        await self._graph.post(f"{self._node}/subscribed_apps", body, MESSAGING_ERRORS)
        return True

    # --- speaking -----------------------------------------------------------------------------------------------------

    def check_content(self, message: OutboundMessage) -> None:
        """Pure: see `_meta_messaging`. Raises `ContentRefused`."""
        check_content(message, self._surface)

    async def _send_private(self, message: OutboundMessage, errors: Mapping[str, ErrorRule], **upload: str) -> Sent:
        """Hand a private message over, once; a file that lies on our disk is uploaded before, with the fields `upload`.

        Under a public thread it is the one private reply to the comment or post it answers. Raises `SendError`.
        """
        tags, file = self._common.human_agent, file_of(message)
        body = body_for(message, self._surface, tags=tags)
        if file is not None and file.open_path and self._surface.uploads:
            described = {"attachment": {"type": KINDS[file.kind], "payload": {"is_reusable": False}}}
            fields = {"message": msgspec.json.encode(described).decode(), **upload}
            uploaded = await self._graph.upload(
                f"{self._node}/message_attachments", file, "filedata", fields, errors, "attachment_id"
            )
            body = body_for(message, self._surface, tags=tags, attachment_id=uploaded)
        answer = await self._graph.post(f"{self._node}/messages", body, errors)
        return sent_of(answer, message, self._surface.channel)

    def _ours_among(
        self, listed: Mapping[str, Any], said: str, made: datetime, *, words: str, time: str
    ) -> Sent | None:
        """A message of ours with the text `said` and not older than `made` among those of a list.

        `words` and `time` are what a node calls its text and its moment.
        """
        for _, node in items(listed, "data"):
            by_us = text(mapping(node, "from"), "id") in self._own
            if by_us and text(node, words).strip() == said.strip() and _moment(node, time) >= made:
                return Sent(text(node, "id"))
        return None

    # --- files --------------------------------------------------------------------------------------------------------

    async def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file in chunks. Its signed address expires: then a fresh one is asked for, once. Raises `MediaError`.

        Storage takes no token of ours; it gets none.
        """
        begun, problem = False, MediaError("the file has no address", retryable=False)
        if attachment.url:
            try:
                async for chunk in self._http.download(attachment.url):
                    begun = True
                    yield chunk
                return
            except MediaError as error:
                problem = error
        fresh = "" if begun else await self._fresh_address(attachment.ref)
        if not fresh or fresh == attachment.url:
            raise problem
        async for chunk in self._http.download(fresh):
            yield chunk

    async def _fresh_address(self, ref: str) -> str:
        """Where the file of a message ("<place>:<mid>") lies now; "" when nobody tells."""
        place, _, mid = ref.partition(":")
        if not mid or not place.isdecimal():
            return ""
        try:
            node = await self._graph.get(mid, MESSAGING_ERRORS, fields="attachments")
        except SendError:
            return ""
        listed = [entry for _, entry in items(mapping(node, "attachments"), "data")]
        entry: Mapping[str, Any] = listed[int(place)] if int(place) < len(listed) else {}
        urls = (mapping(entry, "image_data").get("url"), mapping(entry, "video_data").get("url"), entry.get("file_url"))
        return next(filter(None, map(web_address, urls)), "")


def untold(error: SendError) -> bool:
    """Whether the platform keeps something to itself, rather than being out of order or our token dead."""
    return error.error_class in ("bad-recipient", "auth", "permanent") and error.pause != "account"


def cannot_say() -> SendError:
    """Nothing that can be asked would tell what became of a message."""
    return SendError("unknown", "cannot-say", "only an echo or receipt can tell")


def made_at(message: OutboundMessage) -> datetime:
    """When the message was made, to the second: its key is a UUID of version 7. Raises `SendError` where it is not."""
    try:
        uuid = UUID(message.key)
    except ValueError:
        raise cannot_say() from None
    if uuid.version != 7:
        raise cannot_say()
    return datetime.fromtimestamp((uuid.int >> 80) // 1000, UTC)


def _moment(node: Mapping[str, Any], key: str) -> datetime:
    """As the API shows it: ISO 8601, or Unix seconds."""
    try:
        return datetime.strptime(text(node, key), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return moment(node, key, _NEVER)
