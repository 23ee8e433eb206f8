"""Mail: raw bytes and envelope in, events out. The files under payloads/email are our own writing, by the RFCs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import Callback, MediaError, VerificationError
from adapters.email import EmailAdapter, Settings
from adapters.testing import AdapterCase
from normalizers.email import normalize
from normalizers.model import (
    Account,
    Address,
    Attachment,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Event,
    InboundMessage,
    MailHeaders,
    OutboundMessage,
    Person,
    PlatformError,
    Received,
    Thread,
    Unreadable,
    Unsupported,
)

FOLDER = Path(__file__).parent / "payloads" / "email"
FILES = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.eml"))}
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SENT = datetime(2026, 5, 12, 10, tzinfo=UTC)
ENVELOPE = {"envelope-from": "ann@customer.test", "envelope-to": "support@shop.test", "peer": "192.0.2.1", "helo": "mx"}
OWN = frozenset({"support@shop.test", "help@shop.test"})
ACCOUNT = Account("mail", "email", OWN)


def received(
    body: bytes, envelope: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
) -> Received:
    account = Account("mail", "email", OWN, options=options or {})
    return Received(body, ENVELOPE if envelope is None else envelope, {}, NOW, account)


def one(body: bytes, envelope: Mapping[str, str] | None = None, **options: str) -> Any:
    (event,) = normalize(received(body, envelope, options))
    return event


def person(value: str, evidence: Any = "claimed") -> Address:
    return Address("email", "email", value, "everywhere", evidence)


ANN = Person((person("ann@customer.test", "attested"),), name="Ann Lee", handle="Ann@Customer.test")


def message(message_id: str, seal: str, subject: str, text: str, **more: Any) -> InboundMessage:
    """An ordinary mail from Ann; `more` overrides."""
    context = {"reply_to": "", "metadata": {}} | more.pop("context", {})
    metadata = {
        "message_id": message_id,
        "reply_to": "",
        "date": "2026-05-12T10:00:00+00:00",
        "to": [],
        "cc": [],
        "envelope_from": "ann@customer.test",
        "envelope_to": ["support@shop.test"],
    } | context.pop("metadata")
    values: dict[str, Any] = {
        "at": SENT,
        "channel": "email",
        "path": "$",
        "sender": ANN,
        "subject": subject,
        "text": text,
        "context": Context(metadata=metadata, **context),
        "thread": Thread(kind="mail"),
        "own_address": "support@shop.test",
        "flags": ("unchecked",),
    }
    return InboundMessage(id=f"{message_id}#{seal}", **(values | more))


def failed(recipient: str, target: str, detail: str) -> DeliveryUpdate:
    return DeliveryUpdate(
        id=f"{target}#{recipient}#failed",
        at=NOW,
        channel="email",
        status="failed",
        target=target,
        recipient=person(recipient),
        error=PlatformError("5.1.1", "failed", detail),
    )


PARCEL = "Hello,\n\nwhere is my parcel? Grüße"
FORWARDED = (
    "FYI\n\n---------- Forwarded message ---------\nFrom: Carl <carl@other.test>\nDate: Tue, 12 May 2026 at 08:00\n"
    "Subject: Broken lamp\nTo: Ann <ann@customer.test>\n\nThe lamp is broken."
)
INLINE = (
    "On Tue, May 12, 2026 at 9:00 AM Shop <support@shop.test> wrote:\n"
    "> Which size?\nLarge.\n> Which colour?\nBlue."
)  # fmt: skip
OUTLOOK_HTML = (
    "<div><p>Danke, grüße</p><div><div><p><b>Von:</b> Shop &lt;support@shop.test&gt;<br><b>Gesendet:</b> Dienstag</p>"
    "</div></div><p>Guten Tag</p></div>"
)

INBOUND: dict[str, tuple[Event, ...]] = {  # file -> events
    "plain": (
        message(
            "plain-1@customer.test",
            "63ba25e2c7c0b1fd",
            "Where is my parcel?",
            PARCEL,
            full_text=f"{PARCEL}\n\n-- \nAnn Lee\nParcel collector",
        ),
    ),
    "reply": (
        message(
            "reply-1@customer.test",
            "2177295691c45f13",
            "Re: Your order",
            "Thanks, that works.",
            full_text="Thanks, that works.\n\n"
            "On Tue, May 12, 2026 at 9:00 AM Shop Support <support@shop.test> wrote:\n\n"
            "> Please try again.\n> Shop",
            context={
                "reply_to": "t.abc@shop.test",
                "metadata": {
                    "reply_to": "ann.home@customer.test",
                    "cc": ["bob@customer.test", "help@shop.test", "support+other@shop.test", "noreply@bulk.test"],
                },
            },
            thread=Thread(kind="mail", references=("t.abc@shop.test", "root@customer.test")),
            recipients=(person("bob@customer.test"),),
            answer_to=(person("ann.home@customer.test"),),
        ),
    ),
    "alternative_with_image": (
        message(
            "alt-1@customer.test",
            "95ba16e91026981b",
            "Café order",
            "See the picture.",
            html='<p dir="rtl">See the <b>picture</b>.</p><img src="cid:Pic%20One@x"><img>',
            attachments=(
                Attachment(
                    kind="image",
                    media_type="image/png",
                    filename="pic.png",
                    size=8,
                    sha256="4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6",
                    ref="part:1.2.2",
                    content_id="pic one@X",
                ),
                Attachment(
                    kind="file",
                    media_type="application/pdf",
                    filename="résum.pdf",
                    size=9,
                    sha256="e5c62df5dab5c87b6a015ef3d43597074d1eec433b15f51aec63b8582d0e4ab4",
                    ref="part:2",
                ),
            ),
        ),
    ),
    "inline_answers": (message("inline-1@customer.test", "649ca5de1530be55", "Re: Questions", INLINE),),
    "out_of_office": (
        message(
            "ooo-1@customer.test",
            "99dce4cc9f064de7",
            "Automatic reply: Your order",
            "I am away until Monday.",
            context={"reply_to": "t.abc@shop.test"},
            thread=Thread(kind="mail", references=("t.abc@shop.test",)),
            automatic="ooo",
        ),
    ),
    "newsletter": (message("list-1@customer.test", "0c22452891257e02", "Spring offers", "Buy now.", automatic="bulk"),),
    "alarm": (
        message(
            "alarm-1@customer.test", "6746068703003b0d", "Disk full", "Disk /dev/sda1 is full.", automatic="generated"
        ),
    ),
    "forward": (
        message(
            "fwd-1@customer.test",
            "b900c7534c34112c",
            "Fwd: Broken lamp",
            FORWARDED,
            context={"forwarded": True, "forwarded_from": Person((person("carl@other.test"),), name="Carl")},
        ),
    ),
    "outlook_html": (
        message(
            "outlook-1@customer.test",
            "7e903c0c60af5acf",
            "AW: Ihre Bestellung",
            "Danke, grüße",
            html=OUTLOOK_HTML,
            full_text="Danke, grüße\n\nVon: Shop <support@shop.test>\nGesendet: Dienstag\n\nGuten Tag",
        ),
    ),
    "gb2312": (message("gb-1@customer.test", "1f8312f0127b3abe", "你好", "你好，我的包裹"),),
    "no_boundary": (message("nob-1@customer.test", "8e238e10adb00f69", "Lost boundary", "The body is here."),),
    "raw_latin1_headers": (
        message(
            "6eb7fcb3748762fc4ea46155a3ab8f0d@no-message-id.invalid",
            "6eb7fcb3748762fc",
            "Grüße",
            "Hallo Welt",
            at=NOW,
            sender=Person((person("j@customer.test", "attested"),), name="Jörg Jo Maß"),
            context={"metadata": {"date": ""}},
        ),
    ),
    "bounce": (
        failed("gone@customer.test", "t.abc@shop.test", "550 5.1.1 <gone@customer.test>: user unknown"),
        DeliveryUpdate(
            id="t.abc@shop.test#late@customer.test#delayed",
            at=NOW,
            channel="email",
            status="queued",
            target="t.abc@shop.test",
            recipient=person("late@customer.test"),
            error=PlatformError("4.4.1", "delayed", final=False),
        ),
    ),
    "bounce_of_no_standard": (failed("gone@old.test", "t.old@shop.test", "User unknown"),),
    "read_receipt": (
        DeliveryUpdate(
            id="t.abc@shop.test#read#ann@customer.test",
            at=NOW,
            channel="email",
            status="read",
            target="t.abc@shop.test",
            recipient=person("ann@customer.test"),
        ),
    ),
    "complaint": (
        ConsentChange(
            id="t.abc@shop.test#complaint#ann@customer.test",
            at=NOW,
            channel="email",
            person=Person((person("ann@customer.test"),)),
            state="opted_out",
            scope="automatic",
            source="complaint",
        ),
    ),
}


@pytest.mark.parametrize(("name", "events"), INBOUND.items(), ids=INBOUND)
def test_inbound(name: str, events: tuple[Event, ...]) -> None:
    assert normalize(received(FILES[name])) == events


FILED = {  # file -> texts of the attachments: kind, media type, name, ref
    "apple_text_image_text": [("image", "image/jpeg", "a.jpg", "part:2")],
    "attached_mail": [("file", "message/rfc822", "Inner.eml", "part:2")],
    "invitation": [("file", "text/calendar", "part-2.ics", "part:2")],
    "encrypted": [("file", "application/octet-stream", "encrypted.asc", "part:2")],
}


@pytest.mark.parametrize(("name", "files"), FILED.items(), ids=FILED)
def test_files(name: str, files: list[tuple[str, str, str, str]]) -> None:
    event = one(FILES[name])
    assert [(a.kind, a.media_type, a.filename, a.ref) for a in event.attachments] == files


def test_text_around_an_image_is_joined_and_a_sealed_mail_says_so() -> None:
    assert one(FILES["apple_text_image_text"]).text == "Before.\n\nAfter."
    sealed = one(FILES["encrypted"])
    assert (sealed.kind, sealed.content, sealed.flags) == (
        "unsupported",
        Unsupported("encrypted"),
        ("unchecked", "encrypted"),
    )


def mail(*headers: str, body: str = "Hi") -> bytes:
    base = {"From": "Ann <ann@customer.test>", "To": "support@shop.test", "Subject": "Hi", "Message-ID": "<m@c.test>"}
    given_names = {line.partition(":")[0].lower() for line in headers}
    lines = [f"{name}: {value}" for name, value in base.items() if name.lower() not in given_names]
    return "\r\n".join((*lines, *headers, "", body)).encode()


TOKENS = {  # name -> (envelope recipients, header lines, tokens)
    "envelope first": ("support+taaa@shop.test", ("To: support+tbbb@shop.test",), ("aaa", "bbb")),
    "headers alone": ("support@shop.test", ("Delivered-To: HELP+Tccc@shop.test", "Cc: x@y.test"), ("ccc",)),
    "another's plus tag": ("support@shop.test", ("To: ann+tzzz@customer.test",), ()),
    "a tag without mark": ("support+sales@shop.test", (), ()),
}


@pytest.mark.parametrize(("to", "headers", "tokens"), TOKENS.values(), ids=TOKENS)
def test_tokens(to: str, headers: tuple[str, ...], tokens: tuple[str, ...]) -> None:
    assert one(mail(*headers), ENVELOPE | {"envelope-to": to}).thread.tokens == tokens


def test_a_bounce_without_the_returned_mail_is_known_by_its_token() -> None:
    raw = FILES["bounce"].replace(b"Message-ID: <t.abc@shop.test>", b"X-Nothing: here")
    events = normalize(received(raw, {"envelope-from": "", "envelope-to": "b+tok1@shop.test support+btok2@shop.test"}))
    assert [(e.target, e.tokens) for e in events if isinstance(e, DeliveryUpdate)] == [("", ("tok1", "tok2"))] * 2


@pytest.mark.parametrize("answering", ["In-Reply-To: <a@x>", "References: <a@x>", "Subject: AW: Lamps", ""])
def test_only_an_answer_is_cut(answering: str) -> None:
    form = "Please deliver\r\n\r\nVon: Storage\r\nDatum: 12.5.2026\r\nAn: Main street 1\r\n\r\nRing twice."
    event = one(f"From: ann@customer.test\r\n{answering or 'X-Nothing: here'}\r\n\r\n{form}".encode())
    assert event.text == ("Please deliver" if answering else form.replace("\r\n", "\n"))
    assert (event.full_text != "") == bool(answering)


QMAIL = """Hi. This is the qmail-send program at old.test.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<gone@old.test>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

