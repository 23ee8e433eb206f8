"""The contract every adapter passes, built in or not: give `check` one `AdapterCase`.

CASE = AdapterCase(adapter=PigeonAdapter, settings={...}, sign=signed, message=NOTE, ...)

async def test_contract() -> None:
    await check(CASE)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters._base import Adapter, Callback
from normalizers.model import Account, OutboundMessage

__all__ = ["AdapterCase", "check"]


@dataclass(frozen=True, slots=True)
class AdapterCase:
    """What the contract suite must know of one adapter.

    `settings` is an `[[accounts]]` block without id and adapter, as TOML would give it; `{base}` in any text is
    replaced by the address of the suite's own faulty platform. `sign` wraps a body into a correctly signed callback, or
    is None for an adapter that no webhook reaches. Bodies are wire bytes.
    """

    adapter: type[Adapter]
    settings: Mapping[str, Any]
    message: bytes  # one inbound text message
    unknown_kind: bytes  # a message of a kind nobody knows; b"" for a platform with one kind only
    unknown_event: bytes | None = None  # an event nobody knows
    broken_item: bytes | None = None  # a batch of a good message and an item that breaks its format
    malformed: bytes = b"\xff{not at all"  # not the JSON or form it should be
    echo: bytes | None = None  # our own message coming back
    sign: Callable[[bytes], Callback] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # what `Received` carries beside the body
    outbound: OutboundMessage | None = None  # a text reply that leaves over HTTP
    success: bytes = b"{}"  # the platform's answer to it
    success_status: int = 200
    external_id: str = ""  # the id in that answer
    error_body: Callable[[int], bytes] | None = None  # the platform's error answer for an HTTP status
    secrets: tuple[str, ...] = ()  # texts that must never be seen, beside the secrets among the settings
    account: Account | None = None  # where the normaliser must know more than the account's id
    body_signed: bool = True  # False: the platform's signature does not cover the body
    signature_query: tuple[str, ...] = ()  # query parameters that carry the signature, where no header does


async def check(case: AdapterCase) -> None:
    """Raise `AssertionError` with a sentence for the first promise the adapter breaks."""
    from adapters._contract import CHECKS, run  # here, so that naming a case does not load the whole suite

    for name in CHECKS:
        await run(name, case)
