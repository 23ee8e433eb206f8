"""WeChat's events: follows, scans, menu clicks, results of templates, consent, and the platform's own agents' console.

Sources: WeChat, Service account, Custom menu events; Template messages; Subscription notifications push; Customer
service session control, 2026. Names of events are compared without case: the platform mixes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from normalizers._fields import Broken, digest, need, number, plain, text
from normalizers.model import (
    ConsentChange,
    Context,
    DeliveryUpdate,
    Engagement,
    Event,
    Ignored,
    Person,
    PlatformError,
    Referral,
    ThreadControl,
    Unreadable,
)

CHANNEL: Final = "wechat"
_KEY_MAX = 120  # characters of an EventKey that stand in an id; a menu's address may be longer
_SCENE = "qrscene_"


class Place(msgspec.Struct, frozen=True):
    """Where and when: the account as the platform calls it, the moment, and the delivery's own hash."""

    routing_key: str
    at: datetime
    digest: str

    def at_time(self, at: datetime) -> Place:
        return Place(self.routing_key, at, self.digest)


class _Happened(msgspec.Struct, frozen=True):
    """One event of the platform, half read."""

    name: str
    item: Mapping[str, Any]
    person: Person
    place: Place

    def common(self, id: str = "", path: str = "$") -> dict[str, Any]:
        """What every event of ours starts with. Events of the platform have no id: see `_id`."""
        place = self.place
        return {"id": id or _id(self), "at": place.at, "routing_key": place.routing_key, "channel": CHANNEL,
                "path": path}  # fmt: skip


def _id(event: _Happened) -> str:
    """Who, when and what, as the platform advises; the event and its key too, as two may share a second."""
    key = text(event.item, "EventKey")
    key = key if len(key) <= _KEY_MAX else digest(key.encode())
    who, created = event.person.addresses[0].value, text(event.item, "CreateTime")
    return ":".join((who, created, event.name, key) if key else (who, created, event.name))


def events_of(item: Mapping[str, Any], person: Person, place: Place) -> tuple[Event, ...]:
    """What an event means. Raises `Broken`."""
    event = _Happened(need(item, "Event").lower(), item, person, place)
    if (kind := _ENGAGEMENTS.get(event.name)) is not None:
        return (_engagement(event, kind),)
    read = _READERS.get(event.name)
    if read is None:
        return (Ignored(**event.common(), reason=f"event {event.name!r}"),)
    return read(event)


# --- coming, going, clicking ------------------------------------------------------------------------------------------

_ENGAGEMENTS: Final[Mapping[str, str]] = {
    name: name
    for name in (
        "scan", "click", "view", "location", "scancode_push", "scancode_waitmsg", "pic_sysphoto", "pic_photo_or_album",
        "pic_weixin", "location_select",
    )
}  # fmt: skip
"""Event -> the kind of `Engagement` that allowances are keyed by."""

_ENVELOPE = frozenset({"ToUserName", "FromUserName", "CreateTime", "MsgType", "Event"})


def _engagement(event: _Happened, kind: str) -> Engagement:
    values = {key: plain(value) for key, value in event.item.items() if key not in _ENVELOPE}
    for key in ("Latitude", "Longitude", "Precision"):
        if (measured := number(event.item, key)) is not None:
            values[key] = measured
    context = None
    if kind in ("follow", "scan") and text(event.item, "Ticket"):
        scene = text(event.item, "EventKey").removeprefix(_SCENE)
        context = Context(referral=Referral("qr", scene))
    return Engagement(**event.common(), person=event.person, kind=kind, values=values, context=context)


def _followed(event: _Happened) -> tuple[Event, ...]:
    unblocked = ConsentChange(**event.common(), person=event.person, state="unblocked", source="platform")
    return unblocked, _engagement(event, "follow")


def _left(event: _Happened) -> tuple[Event, ...]:
    return (ConsentChange(**event.common(), person=event.person, state="blocked", source="platform"),)


# --- what became of a template or notice ------------------------------------------------------------------------------


