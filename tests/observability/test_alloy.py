"""Alloy's configuration, read by Alloy's own parser."""

import re
import subprocess
from typing import Final

import pytest

from tests.observability.validators import ROOT, validator

CONFIG: Final = ROOT / "conf" / "alloy" / "config.alloy"


@pytest.mark.prometheus
def test_alloy_can_read_it_and_would_write_it_the_same() -> None:
    ran = subprocess.run(
        [validator("alloy-syntax"), str(CONFIG)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == CONFIG.read_text("utf-8")


def test_every_component_that_is_named_is_declared_and_every_one_is_used() -> None:
    text = re.sub(r"//.*", "", CONFIG.read_text("utf-8"))
    declared = {
        f"{kind}.{label}"
        for kind, label in re.findall(r'^([a-z_.]+) "(\w+)" \{', text, re.MULTILINE)
    }
    named = set(re.findall(r"\b((?:loki|prometheus)\.\w+(?:\.\w+)?)\.(?:receiver|rules)\b", text))
    assert named <= declared
    sources = {name for name in declared if name.startswith(("loki.source.", "prometheus.scrape."))}
    assert declared - sources == named


def test_no_address_and_no_password_stands_in_it() -> None:
    text = re.sub(r"//.*", "", CONFIG.read_text("utf-8"))
    for key in ("url", "username", "password"):
        assert re.findall(rf"\b{key}\s*= (?!sys\.env)", text) == []
    told = set(re.findall(r"\b[A-Z]+_(?:URL|USER|PASSWORD)\b", CONFIG.read_text("utf-8")))
    assert set(re.findall(r'sys\.env\("(\w+)"\)', text)) == told
