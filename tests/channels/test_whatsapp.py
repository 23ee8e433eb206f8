"""WhatsApp Cloud API: webhook bodies to events, messages to request bodies, answers to outcomes."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters import Callback, HandshakeRefused, Http, HttpAnswer, SendError, VerificationError
from adapters._errors import platform_error
from adapters._http import new_session
from adapters._media import MediaClient
from adapters._meta import read_answer
from adapters._whatsapp_body import body_for
from adapters._whatsapp_facts import CHANNEL, ERRORS
from adapters._whatsapp_templates import next_page, states_of
from adapters.testing import AdapterCase
from adapters.whatsapp import Settings, WhatsAppAdapter
from config.secret import Secret
from normalizers._whatsapp_people import name_of
from normalizers.model import (
    Account,
    AccountEvent,
    Address,
    Attachment,
    CallEvent,
    ConsentChange,
    ContactCard,
    ContactCards,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    IdentityChange,
    Ignored,
    InboundMessage,
    Interactive,
    Location,
    MessageDeleted,
    MessageEdited,
    Order,
    OrderItem,
    OutboundFile,
    OutboundMessage,
    Person,
    PlatformError,
    Reaction,
    Received,
    Referral,
    Sticker,
    SystemNote,
    Template,
    TemplateState,
    Thread,
    Unreadable,
    Unsupported,
)
from normalizers.whatsapp import normalize

PAYLOADS = Path(__file__).parent / "payloads" / "whatsapp"
NUMBER, WABA, APP_SECRET = "900800700600", "700100200300", "app-secret-canary"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = datetime.fromtimestamp(1790000000, UTC)
PHONE = Address("whatsapp", "phone", "+4915501234567", "everywhere")
USER = Address("whatsapp", "bsuid", "DE.77000011112222")
MARA = Person((USER, PHONE), "Mara Lind", "maralind", {"parent_user_id": "DE.ENT.88000033334444"})
BARE = Person((PHONE,))
SHA = hashlib.sha256(b"picture").digest()

METADATA = {"display_phone_number": "+49 30 111222", "phone_number_id": NUMBER}
FROM = {"from": "4915501234567", "timestamp": "1790000000"}


def change(field: str = "messages", **value: Any) -> dict[str, Any]:
    return {"field": field, "value": {"metadata": METADATA, **value}}


def body(*changes: Mapping[str, Any]) -> bytes:
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": WABA, "changes": changes}]}).encode()


def came(kind: str, content: Any = None, **more: Any) -> bytes:
    return body(change(messages=[{"id": "wamid.1", **FROM, "type": kind, kind: content, **more}]))


def status(word: str, **more: Any) -> bytes:
    given = {"id": "wamid.9", "status": word, "timestamp": "1790000000", "recipient_id": "4915501234567", **more}
    return body(change(statuses=[given]))


def file(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def run(payload: bytes) -> tuple[Event, ...]:
    return normalize(Received(payload, {}, {}, NOW, Account("wa", "whatsapp")))


PATH = "$.entry[0].changes[0].value.messages[0]"
PLACE: dict[str, Any] = {"id": "wamid.1", "at": AT, "routing_key": NUMBER, "channel": "whatsapp", "path": PATH}


def message(sender: Person = BARE, **fields: Any) -> InboundMessage:
    return InboundMessage(**{**PLACE, "sender": sender, **fields})


def at_list(name: str, **fields: Any) -> dict[str, Any]:
    return PLACE | {"path": f"$.entry[0].changes[0].value.{name}[0]"} | fields


PICTURE = {"id": "media-1", "mime_type": "image/jpeg", "sha256": b64encode(SHA).decode()}
VOICE = {"id": "m2", "mime_type": "audio/ogg; codecs=opus", "voice": True}

INBOUND: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "the first message, with both ids, a reply and an ad": (
        file("first_message.json"),
        (
            message(
                MARA,
                id="wamid.MADEUP001",
                text="Where is my parcel?",
                context=Context(
                    reply_to="wamid.MADEUP000",
                    forwarded=True,
                    referral=Referral("ad", "120", "https://fb.me/x", "Parcels", "Fast", "click-1"),
                    metadata={"frequently_forwarded": True},
                ),
            ),
        ),
    ),
    "a batch of several numbers, with broken items": (
        file("batch.json"),
        (
            message(Person((PHONE,), "Mara Lind"), text="one"),
            Unreadable(**PLACE | {"id": "wamid.2", "at": NOW, "path": "$.entry[0].changes[0].value.messages[1].text"},
                       problem="missing"),
            Unreadable(**PLACE | {"id": name_of("no object"), "at": NOW,
                                  "path": "$.entry[0].changes[0].value.messages[2]"}, problem="not an object"),
            message(Person((Address("whatsapp", "phone", "+4915507654321", "everywhere"),), "Ben"), id="wamid.4",
                    text="four", path="$.entry[0].changes[0].value.messages[3]"),
            DeliveryUpdate(id="wamid.900:sent:4915501234567", at=AT, routing_key="900800700601", channel="whatsapp",
                           path="$.entry[0].changes[1].value.statuses[0]", status="sent", target="wamid.900",
                           recipient=PHONE, learned=(PHONE,)),
            Unreadable(id=name_of({"field": "messages"}), at=NOW, routing_key=WABA, channel="whatsapp",
                       path="$.entry[0].changes[2].value",
                       problem="missing"),
            message(id="wamid.5", text="five", routing_key="900800700602",
                    path="$.entry[1].changes[0].value.messages[0]"),
        ),
    ),
    "a user id alone": (
        body(change(messages=[{"id": "wamid.1", "from_user_id": USER.value, "timestamp": "1790000000", "type": "text",
                               "text": {"body": "Hi"}}])),
        (message(Person((USER,)), text="Hi"),),
    ),
    "a user id where a number should be": (
        body(change(contacts=[{"wa_id": USER.value, "profile": {"name": "M"}}],
                    messages=[{"id": "wamid.1", **FROM, "from": USER.value, "type": "text", "text": {"body": "Hi"}}])),
        (message(Person((USER,), "M"), text="Hi"),),
    ),
    "the id over several businesses": (
        body(change(messages=[{"id": "wamid.1", "from_user_id": USER.value, "from_parent_user_id": "DE.ENT.8",
                               "timestamp": "1790000000", "type": "text", "text": {"body": "Hi"}}])),
        (message(Person((USER,), profile={"parent_user_id": "DE.ENT.8"}), text="Hi"),),
    ),
    "a new user id, told alone": (
        body(change(messages=[{"id": "wamid.1", "from_user_id": USER.value, "timestamp": "1790000000", "type": "system",
                               "system": {"type": "user_changed_user_id", "user_id": "DE.9",
                                          "previous_user_id": USER.value}}])),
        (IdentityChange(**PLACE, old=(USER,), new=(Address("whatsapp", "bsuid", "DE.9"),),
                        source="user_changed_user_id"),),
    ),
    "a time in milliseconds": (
        came("text", {"body": "Hi"}, timestamp="1790000000000"), (message(text="Hi"),),
    ),
    "a picture with caption": (
        came("image", PICTURE | {"caption": "broken"}),
        (message(kind="image", text="broken",
                 attachments=(Attachment(kind="image", media_type="image/jpeg", sha256=SHA.hex(), ref="media-1"),)),),
    ),
    "a voice note": (
        came("audio", VOICE),
        (message(kind="audio", flags=("voice",),
                 attachments=(Attachment(kind="audio", media_type="audio/ogg", ref="m2"),)),),
    ),
    "a voice note, older spelling": (
        came("voice", VOICE),
        (message(kind="audio", flags=("voice",),
                 attachments=(Attachment(kind="audio", media_type="audio/ogg", ref="m2"),)),),
    ),
    "a document": (
        came("document", {"id": "m3", "mime_type": "application/pdf", "filename": "bill.pdf"}),
        (message(kind="file", attachments=(
            Attachment(kind="file", media_type="application/pdf", filename="bill.pdf", ref="m3"),)),),
    ),
    "a moving sticker": (
        came("sticker", {"id": "m4", "mime_type": "image/webp", "animated": True}),
        (message(kind="sticker", content=Sticker(animated=True),
                 attachments=(Attachment(kind="sticker", media_type="image/webp", ref="m4"),)),),
    ),
    "a file the platform could not load": (
        came("video", {}, errors=[{"code": 131052, "title": "Media download error"}]),
        (message(kind="unsupported", content=Unsupported("video", "131052 Media download error")),),
    ),
    "a place": (
        came("location", {"latitude": 52.5, "longitude": "13.4", "name": "Shop", "address": "Street 1"}),
        (message(kind="location", text="Shop, Street 1", content=Location(52.5, 13.4, "Shop", "Street 1")),),
    ),
    "contact cards": (
        came("contacts", [{"name": {"formatted_name": "Ann"}, "phones": [{"phone": "+49 1"}, {"wa_id": "492"}],
                           "emails": [{"email": "a@example.com"}], "org": {"company": "ACME"}}]),
        (message(kind="contacts", text="Ann",
                 content=ContactCards((ContactCard("Ann", ("+49 1", "+492"), ("a@example.com",), "ACME"),))),),
    ),
    "a list row": (
        came("interactive", {"type": "list_reply", "list_reply": {"id": "r1", "title": "Blue", "description": "dark"}}),
        (message(kind="interactive", text="Blue", content=Interactive("r1", "Blue", "dark", "list_reply")),),
    ),
    "a form": (
        came("interactive", {"type": "nfm_reply",
                             "nfm_reply": {"name": "flow", "body": "Sent", "response_json": '{"size": 4}'}}),
        (message(kind="interactive", text="Sent",
                 content=Interactive(title="flow", type="nfm_reply", values={"size": 4})),),
    ),
    "a form that writes no JSON": (
        came("interactive", {"type": "nfm_reply", "nfm_reply": {"response_json": "{"}}),
        (message(kind="interactive", content=Interactive(type="nfm_reply", values={"response_json": "{"})),),
    ),
    "an answer to a call request": (
        came("interactive", {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}}),
        (message(kind="interactive",
                 content=Interactive(type="call_permission_reply", values={"response": "accept"})),),
    ),
    "an interactive message without content": (
        body(change(messages=[{"id": "wamid.1", **FROM, "type": "interactive"}],
                    errors=[{"code": 131000, "title": "unsupported webhook payload"}])),
        (message(kind="unsupported", content=Unsupported("interactive", "131000 unsupported webhook payload")),),
    ),
    "a template's button": (
        came("button", {"text": "Yes", "payload": "yes-1"}),
        (message(kind="interactive", text="Yes", content=Interactive("yes-1", "Yes", type="button")),),
    ),
    "an order": (
        came("order", {"catalog_id": "c", "text": "please", "product_items": [
            {"product_retailer_id": "p1", "quantity": 2, "item_price": 9.5, "currency": "EUR"}]}),
        (message(kind="order", text="please", content=Order("c", (OrderItem("p1", 2, "9.5", "EUR"),))),),
    ),
    "a reaction": (
        came("reaction", {"message_id": "wamid.0", "emoji": "👍"}),
        (Reaction(**PLACE, target="wamid.0", emoji="👍", sender=BARE),),
    ),
    "a reaction taken back": (
        came("reaction", {"message_id": "wamid.0"}),
        (Reaction(**PLACE, target="wamid.0", emoji="", sender=BARE),),
    ),
    "an edit": (
        came("edit", {"original_message_id": "wamid.0", "message": {"type": "text", "text": {"body": "better"}}}),
        (MessageEdited(**PLACE, target="wamid.0", text="better", sender=BARE),),
    ),
    "a message taken back": (
        came("revoke", {"original_message_id": "wamid.0"}),
        (MessageDeleted(**PLACE, target="wamid.0", sender=BARE),),
    ),
    "a new number": (
        came("system", {"type": "user_changed_number", "wa_id": "4915509999999", "user_id": "DE.9",
                        "previous_user_id": USER.value, "body": "changed"}),
        (IdentityChange(**PLACE, old=(USER, PHONE), source="user_changed_number",
                        new=(Address("whatsapp", "bsuid", "DE.9"),
                             Address("whatsapp", "phone", "+4915509999999", "everywhere"))),),
    ),
    "a new number, older spelling": (
        came("system", {"type": "customer_changed_number", "wa_id": "4915509999999"}),
        (IdentityChange(**PLACE, old=(PHONE,), source="customer_changed_number",
                        new=(Address("whatsapp", "phone", "+4915509999999", "everywhere"),)),),
    ),
    "a new security code": (
        came("system", {"type": "customer_identity_changed", "body": "code changed", "identity": "h"}),
        (message(kind="system", text="code changed", automatic="generated", opens_window=False,
                 content=SystemNote("customer_identity_changed", {"identity": "h"})),),
    ),
    "the chat is opened": (
        came("request_welcome"), (Engagement(**PLACE, person=BARE, kind="request_welcome"),),
    ),
    "a poll": (
        came("unsupported", {"type": "poll_creation"}, errors=[
            {"code": 131051, "title": "Message type unknown", "error_data": {"details": "not supported"}}]),
        (message(kind="unsupported", content=Unsupported("poll_creation", "131051 not supported")),),
    ),
    "a kind nobody knows": (
        came("hologram", {"id": "h"}), (message(kind="unsupported", content=Unsupported("hologram")),),
    ),
    "a group": (
        came("text", {"body": "all"}, group_id="g1"),
        (message(text="all", thread=Thread(kind="group", key="g1"), opens_window=False),),
    ),
    "our own number": (
        came("text", {"body": "Hi"}, **{"from": "4930111222"}),
        (Ignored(**PLACE | {"at": NOW}, reason="sent by our own number"),),
    ),
    "an echo of the business app": (
        body(change("smb_message_echoes", message_echoes=[
            {"id": "wamid.1", "from": "4930111222", "to": "4915501234567", "timestamp": "1790000000", "type": "text",
             "text": {"body": "we are on it"}}])),
        (Echo(**at_list("message_echoes"), recipient=BARE, text="we are on it"),),
    ),
    "an echoed reaction": (
        body(change("smb_message_echoes", message_echoes=[
            {"id": "wamid.1", "to": "4915501234567", "timestamp": "1790000000", "type": "reaction",
             "reaction": {"message_id": "wamid.0", "emoji": "👍"}}])),
        (Echo(**at_list("message_echoes"), recipient=BARE, action="reacted", target="wamid.0", text="👍"),),
    ),
    "an echo taken back": (
        body(change("smb_message_echoes", message_echoes=[
            {"id": "wamid.1", "to_user_id": USER.value, "timestamp": "1790000000", "type": "revoke",
             "revoke": {"original_message_id": "wamid.0"}}])),
        (Echo(**at_list("message_echoes"), recipient=Person((USER,)), action="deleted", target="wamid.0"),),
    ),
    "a failure, by our own id": (
        file("failed_status.json"),
        (DeliveryUpdate(
            **at_list("statuses", id="wamid.MADEUP900:failed:4915501234567",
                      at=datetime.fromtimestamp(1790000050, UTC)),
            status="failed", target="wamid.MADEUP900", ours="outbox-42", recipient=USER, learned=(USER, PHONE),
            error=PlatformError("131047", "Re-engagement message", "more than 24 hours since last customer message"),
        ),),
    ),
    "a voice note was played": (
        status("played"),
        (DeliveryUpdate(**at_list("statuses", id="wamid.9:played:4915501234567"), status="read", target="wamid.9",
                        recipient=PHONE, learned=(PHONE,)),),
    ),
    "a receipt of a group": (
        status("delivered", recipient_type="group", recipient_id="g1", recipient_participant_id="4915501234567"),
        (DeliveryUpdate(**at_list("statuses", id="wamid.9:delivered:4915501234567"), status="delivered",
                        target="wamid.9", recipient=PHONE, learned=(PHONE,)),),
    ),
    "a status of no use": (
        status("deleted"),
        (Ignored(**at_list("statuses", id="wamid.9:deleted:4915501234567"), reason="status 'deleted'"),),
    ),
    "marketing stopped, told by a failure": (
        status("failed", errors=[{"code": 131050, "title": "Stopped"}]),
        (DeliveryUpdate(**at_list("statuses", id="wamid.9:failed:4915501234567"), status="failed", target="wamid.9",
                        recipient=PHONE, learned=(PHONE,), error=PlatformError("131050", "Stopped")),
         ConsentChange(**at_list("statuses", id="wamid.9:failed:4915501234567"), person=BARE, state="opted_out",
                       scope="marketing", source="error 131050")),
    ),
    "marketing stopped in the menu": (
        body(change("user_preferences", user_preferences=[
            {"wa_id": "4915501234567", "category": "marketing_messages", "value": "stop", "timestamp": 1790000000}])),
        (ConsentChange(**at_list("user_preferences", id="+4915501234567:marketing_messages:stop:1790000000"),
                       person=BARE, state="opted_out", scope="marketing", source="user_preferences"),),
    ),
    "a call": (
        body(change("calls", calls=[{"id": "c1", **FROM, "event": "terminate", "status": "COMPLETED",
                                     "direction": "USER_INITIATED", "duration": 12}])),
        (CallEvent(**at_list("calls", id="c1:terminate"), call="c1", person=BARE, status="ended", duration_s=12.0),),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(payload: bytes, events: tuple[Event, ...]) -> None:
    assert run(payload) == events


def account_level(field: str, value: Mapping[str, Any]) -> tuple[Event, ...]:
    tree = {"entry": [{"id": WABA, "time": 1790000000, "changes": [{"field": field, "value": value}]}]}
    events = run(json.dumps(tree).encode())
    assert all(event.id for event in events)
    return events


@pytest.mark.parametrize(("event", "alarming"), [("PAUSED", True), ("APPROVED", False)])
def test_template_status_goes_to_the_business_account(event: str, alarming: bool) -> None:
    value = {"event": event, "message_template_name": "hello"}
    (found,) = account_level("message_template_status_update", value)
    assert found == AccountEvent(
        id=found.id, at=AT, routing_key=WABA, channel="whatsapp", path="$.entry[0].changes[0].value",
        kind="template_status", values=value, alarming=alarming, template=TemplateState("hello", "", event.lower()),
    )  # fmt: skip


def test_a_template_gets_another_category() -> None:
    value = {"message_template_name": "hello", "message_template_language": "en", "previous_category": "UTILITY",
             "new_category": "MARKETING"}  # fmt: skip
    (found,) = account_level("template_category_update", value)
    assert isinstance(found, AccountEvent)
    assert (found.kind, found.template) == ("template_category", TemplateState("hello", "en", "", "marketing"))


def test_a_field_nobody_knows_is_ignored() -> None:
    (found,) = account_level("surprise", {"a": 1})
    assert isinstance(found, Ignored)
    assert found.reason == "field 'surprise'"


def test_what_another_agent_holds_is_ignored() -> None:
    (found,) = run(body(change("standby", messages=[{"id": "1", **FROM, "type": "text", "text": {"body": "Hi"}}])))
    assert isinstance(found, Ignored)


def test_an_error_without_message_is_alarming() -> None:
    (found,) = run(body(change(messages=[], errors=[{"code": 131031, "title": "locked"}])))
    assert isinstance(found, AccountEvent)
    assert (found.kind, found.alarming, found.values) == ("error", True, {"code": 131031, "title": "locked"})


BROKEN = {
    "no sender": ({"id": "1", "type": "text", "text": {"body": "x"}}, ".from"),
    "no id": ({**FROM, "type": "text", "text": {"body": "x"}}, ".id"),
    "a body that is no text": ({"id": "1", **FROM, "type": "text", "text": {"body": 7}}, ".text.body"),
    "no media id": ({"id": "1", **FROM, "type": "image", "image": {}}, ".image.id"),
    "no coordinates": ({"id": "1", **FROM, "type": "location", "location": {"latitude": "x"}}, ".location"),
    "a reaction to nothing": ({"id": "1", **FROM, "type": "reaction", "reaction": {}}, ".reaction.message_id"),
    "an edit of nothing": ({"id": "1", **FROM, "type": "edit"}, ".edit"),
}


@pytest.mark.parametrize(("item", "path"), BROKEN.values(), ids=BROKEN)
def test_broken_items_are_named_by_path(item: Mapping[str, Any], path: str) -> None:
    (found,) = run(body(change(messages=[item])))
    assert isinstance(found, Unreadable)
    assert found.path == PATH + path


@pytest.mark.parametrize("depth", [500, 950, 990, 1010, 100_000])
def test_nesting_of_any_depth_gives_events(depth: int) -> None:
    nest = b"[" * depth + b"]" * depth
    assert run(b'{"entry": [{"changes": [%s]}]}' % nest)
    assert run(b'{"entry": [{"changes": [{"field": "x", "value": {"a": %s}}]}]}' % nest)


# --- sending ----------------------------------------------------------------------------------------------------------

OUT = OutboundMessage(id="outbox-42", key="k", account="wa", channel="whatsapp", to=(USER, PHONE), text="Tomorrow.")
HEAD = {
    "messaging_product": "whatsapp", "recipient_type": "individual", "to": "4915501234567",
    "biz_opaque_callback_data": "outbox-42",
}  # fmt: skip
PDF = OutboundFile(kind="file", media_type="application/pdf", filename="bill.pdf", size=3, url="https://x.example/b")


def out(**fields: Any) -> OutboundMessage:
    values = {name: getattr(OUT, name) for name in OUT.__struct_fields__} | fields
    return OutboundMessage(**values)


BODIES: dict[str, tuple[OutboundMessage, dict[str, Any]]] = {
    "a text": (OUT, {"type": "text", "text": {"body": "Tomorrow.", "preview_url": False}}),
    "a reply": (
        out(context=Context(reply_to="wamid.1")),
        {"context": {"message_id": "wamid.1"}, "type": "text", "text": {"body": "Tomorrow.", "preview_url": False}},
    ),
    "a linked document": (
        out(file=PDF),
        {"type": "document",
         "document": {"link": "https://x.example/b", "caption": "Tomorrow.", "filename": "bill.pdf"}},
    ),
    "a template with texts": (
        out(text="", template=Template("hello", "de", ("Mara", "12"))),
        {"type": "template", "template": {
            "name": "hello", "language": {"policy": "deterministic", "code": "de"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": "Mara"},
                                                           {"type": "text", "text": "12"}]}]}},
    ),
    "a template without parameters": (
        out(text="", template=Template("hello", "de")),
        {"type": "template",
         "template": {"name": "hello", "language": {"policy": "deterministic", "code": "de"}}},
    ),
    "a template by component": (
        out(text="", template=Template("hello", "de", {
            "header": {"image": {"link": "https://x.example/i"}}, "body": {"name": "Mara"},
            "buttons": [{"sub_type": "quick_reply", "payload": "p"}, "track"]})),
        {"type": "template", "template": {
            "name": "hello", "language": {"policy": "deterministic", "code": "de"},
            "components": [
                {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://x.example/i"}}]},
                {"type": "body", "parameters": [{"type": "text", "text": "Mara", "parameter_name": "name"}]},
                {"type": "button", "sub_type": "quick_reply", "index": "0",
                 "parameters": [{"type": "payload", "payload": "p"}]},
                {"type": "button", "sub_type": "url", "index": "1",
                 "parameters": [{"type": "text", "text": "track"}]}]}},
    ),
    "buttons": (
        out(content=Interactive(values={"buttons": [{"id": "y", "title": "Yes"}, "No"]})),
        {"type": "interactive", "interactive": {
            "type": "button", "body": {"text": "Tomorrow."},
            "action": {"buttons": [{"type": "reply", "reply": {"id": "y", "title": "Yes"}},
                                   {"type": "reply", "reply": {"id": "No", "title": "No"}}]}}},
    ),
    "a list": (
        out(content=Interactive(values={"rows": [{"id": "r", "title": "Blue", "description": "dark"}],
                                        "label": "Pick"})),
        {"type": "interactive", "interactive": {
            "type": "list", "body": {"text": "Tomorrow."},
            "action": {"button": "Pick", "sections": [
                {"title": "Pick", "rows": [{"id": "r", "title": "Blue", "description": "dark"}]}]}}},
    ),
    "a template with every component": (
        out(text="", template=Template("sale", "de", {
            "header": {"document": {"link": "https://x.example/d", "filename": "d.pdf"}}, "body": ["Mara"],
            "limited_time_offer": 1790000000000,
            "buttons": [
                {"sub_type": "copy_code", "code": "25OFF"}, {"sub_type": "otp", "code": "123456"},
                {"sub_type": "flow", "token": "t", "data": {"a": 1}}, {"sub_type": "catalog", "thumbnail": "sku"},
                {"sub_type": "mpm", "thumbnail": "sku", "sections": [{"title": "S"}], "index": 7},
                {"sub_type": "voice_call", "parameters": []}]})),
        {"type": "template", "template": {
            "name": "sale", "language": {"policy": "deterministic", "code": "de"},
            "components": [
                {"type": "header", "parameters": [
                    {"type": "document", "document": {"link": "https://x.example/d", "filename": "d.pdf"}}]},
                {"type": "body", "parameters": [{"type": "text", "text": "Mara"}]},
                {"type": "limited_time_offer", "parameters": [
                    {"type": "limited_time_offer", "limited_time_offer": {"expiration_time_ms": 1790000000000}}]},
                {"type": "button", "sub_type": "copy_code", "index": "0",
                 "parameters": [{"type": "coupon_code", "coupon_code": "25OFF"}]},
                {"type": "button", "sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "123456"}]},
                {"type": "button", "sub_type": "flow", "index": "2", "parameters": [
                    {"type": "action", "action": {"flow_token": "t", "flow_action_data": {"a": 1}}}]},
                {"type": "button", "sub_type": "catalog", "index": "3", "parameters": [
                    {"type": "action", "action": {"thumbnail_product_retailer_id": "sku"}}]},
                {"type": "button", "sub_type": "mpm", "index": "7", "parameters": [
                    {"type": "action",
                     "action": {"thumbnail_product_retailer_id": "sku", "sections": [{"title": "S"}]}}]},
                {"type": "button", "sub_type": "voice_call", "index": "5", "parameters": []}]}},
    ),
    "a template with cards": (
        out(text="", template=Template("cards", "de", {"body": "Mara", "carousel": [
            {"header": {"image": {"id": "1"}}, "body": ["a"], "buttons": ["x"]},
            {"header": {"image": {"id": "2"}}}]})),
        {"type": "template", "template": {
            "name": "cards", "language": {"policy": "deterministic", "code": "de"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": "Mara"}]},
                {"type": "carousel", "cards": [
                    {"card_index": 0, "components": [
                        {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]},
                        {"type": "body", "parameters": [{"type": "text", "text": "a"}]},
                        {"type": "button", "sub_type": "url", "index": "0",
                         "parameters": [{"type": "text", "text": "x"}]}]},
                    {"card_index": 1, "components": [
                        {"type": "header", "parameters": [{"type": "image", "image": {"id": "2"}}]}]}]}]}},
    ),
    "a template whose header is the attached file": (
        out(text="", template=Template("hello", "de", ("Mara",)), file=PDF),
        {"type": "template", "template": {
            "name": "hello", "language": {"policy": "deterministic", "code": "de"},
            "components": [
                {"type": "header", "parameters": [
                    {"type": "document", "document": {"link": "https://x.example/b", "filename": "bill.pdf"}}]},
                {"type": "body", "parameters": [{"type": "text", "text": "Mara"}]}]}},
    ),
    "components as they stand": (
        out(text="", template=Template("hello", "de", {"components": [{"type": "body", "parameters": []}]})),
        {"type": "template", "template": {
            "name": "hello", "language": {"policy": "deterministic", "code": "de"},
            "components": [{"type": "body", "parameters": []}]}},
    ),
    "a reaction": (
        out(text="", reaction="👍", context=Context(reply_to="wamid.1")),
        {"type": "reaction", "reaction": {"message_id": "wamid.1", "emoji": "👍"}},
    ),
    "a reaction taken back": (
        out(text="", reaction="", context=Context(reply_to="wamid.1")),
        {"type": "reaction", "reaction": {"message_id": "wamid.1", "emoji": ""}},
    ),
    "a place": (
        out(text="", content=Location(52.5, 13.4, "Shop")),
        {"type": "location", "location": {"latitude": 52.5, "longitude": 13.4, "name": "Shop"}},
    ),
    "contact cards": (
        out(text="", content=ContactCards((ContactCard("Ann", ("+491",), ("a@x.example",), "ACME"), ContactCard("B")))),
        {"type": "contacts", "contacts": [
            {"name": {"formatted_name": "Ann", "first_name": "Ann"}, "phones": [{"phone": "+491", "type": "WORK"}],
             "emails": [{"email": "a@x.example", "type": "WORK"}], "org": {"company": "ACME"}},
            {"name": {"formatted_name": "B", "first_name": "B"}}]},
    ),
    "buttons between header and footer": (
        out(content=Interactive(values={"buttons": ["Yes"], "header": "Hi", "footer": "Bye"})),
        {"type": "interactive", "interactive": {
            "type": "button", "header": {"type": "text", "text": "Hi"}, "footer": {"text": "Bye"},
            "body": {"text": "Tomorrow."},
            "action": {"buttons": [{"type": "reply", "reply": {"id": "Yes", "title": "Yes"}}]}}},
    ),
    "a list in sections below a picture": (
        out(content=Interactive(values={
            "sections": [{"title": "A", "rows": ["x"]}, {"title": "B", "rows": ["y"]}], "label": "Pick",
            "header": {"image": {"link": "https://x.example/i"}}})),
        {"type": "interactive", "interactive": {
            "type": "list", "header": {"type": "image", "image": {"link": "https://x.example/i"}},
            "body": {"text": "Tomorrow."},
            "action": {"button": "Pick", "sections": [
                {"title": "A", "rows": [{"id": "x", "title": "x"}]},
                {"title": "B", "rows": [{"id": "y", "title": "y"}]}]}}},
    ),
    "where are you": (
        out(content=Interactive(values={"location_request": True})),
        {"type": "interactive", "interactive": {
            "type": "location_request_message", "body": {"text": "Tomorrow."}, "action": {"name": "send_location"}}},
    ),
    "a product": (
        out(content=Interactive(values={"product": "sku", "catalog": "c"})),
        {"type": "interactive", "interactive": {
            "type": "product", "body": {"text": "Tomorrow."},
            "action": {"catalog_id": "c", "product_retailer_id": "sku"}}},
    ),
    "products": (
        out(content=Interactive(values={"products": [{"title": "S", "items": ["a", "b"]}], "catalog": "c"})),
        {"type": "interactive", "interactive": {
            "type": "product_list", "body": {"text": "Tomorrow."}, "action": {"catalog_id": "c", "sections": [
                {"title": "S", "product_items": [{"product_retailer_id": "a"}, {"product_retailer_id": "b"}]}]}}},
    ),
    "a flow": (
        out(content=Interactive(values={"flow": {"id": "f", "cta": "Book", "data": {"screen": "A"}}})),
        {"type": "interactive", "interactive": {
            "type": "flow", "body": {"text": "Tomorrow."}, "action": {"name": "flow", "parameters": {
                "flow_message_version": "3", "flow_id": "f", "flow_cta": "Book", "flow_token": "unused",
                "flow_action": "navigate", "flow_action_payload": {"screen": "A"}}}}},
    ),
    "a link": (
        out(content=Interactive(values={"url": "https://x.example", "label": "Track"})),
        {"type": "interactive", "interactive": {
            "type": "cta_url", "body": {"text": "Tomorrow."},
            "action": {"name": "cta_url", "parameters": {"display_text": "Track", "url": "https://x.example"}}}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), BODIES.values(), ids=BODIES)
def test_bodies(given: OutboundMessage, wanted: dict[str, Any]) -> None:
    assert body_for(given) == HEAD | wanted


def test_a_user_id_goes_into_recipient() -> None:
    sent = body_for(out(to=(USER,)))
    assert sent["recipient"] == USER.value
    assert "to" not in sent


def test_the_operators_catalogue_tells_the_language() -> None:
    catalogue = ({"name": "other", "language": "en"}, {"name": "hello", "language": "pt_BR"})
    made = body_for(out(template=Template("hello")), templates=catalogue)
    assert made["template"]["language"]["code"] == "pt_BR"


def test_a_page_of_templates() -> None:
    listed = [
        {"name": "hello", "language": "en", "status": "APPROVED", "category": "UTILITY", "components": [
            {"type": "HEADER", "format": "TEXT", "text": "{{1}}"},
            {"type": "BODY", "text": "{{1}} and {{ 2 }} and {{1}}"}]},
        {"name": "named", "language": "de", "status": "PAUSED", "category": "MARKETING",
         "components": [{"type": "body", "text": "{{name}}, {{day}}"}]},
        {"name": "plain", "language": "de", "status": "PENDING"},
        {"language": "xx"},
    ]  # fmt: skip
    assert list(states_of({"data": listed})) == [
        TemplateState("hello", "en", "approved", "utility", 2),
        TemplateState("named", "de", "paused", "marketing", 2),
        TemplateState("plain", "de", "pending", "", 0),
    ]
    assert next_page({"paging": {"cursors": {"after": "c"}, "next": "https://x"}}) == "c"
    assert next_page({"paging": {"cursors": {"after": "c"}}}) == ""


UNSAYABLE = {
    "nobody": (out(to=()), "no-address"),
    "nothing": (out(text=""), "empty"),
    "a caption beside sound": (
        out(file=OutboundFile(kind="audio", media_type="audio/ogg", filename="a", size=1, url="https://x.example")),
        "caption",
    ),
    "a file that is nowhere": (out(file=OutboundFile(kind="file", media_type="a/b", filename="a", size=1)), "file"),
    "two files": (out(files=(PDF, PDF)), "files"),
    "a group": (out(thread=Thread(kind="group", key="g")), "group"),
    "an order": (out(content=Order("c")), "content"),
    "a component nobody knows": (out(template=Template("t", "de", {"foot": "x"})), "template"),
    "a button nobody knows": (out(template=Template("t", "de", {"buttons": [{"sub_type": "x"}]})), "template"),
    "a button without its text": (out(template=Template("t", "de", {"buttons": [{"sub_type": "otp"}]})), "template"),
    "an offer without an end": (out(template=Template("t", "de", {"limited_time_offer": "soon"})), "template"),
    "a header that is a number": (out(template=Template("t", "de", {"body": ["a"], "header": 5})), "template"),
    "buttons that are numbers": (out(template=Template("t", "de", {"buttons": [1, 2]})), "template"),
    "a place without a text": (out(template=Template("t", "de", {"body": [None]})), "template"),
    "components that are none": (out(template=Template("t", "de", {"components": ["x"]})), "template"),
    "no cards": (out(template=Template("t", "de", {"carousel": []})), "template"),
    "a template in no language": (out(template=Template("t")), "template"),
    "a header of sound": (
        out(
            template=Template("t", "de"),
            file=OutboundFile(kind="audio", media_type="audio/ogg", filename="a", size=1, url="https://x.example"),
        ),
        "template",
    ),
    "a reaction to nothing": (out(reaction="👍"), "reaction"),
    "no contact": (out(content=ContactCards(())), "contacts"),
    "four buttons": (out(content=Interactive(values={"buttons": list("abcd")})), "interactive"),
    "a long button": (out(content=Interactive(values={"buttons": ["x" * 21]})), "interactive"),
    "eleven rows": (
        out(content=Interactive(values={"sections": [{"rows": list("abcdef")}, {"rows": list("ghijk")}]})),
        "interactive",
    ),
    "a long footer": (out(content=Interactive(values={"buttons": ["a"], "footer": "x" * 61})), "interactive"),
    "a form without its id": (out(content=Interactive(values={"flow": {}})), "interactive"),
    "a kind of message nobody knows": (out(content=Interactive(values={"dance": 1})), "interactive"),
    "buttons without text": (out(text="", content=Interactive(values={"buttons": ["a"]})), "interactive"),
}


@pytest.mark.parametrize(("given", "code"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_what_cannot_be_said_is_refused_for_certain(given: OutboundMessage, code: str) -> None:
    with pytest.raises(SendError) as caught:
        body_for(given)
    assert (caught.value.code, caught.value.certain) == (code, True)


CODES = {  # status, code -> class, certain, pause
    (401, 190): ("auth", True, "account"),
    (403, 10): ("auth", True, None),
    (400, 200): ("auth", True, None),
    (400, 131047): ("window-closed", True, None),
    (400, 131050): ("opted-out", True, None),
    (400, 131026): ("bad-recipient", True, None),
    (400, 368): ("policy", True, None),
    (403, 131031): ("policy", True, None),
    (400, 132000): ("permanent", True, None),
    (400, 130429): ("throttle", True, "endpoint"),
    (400, 131056): ("throttle", True, "recipient"),
    (429, 100): ("throttle", True, "account"),
    (400, 131057): ("retry", True, None),
    (400, 131000): ("unknown", False, None),
    (500, 131000): ("unknown", False, None),
    (500, 130429): ("unknown", False, None),
    (400, 999999): ("permanent", True, None),
}


@pytest.mark.parametrize(("given", "wanted"), CODES.items(), ids=str)
def test_codes(given: tuple[int, int], wanted: tuple[str, bool, str | None]) -> None:
    error = platform_error(ERRORS, given[0], str(given[1]))
    assert (error.error_class, error.certain, error.pause) == wanted


def test_only_a_dead_token_pauses_the_account() -> None:
    assert {code for code, rule in ERRORS.items() if rule.pause == "account"} == {"0", "190"}


def test_a_token_quoted_by_the_platform_is_cut() -> None:
    words = {"error": {"code": 190, "message": "Malformed access token EAAB-canary-token", "fbtrace_id": "A1"}}
    answer = HttpAnswer(401, {}, json.dumps(words).encode())
    with pytest.raises(SendError) as caught:
        read_answer(answer, ERRORS, [Secret("EAAB-canary-token")])
    assert (caught.value.detail, caught.value.request_id) == ("Malformed access token ***", "A1")


# --- handshake and set-up ---------------------------------------------------------------------------------------------

SETTINGS = Settings(
    phone_number_id=NUMBER, access_token=(Secret("token-canary-1"),),
    app_secret=(Secret(APP_SECRET), Secret("older-app-secret")),
    verify_token=(Secret("new-verify"), Secret("old-verify")),
)  # fmt: skip


@pytest.fixture
async def adapter() -> AsyncIterator[WhatsAppAdapter]:
    async with new_session() as session:
        yield WhatsAppAdapter(Account("wa", "whatsapp"), SETTINGS, Http(session, [SETTINGS.api_base], MediaClient()))


def hub(**query: str) -> Callback:
    return Callback("GET", "https://x.example/", "/", {f"hub.{key}": value for key, value in query.items()}, {}, b"")


@pytest.mark.parametrize("token", ["new-verify", "old-verify"])
async def test_the_handshake_answers_with_the_challenge_alone(adapter: WhatsAppAdapter, token: str) -> None:
    answer = adapter.handshake(hub(mode="subscribe", verify_token=token, challenge="1158201444"))
    assert (answer.status, answer.body, answer.content_type) == (200, b"1158201444", "text/plain")


REFUSED = {
    "wrong token": {"mode": "subscribe", "verify_token": "wrong", "challenge": "1"},
    "not ASCII": {"mode": "subscribe", "verify_token": "ü\udc80", "challenge": "1"},
    "no token": {"mode": "subscribe", "challenge": "1"},
    "another mode": {"mode": "unsubscribe", "verify_token": "new-verify", "challenge": "1"},
    "no challenge": {"mode": "subscribe", "verify_token": "new-verify"},
}


@pytest.mark.parametrize("query", REFUSED.values(), ids=REFUSED)
async def test_the_handshake_refuses(adapter: WhatsAppAdapter, query: dict[str, str]) -> None:
    with pytest.raises(HandshakeRefused):
        adapter.handshake(hub(**query))


def signed(raw: bytes, secret: str = APP_SECRET) -> Callback:
    mac = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": (f"sha256={mac}",), "content-type": ("application/json",)}
    return Callback("POST", "https://x.example/webhooks/wa", "/webhooks/wa", {}, headers, raw)


async def test_an_older_secret_still_verifies_and_a_doubled_header_does_not(adapter: WhatsAppAdapter) -> None:
    callback = signed(b"{}", "older-app-secret")
    adapter.verify(callback)
    doubled = {"x-hub-signature-256": callback.headers["x-hub-signature-256"] * 2}
    with pytest.raises(VerificationError):
        adapter.verify(replace(callback, headers=doubled))


async def test_routing_keys(adapter: WhatsAppAdapter) -> None:
    assert adapter.routing_keys() == {NUMBER}


@pytest.mark.parametrize("empty", ["access_token", "app_secret", "verify_token"])
def test_empty_secrets_are_refused(empty: str) -> None:
    values: dict[str, Any] = {"phone_number_id": "1", "access_token": (Secret("a"),), "app_secret": (Secret("b"),),
                              "verify_token": (Secret("c"),)}  # fmt: skip
    with pytest.raises(ValueError, match=f"^{empty}: missing$"):
        Settings(**values | {empty: ()})


def test_the_channel_takes_what_the_documentation_says() -> None:
    assert CHANNEL.window is not None
    assert (CHANNEL.limits.text_max, CHANNEL.limits.caption_max, CHANNEL.pace.per_second) == (4096, 1024, 80)
    assert {rule.kind for rule in CHANNEL.limits.media} == {"image", "audio", "video", "sticker", "file"}


def _error(http_status: int) -> bytes:
    return json.dumps({"error": {"message": "m", "code": 130429 if http_status == 429 else 100}}).encode()


CASE = AdapterCase(
    adapter=WhatsAppAdapter,
    settings={
        "phone_number_id": NUMBER, "access_token": "token-canary-1", "verify_token": "verify-canary-1",
        "app_secret": [APP_SECRET, "older-app-secret"], "api_base": "{base}/v23.0",
    },
    message=file("first_message.json"),
    unknown_kind=came("hologram", {"id": "h"}),
    unknown_event=body(change("surprise", surprises=[{"id": "1"}])),
    broken_item=file("batch.json"),
    echo=body(change("smb_message_echoes", message_echoes=[
        {"id": "wamid.1", "from": "4930111222", "to": "4915501234567", "timestamp": "1790000000", "type": "text",
         "text": {"body": "we are on it"}}])),
    sign=signed,
    outbound=OUT,
    success=b'{"messages": [{"id": "wamid.OUT1"}], "contacts": [{"wa_id": "4915501234567"}]}',
    external_id="wamid.OUT1",
    error_body=_error,
)  # fmt: skip
