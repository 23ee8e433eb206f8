"""Who is who: identities made, linked by what is attested and asked for, kept apart where ids contradict."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway import identity as values
from normalizers.model import Address, DeliveryUpdate, IdentityChange
from tests.intake.build import T0, Memory, bsuid, mailbox, mailed, person, phone, rules, user, wrote

NUMBER = "+4915112345601"
ANN = phone(NUMBER)


def test_one_address_is_one_identity_of_one_contact() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN), wrote("m2", person(ANN, name="Ann", profile={"city": "Kiel"})))
    identity = memory.identity(NUMBER)
    assert (identity.name, identity.profile) == ("Ann", {"city": "Kiel"})
    assert len(memory.snapshot.contacts) == 1


def test_silence_changes_no_profile() -> None:
    memory = Memory()
    memory.file(wrote("m1", person(ANN, name="Ann", handle="ann")), wrote("m2", ANN))
    assert (memory.identity(NUMBER).name, memory.identity(NUMBER).handle) == ("Ann", "ann")


LINKS: dict[str, tuple[tuple[str, ...], str, bool]] = {  # matching attributes, evidence of the number, linked?
    "no matching attribute links nothing": ((), "attested", False),
    "the phone links": (("phone",), "attested", True),
    "an authenticated phone links": (("phone",), "authenticated", True),
    "a claimed phone never does": (("phone",), "claimed", False),
    "another attribute does not": (("email",), "attested", False),
    "one of several does": (("email", "phone"), "attested", True),
}


@pytest.mark.parametrize(("matching", "evidence", "linked"), LINKS.values(), ids=LINKS)
def test_the_matching_attribute_links_across_channels(matching: tuple[str, ...], evidence: str, linked: bool) -> None:
    memory = Memory(rules(*matching))
    memory.file(wrote("m1", ANN), account="wa")
    changes = memory.file(wrote("s1", phone(NUMBER, evidence), on="sms"), account="sms")
    same = memory.contact(NUMBER, "wa") == memory.contact(NUMBER, "sms")
    assert same is linked
    assert [(merge.attribute, merge.value) for merge in changes.merges] == ([("phone", NUMBER)] if linked else [])
    assert len(memory.tickets) == 2  # the histories hang on one contact; conversations stay apart


def test_linking_within_one_batch_makes_one_contact() -> None:
    memory = Memory(rules("phone"))
    memory.file(wrote("m1", ANN, on="sms"), wrote("m2", ANN, on="sms"), account="sms")
    changes = memory.file(wrote("m3", ANN), wrote("m4", ANN), account="wa")
    assert changes.contacts == []
    assert {message["contact_id"] for message in memory.messages} == {memory.contact(NUMBER, "sms")}


def test_platform_ids_link_accounts_by_themselves() -> None:
    memory = Memory()
    memory.file(wrote("c1", user("u1"), on="square"), account="square")
    memory.file(wrote("c2", user("u1"), on="square"), account="square-2")
    memory.file(wrote("c3", user("u2"), on="square"), account="square-2")
    assert memory.contact("u1", "square") == memory.contact("u1", "square-2") != memory.contact("u2", "square-2")


def test_account_ids_do_not_link_accounts() -> None:
    memory = Memory()
    memory.file(wrote("m1", bsuid("DE.1")), account="wa")
    memory.file(wrote("m2", bsuid("DE.1")), account="wa-2")
    assert memory.contact("DE.1", "wa") != memory.contact("DE.1", "wa-2")


# --- one person, two ids of one platform ---


def test_a_user_id_joins_the_number_it_came_with() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    memory.file(wrote("m2", person(bsuid("DE.1"), ANN)))
    memory.file(wrote("m3", bsuid("DE.1")))
    assert len({message["ticket_id"] for message in memory.messages}) == 1
    assert memory.identity("DE.1").id == memory.identity(NUMBER).id


def test_a_number_that_changed_hands_follows_the_user_id() -> None:
    """A user id beats a phone number: the number's new owner is another person."""
    memory = Memory(rules("phone"))
    memory.file(wrote("m1", person(bsuid("DE.1"), ANN)))
    changes = memory.file(wrote("m2", person(bsuid("DE.2"), ANN)))
    assert memory.contact("DE.1") != memory.contact("DE.2")
    assert changes.merges == []
    assert memory.messages[0]["ticket_id"] != memory.messages[1]["ticket_id"]


def test_two_known_ids_told_to_be_one_person_become_one_contact() -> None:
    memory = Memory()
    memory.file(wrote("m1", bsuid("DE.1")))
    memory.file(wrote("m2", ANN))
    older = memory.contact("DE.1")
    changes = memory.file(wrote("m3", person(bsuid("DE.1"), ANN)))
    assert [(merge.winner, merge.reason) for merge in changes.merges] == [
        (older, "the platform knows them as one person")
    ]
    assert {identity.contact_id for identity in memory.snapshot.identities.values()} == {older}
    assert {ticket.contact_id for ticket in memory.tickets} == {older}


def test_what_somebody_claims_to_be_makes_no_two_contacts_one() -> None:
    """A caller who names the number of one and the mail address of another has proven nothing."""
    memory = Memory(rules("phone", "email"), account="api")
    number, mail = phone(NUMBER, "claimed"), Address("api", "email", "bo@x.test", "everywhere", "claimed")
    memory.file(wrote("a1", number, on="api"))
    memory.file(wrote("a2", mail, on="api"))
    changes = memory.file(wrote("a3", person(number, mail), on="api"))
    assert changes.merges == []
    assert memory.contact(NUMBER) != memory.contact("bo@x.test")


