"""WhatsApp through Twilio: the Messages API with prefixed addresses, templates by their `ContentSid`.

Sources: Twilio, "Message resource", "WhatsApp API", "Content API", error 63016, 2026-09; limits of files: Meta,
WhatsApp Cloud API, Media, 2026-05. The 24-hour window and the rule for templates are WhatsApp's own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import msgspec

from adapters._base import Adapter
from adapters._channel import Channel, Limits, Pace
from adapters._errors import SendError
from adapters._interactive import ContentRefused
from adapters._template_places import unfit, words_of
from adapters._twilio import ERRORS, Form
from adapters._twilio_account import TwilioAccount, senders_of
from adapters._whatsapp_facts import CHANNEL as CLOUD
from adapters._whatsapp_facts import MEDIA
from adapters._whatsapp_settings import Settings
from normalizers import sms
from normalizers.model import Account, Event, Location, OutboundMessage, Received, Template

_SID = re.compile(r"HX[0-9a-f]{32}")
_MEDIA_BYTES: Final = 16_000_000  # (unverified: one page says 16 MB for WhatsApp, 5 MB for messaging in general)

CHANNEL: Final[Channel] = replace(
    CLOUD,
    limits=Limits(
        text_max=1600,
        text_unit="utf16",  # (assumed: as SMS are counted)
        caption_max=1024,
        fetches="http",
        media=tuple(replace(rule, max_bytes=min(rule.max_bytes, _MEDIA_BYTES)) for rule in MEDIA),
        source="Twilio, Message resource; WhatsApp API, 2026-09",
    ),
    pace=Pace(
        per_second=10,  # per sender, by an older FAQ; later raised (unverified): set by `rate`
        pair_seconds=CLOUD.pace.pair_seconds,
        pair_burst=CLOUD.pace.pair_burst,
        source="Twilio, WhatsApp best practices FAQ; Meta, WhatsApp Cloud API, Throughput, 2026-05",
    ),
    errors=ERRORS,
    contents=frozenset({"location"}),
    quotes=False,
    reactions=False,
    edits=False,
    sources=("Twilio, Message resource, 2026-09", "Twilio, Error and Warning Dictionary, 2026-09"),
)


class TwilioWhatsApp(TwilioAccount):
    """One WhatsApp sender, or one messaging service with such senders, of a Twilio account."""

    name: ClassVar[str] = "whatsapp"
    key_prefix: ClassVar[str] = "whatsapp:"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Settings]] = Settings

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.sms`, which reads whatever Twilio posts, and `normalizers._whatsapp_twilio`."""
        return sms.normalize(received)

    def check_content(self, message: OutboundMessage) -> None:
        """Pure. Raises `ContentRefused`. A template that is not in the catalogue here may be there when it leaves."""
        if message.template is not None:
            _check_template(message, message.template)

    def form(self, message: OutboundMessage) -> Form:
        """The fields of a send. Raises `SendError` for what cannot be said."""
        senders = [
            (name, f"whatsapp:{value}" if name == "From" else value)
            for name, value in senders_of(self._twilio, message.own_address)
        ]
        return form_for(message, senders, self.account)


def form_for(message: OutboundMessage, senders: Form, account: Account) -> Form:
    """The request's fields. Raises `SendError` for what cannot be said this way."""
    if message.thread.kind == "group":
        raise _refused("group", "a reply to a group is not supported")
    if message.reaction is not None:
        raise _refused("reaction", "Twilio sends no reactions")
    form = [("To", _recipient(message)), *senders]
    template = message.template or (message.content if isinstance(message.content, Template) else None)
    if template is not None:
        _check_template(message, template)
        form += _template(template, account)
    elif isinstance(message.content, Location):
        place = message.content
        action = f"geo:{place.latitude},{place.longitude}" + (f"|{place.name}" if place.name else "")
        form += [("Body", message.text or place.address or place.name or action), ("PersistentAction", action)]
    elif message.content is not None:
        raise _refused("content", f"{type(message.content).__name__} needs a template of Twilio's Content API")
    else:
        form += _words_and_file(message)
    if message.callback_url:
        form.append(("StatusCallback", message.callback_url))
    return form


def _recipient(message: OutboundMessage) -> str:
    found = {address.kind: address.value for address in reversed(message.to)}
    for kind in CHANNEL.address_kinds:
        if value := found.get(kind):
            return f"whatsapp:{value}"
    raise SendError("bad-recipient", "no-address", "neither a phone number nor a WhatsApp user id")


def _words_and_file(message: OutboundMessage) -> Form:
    files = (*filter(None, (message.file,)), *message.files)
    if len(files) > 1:
        raise _refused("files", "one file per message")
    if files and not files[0].url:
        raise _refused("no-media-address", "Twilio fetches files by a public address, and there is none")
    text = unicodedata.normalize("NFC", message.text)
    if not text and not files:
        raise _refused("empty", "nothing to send")
    return [*([("Body", text)] if text else []), *(("MediaUrl", file.url) for file in files)]


# --- templates --------------------------------------------------------------------------------------------------------


def _template(template: Template, account: Account) -> Form:
    """`ContentSid` from the configured catalogue, or the name itself when it is one. All places of a Twilio template
    share one list: texts are numbered from 1, and an object names them."""
    sid = template.name if _SID.fullmatch(template.name) else _sid_of(template, account)
    variables = _variables(template.parameters)
    form = [("ContentSid", sid)]
    if variables:
        form.append(("ContentVariables", msgspec.json.encode(variables).decode()))
    return form


def _check_template(message: OutboundMessage, template: Template) -> None:
    if message.file is not None or message.files:
        problem = "a file of a template is one of its variables: give its address there"
        raise ContentRefused(problem, "attachments", "template")
    _variables(template.parameters)


def _sid_of(template: Template, account: Account) -> str:
    for entry in account.templates:
        named = entry.get("name") == template.name
        spoken = template.language in ("", entry.get("language", template.language))
        if named and spoken and (sid := str(entry.get("sid", ""))):
            return sid
    raise _refused("no-content-sid", f"the template {template.name!r} has no sid in [[accounts.templates]]")


def _variables(given: tuple[str, ...] | Mapping[str, Any]) -> dict[str, str]:
    values: Any = given
    if isinstance(given, Mapping):
        if len(given) != 1 or not given.keys() <= {"body", "variables"}:
            raise unfit('Twilio numbers all places of a template in one row: give "body" or "variables"')
        values = next(iter(given.values()))
    if isinstance(values, Mapping):
        return {str(name): words_of(value) for name, value in values.items()}
    listed = values if isinstance(values, list | tuple) else (values,)
    return {str(place): words_of(value) for place, value in enumerate(listed, 1)}


def _refused(code: str, detail: str) -> SendError:
    return SendError("permanent", code, detail)


_: type[Adapter] = TwilioWhatsApp
