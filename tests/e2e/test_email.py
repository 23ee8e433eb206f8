"""Mail there and back, over SMTP both ways: threads, two addresses, bounces, absence notes, the sender check."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta

import aiosmtplib
import pytest

from adapters.sandbox.smtp import Delivered
from tests.support.world import SALES, SUPPORT, World, eventually, shown

ANN, BOB, CARL, EVE = "ann@customer.test", "bob@customer.test", "carl@customer.test", "eve@elsewhere.test"


async def reply_to(world: World, ticket: dict[str, object], text: str, count: int = 1, **body: object) -> Delivered:
    """An agent's reply that leaves; the mail as it arrived."""
    message = await world.api.replied(ticket, text, **body)
    await world.api.settled(message, "sent")
    await eventually(lambda: len(world.mail.sends) >= count)
    return world.mail.sends[-1]


async def test_there_and_back(world: World) -> None:
    files = [("list.txt", "text/plain", b"one\r\ntwo\r\n")]
    written = await world.mail.customer_writes(
        world.smtp_port, ANN, SUPPORT, name="Ann Lee", subject="Order 12", text="Where is it?", attachments=files
    )
    assert written.answer.startswith("250")
    ticket = await world.api.ticket()
    assert shown(ticket, "channel", "account", "subject", "tags") == ("email", "mail", "Order 12", ["email"])
    (message,) = await world.api.messages(ticket, 1)
    assert shown(message, "external_id", "text") == (written.message_id, "Where is it?")
    mail = await reply_to(world, ticket, "It left today.")
    assert (mail.recipients, mail.headers.get("subject"), mail.text.strip()) == (
        (ANN,),
        "Re: Order 12",
        "It left today.",
    )
    assert f"<{written.message_id}>" in mail.headers.get("references")
    assert mail.headers.get("in-reply-to") == f"<{written.message_id}>"
    assert SUPPORT in mail.headers.get("from")
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="Thank you!", reply_to=mail)
    thread = await world.api.messages(ticket, 3)
    assert [entry["text"] for entry in thread] == ["Where is it?", "It left today.", "Thank you!"]
    assert thread[2]["in_reply_to"] == thread[1]["id"]
    (file,) = thread[0]["attachments"]
    path = f"tickets/{ticket['id']}/messages"
    await world.api.until(path, lambda page: page["items"][0]["attachments"][0]["state"] == "stored")
    assert (await world.api.call("GET", file["url"])).body == b"one\r\ntwo\r\n"


