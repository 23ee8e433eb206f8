"""What is no message: receipts, consent, calls, and what concerns the account itself."""

from __future__ import annotations

from normalizers._fields import moment, need, plain, text, whole
from normalizers._whatsapp_content import first_error
from normalizers._whatsapp_people import CHANNEL, Change, Item, addresses_of, moment_of, name_of, person_of
from normalizers.model import (
    AccountEvent,
    CallEvent,
    ConsentChange,
    DeliveryUpdate,
    Event,
    Ignored,
    Person,
    TemplateState,
)

_STOPPED = "131050"

_STATUS = {"sent": "sent", "delivered": "delivered", "read": "read", "played": "read", "failed": "failed"}


def status(item: Item, scope: Change, path: str) -> Event:
    """How far a message of ours came. In groups the participant is the recipient.

    The recipient's user id is read from `recipient_user_id` (unverified outside groups).
    """
    target, word = need(item, "id"), need(item, "status")
    group = item.get("recipient_type") == "group"
    phone = text(item, "recipient_participant_id" if group else "recipient_id")
    user = text(item, "recipient_participant_user_id" if group else "recipient_user_id")
    name, at = f"{target}:{word}:{phone or user}", moment_of(item, scope)
    state = _STATUS.get(word)
    if state is None:
        return Ignored(
            id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, reason=f"status {word!r}"
        )  # fmt: skip
    contact = scope.contacts.get(user) or scope.contacts.get(phone) or {}
    learned = addresses_of(user or text(contact, "user_id"), phone or text(contact, "wa_id"))
    error = first_error(item.get("errors")) if state == "failed" else None
    return DeliveryUpdate(
        id=name,
        at=at,
        routing_key=scope.routing_key,
        channel=CHANNEL,
        path=path,
        status=state,  # type: ignore[arg-type]
        target=target,
        ours=text(item, "biz_opaque_callback_data"),
        recipient=learned[0] if learned else None,
        learned=learned,
        error=error,
    )


def stopped(item: Item, scope: Change, path: str) -> Event | None:
    """A failed receipt may tell that the customer has stopped our marketing."""
    errors = item.get("errors")
    if type(errors) is not list or not errors or text(errors[0] if type(errors[0]) is dict else {}, "code") != _STOPPED:
        return None
    report = status(item, scope, path)
    if not isinstance(report, DeliveryUpdate) or report.status != "failed" or not report.learned:
        return None
    return ConsentChange(
        id=report.id, at=report.at, routing_key=scope.routing_key, channel=CHANNEL, path=path,
        person=Person(report.learned), state="opted_out", scope="marketing", source=f"error {_STOPPED}",
    )  # fmt: skip


def preference(item: Item, scope: Change, path: str) -> Event:
    """The customer stopped or resumed our marketing in the platform's own menu; service replies stay allowed."""
    person, category, word = person_of(item, scope, "wa_id"), text(item, "category"), need(item, "value")
    at = moment_of(item, scope)
    name = f"{person.addresses[0].value}:{category}:{word}:{text(item, 'timestamp')}"
    if category != "marketing_messages" or word not in ("stop", "resume", "signup"):
        return Ignored(
            id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path,
            reason=f"preference {category!r} {word!r}",
        )  # fmt: skip
    return ConsentChange(
        id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, person=person,
        state="opted_out" if word == "stop" else "opted_in", scope="marketing", source="user_preferences",
    )  # fmt: skip


_CALLS = {"connect": "ringing", "COMPLETED": "ended", "FAILED": "missed"}


def call(item: Item, scope: Change, path: str) -> Event:
    """A call. The shape is unverified: `event` connect or terminate, the latter with `status` and `duration` (s)."""
    ours = text(item, "direction") == "BUSINESS_INITIATED"
    name, event = need(item, "id"), need(item, "event")
    duration = whole(item, "duration")
    return CallEvent(
        id=f"{name}:{event}",
        at=moment_of(item, scope),
        routing_key=scope.routing_key,
        channel=CHANNEL,
        path=path,
        call=name,
        person=person_of(item, scope, "to" if ours else "from"),
        status=_CALLS.get(event) or _CALLS.get(text(item, "status")) or "ended",
        direction="outbound" if ours else "inbound",
        duration_s=None if duration is None else float(duration),
    )


def error(item: Item, scope: Change, path: str) -> Event:
    """An error of the account or the platform that concerns no single message."""
    return AccountEvent(
        id=name_of(scope.routing_key, scope.entry.get("time"), item), at=scope.received_at,
        routing_key=scope.routing_key, channel=CHANNEL, path=path, kind="error", values=plain(item), alarming=True,
    )  # fmt: skip


_ACCOUNT_FIELDS: dict[str, tuple[str, frozenset[str]]] = {
    "message_template_status_update": (
        "template_status", frozenset({"REJECTED", "PAUSED", "DISABLED", "FLAGGED", "PENDING_DELETION"}),
    ),
    "message_template_quality_update": ("template_quality", frozenset({"RED"})),
    "template_category_update": ("template_category", frozenset()),
    "phone_number_quality_update": ("number_quality", frozenset({"FLAGGED", "DOWNGRADE"})),
    "business_capability_update": ("limits", frozenset()),
    "account_update": (
        "account", frozenset({"DISABLED_UPDATE", "ACCOUNT_VIOLATION", "ACCOUNT_RESTRICTION", "ACCOUNT_DELETED"}),
    ),
    "account_alerts": ("alert", frozenset({"CRITICAL", "WARNING"})),
}  # fmt: skip
"""Field -> kind of the event, and the platform's words that call for a person (words unverified)."""

_WORDS = ("event", "new_quality_score", "alert_severity")


def _template(kind: str, scope: Change) -> TemplateState | None:
    """What the platform thinks of a template now, when that is what the change is about."""
    name, language = text(scope.value, "message_template_name"), text(scope.value, "message_template_language")
    if not name:
        return None
    if kind == "template_status":
        return TemplateState(
            name, language, text(scope.value, "event").lower(), text(scope.value, "message_template_category").lower()
        )
    if kind == "template_category":
        return TemplateState(name, language, "", text(scope.value, "new_category").lower())
    return None


def account_event(field: str, scope: Change, path: str) -> Event:
    moment_given = moment(scope.entry, "time", scope.received_at)
    name = name_of(scope.routing_key, field, scope.entry.get("time"), scope.value)
    if field not in _ACCOUNT_FIELDS:
        return Ignored(
            id=name, at=moment_given, routing_key=scope.routing_key, channel=CHANNEL, path=path,
            reason=f"field {field!r}",
        )  # fmt: skip
    kind, alarming = _ACCOUNT_FIELDS[field]
    return AccountEvent(
        id=name, at=moment_given, routing_key=scope.routing_key, channel=CHANNEL, path=path, kind=kind,
        values=plain(scope.value), template=_template(kind, scope),
        alarming=any(text(scope.value, word) in alarming for word in _WORDS),
    )  # fmt: skip
