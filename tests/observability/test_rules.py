"""The rules for Prometheus: right, each with a test that makes it fire and one that does not."""

import re
import subprocess
from collections import defaultdict
from typing import Final

import pytest

from gateway.cli.main import COMMANDS
from gateway.config.schema import Config
from tests.observability.validators import ROOT, validator

RULES: Final = ROOT / "conf" / "prometheus"
CASES: Final = ROOT / "tests" / "observability" / "alerts_test.yml"
ALERTS: Final = (RULES / "alerts.yml").read_text("utf-8")

_ALERT: Final = re.compile(
    r"^      - alert: (\w+)\n(.*?)(?=^      - alert: |^  - name: |\Z)", re.MULTILINE | re.DOTALL
)


def promtool(*arguments: str) -> None:
    ran = subprocess.run(
        [validator("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.prometheus
@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", str(RULES / "recording.yml"), str(RULES / "alerts.yml")),
        ("check", "config", str(RULES / "prometheus.yml")),
        ("test", "rules", str(CASES)),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_prometheus_finds_no_fault(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


@pytest.mark.parametrize(("name", "body"), _ALERT.findall(ALERTS))
def test_an_alert_says_what_is_wrong_what_to_do_and_why_there(name: str, body: str) -> None:
    assert body.startswith("        # "), "the comment says where the threshold comes from"
    assert re.search(r"severity: (critical|warning|info)\n", body)
    for annotation in ("summary", "description", "action"):
        assert re.search(rf'{annotation}: ".{{20,}}"\n', body), annotation


def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    fires: dict[str, set[bool]] = defaultdict(set)
    cases = CASES.read_text("utf-8")
    for case in cases.split("  - name: ")[1:]:
        found = re.search(r'ALERTS\{alertname="(\w+)", alertstate="firing"\}\n', case)
        assert found is not None, case
        fires[found[1]].add("exp_samples: []" not in case)
    assert fires == {name: {True, False} for name, _ in _ALERT.findall(ALERTS)}


def test_every_setting_that_an_alert_names_is_real() -> None:
    config = Config()
    tables = "|".join(name for name in dir(config) if name[0] != "_")
    named = set(re.findall(rf"\b({tables})\.([a-z_]+)", ALERTS))
    assert len(named) > 5
    for table, key in named:
        assert hasattr(getattr(config, table), key), f"{table}.{key}"


def test_every_command_that_an_alert_names_is_real() -> None:
    named = set(re.findall(r"(?<!the )\bgateway ([a-z]+)", " ".join(_actions())))
    assert named <= {command.name for command in COMMANDS}


def _actions() -> list[str]:
    return re.findall(r'action: "(.*)"\n', ALERTS)
