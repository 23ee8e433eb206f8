"""Normalising one delivery, as a multiple of the cost of merely parsing the same payload, by CPU.

JSON is parsed twice: by Python's own `json.loads`, which is what parsing costs without a choice of library, and by
msgspec, for information: it is among the fastest there are.
"""

from __future__ import annotations

import email
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from defusedxml.ElementTree import fromstring

from normalizers import api, facebook, instagram, line, sms, wechat, whatsapp, x
from normalizers import email as mail
from normalizers.model import Account, Event, Received
from tests.bench.figures import Plan, Report, Row, Side, play, ratios
from tests.bench.world import message_body

PAYLOADS = Path(__file__).resolve().parents[1] / "channels" / "payloads"
AT = datetime(2026, 6, 1, tzinfo=UTC)
FORM = {"content-type": "application/x-www-form-urlencoded"}
BATCH = 20  # messages, or receipts, of one delivery
_STDLIB = "json.loads"
_WITHOUT_AIM = ("email package", "msgspec, no aim")
Normalize = Callable[[Received], tuple[Event, ...]]
Parse = Callable[[bytes], Any]


def cases() -> dict[str, tuple[Normalize, Received, Parse, bytes, str]]:
    """By channel: its normaliser, a delivery, and what parses the same: function, payload and its name."""
    text = message_body(7, 7)
    sms_form, wa_form = _form("sms/sms.txt"), _form("whatsapp_twilio/button.txt")
    receipts = msgspec.json.encode(_envelope([_receipt(number) for number in range(BATCH)]))
    plain = (PAYLOADS / "email" / "plain.eml").read_bytes()
    reply = (PAYLOADS / "email" / "reply.eml").read_bytes()
    over_api = msgspec.json.encode(
        {"id": "1", "from": {"name": "Ann", "email": "ann@customer.test"}, "text": "Hi " * 40}
    )
    json_, stdlib = msgspec.json.decode, email.message_from_bytes
    on_line, mention, directs, on_wechat = (
        (PAYLOADS / channel / name).read_bytes()
        for channel, name in (
            ("line", "first_message.json"), ("x", "mention.json"), ("x", "dm_received.json"), ("wechat", "text.xml"),
        )
    )  # fmt: skip
    tree = json_(on_line)
    five = msgspec.json.encode(tree | {"events": tree["events"] * 5})
    page, comment = ((PAYLOADS / "facebook" / name).read_bytes() for name in ("first_message.json", "comment.json"))
    story, price = ((PAYLOADS / "instagram" / name).read_bytes() for name in ("story_reply.json", "comment.json"))
    batch = msgspec.json.encode(
        _envelope([json_(message_body(number, number))["entry"][0]["changes"][0] for number in range(BATCH)])
    )
    broken = (PAYLOADS / "whatsapp" / "batch.json").read_bytes()
    envelope = {"mail-from": "ann@customer.test", "rcpt-to": "support@shop.test"}
    return {
        "whatsapp, a text": (whatsapp.normalize, _received("whatsapp", text), json_, text, "msgspec"),
        "whatsapp, a batch": (whatsapp.normalize, _received("whatsapp", batch), json_, batch, "msgspec"),
        "line, a text": (line.normalize, _received("line", on_line), json_, on_line, "msgspec"),
        "line, a batch": (line.normalize, _received("line", five), json_, five, "msgspec"),
        "x, a mention": (x.normalize, _received("x", mention), json_, mention, "msgspec"),
        "x, two direct messages": (x.normalize, _received("x", directs), json_, directs, "msgspec"),
        "wechat, a text": (wechat.normalize, _received("wechat", on_wechat), _xml, on_wechat, "defusedxml"),
        "messenger, a text": (facebook.normalize, _received("facebook", page), json_, page, "msgspec"),
        "facebook, a comment": (facebook.normalize, _received("facebook", comment), json_, comment, "msgspec"),
        "instagram, a text": (instagram.normalize, _received("instagram", story), json_, story, "msgspec"),
        "instagram, a comment": (instagram.normalize, _received("instagram", price), json_, price, "msgspec"),
        "whatsapp, receipts": (whatsapp.normalize, _received("whatsapp", receipts), json_, receipts, "msgspec"),
        "whatsapp, half broken": (whatsapp.normalize, _received("whatsapp", broken), json_, broken, "msgspec, no aim"),
        "whatsapp by twilio": (
            sms.normalize,
            _received("whatsapp", wa_form, FORM),
            _parse_form,
            wa_form,
            "parse_qsl",
        ),
        "sms": (sms.normalize, _received("sms", sms_form, FORM), _parse_form, sms_form, "parse_qsl"),
        "api": (api.normalize, _received("api", over_api), json_, over_api, "msgspec"),
        "email, plain": (mail.normalize, _received("email", plain, envelope), stdlib, plain, "email package"),
        "email, a reply": (mail.normalize, _received("email", reply, envelope), stdlib, reply, "email package"),
    }


