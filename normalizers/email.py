"""Mail as it came by SMTP, to events. Sources: RFC 5321, 5322, 2045-2047, 3464, 3834, 5965, 8601.

`Received.body` is the raw mail; `Received.headers` is the envelope: `envelope-from`, `envelope-to` (in order, separated
by blanks), `peer`, `helo`; of a mail read from a mailbox there is none. `incomplete` says why the body is only the
beginning of the mail. `Account.own_addresses` are the support addresses of all mail accounts, lower case. Options:
`addresses` (those of this account alone), `authserv_id` (whose Authentication-Results count), both separated by blanks;
`delimiter` (the line our mails open with),
`domain` (of our Message-IDs).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC

from normalizers import _bounces
from normalizers._authentication import is_aligned
from normalizers._bounces import Report
from normalizers._fields import clean, digest
from normalizers._forwards import read_forward
from normalizers._mime import Headers
from normalizers._mime_body import Body, body_of
from normalizers._mime_text import (
    Mailbox,
    canonical,
    decode_words,
    mail_date,
    mailboxes,
    message_ids,
    own_form,
    references,
    untagged,
)
from normalizers._mime_unpack import read_mail
from normalizers._quotes import bare_subject, is_forward, short_html_text, short_text
from normalizers.model import (
    Address,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Event,
    Evidence,
    Ignored,
    InboundMessage,
    MessageKind,
    Person,
    PlatformError,
    Received,
    Thread,
    Unreadable,
    Unsupported,
)

CHANNEL = "email"
RECIPIENTS_MAX = 100
SUBJECT_MAX = 998  # characters
_TRACES = ("x-original-to", "x-forwarded-to", "delivered-to")
_DELIVERED_TO = (*_TRACES, "to", "cc")
_QUOTED_LINE = re.compile(r"^[ \t]*>", re.MULTILINE)
_LANGUAGE = re.compile(r"\s*([A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3})")
_OWN_ID = re.compile(r"t\.[a-z2-7]{26}\.[a-z2-7]{6,16}@(.+)", re.IGNORECASE)


def normalize(received: Received) -> tuple[Event, ...]:
    """A mail as one message, or as what a machine reports: delivery updates, a read receipt, a complaint.

    Never raises: a mail that no reader survives is `Unreadable`. One in which nobody can be found who wrote it is from
    a placeholder and flagged `no_sender`.
    """
    try:
        return _Mail(received).events()
    except Exception as error:  # RecursionError and MemoryError too: the raw mail is kept, to be read after a fix
        return (_unreadable(received, f"{type(error).__name__}: {clean(str(error))[:200]}"),)


def _unreadable(received: Received, problem: str) -> Unreadable:
    return Unreadable(id=digest(received.body), at=received.received_at, channel=CHANNEL, path="$", problem=problem)


@dataclass(frozen=True, slots=True)
class _Sender:
    box: Mailbox
    flags: tuple[str, ...]
    evidence: Evidence

    @property
    def address(self) -> Address:
        if "no_sender" in self.flags:
            return Address(CHANNEL, "anonymous", self.box.address, evidence=self.evidence)
        return _address(self.box.address, self.evidence)


class _Mail:
    """One mail being read."""

    def __init__(self, received: Received) -> None:
        self.received = received
        self.root = read_mail(received.body)
        self.headers: Headers = self.root.headers
        self.own = received.account.own_addresses
        self.options = received.account.options
        returned_to = self.headers.get("return-path").strip()  # where a mailbox's server writes the envelope's sender
        self.envelope_from = received.headers.get("envelope-from", returned_to)
        self.envelope_to = tuple(map(canonical, received.headers.get("envelope-to", "").split()[:RECIPIENTS_MAX]))
        named = "envelope-from" in received.headers or bool(returned_to)
        self.null_sender = named and self.envelope_from in ("", "<>")
        self.subject = decode_words(self.headers.get("subject"))[:SUBJECT_MAX]

    def events(self) -> tuple[Event, ...]:
        claimed = mailboxes(self.headers.get("from"))
        report = _bounces.find_report(
            self.root,
            claimed[0].address if claimed else "",
            null_sender=self.null_sender or self.headers.get("return-path") == "<>",
            raw=self.received.body,
        )
        if report is not None and (events := tuple(self.report_events(report))):
            return events
        return (self.message(self.sender(claimed), report=report is not None),)

    # --- reports ------------------------------------------------------------------------------------------------------

    def report_events(self, report: Report) -> Iterator[Event]:
        received = self.received
        tokens = tuple(dict.fromkeys((*self.tokens([self.envelope_to], "b"), *self.tokens([self.envelope_to]))))
        if report.kind == "bounce" and (report.original or tokens):
            for failure in report.failures or (_bounces.Failure("", "failed"),):
                yield self.delivery_update(report.original, failure, tokens)
        elif report.kind == "read" and report.original:
            yield DeliveryUpdate(
                id=f"{report.original}#read#{report.recipient}",
                at=received.received_at,
                channel=CHANNEL,
                status="read",
                target=report.original,
                tokens=tokens,
                recipient=_address(report.recipient) if report.recipient else None,
            )
        elif report.kind == "complaint" and report.recipient:
            yield ConsentChange(
                id=f"{report.original or digest(received.body)}#complaint#{report.recipient}",
                at=received.received_at,
                channel=CHANNEL,
                person=Person((_address(report.recipient),)),
                state="opted_out",
                scope="automatic",
                source="complaint",
            )
        elif report.kind != "bounce":  # one that names nothing is shown to a person, flagged
            reason = f"a report ({report.kind}) that names no message or recipient"
            yield Ignored(id=digest(received.body), at=received.received_at, channel=CHANNEL, reason=reason)

    def delivery_update(self, original: str, failure: _bounces.Failure, tokens: tuple[str, ...]) -> DeliveryUpdate:
        """One recipient's fate (RFC 3464, Action). A delay is no failure: the message is still on its way."""
        match failure.action:
            case "delivered":
                status, error = "delivered", None
            case "relayed" | "expanded":
                status, error = "sent", None
            case "delayed":
                status = "queued"
                error = PlatformError(failure.status or "4.0.0", "delayed", failure.detail, final=False)
            case _:
                status = "failed"
                error = PlatformError(failure.status or "5.0.0", failure.action, failure.detail)
        return DeliveryUpdate(
            id=f"{original or ' '.join(tokens)}#{failure.recipient}#{failure.action}",
            at=self.received.received_at,
            channel=CHANNEL,
            status=status,  # type: ignore[arg-type]
            target=original,
            tokens=tokens,
            recipient=_address(failure.recipient) if failure.recipient else None,
            error=error,
        )

    # --- messages -----------------------------------------------------------------------------------------------------

    def sender(self, claimed: tuple[Mailbox, ...]) -> _Sender:
        """Who wrote: the From header, never Reply-To. Only when it names nobody, whoever else is named, flagged."""
        flags: list[str] = []
        if not claimed:
            others = (self.headers.get("sender"), self.envelope_from, self.headers.get("reply-to"))
            claimed = next((found for value in others if (found := mailboxes(clean(value)))), ())
            flags.append("sender_guessed")
        if not claimed:  # one placeholder for each mail: never merged, never written to
            nobody = f"{digest(self.received.body)[:32]}@no-sender.invalid"
            return _Sender(Mailbox("", nobody, nobody), ("no_sender",), "claimed")
        if len(claimed) > 1 or len(self.headers.all("from")) > 1:
            flags.append("several_senders")
        trusted = self.options.get("authserv_id", "").split()
        if flags:
            evidence: Evidence = "claimed"
        elif not trusted:
            evidence = "attested"
            flags.append("unchecked")
        elif is_aligned(self.headers, trusted, claimed[0].address):
            evidence = "attested"
        else:
            evidence = "claimed"
            flags.append("unaligned")
        return _Sender(claimed[0], tuple(flags), evidence)

    def message(self, sender: _Sender, *, report: bool = False) -> InboundMessage:
        received, headers = self.received, self.headers
        body = body_of(self.root)
        thread = self.thread()
        text, full_text = self.texts(body, answers=bool(thread.tokens or thread.references))
        seal = self.seal(body)
        ids = message_ids(headers.get("message-id"))
        message_id = ids[0] if ids else f"{seal}@no-message-id.invalid"
        date = mail_date(headers.get("date"))
        reply_to = tuple(box for box in mailboxes(headers.get("reply-to")) if not self.is_own(box.address))
        to, cc = (mailboxes(", ".join(headers.all(name)))[:RECIPIENTS_MAX] for name in ("to", "cc"))
        forwarded = is_forward(self.subject)
        forward = read_forward(self.root, full_text) if forwarded else None
        return InboundMessage(
            id=f"{message_id}#{seal[:16]}",
            at=min(date or received.received_at, received.received_at),  # a clock ahead must not reorder a thread
            channel=CHANNEL,
            path="$",
            sender=Person(
                (sender.address,),
                name=sender.box.name,
                handle=sender.box.written if sender.box.written != sender.box.address else "",
                language=self.language(),
            ),
            kind=_kind(text, body),
            text=text,
            html=body.html,
            full_text=full_text if full_text != text else "",
            subject=self.subject,
            attachments=body.attachments,
            content=Unsupported("encrypted") if _sealed(text, body) else None,
            context=Context(
                reply_to=next(iter(message_ids(headers.get("in-reply-to"))), ""),
                forwarded=forwarded,
                forwarded_from=_person(forward.author) if forward is not None else None,
                metadata={
                    "message_id": message_id,
                    "reply_to": ", ".join(box.address for box in reply_to),
                    "date": date.astimezone(UTC).isoformat() if date is not None else "",
                    "to": [box.address for box in to if not self.is_own(box.address)],
                    "cc": [box.address for box in cc],
                    "envelope_from": canonical(self.envelope_from.strip("<>")) if "@" in self.envelope_from else "",
                    "envelope_to": list(self.envelope_to),
                }
                | ({"loop_token": headers.get(_bounces.LOOP_HEADER)[:200]} if _bounces.LOOP_HEADER in headers else {})
                | ({"forwarded_text": forward.attached_text} if forward is not None and forward.attached_text else {}),
            ),
            thread=thread,
            recipients=self.others((*to, *cc), sender.box.address),
            automatic=self.automatic(sender.box.address),
            own_address=self.own_address(),
            answer_to=tuple(_address(box.address) for box in reply_to[:10] if box.address != sender.box.address),
            flags=(*sender.flags, *self.flags(sender, report=report), *body.flags),
        )

    def texts(self, body: Body, *, answers: bool) -> tuple[str, str]:
        """The short text and the full one. Structure in the HTML helps where the plain text shows no quotation."""
        full = body.text
        if is_forward(self.subject):
            return full, full
        delimiter = self.options.get("delimiter", "")
        answers = answers or bare_subject(self.subject) != self.subject
        short = short_text(full, delimiter, answers=answers)
        if answers and body.raw_html and not _QUOTED_LINE.search(full) and (marked := short_html_text(body.raw_html)):
            marked = short_text(marked, delimiter)
            short = marked if len(marked) < len(short) else short
        return short, full

    def seal(self, body: Body) -> str:
        """A hash over what the customer wrote; what relays add or change on the way is left out."""
        seal = hashlib.sha256()
        for name in ("from", "date", "subject"):
            seal.update(" ".join(self.headers.get(name).split()).encode() + b"\0")
        for content in body.digests:
            seal.update(content)
        return seal.hexdigest()[:32]

    def thread(self) -> Thread:
        groups = [self.envelope_to]
        groups += [tuple(box.address for box in mailboxes(", ".join(self.headers.all(n)))) for n in _DELIVERED_TO]
        return Thread(
            kind="mail",
            tokens=tuple(dict.fromkeys(self.tokens(groups)))[:20],
            references=references(self.headers.get("in-reply-to"), self.headers.get("references")),
        )

    def tokens(self, groups: Iterable[Iterable[str]], mark: str = "t") -> Iterator[str]:
        """The sealed tokens in addresses of ours (support+t{token}@..., bounces with b), in order. Unchecked."""
        for addresses in groups:
            for address in addresses:
                base, tag = untagged(address)
                if own_form(base, self.own) and tag[:1] == mark and tag[1:]:
                    yield tag[1:]
                elif mark == "b" and tag and base.startswith("b@"):
                    yield tag

    def is_own(self, address: str) -> bool:
        return bool(own_form(address, self.own))

    def own_address(self) -> str:
        """Which of this account's addresses the customer wrote to.

        The envelope says it, also when we stand in Bcc. But where a forward brought the mail (a support address outside
        of our own servers), the envelope only holds its target, and what the customer wrote stands in the headers.
        """
        own = frozenset(self.options.get("addresses", "").split()) or self.own
        sent = [form for address in self.envelope_to if (form := own_form(address, own))]
        written = list(self.named_as(("to", "cc"), own))
        if sent and (not written or not set(sent).isdisjoint(written)):
            return sent[0]
        return next(iter([*written, *sent, *self.named_as(_TRACES, own)]), "")

    def named_as(self, headers: Iterable[str], own: frozenset[str]) -> Iterator[str]:
        """Addresses of ours in these headers, in order."""
        for name in headers:
            for box in mailboxes(", ".join(self.headers.all(name))):
                if form := own_form(box.address, own):
                    yield form

    def others(self, named: Iterable[Mailbox], sender: str) -> tuple[Address, ...]:
        """Who else got the mail: To and Cc without us, the sender and machines."""
        found: dict[str, None] = {}
        for box in named:
            if box.address != sender and not self.is_own(box.address) and not _bounces.answers_nobody(box.address):
                found[box.address] = None
        return tuple(_address(address) for address in list(found)[:RECIPIENTS_MAX])

    def automatic(self, sender: str) -> str:
        own_id = next((_OWN_ID.fullmatch(entry) for entry in message_ids(self.headers.get("message-id"))), None)
        domain = self.options.get("domain", "").lower()
        return _bounces.automatic(
            self.headers,
            sender,
            self.subject,
            self.own,
            own_id=own_id is not None and bool(domain) and own_id[1].lower() == domain,
            null=self.null_sender,
        )

    def flags(self, sender: _Sender, *, report: bool) -> Iterator[str]:
        if self.null_sender:
            yield "null_sender"
        if report:
            yield "report"
        if _bounces.is_daemon(sender.box.address):
            yield "system_sender"
        if _bounces.is_spam(self.headers):
            yield "spam"
        if "incomplete" in self.received.headers:
            yield "incomplete"
        named = [box.address for name in ("to", "cc") for box in mailboxes(", ".join(self.headers.all(name)))]
        if ("to" in self.headers or named) and not any(map(self.is_own, named)):
            yield "not_addressed"  # in Bcc, or over a list: no machine should answer (RFC 3834, 2)
        if _bounces.wants_no_answer(self.headers):
            yield "no_auto_answer"

    def language(self) -> str:
        match = _LANGUAGE.match(self.headers.get("accept-language") or self.headers.get("content-language"))
        return match[1] if match is not None else ""


def _address(address: str, evidence: Evidence = "claimed") -> Address:
    return Address(CHANNEL, "email", address, "everywhere", evidence)


def _person(box: Mailbox) -> Person:
    return Person((_address(box.address),), name=box.name)


def _kind(text: str, body: Body) -> MessageKind:
    if _sealed(text, body):
        return "unsupported"
    return body.attachments[0].kind if body.attachments and not text and not body.html else "text"


def _sealed(text: str, body: Body) -> bool:
    """Only whom it is encrypted for can read it: the agent sees that something came."""
    return "encrypted" in body.flags and not text and not body.html