async def test_an_answer_without_its_headers_finds_the_ticket_by_the_address(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi")
    await world.mailed(ANN, to=mail.headers.get("reply-to"), text="From my other program", subject="Something else")
    thread = await world.api.messages(ticket, 3)
    assert thread[2]["text"] == "From my other program"


async def test_a_reply_leaves_from_the_address_that_was_written_to(world: World) -> None:
    await world.mailed(ANN, to=SALES)
    ticket = await world.api.ticket()
    assert ticket["account"] == "mail-sales"
    mail = await reply_to(world, ticket, "Hi")
    assert SALES in mail.headers.get("from")


async def test_any_address_of_a_domain_is_ours_and_answers_as_itself(world: World) -> None:
    await _with_aliases(world, "*@help.shop.test", "*@*.eu.test", "help@acme.test")
    for count, address in enumerate(("billing@help.shop.test", "x@de.eu.test", "help@acme.test"), 1):
        await world.mailed(ANN, to=address, subject=address)
        ticket = (await world.api.items("tickets", count))[0]
        assert (ticket["account"], ticket["channel_info"]["own_address"]) == ("mail-sales", address)
        mail = await reply_to(world, ticket, "Hi", count)
        assert address in mail.headers.get("from")
        assert mail.headers.get("reply-to").startswith(address.partition("@")[0] + "+t")
    await world.mail.customer_writes(world.smtp_port, ANN, "help@acme.test", text="Thanks", reply_to=mail)
    await world.api.messages(ticket, 3)


async def _with_aliases(world: World, *aliases: str) -> None:
    """Start again with aliases of the second account."""
    await world.stop()
    written = ", ".join(f'"{alias}"' for alias in aliases)
    text = world.file.read_text("utf-8").replace(f'address = "{SALES}"', f'address = "{SALES}"\naliases = [{written}]')
    world.file.write_text(text, "utf-8")
    await world.start()


async def test_mail_forwarded_from_an_address_elsewhere_is_answered_from_there(world: World) -> None:
    await _with_aliases(world, "help@acme.test")
    head = f"From: {ANN}\r\nTo: help@acme.test\r\nX-Forwarded-To: {SALES}\r\nSubject: x\r\nMessage-ID: <f@c.test>\r\n"
    await world.mail.hand_over(world.smtp_port, ANN, [SALES], f"{head}\r\nHi".encode())
    ticket = await world.api.ticket()
    assert ticket["channel_info"]["own_address"] == "help@acme.test"
    assert "help@acme.test" in (await reply_to(world, ticket, "Hi")).headers.get("from")


async def test_one_mail_to_two_addresses_is_one_ticket(world: World) -> None:
    await world.mail.customer_writes(world.smtp_port, ANN, [SUPPORT, SALES], subject="Both", text="Hello")
    ticket = await world.api.ticket()
    assert ticket["account"] == "mail"
    await world.mailed(BOB)
    tickets = await world.api.items("tickets", 2)
    await world.api.messages(tickets[1], 1)


async def test_the_same_mail_twice_is_one_message(world: World) -> None:
    written = await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, subject="Once", text="Hello")
    for _ in range(3):
        await world.mail.hand_over(world.smtp_port, ANN, [SUPPORT], written.raw)
    await world.mailed(BOB)
    tickets = await world.api.items("tickets", 2)
    await world.api.messages(tickets[1], 1)


