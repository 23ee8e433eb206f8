"""Replies cut down to what the customer wrote, by the mail programs that quote; and what must never be cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizers._quotes import bare_subject, forwarded_from, forwarded_text, is_forward, short_html_text, short_text

CUT = {  # program -> (mail, what stays)
    "Gmail, English": (
        "Thanks!\n\nOn Tue, May 12, 2026 at 10:00 AM Shop <s@d.test> wrote:\n\n> Hi\n> you\n",
        "Thanks!",
    ),
    "Gmail, wrapped": (
        "Thanks!\n\nOn Tue, May 12, 2026 at 10:00 AM Support of a Very Long\nCompany Name <s@d.test>\nwrote:\n\n> Hi",
        "Thanks!",
    ),
    "Gmail, French": ("Merci\n\nLe mar. 12 mai 2026 à 10:00, Shop <s@d.test> a écrit :\n\n> Bonjour", "Merci"),
    "Gmail, German": ("Danke\n\nAm Di., 12. Mai 2026 um 10:00 Uhr schrieb Shop <\ns@d.test>:\n\n> Hallo", "Danke"),
    "Gmail, Dutch": ("Dank\n\nOp di 12 mei 2026 om 10:00 schreef Shop <s@d.test>:\n\n> Hoi", "Dank"),
    "Gmail, Russian": ("Спасибо\n\nвт, 12 мая 2026 г. в 10:00, Shop <s@d.test>:\n\n> Привет", "Спасибо"),
    "Gmail, Chinese": ("谢谢\n\nShop <s@d.test> 于2026年5月12日周二 10:00写道：\n\n> 你好", "谢谢"),
    "Gmail, Japanese": ("どうも\n\n2026年5月12日(火) 10:00 Shop <s@d.test>:\n\n> こんにちは", "どうも"),
    "Gmail, Czech": ("Děkuji\n\nút 12. 5. 2026 v 10:00 odesílatel Shop <s@d.test> napsal:\n\n> Ahoj", "Děkuji"),
    "Gmail, Polish": ("Dzięki\n\nwt., 12 maj 2026 o 10:00 Shop <s@d.test> napisał(a):\n\n> Hej", "Dzięki"),
    "Gmail, Turkish": ("Sağ olun\n\nShop <s@d.test>, 12 May 2026 Sal, 10:00\ntarihinde şunu yazdı:\n\n> x", "Sağ olun"),
    "Gmail, Hungarian": ("Jó\n\nShop <s@d.test> ezt írta (időpont: 2026. máj. 12., K, 10:00):\n\n> x", "Jó"),
    "Gmail, Finnish": ("Kiitos\n\nti 12. toukok. 2026 klo 10.00 Shop (s@d.test) kirjoitti:\n\n> Hei", "Kiitos"),
    "Outlook, English": (
        "Thanks!\n\nFrom: Shop <s@d.test>\nSent: Tuesday, May 12, 2026 10:00 AM\nTo: Ann\nSubject: RE: x\n\nHi",
        "Thanks!",
    ),
    "Outlook, with a rule": (
        "Thanks!\n\n________________________________\nFrom: Shop\nSent: Tuesday\nTo: Ann\nSubject: x\n\nHi",
        "Thanks!",
    ),
    "Outlook, bold labels": ("Thanks!\n\n*From:* Shop\n*Sent:* Tuesday\n*To:* Ann\n\nHi", "Thanks!"),
    "Outlook, German": ("Danke\n\nVon: Shop\nGesendet: Dienstag, 12. Mai\nAn: Ann\nBetreff: AW: x\n\nHallo", "Danke"),
    "Outlook, Japanese": ("どうも\n\n差出人: Shop\n送信日時: 2026年5月12日\n宛先: Ann\n件名: RE: x\n\nはい", "どうも"),
    "Outlook, Chinese": ("谢谢\n\n发件人: Shop\n发送时间: 2026年5月12日\n收件人: Ann\n主题: x\n\n你好", "谢谢"),
    "QQ": ("谢谢\n\n------------------ 原始邮件 ------------------\n发件人: Shop\n", "谢谢"),
    "an old program": ("Thx\n\n-----Original Message-----\nFrom: a\n", "Thx"),
    "Thunderbird, Spanish": ("Gracias\n\nEl 12/5/26 a las 10:00, Shop escribió:\n> Hola\n", "Gracias"),
    "a phone": ("Thanks!\n\nSent from my iPhone\n\n> On 12 May 2026, at 10:00, Shop wrote:\n> \n> Hi", "Thanks!"),
    "our own delimiter": ("Thanks\n\n##- Please type your reply above this line -##\n\nHi", "Thanks"),
    "a signature": ("Hello\nthere\n\n-- \nAnn\nCEO", "Hello\nthere"),
}


@pytest.mark.parametrize(("mail", "kept"), CUT.values(), ids=CUT)
def test_cut(mail: str, kept: str) -> None:
    assert short_text(mail) == kept


def test_a_delimiter_in_words_of_its_own() -> None:
    assert short_text("Ja\n\n> Bitte hier  ÜBER der Zeile antworten\nHallo", "über der Zeile antworten") == "Ja"


FRESH = {  # what answers nothing -> what stays of it
    "an order form": ("New order\n\nVon: Ann\nDatum: 12.5.2026\nAn: Main street 1\nBetreff: 5 lamps", ""),
    "where to deliver": ("Please deliver\n\nFrom: Storage 5\nDate: 12.5.2026\nTo: Main street\n\nRing twice.", ""),
    "a list": ("Choose:\n--\nA) red\nB) blue\n\n> 18 only", ""),
    "what another wrote": ("See:\n\nOn Tue, May 12, 2026 at 10:00 AM Bob <b@d.test> wrote:\n> broken", ""),
    "a signature": ("Hello\n\n-- \nAnn", "Hello"),
    "our delimiter": ("Thanks\n\n##- Please type your reply above this line -##\n\nHi", "Thanks"),
}


@pytest.mark.parametrize(("mail", "kept"), FRESH.values(), ids=FRESH)
def test_what_answers_nothing_quotes_nothing(mail: str, kept: str) -> None:
    assert short_text(mail, answers=False) == (kept or mail)


WHOLE = {
    "answers between the lines": "On Tue, May 12, 2026 Shop wrote:\n> one?\nyes\n> two?\nno",
    "answers after a greeting": "Hi,\n> one?\nyes\n> two?\nno",
    "an answer below": "> Hi\n> there\n\nThanks",
    "only a quotation": "On Tue, May 12, 2026 Shop wrote:\n> one?",
    "prose like headers": "From: what I saw it works.\nOn Monday I wrote: help.\nOn 3 May my boss wrote to you\nBye",
    "a forward": "FYI\n\n---------- Forwarded message ---------\nFrom: X <x@y.test>\nDate: Tue\nSubject: z\nTo: q\n",
    "a list with dashes": "We need\n- one\n- two\n\nBest",
    "a time": "The meeting is on Monday at 10:00\nSee you:",
    "nothing": "",
}


@pytest.mark.parametrize("mail", WHOLE.values(), ids=WHOLE)
def test_kept_whole(mail: str) -> None:
    assert short_text(mail) == mail


HTML = {  # program -> body
    "Gmail": '<div>Thanks</div><div class="gmail_quote"><div>On</div><blockquote>Hi</blockquote></div>',
    "Outlook": '<div class="WordSection1"><p>Thanks</p><div><div style="border:none;border-top:solid #E1E1E1 1pt">'
    "<p>From</p></div></div><p>Hi</p></div>",
    "Outlook on the web": '<div>Thanks</div><div id="appendonsend"></div><div id="divRplyFwdMsg">From</div><p>Hi</p>',
    "Apple Mail": 'Thanks<br><div><br><blockquote type="cite"><div>On x wrote</div></blockquote></div>',
    "Thunderbird": '<p>Thanks</p><div class="moz-cite-prefix">On x wrote:</div><blockquote type="cite">Hi</blockquote>',
    "Yahoo": '<div>Thanks</div><div id="ydp1yahoo_quoted_12" class="yahoo_quoted">On</div>',
    "Proton": '<div>Thanks</div><div class="protonmail_quote">On</div>',
    "QQ": "<div>Thanks</div><includetail><div>orig</div></includetail>",
    "GMX": '<div>Thanks<div name="quote">x</div></div>',
}


@pytest.mark.parametrize("html", HTML.values(), ids=HTML)
def test_html_cut(html: str) -> None:
    assert short_html_text(html) == "Thanks"


HTML_WHOLE = {
    "answered below": '<div class="moz-cite-prefix">On x:</div><blockquote type="cite">Hi</blockquote><p>Thanks</p>',
    "an indent": '<p>a</p><blockquote class="gmail_quote">b</blockquote><p>c</p>',
    "no quotation": "<p>a</p>",
    "nothing": "",
}


@pytest.mark.parametrize("html", HTML_WHOLE.values(), ids=HTML_WHOLE)
def test_html_not_cut(html: str) -> None:
    assert short_html_text(html) == ""


SUBJECTS = {
    "Re: x": ("x", False),
    "AW: WG: Re[5]: x": ("x", False),
    "Fwd: x": ("x", True),
    "WG: x": ("x", True),
    "转发：x": ("x", True),
    "回复：x": ("x", False),
    "Recipe: x": ("Recipe: x", False),
    "Re: Re: ": ("", False),
}


@pytest.mark.parametrize(("subject", "expected"), SUBJECTS.items(), ids=SUBJECTS)
def test_subjects(subject: str, expected: tuple[str, bool]) -> None:
    assert (bare_subject(subject), is_forward(subject)) == expected


def test_who_wrote_a_forwarded_mail() -> None:
    assert forwarded_from("FYI\n\n> *Von:* Carl <c@o.test>\n> *Gesendet:* x\n> *An:* y\n") == "Carl <c@o.test>"
    assert forwarded_from("From: me with love") == ""


FORWARDS = {  # a forward -> what the customer had written
    "Gmail": (
        "FYI\n\n---------- Forwarded message ---------\nFrom: Carl <c@o.test>\nDate: Tue, 12 May 2026\nSubject: Lamp\n"
        "To: <ann@c.test>\nCc: Long\n  List <l@c.test>\n\n\nIt is broken.\n\nFrom: here\n",
        "It is broken.\n\nFrom: here",
    ),
    "each line marked": (
        "Anfang der weitergeleiteten Nachricht:\n\n> Von: Carl <c@o.test>\n> Betreff: Lampe\n> Datum: 12. Mai 2026\n"
        "> An: ann@c.test\n> \n> Sie ist kaputt.\n>> Zitat\n",
        "Sie ist kaputt.\n> Zitat",
    ),
    "blank lines between the headers": ("From: Carl\n\nSent: Tuesday\n\nTo: Ann\nSubject: x\n\nHello", "Hello"),
    "nothing below": ("From: Carl\nSent: Tuesday\nTo: Ann\nSubject: x", ""),
    "no headers": ("Hello\n\nCarl", ""),
}


@pytest.mark.parametrize(("text", "words"), FORWARDS.values(), ids=FORWARDS)
def test_what_a_forwarded_mail_says(text: str, words: str) -> None:
    assert forwarded_text(text) == words


HOSTILE = {
    "attributions": "On " * 30_000,
    "labels": "From: a\n" * 9_000,
    "blank lines": "\n" * 65_000,
    "half attributions": "On 1 aaa\nbbb\nccc:\n" * 4_000,
    "colons": ":\n" * 30_000,
    "one line": "a" * 1_000_000,
    "a forward": f"From: a\nSent: b\nTo: c\n{'> To: d' * 9_000}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_read(text: str) -> None:
    assert short_text(text) in text
    assert forwarded_text(text) == ""


@given(st.text(alphabet=">-: \nOn1wrote<a@b>From", max_size=300))
def test_what_stays_is_a_part_of_the_mail(text: str) -> None:
    assert short_text(text) in text
