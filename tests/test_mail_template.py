"""The form of mails: what a template may say, what it may not, and that the answer to it is read without it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters._mail_template import Dress, MailTemplate, direction
from adapters._text_template import OUTPUT_MAX, OutputTooLong, TemplateFault, TextTemplate
from adapters.email import EmailAdapter, Settings
from config.settings import ConfigError, load
from normalizers._html import tame, to_text
from normalizers._quotes import short_html_text, short_text
from normalizers.email import normalize
from normalizers.model import Account, InboundMessage, MailHeaders, OutboundMessage, Received
from tests.test_sandbox_smtp import NOW

MESSAGE = OutboundMessage(
    id="m", key="k", account="mail", channel="email", to=(), text="Hello <you>\n\nSecond & last",
    mail=MailHeaders(subject="Lamp", message_id="<t@shop.test>"),
)  # fmt: skip
FIELDS = {
    "ticket": {"number": "12", "subject": "<b>Lamp</b>", "status": "open"},
    "contact": {"name": "Ann", "language": "de"},
    "agent": {"name": "Mia"},
}
DELIMITER = "##- Please type your reply above this line -##"


def dressed(template: MailTemplate | None = None, message: OutboundMessage = MESSAGE, **mail: Any) -> OutboundMessage:
    if mail:
        assert message.mail is not None
        message = msgspec.structs.replace(message, mail=msgspec.structs.replace(message.mail, **mail))
    return Dress(template or MailTemplate(), "Shop", "support@shop.test").on(message, FIELDS)


def test_without_a_template_the_text_stays_and_the_html_is_ours() -> None:
    mail = dressed()
    assert mail.text == MESSAGE.text
    assert '<p style="margin:0 0 1em">Hello &lt;you&gt;</p>' in mail.html
    assert 'lang="de" dir="ltr"' in mail.html
    assert "{{" not in mail.html
    assert tame(mail.html)
    assert to_text(mail.html) == "Hello <you>\n\nSecond & last"


def test_header_footer_and_delimiter() -> None:
    template = MailTemplate(header="Shop & Co", footer="Street 1\nTown", delimiter=DELIMITER)
    mail = dressed(template)
    assert mail.text == f"{DELIMITER}\n\nShop & Co\n\n{MESSAGE.text}\n\n-- \nStreet 1\nTown"
    assert "Shop &amp; Co" in mail.html
    assert "Street 1<br>\nTown" in mail.html
    assert mail.html.index("reply-delimiter") < mail.html.index("Hello")


def test_what_an_agent_wrote_as_html_stays_html() -> None:
    mail = dressed(message=msgspec.structs.replace(MESSAGE, html="<p>Hello <b>you</b></p>"))
    assert "<p>Hello <b>you</b></p>" in mail.html


def test_the_operators_own_html_makes_the_text_too() -> None:
    source = "<h1>{{ account.name }}</h1>\n{{ content }}\n<p>{{ ticket.subject }} {{ agent.name }}</p>"
    template = MailTemplate(html=source)
    mail = dressed(template)
    assert "<p>&lt;b&gt;Lamp&lt;/b&gt; Mia</p>" in mail.html
    assert mail.text == "Shop\n\nHello <you>\n\nSecond & last\n\n<b>Lamp</b> Mia"
    own_text = dressed(MailTemplate(html=source, text="{{ content }}!"))
    assert own_text.text == f"{MESSAGE.text}!"


@pytest.mark.parametrize(
    ("text", "expected"), [("שלום", "rtl"), ("123 مرحبا", "rtl"), ("Hi שלום", "ltr"), ("1", "ltr")]
)
def test_the_direction_of_the_text(text: str, expected: str) -> None:
    assert direction(text) == expected
    assert f'<body dir="{expected}"' in dressed(message=msgspec.structs.replace(MESSAGE, text=text)).html


def test_pages_can_be_followed_and_nothing_else() -> None:
    text = 'See https://a.test/x?y=1&z=2. "onclick=" javascript:alert(1) https://a.test/"><script>'
    html = dressed(message=msgspec.structs.replace(MESSAGE, text=text)).html
    assert '<a href="https://a.test/x?y=1&amp;z=2">https://a.test/x?y=1&amp;z=2</a>.' in html
    assert "<script>" not in html
    assert 'href="javascript' not in html


def test_marketing_shows_the_way_out() -> None:
    mail = dressed(unsubscribe_url="https://gw.test/unsubscribe/x")
    assert 'href="https://gw.test/unsubscribe/x"' in mail.html
    assert mail.text.endswith("Unsubscribe: https://gw.test/unsubscribe/x")


REFUSED = {  # template -> line, a word of the problem
    "{{ content }}\n{{ contnet }}": (2, "contnet"),
    "{{ content }}{{ ticket.nubmer }}": (1, "ticket.nubmer"),
    "{{ content }}{{ ticket }}": (1, "unknown place"),
    "{{ content }}{{ ticket.items }}": (1, "ticket.items"),
    "{{ content }}{{ content.__class__ }}": (1, "__class__"),
    "{{ content }}{{ contact.name.upper }}": (1, "field of a field"),
    "\n\n{% for x in content %}{% endfor %}": (3, "{% for %}"),
    "{{ content() }}": (1, "a call"),
    "{{ content * 9 }}": (1, "Mul"),
    "{{ content | safe }}": (1, "safe"),
    "{{ content | center(999999999) }}": (1, "center"),
    "{{ content }}{% include 'x' %}": (1, "Include"),
    "{{ content }}{% set x = 1 %}": (1, "{% set %}"),
    "{{ content }}{% if content is filter('x') %}{% endif %}": (1, "filter"),
    "{{ content }}\n{% if content %}": (2, "endif"),
    "{{ content ": (1, "end of print"),
    "{{ content }}" + "x" * 300_000: (1, "256 KiB"),
    "{{ content }}{{ " + "(" * 3000: (1, ""),
}


@pytest.mark.parametrize(("source", "expected"), REFUSED.items(), ids=[key[:40] for key in REFUSED])
def test_a_fault_is_named_with_its_line(source: str, expected: tuple[int, str]) -> None:
    with pytest.raises(ValueError, match=f"^html: line {expected[0]}: ") as caught:
        MailTemplate(html=source)
    assert expected[1] in str(caught.value)


@pytest.mark.parametrize("source", ["Hi", "{% if false %}{{ content }}{% endif %}", "<!-- {{ header }} -->"])
def test_a_template_must_show_the_content(source: str) -> None:
    for key in ("html", "text"):
        with pytest.raises(ValueError, match=f"^{key}: .*content"):
            MailTemplate(**{key: source})


@pytest.mark.parametrize("delimiter", ["---", "one\ntwo line breaks"])
def test_a_delimiter_must_be_told_from_what_people_write(delimiter: str) -> None:
    with pytest.raises(ValueError, match=r"^delimiter: "):
        MailTemplate(delimiter=delimiter)


def test_a_template_that_makes_too_much_is_left_out() -> None:
    template = MailTemplate(html="{{ content }}" * 20)
    long = msgspec.structs.replace(MESSAGE, text="x" * (OUTPUT_MAX // 10))
    assert dressed(template, long) == long
    with pytest.raises(OutputTooLong):
        TextTemplate("{{ a }}" * 5, {"a": frozenset()}).render({"a": "x" * OUTPUT_MAX})


@given(st.text(max_size=200))
def test_no_text_breaks_out_of_its_place(text: str) -> None:
    mail = dressed(MailTemplate(html="<p>{{ content }}</p>"), msgspec.structs.replace(MESSAGE, text=text))
    assert mail.html.count("<script") == 0
    assert "{{" not in mail.html or "{{" in text


@given(st.text(alphabet="{}% abc.|()'\"\n", max_size=60))
def test_any_source_is_a_template_or_a_fault(source: str) -> None:
    with suppress(TemplateFault):  # and nothing else
        TextTemplate(source, {"a": frozenset(), "b": frozenset({"c"})}).render({"a": "x", "b": {"c": "y"}})


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [DELIMITER, "Bitte oberhalb dieser Zeile antworten"])
def test_the_delimiter_is_found_in_the_answer(delimiter: str) -> None:
    settings = Settings("support@shop.test", template=MailTemplate(delimiter=delimiter))
    adapter = EmailAdapter(Account("mail", "email"), settings, None)  # type: ignore[arg-type]
    mail = dressed(settings.template)
    answers = {
        "no quote marks": f"Thanks!\n\n{mail.text}",
        "quoted": "Thanks!\n\n" + "\n".join(f"> {line}" for line in mail.text.split("\n")),
        "shouted": f"Thanks!\n\n  {delimiter.upper()}  \n{mail.text}",
    }
    for name, text in answers.items():
        raw = f"From: ann@customer.test\r\nSubject: Re: Lamp\r\n\r\n{text}".encode()
        (event,) = normalize(Received(raw, {"envelope-from": "ann@customer.test"}, {}, NOW, adapter.account))
        assert isinstance(event, InboundMessage)
        assert event.text == "Thanks!", name
        assert "Hello" in event.full_text


def test_the_delimiter_is_found_in_html() -> None:
    mail = dressed(MailTemplate(delimiter=DELIMITER))
    assert short_html_text(f"<div>Thanks!</div><div>{mail.html}</div>") == "Thanks!"
    assert short_text(f"Thanks!\n{to_text(mail.html)}", DELIMITER) == "Thanks!"


# --- the configuration ------------------------------------------------------------------------------------------------


def test_templates_come_from_files_and_their_faults_have_a_place(tmp_path: Path) -> None:
    (tmp_path / "reply.html").write_text("<p>\n{{ content }}\n{{ oops }}</p>", "utf-8")
    (tmp_path / "good.txt").write_text("{{ content }}\n{{ footer }}", "utf-8")
    config = tmp_path / "gateway.toml"
    config.write_text(
        """
        [[accounts]]
        id = "m"
        adapter = "email"
        address = "support@shop.test"
        template = { html = "file:reply.html", text = "file:good.txt", footer = "Bye" }
        """,
        "utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load(config, {"email": Settings})
    (fault,) = caught.value.faults
    assert str(fault).startswith("accounts[0].template.html: line 3: unknown place {{ oops }}; known are ")
    (tmp_path / "reply.html").write_text("<p>{{ content }}</p>", "utf-8")
    assert load(config, {"email": Settings}).accounts[0].options.template.html == "<p>{{ content }}</p>"
