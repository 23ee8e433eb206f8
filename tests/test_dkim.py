"""Our signatures, verified by the library's own verifier against keys in a pretended DNS."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dkim
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from adapters._dkim import OVERSIGNED, Dkim, sign
from adapters._mail_build import build
from adapters._smtp_client import Smtp
from adapters.email import EmailAdapter, Settings
from adapters.sandbox.smtp import MailWorld
from config.secret import Secret
from config.settings import ConfigError, parse
from normalizers.model import Account, Address, MailHeaders, OutboundMessage

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MESSAGE = OutboundMessage(
    id="019a9e00-0000-7000-8000-000000000000",
    key="k",
    account="mail",
    channel="email",
    to=(Address("email", "email", "ann@customer.test", "everywhere"),),
    text="Grüße\n.dot\n\nFrom here  \n" + "x" * 300,
    html="<p>Grüße</p>",
    mail=MailHeaders(subject="Your order", message_id="<t.abc@shop.test>", cc=("bob@customer.test",)),
)


@cache
def made(_name: str) -> RSAPrivateKey:
    return generate_private_key(65537, 1024)


def rsa(name: str = "shop") -> RSAPrivateKey:
    """The key of this name, always the same one."""
    return made(name)


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, lock: Any = None) -> str:
    return str(key.private_bytes(Encoding.PEM, form, lock or NoEncryption()).decode())


def dns(**keys: RSAPrivateKey) -> Any:
    """A DNS that publishes the public halves, `selector__domain=key`."""
    records = {}
    for name, key in keys.items():
        selector, _, domain = name.partition("__")
        public = b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        where = f"{selector}._domainkey.{domain.replace('_', '.')}.".encode()
        records[where] = b"v=DKIM1; k=rsa; p=" + public
    return lambda name, timeout=5: records.get(name)


def raw(message: OutboundMessage = MESSAGE) -> bytes:
    return build(message, "support@shop.test", "Shop", frozenset(), NOW).raw


def key_for(domain: str = "shop.test", selector: str = "s1", name: str = "shop") -> Dkim:
    return Dkim(domain, selector, Secret(pem(rsa(name))))


def test_the_signature_verifies_and_tampering_fails() -> None:
    signed = sign(raw(), [key_for()], "shop.test", 1_700_000_000)
    look_up = dns(s1__shop_test=rsa())
    assert dkim.verify(signed, dnsfunc=look_up)
    head, body = signed.split(b"\r\n\r\n", 1)
    assert not dkim.verify(head + b"\r\n\r\n" + body.replace(b"</p>", b"!</p>"), dnsfunc=look_up)
    assert not dkim.verify(signed.replace(b"Subject: Your order", b"Subject: Your orders"), dnsfunc=look_up)
    assert not dkim.verify(signed, dnsfunc=dns(s1__shop_test=rsa("another")))
    assert not dkim.verify(signed, dnsfunc=dns(s2__shop_test=rsa()))
    assert signed.endswith(raw())  # nothing but the header on top


@pytest.mark.parametrize("name", sorted(OVERSIGNED))
def test_nobody_can_add_a_second_header(name: str) -> None:
    signed = sign(raw(), [key_for()], "shop.test", 1)
    extra = f"{name}: x@evil.test\r\n".encode()
    assert not dkim.verify(extra + signed, dnsfunc=dns(s1__shop_test=rsa()))


def test_what_is_signed_stands_in_the_signature() -> None:
    assert MESSAGE.mail is not None
    mail = msgspec.structs.replace(MESSAGE.mail, unsubscribe_url="https://shop.test/u/1", in_reply_to="<a@b>")
    message = msgspec.structs.replace(MESSAGE, mail=mail)
    header = sign(raw(message), [key_for()], "shop.test", 1).split(b"\r\nContent-Type")[0]
    names = re.sub(rb"\s", b"", re.search(rb"\bh=([^;]+);", header)[1]).split(b":")  # type: ignore[index]
    assert b"c=relaxed/relaxed" in header
    assert {b"list-unsubscribe", b"list-unsubscribe-post", b"in-reply-to", b"mime-version"} <= set(names)
    assert names.count(b"from") == names.count(b"subject") == names.count(b"cc") == 2
    assert names.count(b"reply-to") == 1  # there is none, and none can be added
    assert names.count(b"date") == 2


def test_a_repeat_has_the_same_bytes() -> None:
    assert sign(raw(), [key_for()], "shop.test", 7) == sign(raw(), [key_for()], "shop.test", 7)


def test_while_a_key_changes_both_vouch() -> None:
    keys = [key_for(selector="new", name="new"), key_for(selector="old")]
    signed = sign(raw(), keys, "shop.test", 1)
    verifier = dkim.DKIM(signed)
    assert verifier.verify(0, dnsfunc=dns(new__shop_test=rsa("new")))
    assert dkim.DKIM(signed).verify(1, dnsfunc=dns(old__shop_test=rsa()))


ALIGNED = {  # domain of the key, domain of From -> whether it counts
    ("shop.test", "shop.test"): True,
    ("shop.test", "mail.shop.test"): True,
    ("mail.shop.test", "shop.test"): True,
    ("SHOP.test", "shop.TEST"): True,
    ("shop.test", "myshop.test"): False,
    ("other.test", "shop.test"): False,
}


@pytest.mark.parametrize(("domains", "counts"), ALIGNED.items(), ids=str)
def test_only_a_key_of_the_from_domain_signs(domains: tuple[str, str], counts: bool) -> None:
    signed = sign(raw(), [key_for(domains[0])], domains[1], 1)
    assert signed.startswith(b"DKIM-Signature: ") is counts


async def test_what_arrives_is_signed_last() -> None:
    async with MailWorld() as world:
        settings = Settings(
            "support@shop.test", aliases=("help@brand.test",), smtp=Smtp("127.0.0.1", world.port, "none"),
            dkim=(key_for(), key_for("brand.test", "b1", "brand")),
        )  # fmt: skip
        adapter = EmailAdapter(Account("mail", "email"), settings, None)  # type: ignore[arg-type]
        await adapter.send(MESSAGE)
        await adapter.send(msgspec.structs.replace(MESSAGE, own_address="help@brand.test"))
        await adapter.aclose()
        look_up = dns(s1__shop_test=rsa(), b1__brand_test=rsa("brand"))
        for mail, domain in zip(world.sends, (b"shop.test", b"brand.test"), strict=True):
            verifier = dkim.DKIM(mail.raw)
            assert verifier.verify(dnsfunc=look_up)
            assert verifier.domain == domain
            assert mail.raw.count(b"DKIM-Signature:") == 1


def faults(**dkim_settings: Any) -> list[str]:
    block = {"id": "m", "adapter": "email", "address": "support@shop.test"}
    table = {"domain": "shop.test", "selector": "s1", "private_key": pem(rsa())} | dkim_settings
    try:
        parse({"accounts": [block | {"dkim": table}]}, {"email": Settings})
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return []


REFUSED = {  # what is written -> where the fault is, a word of it
    "no key": ({"private_key": "-----BEGIN NONSENSE-----"}, "private_key", "PEM"),
    "a locked key": ({"private_key": pem(rsa(), lock=BestAvailableEncryption(b"x"))}, "private_key", "passphrase"),
    "another kind": ({"private_key": pem(Ed25519PrivateKey.generate())}, "private_key", "RSA"),
    "no domain": ({"domain": "shop"}, "domain", "not a domain"),
    "a domain of others": ({"domain": "other.test"}, "domain", "alias"),
    "no selector": ({"selector": "a b"}, "selector", "DNS"),
}


@pytest.mark.parametrize(("settings", "key", "word"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_sign_is_refused_at_once(settings: dict[str, Any], key: str, word: str) -> None:
    (fault,) = faults(**settings)
    assert fault.startswith(f"accounts[0].dkim.{key}: ")
    assert word in fault
    assert "PRIVATE KEY" not in fault


def test_both_forms_of_a_key_are_taken() -> None:
    assert faults() == []
    old_form = pem(rsa(), PrivateFormat.TraditionalOpenSSL)
    assert faults(private_key=f"\n{old_form}\n") == []
    signed = sign(raw(), [Dkim("shop.test", "s1", Secret(old_form))], "shop.test", 1)
    assert dkim.verify(signed, dnsfunc=dns(s1__shop_test=rsa()))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="private_key: "):
        parse_short()


def parse_short() -> None:
    """512 bits can no longer be made by the library; one of 1023 would be as short."""
    key = """-----BEGIN RSA PRIVATE KEY-----
MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu
KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQJAIJLixBy2qpFoS4DSmoEm
o3qGy0t6z09AIJtH+5OeRV1be+N4cDYJKffGzDa88vQENZiRm0GRq6a+HPGQMd2k
TQIhAKMSvzIBnni7ot/OSie2TmJLY4SwTQAevXysE2RbFDYdAiEBCUEaRQnMnbp7
9mxDXDf6AU0cN/RPBjb9qSHDcWZHGzUCIG2Es59z8ugGrDY+pxLQnwfotadxd+Uy
v/Ow5T0q5gIJAiEAyS4RaI9YG8EWx/2w0T67ZUVAw8eOMB6BIUg0Xcu+3okCIBOs
/5OiPgoTdSy7bcF9IGpSE8ZgGKzgYQVZeN97YE00
-----END RSA PRIVATE KEY-----"""
    Dkim("shop.test", "s1", Secret(key))


def test_a_domain_without_a_key_is_named() -> None:
    settings = Settings("support@shop.test", aliases=("help@brand.test",), dkim=(key_for(),))
    adapter = EmailAdapter(Account("mail", "email"), settings, None)  # type: ignore[arg-type]
    assert adapter.advice() == [("dkim", "no key for brand.test: mail from there leaves without our signature")]
