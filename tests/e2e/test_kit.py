"""Adapters of other packages: the example is installed and runs, a new one passes at once, a bad one is refused."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shlex
import sys
import zipfile
from pathlib import Path

import aiohttp
import pytest

from adapters._load import find
from gateway.scaffold import ScaffoldError, new_adapter, template
from tests.support.api import Api
from tests.support.process import ROOT, Ran, run, serving

EXAMPLE = ROOT / "examples" / "pigeon"


async def python(*arguments: str | Path, cwd: Path, path: Path | None = None) -> Ran:
    """This Python in `cwd`, with packages installed under `path` beside the gateway's own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, arguments), cwd=cwd, env=os.environ | seen(path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


def seen(path: Path | None) -> dict[str, str]:
    """The environment in which packages under `path` count as installed."""
    return {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, ROOT)))), "PYTHONDONTWRITEBYTECODE": "1"}


async def install(package: Path, target: Path) -> Path:
    """Install a package as pip does, into a folder of its own."""
    done = await python(
        "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "--no-deps", "--no-build-isolation",
        "--target", target, package, cwd=target.parent,
    )  # fmt: skip
    assert done.code == 0, done.err
    return target


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed."""
    return asyncio.run(install(EXAMPLE, tmp_path_factory.mktemp("site") / "packages"))


def blocks(language: str) -> list[str]:
    """The README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (EXAMPLE / "README.md").read_text("utf-8"), re.M | re.S)


async def test_the_readme_leads_to_the_first_ticket(example: Path, tmp_path: Path) -> None:
    """Its `[[accounts]]` block and its `curl`, taken from the page as they stand."""
    (account,), (curl,) = blocks("toml"), blocks("sh")
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nlisten = "127.0.0.1:0"\n\n' + account, "utf-8")
    words = shlex.split(curl)
    url = next(word for word in words if word.startswith("http"))
    headers = dict(value.split(": ", 1) for flag, value in itertools.pairwise(words) if flag == "-H")
    body = words[words.index("-d") + 1].encode()
    key = await run("keys", "create", "reader", "--scope", "read", "--config", config, env=seen(example))
    async with serving(config, env=seen(example)) as served, aiohttp.ClientSession() as session:
        target = served.address + url.partition(":8080")[2]
        async with session.post(target, data=body + b" ", headers=headers) as answer:
            assert answer.status == 401
        for _ in range(2):  # a repeat changes nothing
            async with session.post(target, data=body, headers=headers) as answer:
                assert answer.status == 200
        api = Api(served.address, key.out.strip())
        try:
            ticket = await api.ticket()
            (message,) = await api.messages(ticket, 1)
        finally:
            await api.close()
    assert (ticket["channel"], ticket["account"], message["text"]) == ("pigeon", "pigeon-main", "Is the loft open?")


async def test_an_installed_adapter_stands_in_the_table_with_its_package(example: Path) -> None:
    listed = await run("channels", env=seen(example))
    line = next(line for line in listed.out.splitlines() if line.startswith("pigeon"))
    assert (line.split()[0], line.split()[-1]) == ("pigeon", "gateway-pigeon")


async def test_the_examples_own_tests_pass(example: Path, tmp_path: Path) -> None:
    target = tmp_path / "test_gateway_pigeon.py"
    target.write_text((EXAMPLE / "test_gateway_pigeon.py").read_text("utf-8"), "utf-8")
    ran = await python("-m", "pytest", "-q", "-p", "no:cacheprovider", ".", cwd=tmp_path, path=example)
    assert ran.code == 0, ran.out
    assert "passed" in ran.out


async def test_a_file_the_example_cannot_carry_is_refused_and_not_lost(example: Path) -> None:
    listed = await run("channels", env=seen(example))
    line = next(line for line in listed.out.splitlines() if line.startswith("pigeon"))
    assert re.split(r"\s{2,}", line)[4] == "none"


