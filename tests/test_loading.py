"""From settings to accounts: several providers behind one adapter, several numbers of one business."""

from __future__ import annotations

from typing import Any

import pytest

from adapters._load import find
from adapters._whatsapp_twilio import TwilioWhatsApp
from adapters.whatsapp import WhatsAppAdapter
from config.settings import ConfigError, parse
from gateway.accounts import Accounts
from gateway.loading import bind, settings_types

META = {"adapter": "whatsapp", "access_token": "t", "app_secret": "s", "verify_token": "v", "waba_id": "700"}
TWILIO = {"adapter": "whatsapp", "provider": "twilio", "account_sid": "AC1", "auth_token": "t"}


def bound(*accounts: dict[str, Any]) -> Accounts:
    found = find()
    settings = parse({"accounts": list(accounts)}, settings_types(found), environ={})
    return bind(settings, found, lambda hosts: hosts)  # type: ignore[arg-type, return-value]


def test_the_provider_decides_the_class_and_the_operators_templates_reach_it() -> None:
    templates = [{"name": "hello", "sid": "HX1"}]
    accounts = bound(
        {"id": "a", "phone_number_id": "1", **META},
        {"id": "b", "number": "+15550199999", "templates": templates, **TWILIO},
    )
    meta, twilio = accounts.get("a"), accounts.get("b")
    assert meta is not None
    assert twilio is not None
    assert (type(meta.adapter), type(twilio.adapter)) == (WhatsAppAdapter, TwilioWhatsApp)
    assert twilio.adapter.account.templates == ({"name": "hello", "sid": "HX1"},)
    assert (meta.channels["whatsapp"].limits.text_max, twilio.channels["whatsapp"].limits.text_max) == (4096, 1600)


def test_numbers_of_one_business_share_its_name_but_not_their_own() -> None:
    accounts = bound({"id": "a", "phone_number_id": "1", **META}, {"id": "b", "phone_number_id": "2", **META})
    assert [account.id for account in accounts.named("whatsapp", "700")] == ["a", "b"]
    with pytest.raises(ConfigError) as caught:
        bound({"id": "a", "phone_number_id": "1", **META}, {"id": "b", "phone_number_id": "1", **META})
    assert [str(fault) for fault in caught.value.faults] == ["accounts[1]: 1 is served by 'a' already"]


def test_every_fault_of_the_chosen_provider_is_named_by_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        bound({"id": "a", "adapter": "whatsapp"}, {"id": "b", "adapter": "whatsapp", "provider": "twilio"})
    assert sorted(str(fault) for fault in caught.value.faults) == [
        "accounts[0].access_token: missing", "accounts[0].app_secret: missing", "accounts[0].phone_number_id: missing",
        "accounts[0].verify_token: missing", "accounts[1].account_sid: missing", "accounts[1].auth_token: missing",
    ]  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        bound({"id": "b", "phone_number_id": "1", **TWILIO})
    assert [str(fault) for fault in caught.value.faults] == [
        'accounts[0].phone_number_id: is no setting of provider = "twilio"',
        "accounts[0].number: missing, and no messaging_service_sid in its place",
    ]
    for unknown in ("carrier-pigeon", ["twilio"]):
        with pytest.raises(ConfigError) as caught:
            bound({"id": "b", "adapter": "whatsapp", "provider": unknown})
        assert [str(fault) for fault in caught.value.faults] == ["accounts[0].provider: must be one of meta, twilio"]


FACEBOOK = {"adapter": "facebook", "page_id": "1", "access_token": "t", "app_secret": "s", "verify_token": "v"}
LINE = {"adapter": "line", "channel_secret": "s", "bot_user_id": "U1", "access_token": "t"}
NO_ADDRESS, NO_REGION = "not an http or https address", "is no ISO 3166 code in capitals, such as 'DE'"
HARMLESS_LOOKING = {  # what would only be noticed by the first message -> the fault
    "a host without https": (FACEBOOK | {"api_base": "graph.facebook.com/v23.0"}, f"api_base: {NO_ADDRESS}"),
    "a host that is none": (FACEBOOK | {"api_base": "https://[graph"}, f"api_base: {NO_ADDRESS}"),
    "no host": (FACEBOOK | {"api_base": ""}, "api_base: is empty"),
    "a host of files without https": (LINE | {"data_base": "api-data.line.me"}, f"data_base: {NO_ADDRESS}"),
    "a region in small letters": (FACEBOOK | {"region": "de"}, f"region: 'de' {NO_REGION}"),
    "a region nobody knows": (LINE | {"region": "Germany"}, f"region: 'Germany' {NO_REGION}"),
}


@pytest.mark.parametrize(("account", "fault"), HARMLESS_LOOKING.values(), ids=HARMLESS_LOOKING)
def test_what_could_never_work_is_a_fault(account: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bound({"id": "a", **account})
    assert [str(found) for found in caught.value.faults] == [f"accounts[0].{fault}"]


def test_a_host_the_adapter_chooses_may_be_left_empty() -> None:
    assert bound({"id": "a", "phone_number_id": "1", **META, "api_base": "", "region": "DE"}).get("a") is not None


def test_the_region_of_the_installation_is_looked_at_too() -> None:
    found = find()
    settings = parse({"gateway": {"region": "USA"}}, settings_types(found), environ={})
    with pytest.raises(ConfigError) as caught:
        bind(settings, found, lambda hosts: hosts)  # type: ignore[arg-type, return-value]
    assert [fault.key for fault in caught.value.faults] == ["gateway.region"]