CHANGE: dict[str, tuple[Sequence[Address], Sequence[Address], str]] = {
    "a new number": ([ANN], [phone("+4915112345699")], "+4915112345699"),
    "a new number and user id": ([ANN, bsuid("DE.1")], [phone("+4915112345699"), bsuid("DE.9")], "DE.9"),
}


@pytest.mark.parametrize(("old", "new", "value"), CHANGE.values(), ids=CHANGE)
def test_who_moves_to_a_new_number_stays_who_they_are(
    old: Sequence[Address], new: Sequence[Address], value: str
) -> None:
    memory = Memory()
    memory.file(wrote("m1", person(*old[::-1])))
    memory.file(IdentityChange(id="i1", at=T0, channel="whatsapp", old=tuple(old), new=tuple(new)))
    memory.file(wrote("m2", person(next(address for address in new if address.value == value))))
    assert {message["ticket_id"] for message in memory.messages} == {memory.ticket.id}


def test_an_identity_change_of_strangers_is_ignored() -> None:
    memory = Memory()
    memory.file(IdentityChange(id="i1", at=T0, channel="whatsapp", old=(ANN,), new=(bsuid("DE.1"),)))
    assert memory.outcomes == [("ignored", "nobody known by the old address")]


# --- contradictions and decisions of people ---


def test_contacts_whose_unique_ids_contradict_make_a_conflict() -> None:
    memory = Memory(rules("phone"))
    memory.file(wrote("m1", person(bsuid("DE.1"), ANN)), account="wa")
    memory.file(wrote("s1", ANN, on="sms"), account="sms")
    changes = memory.file(wrote("m2", person(bsuid("DE.2"), ANN)), account="wa")
    assert [(row["attribute"], row["value"]) for row in changes.conflicts] in (
        [("phone", NUMBER)],
        [("identity", "DE.2")],
    )
    assert memory.contact("DE.1") == memory.contact(NUMBER, "sms") != memory.contact("DE.2")


def test_an_unmerged_identity_is_not_linked_again_by_itself() -> None:
    memory = Memory(rules("phone"))
    memory.file(wrote("s1", ANN, on="sms"), account="sms")
    memory.file(wrote("m1", bsuid("DE.1")), account="wa")
    memory.identity("DE.1").pinned = True
    changes = memory.file(wrote("m2", person(bsuid("DE.1"), ANN)), account="wa")
    assert changes.merges == []
    assert memory.contact("DE.1") != memory.contact(NUMBER, "sms")


def test_mail_links_by_address_only_where_it_is_attested() -> None:
    memory = Memory(rules("email"), account="mail")
    memory.file(mailed("a@x", mailbox("ann@x.test")), account="mail")
    memory.file(mailed("b@x", mailbox("ann@x.test", "claimed")), account="mail-2")
    assert memory.contact("ann@x.test", "mail") != memory.contact("ann@x.test", "mail-2")
    memory.file(mailed("c@x", mailbox("ann@x.test")), account="mail-2")
    assert memory.contact("ann@x.test", "mail") == memory.contact("ann@x.test", "mail-2")


def test_a_learned_address_of_a_stranger_makes_nobody() -> None:
    memory = Memory()
    memory.file(DeliveryUpdate(id="d", at=T0, channel="whatsapp", status="sent", target="x", learned=(ANN,)))
    assert memory.snapshot.contacts == {}


# --- values made comparable ---

PHONES = {
    "E.164": ("+4915112345601", "", "+4915112345601"),
    "spaces and brackets": ("+49 (151) 123-45601", "", "+4915112345601"),
    "national": ("0151 12345601", "DE", "+4915112345601"),
    "national without a region": ("0151 12345601", "", ""),
    "no number": ("hello", "DE", ""),
}
MAILS = {
    "folded": ("Ann@X.Test", "ann@x.test"),
    "international domain": ("ann@münchen.test", "ann@xn--mnchen-3ya.test"),
    "no domain": ("ann@", ""),
    "blanks within": ("a nn@x.test", ""),
    "two of them": ("a@b@x.test", ""),
    "two signs in a row": ("a@@x.test", ""),
    "no local part": ("@x.test", ""),
    "a domain with a gap": ("ann@x..test", ""),
    "a sign of a list": ("ann,bob@x.test", ""),
    "a plus": ("Ann+Shop@x.test", "ann+shop@x.test"),
    "quoted": ('"A b@c"@x.test', '"a b@c"@x.test'),
    "quoted without an end": ('"a b@x.test', ""),
    "an international local part": ("jörg@x.test", "jörg@x.test"),
    "dots a carrier gave out": ("a..b.@x.test", "a..b.@x.test"),
    "a host's number": ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
    "a host": ("ann@localhost.", "ann@localhost"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("text", "region", "expected"), PHONES.values(), ids=PHONES)
def test_phones(text: str, region: str, expected: str) -> None:
    assert values.phone(text, region) == expected


@pytest.mark.parametrize(("text", "expected"), MAILS.values(), ids=MAILS)
def test_mail_addresses(text: str, expected: str) -> None:
    assert values.email(text) == expected
