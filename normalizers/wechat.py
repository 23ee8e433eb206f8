"""WeChat Official Account: one message or one event in each callback, in clear.

Sources: WeChat, Service account, Receiving standard messages; Customer service messages; Custom menu events;
Subscription notifications push, 2026. What arrives encrypted is opened by the adapter, which has the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from normalizers._fields import Broken, NotWellFormed, digest, moment, need, number, text
from normalizers._wechat_events import CHANNEL, Place, events_of
from normalizers._wechat_xml import load
from normalizers.model import (
    Address,
    Attachment,
    Content,
    Context,
    Engagement,
    Event,
    InboundMessage,
    Interactive,
    Link,
    Location,
    MediaKind,
    MessageKind,
    Person,
    Received,
    Unreadable,
    Unsupported,
)

Body = tuple[MessageKind, str, tuple[Attachment, ...], Content | None]
"""Kind, text, files, content."""

_AUDIO_TYPES: Final = {"amr": "audio/amr", "mp3": "audio/mpeg", "speex": "audio/x-speex"}


def normalize(received: Received) -> tuple[Event, ...]:
    """Turn one callback into events. Never raises.

    A message gives an `InboundMessage` (with an `Engagement` behind it when it answers a menu of ours); an event gives
    what it means, `Ignored` when nobody knows it.
    """
    place = Place("", received.received_at, "")
    try:
        item = load(received.body)
        place = Place(text(item, "ToUserName"), received.received_at, digest(received.body))
        if "Encrypt" in item and "MsgType" not in item:
            raise Broken(".Encrypt", "still encrypted")
        kind, who = need(item, "MsgType"), need(item, "FromUserName")
        place = place.at_time(moment(item, "CreateTime", received.received_at))
        person = Person((Address(CHANNEL, "openid", who),))
        if kind == "event":
            return events_of(item, person, place)
        return _message(item, kind, person, place)
    except NotWellFormed as error:
        return (_unreadable(received, place, "$", str(error)),)
    except Broken as broken:
        return (_unreadable(received, place, f"${broken.path}", broken.problem),)


def _unreadable(received: Received, place: Place, path: str, problem: str) -> Unreadable:
    return Unreadable(
        id=digest(received.body),
        at=received.received_at,
        routing_key=place.routing_key,
        channel=CHANNEL,
        path=path,
        problem=problem,
    )


def _message(
    item: Mapping[str, Any], word: str, person: Person, place: Place
) -> tuple[InboundMessage] | tuple[InboundMessage, Engagement]:
    message_id, menu = need(item, "MsgId"), text(item, "bizmsgmenuid")
    read = _READERS.get(word)
    if menu and word == "text":
        kind, words, files, content = _menu_answer(item, menu)
    elif read is not None:
        kind, words, files, content = read(item)
    else:
        kind, words, files, content = "unsupported", "", (), Unsupported(word)
    message = InboundMessage(
        id=message_id,
        at=place.at,
        routing_key=place.routing_key,
        channel=CHANNEL,
        path="$",
        sender=person,
        kind=kind,
        text=words,
        attachments=files,
        content=content,
        context=_mini_program(item) if word == "miniprogrampage" else None,
        opens_window=not menu,
    )
    if not menu:
        return (message,)
    # The platform counts it as a click on a menu: a smaller allowance than a message's.
    click = Engagement(
        id=message_id,
        at=place.at,
        routing_key=place.routing_key,
        channel=CHANNEL,
        path="$",
        person=person,
        kind="msgmenu",
        values={"id": menu},
    )
    return message, click


# --- the kinds of messages --------------------------------------------------------------------------------------------


def _text(item: Mapping[str, Any]) -> Body:
    return "text", text(item, "Content"), (), None


def _menu_answer(item: Mapping[str, Any], menu: str) -> Body:
    title = text(item, "Content")
    return "interactive", title, (), Interactive(menu, title, type="msgmenu")


def _image(item: Mapping[str, Any]) -> Body:
    return "image", "", (Attachment(kind="image", ref=_media_id(item), url=text(item, "PicUrl")),), None


def _voice(item: Mapping[str, Any]) -> Body:
    """`Recognition` is what the platform heard, where the account has that switched on."""
    file = _file(item, "audio", _AUDIO_TYPES.get(text(item, "Format").lower(), ""))
    return "audio", text(item, "Recognition"), (file,), None


def _video(item: Mapping[str, Any]) -> Body:
    return "video", "", (_file(item, "video", "video/mp4"),), None


def _file(item: Mapping[str, Any], kind: MediaKind, media_type: str) -> Attachment:
    return Attachment(kind=kind, media_type=media_type, ref=_media_id(item))


def _media_id(item: Mapping[str, Any]) -> str:
    return need(item, "MediaId")


def _location(item: Mapping[str, Any]) -> Body:
    latitude, longitude, label = number(item, "Location_X"), number(item, "Location_Y"), text(item, "Label")
    if latitude is None or longitude is None:
        raise Broken(".Location_X" if latitude is None else ".Location_Y", "not a number")
    return "location", label or f"{latitude}, {longitude}", (), Location(latitude, longitude, address=label)


def _link(item: Mapping[str, Any]) -> Body:
    link = Link(need(item, "Url"), text(item, "Title"), text(item, "Description"))
    return "link", "\n".join(filter(None, (link.title, link.description, link.url))), (), link


def _card(item: Mapping[str, Any]) -> Body:
    """A page of a mini program: it has no address outside of the app."""
    title = text(item, "Title")
    return "link", title, (), Link("", title, image_url=text(item, "ThumbUrl"))


def _mini_program(item: Mapping[str, Any]) -> Context:
    return Context(metadata={"appid": text(item, "AppId"), "pagepath": text(item, "PagePath")})


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Body]]] = {
    "text": _text,
    "image": _image,
    "voice": _voice,
    "video": _video,
    "shortvideo": _video,
    "location": _location,
    "link": _link,
    "miniprogrampage": _card,
}
