"""A Facebook Page: Messenger in private, comments and posts in public.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Private Replies, 2026-04; Pages API, Comments, 2026-04.

There is no key that would make a repeated send safe. On Messenger our message id travels as `metadata` and comes back
in the echo, which settles a send whose answer was lost. A lost answer to a comment is settled by `find`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from adapters import _meta
from adapters._base import OK, Adapter, Answer, Callback, Channel, Sent
from adapters._errors import Ambiguous, MediaError, SendError
from adapters._facebook_facts import FACEBOOK, FEED_ERRORS, MESSENGER, SUBSCRIBED_FIELDS
from adapters._http import Http
from adapters._meta_facts import MESSAGING_ERRORS, without_tags
from adapters._meta_graph import Graph
from adapters._meta_messaging import KINDS, answered_of, body_for, file_of, refused, sent_of
from config.secret import Secrets
from normalizers import facebook
from normalizers._facebook_feed import LOOKUP_FIELDS, completed
from normalizers._fields import items, mapping, moment, text
from normalizers._meta_attachments import address as web_address
from normalizers.model import Account, Address, Attachment, Event, InboundMessage, OutboundMessage, Person, Received

_PROFILE_FIELDS = "first_name,last_name,name,profile_pic"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Settings:
    """`human_agent`: the app is approved for the human-agent tag. `app_id` tells our own echoes from other apps' for
    certain. `appsecret_proof`: the app demands the proof with each call."""

    page_id: str
    access_token: Secrets  # the first sends
    app_secret: Secrets
    verify_token: Secrets
    human_agent: bool = False
    api_base: str = "https://graph.facebook.com/v23.0"
    app_id: str = ""
    appsecret_proof: bool = False

    def __post_init__(self) -> None:
        for key in ("page_id", "access_token", "app_secret", "verify_token"):
            if not getattr(self, key):
                raise ValueError(f"{key}: is empty")


class FacebookAdapter:
    """One Page."""

    name: ClassVar[str] = "facebook"
    channels: ClassVar[tuple[Channel, ...]] = (FACEBOOK, MESSENGER)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = (_meta.SIGNATURE,)
    subscription_checks: ClassVar[timedelta] = timedelta(hours=1)  # after an hour of failures the Page stops posting

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        self.account = msgspec.structs.replace(
            account,
            own_addresses=account.own_addresses | {settings.page_id},
            options={**account.options, "app_id": settings.app_id},
        )
        self._settings, self._http, self._page = settings, http, settings.page_id
        self._graph = Graph(
            http, settings.api_base, settings.access_token, settings.app_secret, prove=settings.appsecret_proof
        )
        if not settings.human_agent:  # what the class declares is what an app may be approved for
            vars(self)["channels"] = without_tags(self.channels)

    def __repr__(self) -> str:
        return f"FacebookAdapter({self.account.id!r})"

    def routing_keys(self) -> frozenset[str]:
        """The Page's id, which every entry of a delivery names."""
        return frozenset({self._page})

    # --- hearing ------------------------------------------------------------------------------------------------------

    def handshake(self, callback: Callback) -> Answer:
        """Answer the GET that follows each change of the webhook's address. Raises `HandshakeRefused`."""
        return _meta.answer_handshake(callback, self._settings.verify_token)

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless our app signed the body."""
        _meta.check_signature(callback, self._settings.app_secret)

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` unless the body is JSON."""
        _meta.check_json(callback)

    def acknowledge(self, callback: Callback) -> Answer:
        """Meta wants a bare 200."""
        return OK

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.facebook`."""
        return facebook.normalize(received)

    async def subscribe(self) -> bool:
        """See that the Page posts to our app; True when it did not and was told to again. Raises `SendError`."""
        found = await self._graph.get(f"{self._page}/subscribed_apps", MESSAGING_ERRORS)
        wanted, app = set(SUBSCRIBED_FIELDS), self._settings.app_id
        for _, entry in items(found, "data"):
            fields = entry.get("subscribed_fields")
            if (not app or text(entry, "id") == app) and isinstance(fields, list) and wanted <= set(map(str, fields)):
                return False
        body = {"subscribed_fields": ",".join(SUBSCRIBED_FIELDS)}
        await self._graph.post(f"{self._page}/subscribed_apps", body, MESSAGING_ERRORS)
        return True

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once; a file that lies on our disk is uploaded before. Raises `SendError`.

        On the public channel a private message is the one private reply to the comment or post it answers.
        """
        if message.channel == FACEBOOK.name and message.visibility != "private":
            return await self._comment(message)
        tags, file = self._settings.human_agent, file_of(message)
        errors = FEED_ERRORS if message.channel == FACEBOOK.name else MESSAGING_ERRORS
        body = body_for(message, MESSENGER.name, tags=tags)
        if file is not None and file.open_path:
            described = {"attachment": {"type": KINDS[file.kind], "payload": {"is_reusable": False}}}
            fields = {"message": msgspec.json.encode(described).decode()}
            uploaded = await self._graph.upload(
                f"{self._page}/message_attachments", file, "filedata", fields, errors, "attachment_id"
            )
            body = body_for(message, MESSENGER.name, tags=tags, attachment_id=uploaded)
        answer = await self._graph.post(f"{self._page}/messages", body, errors)
        return sent_of(answer, message, MESSENGER.name)

    async def _comment(self, message: OutboundMessage) -> Sent:
        """A public answer below a comment or post. A picture goes with it, as an unpublished photo of the Page."""
        target, file = answered_of(message), file_of(message)
        if message.template is not None or message.content is not None or message.reaction is not None:
            raise refused("content", "a comment is a text with at most one picture")
        body = {"message": message.text} if message.text else {}
        if file is not None:
            if file.kind != "image" or not (file.open_path or file.url):
                raise refused("file", f"{file.filename}: only a picture, on disk or at an address")
            if file.open_path:
                body["attachment_id"] = await self._graph.upload(
                    f"{self._page}/photos", file, "source", {"published": "false"}, FEED_ERRORS, "id"
                )
            else:
                body["attachment_url"] = file.url
        if not body:
            raise refused("empty", "nothing to send")
        external_id = text(await self._graph.post(f"{target}/comments", body, FEED_ERRORS), "id")
        if not external_id:
            raise Ambiguous("no-id", "a success without a comment id")
        return Sent(external_id)

    async def find(self, message: OutboundMessage) -> Sent | None:
        """The comment whose answer was lost, among the newest below the one answered: by the Page, with equal text.

        Only what is younger than the message counts: its key (a UUID of version 7) holds the moment it was made. On
        Messenger nothing can be asked for by our id, and the echo tells. Raises `SendError` when it cannot say.
        """
        made = _made_at(message.key)
        if message.channel != FACEBOOK.name or message.visibility == "private" or made is None:
            raise SendError("unknown", "cannot-say", "only an echo or receipt can tell")
        listed = await self._graph.get(
            f"{answered_of(message)}/comments", FEED_ERRORS, filter="stream", order="reverse_chronological",
            fields="id,message,from,created_time", limit="100",
        )  # fmt: skip
        for _, comment in items(listed, "data"):
            by_us = text(mapping(comment, "from"), "id") == self._page
            if by_us and text(comment, "message").strip() == message.text.strip() and _created(comment) >= made:
                return Sent(text(comment, "id"))
        return None

    # --- files, people, look-ups --------------------------------------------------------------------------------------

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
        """Where the file of a message ("<place>:<mid>"), comment or post lies now; "" when nobody tells."""
        place, _, name = ref.partition(":")
        if not name:
            return ""
        try:
            if not place.isdecimal():
                edge = "attachment" if place == "comment" else "full_picture"
                node = await self._graph.get(name, FEED_ERRORS, fields=edge)
                media = mapping(mapping(node, "attachment"), "media")
                found = media.get("source") or mapping(media, "image").get("src") or node.get("full_picture")
                return web_address(found)
            node = await self._graph.get(name, MESSAGING_ERRORS, fields="attachments")
        except SendError:
            return ""
        listed = [entry for _, entry in items(mapping(node, "attachments"), "data")]
        entry: Mapping[str, Any] = listed[int(place)] if int(place) < len(listed) else {}
        urls = (mapping(entry, "image_data").get("url"), mapping(entry, "video_data").get("url"), entry.get("file_url"))
        return next(filter(None, map(web_address, urls)), "")

    async def profile(self, address: Address) -> Person | None:
        """Names are optional: without the permission for profiles the conversation's participants give one.

        None for commenters, whose name comes with the comment, and for people the platform keeps to itself. Raises
        `SendError`.
        """
        if address.kind != "psid":
            return None
        try:
            told = await self._graph.get(address.value, MESSAGING_ERRORS, fields=_PROFILE_FIELDS)
        except SendError as error:
            if not _untold(error):
                raise
            told = dict(await self._participant(address.value))
        first, last = text(told, "first_name"), text(told, "last_name")
        name = text(told, "name") or f"{first} {last}".strip()
        if not name:
            return None
        profile = {"first_name": first, "last_name": last, "picture": web_address(told.get("profile_pic"))}
        return Person((address,), name, profile={key: value for key, value in profile.items() if value})

    async def _participant(self, psid: str) -> Mapping[str, Any]:
        try:
            found = await self._graph.get(
                f"{self._page}/conversations", MESSAGING_ERRORS, platform="messenger", user_id=psid,
                fields="participants",
            )  # fmt: skip
        except SendError as error:
            if not _untold(error):
                raise
            return {}
        for _, conversation in items(found, "data"):
            for _, person in items(mapping(conversation, "participants"), "data"):
                if text(person, "id") == psid:
                    return {"name": text(person, "name")}
        return {}

    async def look_up(self, message: InboundMessage) -> InboundMessage:
        """A comment whose change told neither text nor file: a sticker, a GIF, a mention. Raises `SendError`."""
        if not message.lookup:
            return message
        return completed(message, await self._graph.get(message.lookup, FEED_ERRORS, fields=LOOKUP_FIELDS))

    async def probe(self) -> None:
        """Ask for our own Page: proves token and page id. Raises `SendError`."""
        await self._graph.get(self._page, MESSAGING_ERRORS, fields="id")


def _untold(error: SendError) -> bool:
    """Whether the platform keeps a person to itself, rather than being out of order or our token dead."""
    return error.error_class in ("bad-recipient", "auth", "permanent") and error.pause != "account"


def _made_at(key: str) -> datetime | None:
    """The moment in a UUID of version 7, to the second; None for any other text."""
    try:
        uuid = UUID(key)
    except ValueError:
        return None
    return datetime.fromtimestamp((uuid.int >> 80) // 1000, UTC) if uuid.version == 7 else None


def _created(comment: Mapping[str, Any]) -> datetime:
    """Of a comment as the API shows it: ISO 8601, or Unix seconds."""
    try:
        return datetime.strptime(text(comment, "created_time"), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return moment(comment, "created_time", _NEVER)


_: type[Adapter] = FacebookAdapter
