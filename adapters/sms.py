"""SMS and MMS through Twilio.

Sources: Twilio, "Message resource", "How long can a message be?", "Accepted content types for media", "Advanced
Opt-Out", "Understanding Twilio rate limits and message queues", 2026-09.

A send whose answer was lost is settled by its status callback, which brings our id, or by the account's list of
messages (`_twilio_find`). MMS goes to the countries that have it; elsewhere a file travels as a link in the text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import phonenumbers

from adapters._base import Adapter
from adapters._channel import Channel, Keywords, Limits, MediaRule, Pace
from adapters._errors import SendError
from adapters._http import Http
from adapters._twilio import API_BASE, ERRORS, Form
from adapters._twilio_account import TwilioAccount, senders_of
from config.secret import Secret
from normalizers import sms
from normalizers.model import Account, Event, OutboundFile, OutboundMessage, Received

_MB, _KB = 1_000_000, 1000  # bytes

MMS_COUNTRIES: Final = frozenset({"US", "CA", "AU"})
"""Where numbers take pictures. Source: Twilio, Message resource and MMS geography, 2026-09."""

ONE_WAY_COUNTRIES: Final = frozenset({"US", "CA"})
"""Where a name may not be the sender. Source: Twilio, alphanumeric sender ids, 2026-09."""

_TWILIOS_STOP = {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"}
_OUR_STOP = {
    "stop all", "opt out", "opt-out", "arret", "arrêt", "stopp", "abmelden", "afmelden", "alto", "baja", "parar",
    "sair",
}  # fmt: skip
"""Clear requests that Twilio does not take by itself: ours, as the law asks to honour any."""

KEYWORDS: Final = Keywords(
    stop=frozenset(_TWILIOS_STOP | _OUR_STOP),
    start=frozenset({"start", "unstop"}),
    help=frozenset({"help", "info", "aide", "ayuda", "hilfe"}),
    start_only_if_opted_out=frozenset({"yes"}),
    scope="all",
    source="Twilio, support for opt-out keywords, 2026-03; further words are our own",
)

CHANNEL: Final = Channel(
    name="sms",
    title="SMS",
    limits=Limits(
        text_max=1600,
        text_unit="gsm",
        split=True,
        caption_max=1600,
        segment_max=10,
        files_per_message=10,
        fetches="http",
        media=(
            MediaRule("image", ("image/jpeg", "image/png", "image/gif"), 5 * _MB),
            MediaRule("image", ("image/*",), 500 * _KB),
            MediaRule("audio", ("audio/*",), 500 * _KB),
            MediaRule("video", ("video/*",), 500 * _KB),
            MediaRule(
                "file",  # (assumed: of all further types, the ones handsets open)
                ("application/pdf", "text/vcard", "text/x-vcard", "text/calendar", "text/csv", "text/rtf"),
                500 * _KB,
            ),
        ),
        total_bytes=5 * _MB,
        source="Twilio, Message resource and Accepted content types for media, 2026-09",
    ),
    pace=Pace(
        per_second=1.0,
        unit="segment",
        source="Twilio, rate limits and message queues: a US long code, 2026-09; more for other senders, set by `rate`",
    ),
    messaging=False,
    key="none",
    keywords=KEYWORDS,
    errors=ERRORS,
    retry="chat",
    receipts=("sent", "delivered"),
    address_kinds=("phone", "short_code"),
    proactive=True,
    attribute_of={"phone": "phone"},
    sources=(
        "Twilio, Message resource, 2026-09",
        "Twilio, Webhooks security, 2026-09",
        "Twilio, Error and Warning Dictionary, 2026-09",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """`number` is E.164, a short code or a sender name; with `messaging_service_sid` it picks a sender of the pool.

    `advanced_opt_out`: the service has Twilio's Advanced Opt-Out, so that Twilio alone says which words mean what.
    `smart_encoding`: Twilio replaces typographic characters by ones of GSM 7-bit.
    """

    account_sid: str
    auth_token: tuple[Secret, ...]
    number: str = ""
    messaging_service_sid: str = ""
    advanced_opt_out: bool = False
    smart_encoding: bool = False
    api_base: str = API_BASE

    def __post_init__(self) -> None:
        """Raises `ValueError` ("key: problem")."""
        if not any(self.auth_token):
            raise ValueError("auth_token: missing")
        if not self.number and not self.messaging_service_sid:
            raise ValueError("number: missing, and no messaging_service_sid in its place")
        number = sms.phone(self.number.strip())
        if re.fullmatch(r"[0-9]{9,}", re.sub(r"[\s().-]", "", number)):
            raise ValueError("number: must begin with + and the country code")
        if self.advanced_opt_out and not self.messaging_service_sid:
            raise ValueError(
                "advanced_opt_out: is a feature of a messaging service, and messaging_service_sid is missing"
            )
        object.__setattr__(self, "number", number)


class SmsAdapter(TwilioAccount):
    """One number, or one messaging service, of a Twilio account."""

    name: ClassVar[str] = "sms"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Settings]] = Settings

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        super().__init__(account, settings, http)
        self._settings = settings
        self.channels = (channel_for(settings),)  # type: ignore[misc]  # what the account's sender makes of it

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.sms`."""
        return sms.normalize(received)

    def form(self, message: OutboundMessage) -> Form:
        """The fields of a send. Raises `SendError` for what an SMS cannot be."""
        return form_for(message, self._settings)


