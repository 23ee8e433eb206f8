"""What an account of the adapter whatsapp is given, by whom WhatsApp is reached: Meta's Cloud API, or Twilio."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from adapters._twilio import API_BASE
from config.secret import Secrets

_GRAPH: Final = "https://graph.facebook.com/v23.0"
_TWILIO: Final = ("account_sid", "auth_token", "number", "messaging_service_sid")
_META: Final = ("phone_number_id", "access_token", "app_secret", "verify_token", "waba_id", "appsecret_proof")
_NEEDED: Final = {"meta": _META[:4], "twilio": _TWILIO[:2]}
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class Settings:
    """`provider` decides which of the others are needed.

    `waba_id`, the id of the WhatsApp business account, lets events about templates and the account find us, and is
    what the platform's list of templates is asked for. `number` is E.164.
    """

    provider: Literal["meta", "twilio"] = "meta"
    phone_number_id: str = ""
    access_token: Secrets = ()  # the first sends
    app_secret: Secrets = ()
    verify_token: Secrets = ()
    waba_id: str = ""
    appsecret_proof: bool = False  # the app demands the proof with each call
    account_sid: str = ""
    auth_token: Secrets = ()  # the first sends, all verify
    number: str = ""
    messaging_service_sid: str = ""
    api_base: str = ""

    @staticmethod
    def needed(given: Mapping[str, Any]) -> Iterable[str]:
        """The settings without a default that these others ask for."""
        provider = given.get("provider", "meta")
        return _NEEDED.get(provider, ()) if isinstance(provider, str) else ()

    def __post_init__(self) -> None:
        """Raises `ValueError` with one line ("key: problem") for each fault."""
        faults = list(self._faults())
        if faults:
            raise ValueError("\n".join(faults))
        object.__setattr__(self, "api_base", self.api_base or (_GRAPH if self.provider == "meta" else API_BASE))
        object.__setattr__(self, "number", _number(self.number))

    def _faults(self) -> Iterable[str]:
        other = _TWILIO if self.provider == "meta" else _META
        needed = _NEEDED[self.provider]
        for spec in fields(self):
            given = getattr(self, spec.name)
            if spec.name in needed and not (given if isinstance(given, str) else any(given)):
                yield f"{spec.name}: missing"
            elif spec.name in other and given:
                yield f'{spec.name}: is no setting of provider = "{self.provider}"'
        if self.provider == "meta":
            return
        if not self.number and not self.messaging_service_sid:
            yield "number: missing, and no messaging_service_sid in its place"
        elif self.number and not _E164.fullmatch(_number(self.number)):
            yield "number: must be + and the country code with the number"


def _number(given: str) -> str:
    return re.sub(r"[\s().-]", "", given.removeprefix("whatsapp:"))
