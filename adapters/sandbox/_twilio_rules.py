"""Twilio's own rules and answers, as the simulator keeps them: refusals, keywords, the message resource.

Sources: Twilio, "Message resource", "Error and Warning Dictionary", support for opt-out keywords, 2026-09.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from aiohttp import web
from multidict import MultiDictProxy

from adapters._segments import count
from adapters.sandbox._twilio_whatsapp import PREFIX, WhatsAppWorld

API: Final = "/2010-04-01/Accounts/{account}"
_STOP: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
_START: Final = frozenset({"START", "UNSTOP", "YES"})
_HELP: Final = frozenset({"HELP", "INFO"})
_REFUSALS: Final[Mapping[int, str]] = {
    20404: "The requested resource was not found",
    21211: "The 'To' number is not a valid phone number.",
    21602: "Message body is required.",
    21603: "A 'From' phone number is required.",
    21604: "A 'To' phone number is required.",
    21606: "The 'From' phone number provided is not a valid message-capable Twilio phone number.",
    21609: "The 'StatusCallback' URL is not a valid URL.",
    21610: "Attempt to send to unsubscribed recipient",
    21614: "'To' number is not a valid mobile number",
    21617: "The concatenated message body exceeds the 1600 character limit",
    21620: "Invalid media URL(s)",
    21656: "The Content Variables parameter is invalid.",
    63007: "Twilio could not find a Channel with the specified From address",
    21623: "Number of media files exceeds allowed limit.",
    21701: "The Messaging Service does not exist.",
}


class Refused(Exception):
    """A call the platform does not take."""

    def __init__(self, code: int, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.status = code, status


def refusal(refused: Refused) -> web.Response:
    """The API's answer to what it does not take."""
    return error(refused.code, refused.status, _REFUSALS.get(refused.code, "Authenticate"))


def error(code: int, status: int, message: str) -> web.Response:
    """The API's answer when something is wrong."""
    more = f"https://www.twilio.com/docs/errors/{code}"
    return web.json_response({"code": code, "message": message, "more_info": more, "status": status}, status=status)


def keyword(text: str) -> Literal["STOP", "START", "HELP", ""]:
    """Which keyword the whole message is, if any."""
    word = text.strip().upper()
    return "STOP" if word in _STOP else "START" if word in _START else "HELP" if word in _HELP else ""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """The fields of a send."""

    to: str
    sender: str
    service: str
    body: str
    callback: str
    media: tuple[str, ...]
    content: str = ""  # ContentSid
    variables: str = ""
    action: str = ""  # PersistentAction
    smart: bool = False

    @classmethod
    def read(cls, form: MultiDictProxy[Any]) -> Self:
        """From the request's form."""

        def field(name: str) -> str:
            return str(form.get(name, ""))

        return cls(
            to=field("To"),
            sender=field("From"),
            service=field("MessagingServiceSid"),
            body=field("Body"),
            callback=field("StatusCallback"),
            media=tuple(map(str, form.getall("MediaUrl", []))),
            content=field("ContentSid"),
            variables=field("ContentVariables"),
            action=field("PersistentAction"),
            smart=field("SmartEncoded") == "true",
        )

    def check(self, numbers: tuple[str, ...], services: Mapping[str, tuple[str, ...]], whatsapp: WhatsAppWorld) -> None:
        """Raise the first refusal, in the order in which Twilio is known to look."""
        to, sender, service = self.to, self.sender, self.service
        chat = to.startswith(PREFIX)
        if chat and (code := whatsapp.refuse(to, sender, self.content, self.variables)):
            raise Refused(code)
        known_sender = sender in numbers or any(sender in pool for pool in services.values())
        checks = (
            (not to, 21604),
            (
                not chat and not (to[:1] == "+" and to[1:].isdecimal() and 8 <= len(to) <= 16) and not to.isdecimal(),
                21211,
            ),
            (not sender and not service, 21603),
            (bool(service) and service not in services, 21701),
            (bool(sender) and not chat and not known_sender, 21606),
            (not self.body and not self.media and not self.content, 21602),
            (len(self.body.encode("utf-16-le")) // 2 > 1600, 21617),
            (len(self.media) > (1 if chat else 10), 21623),
            (not all(map(_is_address, self.media)), 21620),
            (bool(self.callback) and not _is_address(self.callback), 21609),
        )
        for wrong, code in checks:
            if wrong:
                raise Refused(code)


def _is_address(url: str) -> bool:
    """http or https with a host; Twilio takes no underscore in a host name."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "_" not in str(parts.hostname)


def resource(
    account: str, sid: str, *, direction: str, sender: str, to: str, body: str, status: str, service: str, files: int
) -> dict[str, Any]:
    """The message as the API shows it. Numbers are texts, times RFC 2822."""
    now = format_datetime(datetime.now(UTC))
    return {
        "sid": sid,
        "account_sid": account,
        "api_version": "2010-04-01",
        "body": body,
        "date_created": now,
        "date_sent": now,
        "date_updated": now,
        "direction": direction,
        "error_code": None,
        "error_message": None,
        "from": sender,
        "messaging_service_sid": service or None,
        "num_media": str(files),
        "num_segments": "0" if service else str(count(body).segments),
        "price": None,
        "price_unit": "USD",
        "status": status,
        "subresource_uris": {},
        "to": to,
        "uri": f"{API.format(account=account)}/Messages/{sid}.json",
    }
