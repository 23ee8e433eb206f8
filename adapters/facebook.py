"""A Facebook Page: Messenger in private, comments and posts in public.

Sources: Meta, Messenger Platform, Send a message, 2026-05; Private Replies, 2026-04; Pages API, Comments, 2026-04.

There is no key that would make a repeated send safe. On Messenger our message id travels as `metadata` and comes back
in the echo, which settles a send whose answer was lost. A lost answer to a comment is settled by `find`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from adapters._base import Adapter, Sent
from adapters._channel import Channel
from adapters._errors import Ambiguous, SendError
from adapters._facebook_facts import FACEBOOK, FEED_ERRORS, MESSENGER, SUBSCRIBED_FIELDS
from adapters._http import Http
from adapters._meta_account import MetaAccount, cannot_say, made_at, untold
from adapters._meta_facts import MESSAGING_ERRORS
from adapters._meta_messaging import MESSENGER as SURFACE
from adapters._meta_messaging import answered_of, file_of, refused
from config.secret import Secrets
from normalizers import facebook
from normalizers._facebook_feed import LOOKUP_FIELDS, completed
from normalizers._fields import items, mapping, text
from normalizers._meta_attachments import address as web_address
from normalizers.model import Account, Address, Event, InboundMessage, OutboundMessage, Person, Received

_PROFILE_FIELDS = "first_name,last_name,name,profile_pic"
_FILE_EDGES = {"comment": "attachment", "post": "full_picture"}


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


class FacebookAdapter(MetaAccount):
    """One Page."""

    name: ClassVar[str] = "facebook"
    channels: ClassVar[tuple[Channel, ...]] = (FACEBOOK, MESSENGER)
    settings_type: ClassVar[type[Any]] = Settings

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        super().__init__(account, settings, http, node=settings.page_id, own=[settings.page_id], surface=SURFACE)

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.facebook`."""
        return facebook.normalize(received)

    async def subscribe(self) -> bool:
        """See that the Page posts to our app; True when it did not and was told to again. Raises `SendError`."""
        return await self._subscribe(SUBSCRIBED_FIELDS, all_of_them=True)

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once; a file that lies on our disk is uploaded before. Raises `SendError`.

        On the public channel a private message is the one private reply to the comment or post it answers.
        """
        if message.channel != FACEBOOK.name:
            return await self._send_private(message, MESSAGING_ERRORS)
        if message.visibility == "private":
            return await self._send_private(message, FEED_ERRORS)
        return await self._comment(message)

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
                    f"{self._node}/photos", file, "source", {"published": "false"}, FEED_ERRORS, "id"
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

        Only what is younger than the message counts. On Messenger nothing can be asked for by our id, and the echo
        tells. Raises `SendError` when it cannot say.
        """
        if message.channel != FACEBOOK.name or message.visibility == "private":
            raise cannot_say()
        made = made_at(message)
        listed = await self._graph.get(
            f"{answered_of(message)}/comments", FEED_ERRORS, filter="stream", order="reverse_chronological",
            fields="id,message,from,created_time", limit="100",
        )  # fmt: skip
        return self._ours_among(listed, message.text, made, words="message", time="created_time")

    async def hide(self, external_id: str, *, hidden: bool) -> None:
        """Show a comment to its author only, or to everybody again. Raises `SendError`."""
        await self._graph.post(external_id, {"is_hidden": hidden}, FEED_ERRORS)

    async def delete(self, external_id: str) -> None:
        """Take a comment away for good (unverified). Raises `SendError`."""
        await self._graph.delete(external_id, FEED_ERRORS)

    # --- files, people, look-ups --------------------------------------------------------------------------------------

    async def _fresh_address(self, ref: str) -> str:
        """Where the file of a message, comment or post lies now; "" when nobody tells."""
        place, _, name = ref.partition(":")
        if place not in ("comment", "post"):
            return await super()._fresh_address(ref)
        try:
            node = await self._graph.get(name, FEED_ERRORS, fields=_FILE_EDGES[place])
        except SendError:
            return ""
        media = mapping(mapping(node, "attachment"), "media")
        return web_address(
            media.get("source") or mapping(media, "image").get("src") or node.get("full_picture")
        )  # fmt: skip

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
            if not untold(error):
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
                f"{self._node}/conversations", MESSAGING_ERRORS, platform="messenger", user_id=psid,
                fields="participants",
            )  # fmt: skip
        except SendError as error:
            if not untold(error):
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
        await self._graph.get(self._node, MESSAGING_ERRORS, fields="id")


_: type[Adapter] = FacebookAdapter
