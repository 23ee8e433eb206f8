"""DKIM signatures on the very bytes that leave. Sources: RFC 6376, 8301 (RSA key sizes), 8058 section 4 (lists).

A signature counts for DMARC only where its domain is that of the From address, or the two are parent and child
(RFC 7489, 3.1.1; relaxed alignment). So each mail is signed by those keys whose domain fits its From, all of them:
while a key is changed, two selectors vouch for the same mail. RSA only: the library needs a further package for
Ed25519, and not every receiver checks such signatures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dkim
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from config.secret import Secret

BITS_MIN = 1024  # RFC 8301, 3.2: signers must not use less, and should use 2048
SIGNED = (
    "from", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references", "reply-to", "mime-version",
    "content-type", "content-transfer-encoding", "list-unsubscribe", "list-unsubscribe-post", "auto-submitted",
)  # fmt: skip
OVERSIGNED = frozenset({"from", "to", "cc", "subject", "date", "reply-to", "content-type"})
"""Signed once more than they occur, so that nobody can add a second one above ours (RFC 6376, 8.15)."""
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")


@dataclass(frozen=True, slots=True)
class Dkim:
    """One key: its public half stands in the DNS at `{selector}._domainkey.{domain}`."""

    domain: str
    selector: str
    private_key: Secret  # RSA, PEM (PKCS#1 or PKCS#8)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.domain.lower()) or "." not in self.domain:
            raise ValueError(f"domain: {self.domain!r} is not a domain (internationalised ones in their ASCII form)")
        if not _NAME.fullmatch(self.selector.lower()):
            raise ValueError(f"selector: {self.selector!r} is not a name the DNS takes")
        try:
            key = load_pem_private_key(self.private_key.reveal().strip().encode(), None)
        except TypeError:
            raise ValueError("private_key: is locked by a passphrase; give it without") from None
        except Exception:  # of several kinds, and their words may show the key
            raise ValueError("private_key: not a private key in PEM form") from None
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("private_key: not an RSA key, which is the kind every receiver checks")
        if key.key_size < BITS_MIN:
            raise ValueError(f"private_key: has {key.key_size} bits; at least {BITS_MIN} are needed, 2048 are usual")

    def aligned(self, domain: str) -> bool:
        """Whether a signature of this key counts for a From address at `domain`."""
        own, other = self.domain.lower(), domain.lower()
        return own == other or other.endswith(f".{own}") or own.endswith(f".{other}")


class _Signature(dkim.DKIM):  # type: ignore[misc]  # the library has no types
    """A signature dated by the mail instead of the machine: a repeat of the mail has the same bytes."""

    def __init__(self, raw: bytes, at: int) -> None:
        super().__init__(raw)
        self._at = str(at).encode()

    def gen_header(self, fields: list[tuple[bytes, bytes]], *more: Any, **named: Any) -> bytes:
        dated = [(name, self._at if name == b"t" else value) for name, value in fields]
        made: bytes = super().gen_header(dated, *more, **named)
        return made


def sign(raw: bytes, keys: Sequence[Dkim], from_domain: str, at: int) -> bytes:
    """The mail with a signature of every key that fits its From address on top. `at`: seconds since 1970.

    The last step before sending: nothing may change a byte after it. Costs about 10 ms of processor time a key.
    """
    return b"".join(_header(raw, key, at) for key in keys if key.aligned(from_domain)) + raw


def _header(raw: bytes, key: Dkim, at: int) -> bytes:
    signature = _Signature(raw, at)
    occurring = [name.decode("ascii", "replace").lower() for name, _ in signature.headers]
    names = [name for name in SIGNED for _ in range(occurring.count(name) + (name in OVERSIGNED))]
    made: bytes = signature.sign(
        key.selector.encode(),
        key.domain.lower().encode(),
        key.private_key.reveal().strip().encode(),
        canonicalize=(b"relaxed", b"relaxed"),
        include_headers=[name.encode() for name in names],
    )
    return made
