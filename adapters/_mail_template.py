"""The form of an account's mails: the content within a header, a footer and a brand, as HTML and as text."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from markupsafe import Markup
from msgspec.structs import replace

from adapters._text_template import OutputTooLong, Places, TemplateFault, TextTemplate
from normalizers._html import to_text
from normalizers.model import OutboundMessage

log = logging.getLogger(__name__)

_TEXTS = ("content", "header", "footer", "delimiter", "subject", "unsubscribe_url", "lang", "dir")
PLACES: Places = {
    **dict.fromkeys(_TEXTS, frozenset()),
    "ticket": frozenset({"number", "subject", "status"}),
    "contact": frozenset({"name", "language"}),
    "agent": frozenset({"name"}),
    "account": frozenset({"name", "address"}),
}
DELIMITER_MIN = 8  # characters: a shorter one would be found in what customers write
_PROBE = "\ue000content\ue000"  # no text holds it

DEFAULT_HTML = """\
<!DOCTYPE html>
<html lang="{{ lang }}" dir="{{ dir }}">
<head>
<meta http-equiv="Content-Type" content="text/html; charset=utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ subject }}</title>
</head>
<body dir="{{ dir }}" style="margin:0;padding:0;background-color:#f4f5f7">
{% if delimiter %}
<div class="reply-delimiter" style="padding:8px 16px;color:#8a8f98;font:12px/1.5 Arial,Helvetica,sans-serif">\
{{ delimiter }}</div>
{% endif %}
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" style="background-color:#f4f5f7">
<tr><td align="center" style="padding:24px 12px">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" style="max-width:600px;\
background-color:#ffffff;border:1px solid #e3e5e8;border-radius:8px">
{% if header %}
<tr><td style="padding:20px 28px;border-bottom:1px solid #e3e5e8;color:#1f2328;\
font:bold 16px/1.4 Arial,Helvetica,sans-serif">{{ header }}</td></tr>
{% endif %}
<tr><td style="padding:28px;color:#1f2328;font:15px/1.6 Arial,Helvetica,sans-serif">
{{ content }}
</td></tr>
{% if footer or unsubscribe_url %}
<tr><td style="padding:16px 28px;border-top:1px solid #e3e5e8;color:#6a7079;\
font:12px/1.5 Arial,Helvetica,sans-serif">{{ footer }}
{% if unsubscribe_url %}
{% if footer %}<br>{% endif %}<a href="{{ unsubscribe_url }}" style="color:#6a7079">Unsubscribe</a>
{% endif %}
</td></tr>
{% endif %}
</table>
</td></tr>
</table>
</body>
</html>
"""
DEFAULT_TEXT = """\
{% if delimiter %}
{{ delimiter }}

{% endif %}
{% if header %}
{{ header }}

{% endif %}
{{ content }}
{% if footer %}

--{{ " " }}
{{ footer }}
{% endif %}
{% if unsubscribe_url %}

Unsubscribe: {{ unsubscribe_url }}
{% endif %}
"""


@dataclass(frozen=True, slots=True)
class MailTemplate:
    """`template = { html = "file:reply.html", footer = "..." }`: the files' contents, or the texts themselves.

    Without `html` the built-in form is used. Without `text`, the text part is made from the HTML when that is the
    operator's own.
    """

    html: str = ""
    text: str = ""
    header: str = ""
    footer: str = ""
    delimiter: str = ""  # the line above which customers are asked to answer; none when empty

    def __post_init__(self) -> None:
        for key, source, html in (("html", self.html, True), ("text", self.text, False)):
            if not source:
                continue
            try:
                made = TextTemplate(source, PLACES, html=html)
            except TemplateFault as fault:
                raise ValueError(f"{key}: {fault}") from None
            shown = made.render({"content": Markup(_PROBE)})  # noqa: S704 - a constant of ours
            if _PROBE not in shown:
                raise ValueError(f"{key}: does not show {{{{ content }}}}, which is what is said")
        if self.delimiter and len(" ".join(self.delimiter.split())) < DELIMITER_MIN:
            raise ValueError(
                f"delimiter: shorter than {DELIMITER_MIN} characters, which customers may write themselves"
            )
        if "\n" in self.delimiter.strip():
            raise ValueError("delimiter: more than one line")


class Dress:
    """Puts messages into the form of one account."""

    def __init__(self, template: MailTemplate, name: str, address: str) -> None:
        self._template, self._account = template, {"name": name or address, "address": address}
        self._html = TextTemplate(template.html or DEFAULT_HTML, PLACES, html=True)
        own_text = template.text or ("" if template.html else DEFAULT_TEXT)
        self._text = TextTemplate(own_text, PLACES) if own_text else None

    def on(self, message: OutboundMessage, fields: Mapping[str, Mapping[str, str]]) -> OutboundMessage:
        """The message with HTML and text in their final form; as it was, where a template makes too much of it."""
        mail, template = message.mail, self._template
        if mail is None:
            return message
        common: dict[str, str | Mapping[str, str]] = {
            "header": template.header,
            "footer": template.footer,
            "delimiter": template.delimiter,
            "subject": fields.get("ticket", {}).get("subject", ""),
            "unsubscribe_url": mail.unsubscribe_url,
            "lang": fields.get("contact", {}).get("language") or "en",
            "dir": direction(message.text),
            "account": self._account,
            **{name: dict(texts) for name, texts in fields.items() if name in PLACES},
        }
        content = message.html or paragraphs(message.text)
        shown = {"header": _lines(template.header), "footer": _lines(template.footer)}
        try:
            # What an agent wrote was sanitised when it was accepted; plain text is escaped here.
            html = self._html.render({**common, **shown, "content": Markup(content)})  # noqa: S704
            text = (
                self._text.render({**common, "content": message.text}) if self._text else to_text(html, addresses=True)
            )
        except OutputTooLong:
            log.warning("mail.template_too_long", extra={"account": message.account})
            return message
        return replace(message, html=html, text=text.strip("\n"))


def paragraphs(text: str) -> str:
    """Plain text as HTML: blank lines part paragraphs, addresses of pages can be followed."""
    blocks = (block.strip("\n") for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")))
    return "\n".join(f'<p style="margin:0 0 1em">{_linked(block)}</p>' for block in blocks if block.strip())


_PAGE = re.compile(r"https?://[^\s<>\"]{1,2000}[^\s<>\".,;:!?)\]']")


def _linked(block: str) -> str:
    pieces: list[str] = []
    end = 0
    for found in _PAGE.finditer(block):
        pieces.append(escape(block[end : found.start()], quote=False))
        pieces.append(f'<a href="{escape(found[0])}">{escape(found[0], quote=False)}</a>')
        end = found.end()
    pieces.append(escape(block[end:], quote=False))
    return "".join(pieces).replace("\n", "<br>\n")


def _lines(text: str) -> Markup:
    return Markup("<br>\n").join(text.split("\n"))


def direction(text: str) -> str:
    """ "rtl" where the first letter with a direction is written from right to left (UAX #9, P2 and P3)."""
    for char in text[:2000]:
        kind = unicodedata.bidirectional(char)
        if kind in ("R", "AL"):
            return "rtl"
        if kind == "L":
            return "ltr"
    return "ltr"
