"""deploy/compose.yaml: what its schema says, and what must be so of every service."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from tests.observability.validators import validator

ROOT: Final = Path(__file__).parent.parent.parent
FILE: Final = ROOT / "deploy" / "compose.yaml"
DOCUMENT: Final[dict[str, Any]] = YAML(typ="safe").load(FILE)
SERVICES: Final[dict[str, dict[str, Any]]] = DOCUMENT["services"]


def test_it_is_what_the_compose_specification_knows() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_each_container_is_closed_bounded_and_asked_how_it_does(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["networks"]
    ours = "GATEWAY_IMAGE" in service["image"]
    assert ours or "healthcheck" in service  # ours has one in the image
    assert ours or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "not pinned"


def test_only_the_proxy_can_be_reached_and_only_by_the_gateway_ollama() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["caddy"]
    networks = DOCUMENT["networks"]
    assert networks["engine"]["internal"]
    assert networks["front"]["internal"]
    on_engine = {name for name, service in SERVICES.items() if "engine" in service["networks"]}
    assert on_engine == {"gateway", "ollama"}


def test_ollama_is_set_up_as_on_a_machine_of_its_own() -> None:
    lines = (ROOT / "systemd" / "ollama.conf").read_text("utf-8").splitlines()
    prefix = "Environment="
    there = dict(
        line.removeprefix(prefix).split("=", 1) for line in lines if line.startswith(prefix)
    )
    here = dict(SERVICES["ollama"]["environment"])
    assert there.pop("OLLAMA_HOST") == "127.0.0.1:11434"
    assert here.pop("OLLAMA_HOST") == "0.0.0.0:11434"
    assert here == there


@pytest.mark.prometheus
def test_alloy_can_read_what_it_is_given() -> None:
    ran = subprocess.run(
        [validator("alloy-syntax"), str(ROOT / "deploy" / "compose.alloy")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == (ROOT / "deploy" / "compose.alloy").read_text("utf-8")


def test_every_file_that_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FILE.parent / source).is_file(), source
            else:
                assert source in DOCUMENT["volumes"]