def _xml(body: bytes) -> Any:
    return fromstring(body.decode(), forbid_dtd=True)


def _form(name: str) -> bytes:
    """A sample as Twilio posts it."""
    lines = (PAYLOADS / name).read_text("utf-8").splitlines()
    return urlencode(dict(line.split("=", 1) for line in lines if not line.startswith("#"))).encode()


def _parse_form(form: bytes) -> dict[str, str]:
    return dict(parse_qsl(form.decode(), keep_blank_values=True, strict_parsing=True))


def _envelope(changes: list[Any]) -> dict[str, Any]:
    return {"object": "whatsapp_business_account", "entry": [{"id": "7", "changes": changes}]}


def _receipt(number: int) -> dict[str, Any]:
    status = {
        "id": f"wamid.{number:020}", "status": "delivered", "timestamp": "1795958792",
        "recipient_id": f"49155{number:07}", "recipient_user_id": f"DE.{number:012}",
        "biz_opaque_callback_data": f"{number:032x}",
        "pricing": {"billable": True, "pricing_model": "PMP", "category": "service", "type": "free_customer_service"},
    }  # fmt: skip
    metadata = {"display_phone_number": "4930111222", "phone_number_id": "900"}
    return {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata, "statuses": [status]}}


def _received(channel: str, body: bytes, headers: dict[str, str] | None = None) -> Received:
    return Received(body=body, headers=headers or {}, query={}, received_at=AT, account=Account("main", channel))


async def run(plan: Plan, directory: Path) -> Report:
    """Microseconds per call of both, alternating."""
    report = Report("normalise: one delivery, cost as a multiple of parsing it")
    budget_s = 0.02 if plan.quick else 0.04
    for name, (normalize, received, parse, payload, parser) in cases().items():
        sides: dict[str, Side] = {
            "normalise": _side(lambda call=normalize, given=received: call(given), budget_s),  # type: ignore[misc]
            "parse": _side(lambda call=parse, given=payload: call(given), budget_s),  # type: ignore[misc]
        }
        is_json = parse is msgspec.json.decode
        if is_json:
            sides["json"] = _side(lambda given=payload: json.loads(given), budget_s)  # type: ignore[misc]
        found = await play(plan, sides)
        aim = "" if parser in _WITHOUT_AIM else "< 5"
        against, plain = (_STDLIB, found["json"]) if is_json else (parser, found["parse"])
        report.rows.append(Row(name, f"{against}, {len(payload)} bytes", ratios(found["normalise"], plain), aim))
        if is_json:
            report.rows.append(Row(f"  {name}", "msgspec", ratios(found["normalise"], found["parse"])))
        report.rows.append(Row(f"  {name}", "", [seconds * 1e6 for seconds in found["normalise"]], unit="us"))
    return report


def _side(work: Callable[[], object], budget_s: float) -> Side:
    async def measure() -> float:
        """Seconds of CPU per call, over about `budget_s`."""
        calls, started = 0, time.process_time()
        while (spent := time.process_time() - started) < budget_s:
            for _ in range(20):
                work()
            calls += 20
        return spent / calls

    return measure
