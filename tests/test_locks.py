"""What is deployed is pinned, whole, and what setup.cfg asks for."""

import configparser
import re
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = ROOT / "deploy" / "locks"
NAMES: Final = ("gateway", "embedded", "build")
CONTAINERFILE: Final = (ROOT / "Containerfile").read_text("utf-8")
ON_HOST: Final = (ROOT / "deploy" / "on-host.sh").read_text("utf-8")


def pinned(lock: str) -> dict[str, Requirement]:
    """By name what a lock pins; each line that is no pin, hash or comment fails."""
    pins = {}
    text = (LOCKS / f"{lock}.txt").read_text("utf-8").replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement
        pin = Requirement(requirement)
        assert [part.operator for part in pin.specifier] == ["=="], requirement
        pins[pin.name] = pin
    return pins


@pytest.mark.parametrize("lock", NAMES)
def test_everything_is_pinned_by_a_hash(lock: str) -> None:
    assert pinned(lock)


def required(section: str, key: str) -> list[Requirement]:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", "utf-8")
    return [Requirement(line) for line in setup[section][key].split("\n") if line]


@pytest.mark.parametrize(
    ("lock", "section", "key"),
    [
        ("gateway", "options", "install_requires"),
        ("embedded", "options.extras_require", "embedded"),
    ],
)
def test_the_locks_satisfy_what_is_required(lock: str, section: str, key: str) -> None:
    pins = pinned(lock)
    for requirement in required(section, key):
        (version,) = pins[requirement.name].specifier
        assert requirement.specifier.contains(version.version), f"{requirement}: run `make lock`"


def test_nothing_is_pinned_that_is_not_needed_by_something_installed() -> None:
    # A name that only the lock knows would be installed on every machine.
    needed, seen = [each.name for each in required("options", "install_requires")], set[str]()
    while needed:
        name = needed.pop()
        if name not in seen:
            seen.add(name)
            texts = map(Requirement, requires(name) or ())
            needed += [each.name for each in texts if _applies(each.marker)]
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in seen}
    assert pinned("gateway").keys() <= normal


def _applies(marker: Marker | None) -> bool:
    # What only the oldest Python needs is in the lock too.
    return marker is None or marker.evaluate({"extra": "", "python_version": "3.11"})


def test_the_model_is_the_one_that_make_installs() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = re.search(r"^MODEL_WHEEL := (\S+)$", makefile, re.MULTILINE)
    assert named is not None
    wanted = Requirement(named[1])
    assert pinned("embedded")[wanted.name].specifier == wanted.specifier


def test_nothing_is_built_by_what_is_not_pinned() -> None:
    installs = re.findall(r"^.*\bpip\b.* (?:install|wheel) .*$", CONTAINERFILE, re.MULTILINE)
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line or "--no-deps" in line, line
    assert "--no-build-isolation" in CONTAINERFILE
    # On the machine nothing is built at all.
    on_host = re.findall(r"^ *\$pip .*$", ON_HOST, re.MULTILINE)
    assert len(on_host) == 3
    for line in on_host:
        assert "--no-index" in line or "--only-binary :all: --require-hashes" in line, line