Return-Path: <support@shop.test>
Message-ID: <t.old@shop.test>

Hello
"""


@pytest.mark.parametrize("sender", ["MAILER-DAEMON@old.test", "", "<>", "Mail System"])
def test_a_bounce_of_no_standard_whoever_it_says_it_is_from(sender: str) -> None:
    raw = mail(f"From: {sender}", "Subject: failure notice", body=QMAIL.replace("\n", "\r\n"))
    assert one(raw, ENVELOPE | {"envelope-from": ""}) == failed(
        "gone@old.test", "t.old@shop.test", "Sorry, no mailbox here by that name."
    )


ADDRESSED = {  # header lines -> whether the mail names us
    "to us": ((), True),
    "a copy": (("To:", "Cc: Support <SUPPORT+x@shop.test>"), True),
    "undisclosed": (("To: undisclosed-recipients:;",), False),
    "to another": (("To: bob@customer.test",), False),
}


@pytest.mark.parametrize(("headers", "named"), ADDRESSED.values(), ids=ADDRESSED)
def test_mail_that_does_not_name_us_is_flagged(headers: tuple[str, ...], named: bool) -> None:
    assert ("not_addressed" in one(mail(*headers)).flags) is not named


TRUST = {  # header lines -> evidence, flags
    "dmarc passes": (("Authentication-Results: mx.test; dmarc=pass (p=none) header.from=customer.test",), "attested"),
    "dkim of the parent domain": (("Authentication-Results: mx.test; dkim=pass header.d=test.test",), "claimed"),
    "dkim aligned": (("Authentication-Results: mx.test 1; dkim=pass header.i=@customer.test",), "attested"),
    "spf of another domain": (("Authentication-Results: mx.test; spf=pass smtp.mailfrom=evil.test",), "claimed"),
    "another server's word": (("Authentication-Results: evil.test; dmarc=pass header.from=customer.test",), "claimed"),
    "only the topmost counts": (
        (
            "Authentication-Results: mx.test; dmarc=fail header.from=customer.test",
            "Authentication-Results: mx.test; dmarc=pass header.from=customer.test",
        ),
        "claimed",
    ),
    "a forged comment": (
        ("Authentication-Results: mx.test; none (; dmarc=pass header.from=customer.test)",),
        "claimed",
    ),
    "a result in the sender's quoted address": (
        ('Authentication-Results: mx.test; spf=pass smtp.mailfrom="a; dmarc=pass header.from=customer.test "@e.test',),
        "claimed",
    ),
    "a result in the sender's address in a comment": (
        (
            'Authentication-Results: mx.test; spf=pass (domain of "a); dmarc=pass header.from=customer.test ("@e.test)'
            " smtp.mailfrom=e.test; dmarc=none header.from=customer.test",
        ),
        "claimed",
    ),
    "a strict domain's DMARC fails": (
        ("Authentication-Results: mx.test; dkim=pass header.d=customer.test; dmarc=fail header.from=customer.test",),
        "claimed",
    ),
    "quotes, nested and escaped comments": (
        (r'Authentication-Results: mx.test (a (b\) c)); dkim=pass header.d="customer.test" header.b="x\";"',),
        "attested",
    ),
    "a quote never closed": (('Authentication-Results: mx.test "; dkim=pass header.d=customer.test',), "claimed"),
    "Ed25519, which the edge has checked": (
        ("Authentication-Results: mx.test; dkim=pass header.d=customer.test header.a=ed25519-sha256",),
        "attested",
    ),
    "nothing": ((), "claimed"),
}


@pytest.mark.parametrize(("headers", "evidence"), TRUST.values(), ids=TRUST)
def test_evidence(headers: tuple[str, ...], evidence: str) -> None:
    event = one(mail(*headers), authserv_id="mx.test")
    assert event.sender.addresses[0].evidence == evidence
    assert event.flags == (("unaligned",) if evidence == "claimed" else ())


SENDERS = {  # header lines -> address, flags
    "two From": (("From: a@x.test", "From: b@x.test"), "a@x.test", ("several_senders",)),
    "no From": (("From:", "Sender: Desk <desk@x.test>"), "desk@x.test", ("sender_guessed",)),
    "envelope only": (("From: undisclosed",), "ann@customer.test", ("sender_guessed",)),
}


@pytest.mark.parametrize(("headers", "address", "flags"), SENDERS.values(), ids=SENDERS)
def test_strange_senders(headers: tuple[str, ...], address: str, flags: tuple[str, ...]) -> None:
    event = one(mail(*headers))
    assert event.sender.addresses == (person(address),)
    assert event.flags == flags


def test_a_mail_from_nobody_is_from_a_placeholder_of_its_own() -> None:
    envelope = {"envelope-from": "", "envelope-to": "support@shop.test"}
    event, other = one(b"Subject: x\r\n\r\nHi", envelope), one(b"Subject: y\r\n\r\nHi", envelope)
    assert event.flags == ("no_sender", "null_sender")
    (address,) = event.sender.addresses
    assert (address.kind, address.value.rpartition("@")[2]) == ("anonymous", "no-sender.invalid")
    assert event.sender != other.sender


def test_what_no_reader_survives_is_kept_to_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(raw: bytes) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr("normalizers.email.read_mail", fail)
    event = one(FILES["plain"])
    assert isinstance(event, Unreadable)
    assert (event.path, event.problem) == ("$", "RecursionError: deep")


FLAGGED = {  # header lines, sender, envelope -> the flag a decision is made on
    "SpamAssassin": ("X-Spam-Flag: YES", "ann@x.test", {}, "spam"),
    "SpamAssassin's status": ("X-Spam-Status: Yes, score=9.1", "ann@x.test", {}, "spam"),
    "Microsoft": ("X-MS-Exchange-Organization-SCL: 6", "ann@x.test", {}, "spam"),
    "a mail system": ("X-Nothing: x", "MAILER-DAEMON@x.test", {}, "system_sender"),
    "cut off": ("X-Nothing: x", "ann@x.test", {"incomplete": "too large"}, "incomplete"),
}


@pytest.mark.parametrize(("line", "sender", "envelope", "flag"), FLAGGED.values(), ids=FLAGGED)
def test_what_a_suspension_is_decided_on(line: str, sender: str, envelope: dict[str, str], flag: str) -> None:
    event = one(f"From: {sender}\r\n{line}\r\nSubject: x\r\n\r\nHi".encode(), ENVELOPE | envelope)
    assert flag in event.flags
    assert flag not in one(b"From: ann@x.test\r\nX-Spam-Flag: NO\r\n\r\nHi").flags


def test_a_report_that_names_nothing_is_shown_to_a_person() -> None:
    raw = (
        b"From: Mail Delivery <mailer-daemon@x.test>\r\nContent-Type: multipart/report; report-type=delivery-status;"
        b" boundary=b\r\n\r\n--b\r\n\r\nIt failed.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        b"Reporting-MTA: dns; x.test\r\n\r\nFinal-Recipient: rfc822; a@y.test\r\nAction: failed\r\n--b--\r\n"
    )
    event = one(raw, {"envelope-from": "", "envelope-to": "support@shop.test"})
    assert isinstance(event, InboundMessage)
    assert {"report", "null_sender", "system_sender"} <= set(event.flags)


AUTOMATIC = {  # header lines -> class
    "a person": ((), ""),
    "Exchange stamps people's mail": (("X-Auto-Response-Suppress: DR, RN",), ""),
    "Auto-Submitted: no": (("Auto-Submitted: no",), ""),
    "generated, with parameters": (("Auto-Submitted: Auto-Generated; x=y",), "generated"),
    "notified": (("Auto-Submitted: auto-notified",), "generated"),
    "old programs' absence note": (("X-Autoreply: yes",), "ooo"),
    "Precedence: auto_reply": (("Precedence: auto_reply",), "ooo"),
    "a subject alone": (("Subject: Out of office",), ""),
    "a subject and a sign": (("Subject: Abwesenheit: x", "X-Auto-Response-Suppress: All"), "ooo"),
    "a list": (("List-Id: <x>",), "bulk"),
    "nobody reads it": (("From: no-reply@x.test",), "generated"),
    "our own loop mark": (("X-Gateway-Loop: abc",), "own_loop"),
    "X-Loop names us": (("X-Loop: support@shop.test",), "own_loop"),
    "from ourselves": (("From: Support+tx@SHOP.test",), "own_loop"),
    "our own Message-ID": (("Message-ID: <t.abcdefghijklmnopqrstuvwxyz.abcdefgh@shop.test>",), "own_loop"),
}


@pytest.mark.parametrize(("headers", "automatic"), AUTOMATIC.values(), ids=AUTOMATIC)
def test_automatic(headers: tuple[str, ...], automatic: str) -> None:
    assert one(mail(*headers), domain="shop.test").automatic == automatic


ATTACHED = b"Content-Type: message/rfc822\r\n\r\nFrom: Carl <carl@other.test>\r\nSubject: Lamp\r\n\r\nBroken.\r\n"
FORWARDS = {  # subject, attached mails -> whose mail it says it is, and its words
    "one": ("Fwd: Lamp", [ATTACHED], "carl@other.test", "Broken."),
    "several": ("Fwd: Lamp", [ATTACHED, ATTACHED], "", ""),
    "no forward": ("Lamp", [ATTACHED], "", ""),
    "of nobody": ("Fwd: Lamp", [ATTACHED.replace(b"carl@other.test", b"")], "", ""),
    "of two": ("Fwd: Lamp", [ATTACHED.replace(b"From: ", b"From: bob@other.test, ")], "", ""),
    "in base64": (
        "Fwd: Lamp",
        [
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(ATTACHED.partition(b"\r\n\r\n")[2])
        ],
        "carl@other.test",
        "Broken.",
    ),
}


@pytest.mark.parametrize(("subject", "attached", "author", "words"), FORWARDS.values(), ids=FORWARDS)
def test_a_mail_forwarded_as_a_file(subject: str, attached: list[bytes], author: str, words: str) -> None:
    parts = b"".join(b"--b\r\n" + part + b"\r\n" for part in (b"\r\nFYI", *attached)) + b"--b--\r\n"
    head = f"From: ann@customer.test\r\nSubject: {subject}\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    event = one(head.encode() + parts)
    said = event.context.forwarded_from
    assert (said.addresses[0].value if said is not None else "") == author
    assert event.context.metadata.get("forwarded_text", "") == words
    assert event.text == "FYI"


def test_the_same_mail_by_another_way_has_the_same_id() -> None:
    raw = FILES["plain"]
    again = b"Received: from relay.test\r\nX-Forwarded-To: help@shop.test\r\n" + raw
    encoded = again.replace(b"Content-Transfer-Encoding: 8bit", b"Content-Transfer-Encoding: base64")
    head, _, body = encoded.partition(b"\r\n\r\n")
    in_base64 = head + b"\r\n\r\n" + base64.encodebytes(body)
    by_a_list = in_base64 + b"\r\n____\r\nThe list of all: all@list.test\r\n"
    assert one(raw).id == one(again).id == one(in_base64).id == one(by_a_list).id
    assert one(raw).id != one(raw.replace(b"parcel?", b"parcel!")).id


def test_one_mail_to_two_of_our_addresses_notes_both() -> None:
    event = one(mail(), ENVELOPE | {"envelope-to": "help@shop.test support@shop.test"})
    assert event.own_address == "help@shop.test"
    assert event.context.metadata["envelope_to"] == ["help@shop.test", "support@shop.test"]


ENVELOPES = {  # Return-Path line, envelope -> (envelope sender, whether it is nobody's)
    "SMTP": ("", {"envelope-from": "b@x.test"}, ("b@x.test", False)),
    "SMTP, from nobody": ("", {"envelope-from": ""}, ("", True)),
    "SMTP knows better": ("Return-Path: <>\r\n", {"envelope-from": "b@x.test"}, ("b@x.test", False)),
    "a mailbox": ("Return-Path: <B@x.test>\r\n", {}, ("b@x.test", False)),
    "a mailbox, from nobody": ("Return-Path: <>\r\n", {}, ("", True)),
    "a mailbox that does not say": ("", {}, ("", False)),
}


@pytest.mark.parametrize(("line", "envelope", "expected"), ENVELOPES.values(), ids=ENVELOPES)
def test_the_envelope_sender(line: str, envelope: dict[str, str], expected: tuple[str, bool]) -> None:
    event = one(f"{line}From: ann@x.test\r\nTo: support@shop.test\r\n\r\nHi".encode(), envelope)
    assert (event.context.metadata["envelope_from"], "null_sender" in event.flags) == expected


WRITTEN_TO = {  # header lines, envelope -> the address of ours that was meant
    "the envelope": ("To: help@shop.test", "help@shop.test", "help@shop.test"),
    "in Bcc": ("To: ann@x.test", "help@shop.test", "help@shop.test"),
    "forwarded to us": ("To: help@shop.test", "support@shop.test", "help@shop.test"),
    "a mailbox, by To": ("To: help@shop.test", None, "help@shop.test"),
    "a mailbox, in Bcc": ("To: x@x.test\r\nDelivered-To: help@shop.test", None, "help@shop.test"),
    "a mailbox, before its alias": ("To: x@x.test\r\nX-Original-To: help+t1@shop.test", None, "help@shop.test"),
    "nobody of ours": ("To: x@x.test", None, ""),
}


@pytest.mark.parametrize(("lines", "to", "meant"), WRITTEN_TO.values(), ids=WRITTEN_TO)
def test_which_of_our_addresses_was_written_to(lines: str, to: str | None, meant: str) -> None:
    envelope = {} if to is None else ENVELOPE | {"envelope-to": to}
    event = one(f"From: ann@x.test\r\n{lines}\r\n\r\nHi".encode(), envelope)
    assert (event.own_address, event.sender.addresses[0].value) == (meant, "ann@x.test")


def test_an_address_of_another_account_is_not_the_one_that_answers() -> None:
    event = one(b"From: ann@x.test\r\nTo: help@shop.test\r\n\r\nHi", {}, addresses="support@shop.test")
    assert (event.own_address, event.recipients) == ("", ())


def test_a_clock_ahead_does_not_reach_into_the_future() -> None:
    assert one(mail("Date: Fri, 1 Jan 2038 00:00:00 +0000")).at == NOW


@pytest.mark.parametrize("name", FILES)
def test_truncated_anywhere_it_never_raises(name: str) -> None:
    raw = FILES[name]
    for end in range(0, len(raw), 97):
        events = normalize(received(raw[:end], options={"authserv_id": "mx.test", "delimiter": "reply above"}))
        assert events
        assert not any(isinstance(event, Unreadable) for event in events)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.binary(max_size=30), st.integers(0, 3000), st.integers(0, 60))
def test_spoilt_anywhere_it_never_raises(name: str, put: bytes, at: int, cut: int) -> None:
    raw = FILES[name]
    events = normalize(received(raw[:at] + put + raw[at + cut :]))
    assert events
    assert not any(isinstance(e, Unreadable) and "Error" in e.problem for e in events)


# --- the adapter ------------------------------------------------------------------------------------------------------


def adapter() -> EmailAdapter:
    return EmailAdapter(ACCOUNT, Settings("Support@shop.test", authserv_id=("mx.test", "mx2.test")), None)  # type: ignore[arg-type]


def test_the_account_knows_itself() -> None:
    account = adapter().account
    assert account.own_addresses == OWN
    assert account.options == {
        "addresses": "support@shop.test",
        "authserv_id": "mx.test mx2.test",
        "domain": "shop.test",
    }


async def test_files_are_fetched_from_the_kept_mail() -> None:
    event = one(FILES["alternative_with_image"])
    raw = FILES["alternative_with_image"]
    chunks = [b"".join([chunk async for chunk in adapter().fetch(a, raw)]) for a in event.attachments]
    assert chunks == [b"\x89PNG\r\n\x1a\n", b"%PDF-1.4\n"]
    with pytest.raises(MediaError):
        _ = [chunk async for chunk in adapter().fetch(Attachment(kind="file", ref="part:9"), raw)]


def test_mail_has_no_webhook() -> None:
    with pytest.raises(VerificationError):
        adapter().verify(Callback("POST", "", "", {}, {}, b""))


def test_settings_refuse_what_is_no_address() -> None:
    with pytest.raises(ValueError, match=r"^aliases: 'nobody' is not a mail address$"):
        Settings("support@shop.test", aliases=("nobody",))


OUTBOUND = OutboundMessage(
    id="m1",
    key="k1",
    account="mail",
    channel="email",
    to=(person("ann@customer.test"),),
    text="Hello",
    mail=MailHeaders(subject="Your order", message_id="<t.abc@shop.test>"),
)

CASE = AdapterCase(
    adapter=EmailAdapter,
    settings={"address": "support@shop.test"},
    message=FILES["plain"],
    unknown_kind=FILES["encrypted"],
    headers=ENVELOPE,
)