def _template_result(event: _Happened) -> tuple[Event, ...]:
    """`success`, or `failed:` and the reason, with or without blanks."""
    target, words = need(event.item, "MsgID"), need(event.item, "Status")
    status, _, reason = words.lower().partition(":")
    if status.strip() == "success":
        return (_update(event, target, "delivered"),)
    if not status.strip().startswith("failed"):
        return (Ignored(**event.common(f"{event.name}:{target}"), reason=f"template status {words!r}"),)
    return (_update(event, target, "failed", PlatformError(reason.strip() or status.strip(), words)),)


def _update(
    event: _Happened,
    target: str,
    status: Literal["delivered", "failed"],
    error: PlatformError | None = None,
    path: str = "$",
) -> DeliveryUpdate:
    return DeliveryUpdate(
        **event.common(f"{event.name}:{target}", path),
        status=status,
        target=target,
        recipient=event.person.addresses[0],
        error=error,
    )


# --- subscription notices: one event, several templates ---------------------------------------------------------------


def _listed(event: _Happened) -> Iterator[tuple[str, Any]]:
    """The items with their paths: one comes as an object, several as a list; in JSON without the element around."""
    for name, holder in (("", event.item), *((f".{key}", value) for key, value in event.item.items())):
        if isinstance(holder, dict) and "List" in holder:
            listed = holder["List"]
            if not isinstance(listed, list):
                yield f"{name}.List", listed
                return
            for index, entry in enumerate(listed):
                yield f"{name}.List[{index}]", entry
            return
    raise Broken(".List", "missing")


def _each(read: Callable[[_Happened, Mapping[str, Any], str], Event]) -> Callable[[_Happened], tuple[Event, ...]]:
    """Reads every item of the list; one that breaks its format does not take the others along."""

    def events(event: _Happened) -> tuple[Event, ...]:
        found: list[Event] = []
        for path, entry in _listed(event):
            try:
                if not isinstance(entry, dict):
                    raise Broken("", "not an object")
                found.append(read(event, entry, f"${path}"))
            except Broken as broken:
                common = event.common(f"{event.place.digest}:{path}", f"${path}{broken.path}")
                found.append(Unreadable(**common, problem=broken.problem))
        return tuple(found) or (Ignored(**event.common(), reason="an empty list"),)

    return events


def _notice_consent(event: _Happened, entry: Mapping[str, Any], path: str) -> Event:
    """Consent for one template: `topic` names it, so that it says nothing of other messages."""
    template, answer = need(entry, "TemplateId"), need(entry, "SubscribeStatusString").lower()
    id = f"{_id(event)}:{template}"
    if answer not in ("accept", "reject"):
        return Ignored(**event.common(id, path), reason=f"subscription {answer!r}")
    return ConsentChange(
        **event.common(id, path),
        person=event.person,
        state="opted_in" if answer == "accept" else "opted_out",
        scope="marketing",  # the narrowest there is beside `topic`
        source="platform",
        topic=template,
    )


def _notice_result(event: _Happened, entry: Mapping[str, Any], path: str) -> Event:
    target, code = need(entry, "MsgID"), text(entry, "ErrorCode")
    if code in ("", "0"):
        return _update(event, target, "delivered", path=path)
    return _update(event, target, "failed", PlatformError(code, text(entry, "ErrorStatus")), path)


# --- the platform's own console ---------------------------------------------------------------------------------------


def _console(action: Literal["pass", "take"], key: str) -> Callable[[_Happened], tuple[Event, ...]]:
    """An agent in WeChat's own console took the chat, or gave it back."""

    def events(event: _Happened) -> tuple[Event, ...]:
        app = text(event.item, key)
        return (ThreadControl(**event.common(), person=event.person, action=action, app=app),)

    return events


_READERS: Final[Mapping[str, Callable[[_Happened], tuple[Event, ...]]]] = {
    "subscribe": _followed,
    "unsubscribe": _left,
    "templatesendjobfinish": _template_result,
    "subscribe_msg_popup_event": _each(_notice_consent),
    "subscribe_msg_change_event": _each(_notice_consent),
    "subscribe_msg_sent_event": _each(_notice_result),
    "kf_create_session": _console("take", "KfAccount"),
    "kf_close_session": _console("pass", "KfAccount"),
    "kf_switch_session": _console("take", "ToKfAccount"),
}