def channel_for(settings: Settings) -> Channel:
    """What the sender makes of the channel: its pace, and whose words count. `rate` replaces the pace.

    Of a service's pool the numbers share the work, but how many there are is not known here: the pace of one.
    """
    number, pace = settings.number, CHANNEL.pace
    if _TOLL_FREE.match(number):
        pace = Pace(3.0, "Twilio, rate limits and message queues: toll-free, 2026-09", unit="segment")
    elif number and not number.startswith("+"):  # a short code or a name: at least, and more by contract
        pace = Pace(10.0, "Twilio, rate limits and message queues: short codes, 2026-09", unit="segment")
    keywords = CHANNEL.keywords
    if settings.advanced_opt_out:
        keywords = Keywords(scope="all", source="Twilio, Advanced Opt-Out, 2026-09")
    return replace(CHANNEL, pace=pace, keywords=keywords)


def form_for(message: OutboundMessage, settings: Settings) -> Form:
    """The request's fields. Raises `SendError` for what an SMS cannot be."""
    to = next((address.value for address in message.to if address.kind in CHANNEL.address_kinds), "")
    if not to:
        raise SendError("bad-recipient", "no-phone", "the person has no phone number")
    if message.content is not None or message.template is not None:
        raise SendError("permanent", "content", "an SMS is a text or files")
    country = _country(to)
    if country in ONE_WAY_COUNTRIES and settings.number and not _NUMBER.fullmatch(settings.number):
        raise SendError("permanent", "sender-name", f"a name may not be the sender in {country}; use a number")
    files = message.files or ((message.file,) if message.file else ())
    if not all(file.url for file in files):
        raise SendError("permanent", "no-media-address", "Twilio fetches files by a public address, and there is none")
    pictures = country in MMS_COUNTRIES and not _SHORT_CODE.fullmatch(to)
    text = unicodedata.normalize("NFC", message.text)
    if not pictures:
        text = _with_links(text, files)
    if not text and not files:
        raise SendError("permanent", "empty", "neither text nor media")
    form = [("To", to), *senders_of(settings, message.own_address)]
    if text:
        form.append(("Body", text))
    if pictures:
        form.extend(("MediaUrl", file.url) for file in files)
    if settings.smart_encoding:
        form.append(("SmartEncoded", "true"))
    if message.callback_url:
        form.append(("StatusCallback", message.callback_url))
    return form


_TOLL_FREE = re.compile(r"\+1(800|833|844|855|866|877|888)")
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
_NUMBER = re.compile(r"\+?[0-9]+")


def _country(number: str) -> str:
    """The country of an E.164 number, the largest of its code where it belongs to none; "" for a short code."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return ""
    found = phonenumbers.region_code_for_number(parsed)
    return found or phonenumbers.region_code_for_country_code(parsed.country_code or 0) or ""


def _with_links(text: str, files: tuple[OutboundFile, ...]) -> str:
    """The files as links below the text. Raises `SendError` when that is more than one message holds."""
    linked = "\n".join(filter(None, (text, *(file.url for file in files))))
    if files and len(linked.encode("utf-16-le")) // 2 > CHANNEL.limits.text_max:
        raise SendError("permanent", "links-too-long", "the text and the links to its files do not fit in one message")
    return linked


_: type[Adapter] = SmsAdapter
