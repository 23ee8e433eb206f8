"""Who wrote the mail that a forward brings: as its quoted headers say, or the mail attached to it. Only a claim."""

from __future__ import annotations

from dataclasses import dataclass

from normalizers._mime import Part
from normalizers._mime_body import body_of
from normalizers._mime_text import Mailbox, mailboxes
from normalizers._mime_unpack import read_mail
from normalizers._quotes import forwarded_from

ATTACHED_MAX = 4 * 2**20  # bytes read of a mail that came as a file
TEXT_MAX = 64 * 1024  # characters kept of its text


@dataclass(frozen=True, slots=True)
class Forward:
    """The mail's author, and its text where it came as a file; else it stands below the quoted headers."""

    author: Mailbox
    attached_text: str = ""


def read_forward(root: Part, text: str) -> Forward | None:
    """What a forward brings; None where it does not say who wrote it, or brings several mails as files."""
    if written := mailboxes(forwarded_from(text)):
        return Forward(written[0])
    attached = [part for part in root.leaves() if part.media_type == "message/rfc822"]
    if len(attached) != 1:
        return None
    mail = read_mail(attached[0].decoded()[:ATTACHED_MAX])
    authors = mailboxes(mail.headers.get("from"))
    return Forward(authors[0], body_of(mail).text[:TEXT_MAX]) if len(authors) == 1 else None