async def test_a_new_package_installs_and_its_tests_pass_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "gateway-carrier-hawk"
    made = await run("adapters", "new", "carrier_hawk", folder)
    assert made.code == 0, made.err
    text = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert sorted(text) == [
        "README.md", "gateway_carrier_hawk.py", "pyproject.toml", "test_gateway_carrier_hawk.py",
    ]  # fmt: skip
    assert not [name for name, words in text.items() if "pigeon" in words.lower()]
    installed = await install(folder, tmp_path / "packages")
    ran = await python("-m", "pytest", "-q", "-p", "no:cacheprovider", ".", cwd=folder, path=installed)
    assert ran.code == 0, ran.out
    listed = await run("channels", "--json", env=seen(installed))
    assert '"carrier_hawk"' in listed.out


def test_the_way_to_the_first_ticket_is_short() -> None:
    """From an empty folder to the first ticket in under 150 lines of one's own (C19)."""
    module = (EXAMPLE / "gateway_pigeon.py").read_text("utf-8")
    assert len([line for line in module.splitlines() if line.strip()]) < 150


WRONG_NAMES = ("Pigeon", "9lives", "two words", "", "class", "../up", "x" * 40, "line", "x_dm")


@pytest.mark.parametrize("name", WRONG_NAMES)
async def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    refused = await run("adapters", "new", name, tmp_path / "new")
    assert (refused.code, (tmp_path / "new").exists()) == (1, False)
    assert re.search("no name for an adapter|is there already", refused.err)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("mine", "utf-8")
    with pytest.raises(ScaffoldError, match="is not empty"):
        new_adapter("hawk", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


PACKAGES = ("adapters", "config", "gateway", "normalizers", "outbox")


async def test_the_wheel_carries_everything_and_runs(tmp_path: Path) -> None:
    """The template, the console, the schema's steps, the starter configuration, and the mark of typed packages."""
    built = await python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT)
    assert built.code == 0, built.err
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    packed = {name.rpartition("/")[2] for name in names if name.startswith("gateway/examples/pigeon/")}
    assert packed == {path.name for path in template().iterdir() if path.is_file()}
    ours = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT).as_posix() for path in ours if "__pycache__" not in path.parts}
    assert wanted <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    site = await install(wheel, tmp_path / "site")
    made = await python("-c", "import gateway; print(gateway.__file__)", cwd=tmp_path, path=site)
    assert made.out.startswith(str(site))
    played = await python("-m", "gateway", "demo", "--once", cwd=tmp_path, path=site)
    assert played.code == 0, played.err
    assert "The tickets in the end." in played.out


# --- what cannot be used stops the start with a sentence --------------------------------------------------------------

BAD = {  # the module's text, the entry point -> the sentence
    "fails to load": ("import nothing_of_that_name", "odd = 'odd:Odd'", "cannot be loaded: ModuleNotFoundError"),
    "names nothing": ("", "odd = 'odd:Odd'", "cannot be loaded: AttributeError"),
    "is no adapter": ("class Odd:\n    channels = ()", "odd = 'odd:Odd'", "is no adapter: it lacks settings_type"),
    "clashes with a built-in one": ("class Odd: ...", "line = 'odd:Odd'", "odd-package clashes with built in"),
}


@pytest.mark.parametrize(("module", "point", "sentence"), BAD.values(), ids=BAD)
async def test_a_bad_package_stops_the_start(module: str, point: str, sentence: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "odd_package-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "odd.py").write_text(module, "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-package\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("[channel_gateway.adapters]\n" + point.replace("'", ""), "utf-8")
    config = tmp_path / "gateway.toml"
    config.write_text("", "utf-8")
    served = await run("serve", "--config", config, env=seen(site))
    assert (served.code, served.out) == (2, "")
    (line,) = served.err.splitlines()
    assert sentence in line


async def test_unknown_settings_of_an_installed_adapter_are_named(example: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    (account,) = blocks("toml")
    config.write_text(account.replace("token =", "colour = 'red'\ntoken_ ="), "utf-8")
    checked = await run("check", "--config", config, env=seen(example))
    assert checked.code == 2
    assert sorted(line.partition(":")[0] for line in checked.err.splitlines()) == [
        "accounts[0].colour", "accounts[0].token", "accounts[0].token_",
    ]  # fmt: skip


def test_the_example_is_not_among_the_built_in_ones() -> None:
    assert "pigeon" not in find(())