async def test_a_bounce_fails_the_message(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    message = await world.api.replied(ticket, "Hi")
    await world.api.settled(message, "sent")
    await world.mail.bounce(world.smtp_port, world.mail.sends[-1])
    detail = await world.api.settled(message, "failed")
    assert detail["error"]["class"] == "bad-recipient"
    assert [shown(receipt, "status", "recipient") for receipt in detail["receipts"]] == [("failed", ANN)]
    await world.api.messages(ticket, 2)  # a report is no message


async def test_a_refused_recipient_fails_at_once(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    world.mail.refuse(ANN)
    detail = await world.api.settled(await world.api.replied(ticket, "Hi"), "failed")
    assert detail["error"]["class"] == "bad-recipient"


async def test_greylisting_is_waited_out_with_the_same_bytes(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    world.mail.fail_next("greylist")
    message = await world.api.replied(ticket, "Hi")
    await world.api.until(f"messages/{message['id']}", lambda detail: bool(detail["error"]))
    world.clock.ahead = timedelta(minutes=10)
    detail = await world.api.settled(message, "sent")
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["retry", "sent"]
    assert len(world.mail.sends) == 1


async def test_a_lost_answer_to_the_final_dot_repeats_the_same_mail(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    world.mail.fail_next("drop_after_dot")
    message = await world.api.replied(ticket, "Hi")
    await world.api.until(f"messages/{message['id']}", lambda detail: bool(detail["error"]))
    world.clock.ahead = timedelta(minutes=15)
    await world.api.settled(message, "sent")
    first, second = world.mail.sends
    assert first.message_id == second.message_id
    assert first.raw == second.raw


async def test_an_absence_note_moves_nothing(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi", status="pending")
    await world.mail.out_of_office(world.smtp_port, ANN, mail)
    thread = await world.api.messages(ticket, 3)
    assert shown(thread[2], "visibility", "automatic") == ("note", "ooo")
    assert (await world.api.get(f"tickets/{ticket['id']}"))["status"] == "pending"


async def test_a_stranger_in_a_thread_is_shown_flagged(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi")
    await world.mailed(EVE, to=mail.headers.get("reply-to"), text="Send it to me instead")
    thread = await world.api.messages(ticket, 3)
    assert thread[2]["visibility"] == "note"
    assert "unknown_sender" in thread[2]["flags"]
    again = await reply_to(world, ticket, "Still yours", 2)
    assert again.recipients == (ANN,)


async def test_a_forged_answer_leads_nobody_astray(world: World) -> None:
    await world.stop()
    text = world.file.read_text("utf-8").replace(f'address = "{SUPPORT}"', f'address = "{SUPPORT}"\nauthserv_id = "mx"')
    world.file.write_text(text, "utf-8")
    await world.start()
    proof = {"Authentication-Results": "mx; dmarc=pass header.from=customer.test"}
    await world.mailed(ANN, headers=proof)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hello")
    await world.mailed(ANN, to=mail.headers.get("reply-to"), headers={"Reply-To": EVE}, cc=["eve@more.test"])
    thread = await world.api.messages(ticket, 3)
    assert shown(thread[2], "visibility", "flags") == ("private", ["unaligned"])
    assert (await reply_to(world, ticket, "Your data", 2)).recipients == (ANN,)
    elsewhere = "ann@home.test"
    await world.mailed(ANN, to=mail.headers.get("reply-to"), headers={**proof, "Reply-To": elsewhere}, cc=[BOB])
    await world.api.messages(ticket, 5)
    assert (await reply_to(world, ticket, "Both", 3)).recipients == (elsewhere, BOB)


async def test_nobody_is_not_answered(world: World) -> None:
    raw = f"From:\r\nTo: {SUPPORT}\r\nSubject: From nobody\r\n\r\nHi".encode()
    await world.mail.hand_over(world.smtp_port, "", [SUPPORT], raw)
    (held,) = await world.api.items("suspended", 1)
    await world.api.call("POST", f"suspended/{held['id']}/release")
    ticket = await world.api.ticket()
    refused = await world.api.call("POST", f"tickets/{ticket['id']}/replies", json={"text": "Who are you?"})
    assert (refused.status, refused.rules) == (422, ["recipient"])
    assert (await world.api.get(f"contacts/{ticket['contact_id']}"))["attributes"] == {}


async def test_copies_take_part(world: World) -> None:
    await world.mailed(ANN, cc=[BOB])
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hello both")
    assert set(mail.recipients) == {ANN, BOB}
    await world.mail.customer_writes(world.smtp_port, BOB, SUPPORT, text="Me too", reply_to=mail)
    thread = await world.api.messages(ticket, 3)
    assert shown(thread[2], "text", "visibility") == ("Me too", "private")
    again = await reply_to(world, ticket, "So both of you", 2)
    assert (again.headers.get("to"), again.headers.get("cc")) == (ANN, BOB)
    copies = [ANN, CARL, "noreply@customer.test", SALES]
    await world.mail.customer_writes(world.smtp_port, BOB, SUPPORT, text="Carl, too", reply_to=again, cc=copies)
    await world.api.messages(ticket, 5)
    assert (await reply_to(world, ticket, "All of you", 3)).recipients == (ANN, BOB, CARL)


async def test_who_answers_at_a_reply_to_address_gets_the_further_answers(world: World) -> None:
    await world.mailed("form@blog.test", headers={"Reply-To": ANN})
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hello")
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="Thanks", reply_to=mail)
    thread = await world.api.messages(ticket, 3)
    assert shown(thread[2], "text", "visibility", "flags") == ("Thanks", "private", ["unchecked"])
    assert [mail.recipients, (await reply_to(world, ticket, "Bye", 2)).recipients] == [(ANN,), (ANN,)]


TO_OTHERS = {  # head of a mail -> who gets the answer beside its sender
    "written to all": (f"To: {SUPPORT}, {BOB}\r\nCc: {EVE}", (EVE, BOB)),
    "a list": (f"To: {SUPPORT}, all@list.test\r\nCc: {EVE}\r\nList-Id: <all.list.test>", (EVE,)),
    "answers wanted at two": (f"To: {SUPPORT}\r\nReply-To: {ANN}, {BOB}", (BOB,)),
    "we are in Bcc": (f"To: {BOB}", ()),
    "we are in Bcc, others in Cc": (f"To: {BOB}\r\nCc: {EVE}", ()),
    "we are in Bcc, nobody in To": (f"Cc: {BOB}, {EVE}", ()),
    "we are in Bcc, answers wanted elsewhere, too": (f"To: {BOB}\r\nCc: {EVE}\r\nReply-To: {ANN}, {CARL}", (CARL,)),
}


@pytest.mark.parametrize(("head", "others"), TO_OTHERS.values(), ids=TO_OTHERS)
async def test_who_else_got_a_mail_gets_the_answer(world: World, head: str, others: tuple[str, ...]) -> None:
    raw = f"From: {ANN}\r\n{head}\r\nSubject: x\r\nMessage-ID: <all@c.test>\r\n\r\nHi"
    await world.mail.hand_over(world.smtp_port, ANN, [SUPPORT], raw.encode())
    mail = await reply_to(world, await world.api.ticket(), "Hello")
    assert sorted(mail.recipients) == sorted((ANN, *others))


async def test_an_answer_to_a_closed_ticket_makes_a_follow_up(world: World) -> None:
    await world.mailed(ANN, subject="Order 12")
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Done.", status="solved")
    await world.api.patch(f"tickets/{ticket['id']}", status="closed")
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="Not done", reply_to=mail)
    newest, closed = await world.api.items("tickets", 2)
    assert shown(newest, "via", "follow_up_of", "channel") == ("closed_ticket", ticket["id"], "email")
    assert shown(closed, "status", "follow_ups") == ("closed", [newest["id"]])
    follow_up = await reply_to(world, newest, "We look again", 2)
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="Thanks", reply_to=follow_up)
    await world.api.messages(newest, 3)


async def test_html_is_shown_clean_and_pictures_within_it_are_ours(world: World) -> None:
    html = '<p>Hello <b>you</b></p><script>alert(1)</script><img src="cid:logo@x">'
    await world.mailed(ANN, text="Hello you", html=html)
    (message,) = await world.api.messages(await world.api.ticket(), 1)
    assert "<b>you</b>" in message["html"]
    assert "script" not in message["html"]


async def test_what_a_list_writes_below_a_text_in_base64_is_shown(world: World) -> None:
    head = f"From: {ANN}\r\nTo: {SUPPORT}\r\nSubject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    raw = f"{head}{b64encode(b'Hello').decode()}\r\n____________\r\nThe list of all\r\n"
    await world.mail.hand_over(world.smtp_port, ANN, [SUPPORT], raw.encode())
    (message,) = await world.api.messages(await world.api.ticket(), 1)
    assert message["text"] == "Hello\n\n____________\nThe list of all"


async def test_an_unknown_recipient_is_refused(world: World) -> None:
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await world.mailed(ANN, to="nobody@shop.test")


async def test_the_postmaster_of_our_domains_is_read(world: World) -> None:
    await _with_aliases(world, "help@acme.test")
    raw = f"From: {ANN}\r\nTo: postmaster\r\nSubject: Your server\r\n\r\nWhat it does: "
    written = {
        "postmaster": "mail",  # at the server itself: the first account
        "Postmaster@shop.test": "mail",
        "postmaster@acme.test": "mail-sales",
    }
    for address in written:
        await world.mail.hand_over(world.smtp_port, ANN, [address], f"{raw}{address}".encode())
    tickets = await world.api.items("tickets", len(written))
    assert {(await world.api.messages(ticket, 1))[0]["text"]: ticket["account"] for ticket in tickets} == {
        f"What it does: {address}": account for address, account in written.items()
    }
    assert (await reply_to(world, tickets[0], "It works.")).recipients == (ANN,)
    for foreign in ("postmaster@elsewhere.test", "postmaster+x@elsewhere.test", "postmasters@acme.test"):
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await world.mail.hand_over(world.smtp_port, ANN, [foreign], raw.encode())
