"""What `gateway check` warns of by what the store holds: matching attributes that link nobody, or everybody."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.engine import URL

from config.people import CrmSettings
from config.secret import Secret
from config.settings import GatewaySettings, Settings
from gateway.__main__ import main
from gateway.advice import about_matching
from gateway.store import attributes, dialect, schema

CRM = CrmSettings("crm", "hubspot", token=Secret("t"), attributes={"tier": "tier", "number": "customer_no"})
FIELD, PLATFORM = "is a field of contacts", "is told by platforms"
UNKNOWN, CHOICE = "is no attribute yet", "is a choice"
WORDS = {
    "email": "", "phone": "", "customer_no": "", "number": "",  # made by an admin, filled by the CRM
    "vip": FIELD, "name": FIELD, "username": PLATFORM, "e-mail": UNKNOWN, "plan": CHOICE,
}  # fmt: skip


def settings(url: URL, *names: str) -> Settings:
    if url.get_backend_name() == "sqlite":
        where = GatewaySettings(data_dir=str(Path(str(url.database)).parent), matching_attribute=names)
    else:
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        where = GatewaySettings(database=Secret(plain), matching_attribute=names)
    return Settings(gateway=where, crm=(CRM,))


def test_what_links_nobody_or_everybody_is_warned_of(url: URL) -> None:
    engine = dialect.write_engine(url)
    with engine.begin() as connection:
        for name, kind in (("customer_no", "text"), ("plan", "choice")):
            entry = {"name": name, "title": name, "kind": "custom", "type": kind, "choices": ["a", "b"]}
            attributes.store(connection, entry | {"position": 9, "visible": True, "unique_value": False})
        connection.execute(insert(schema.platform_attributes).values(name="username", channel="x_dm"))
    engine.dispose()
    for name, words in WORDS.items():
        found = about_matching(settings(url, name))
        assert [(fault.key, fault.problem.startswith(f"{name!r} {words}")) for fault in found] == (
            [("gateway.matching_attribute", True)] if words else []
        ), name
    assert len(about_matching(settings(url, *WORDS))) == sum(map(bool, WORDS.values()))
    without = dataclasses.replace(settings(url, "number"), crm=())
    assert len(about_matching(without)) == 1


def test_a_store_that_cannot_be_read_says_nothing(empty: URL) -> None:
    assert about_matching(settings(empty, "e-mail")) == []


@pytest.mark.parametrize(("name", "warned"), [("e-mail", True), ("email", False)])
def test_a_check_warns_and_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, warned: bool) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[gateway]\nmatching_attribute = "{name}"\n')
    with pytest.raises(SystemExit) as ended:
        main(["check", "--config", str(file)])
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (0, "ok\n")
    assert told.err.startswith(f"warning: gateway.matching_attribute: {name!r} is no attribute yet") == warned
    assert told.err.count("\n") == int(warned)
