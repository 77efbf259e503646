import stat
import tomllib

import pytest

from gateway.cli.config_migrate import NOTES, migrate
from gateway.config.environment import SHORT_NAMES
from gateway.config.load import load
from gateway.core import exit_codes
from gateway.core.errors import ConfigError
from tests.cli.typing_in import Shell

KEY = "sk-a-key-long-enough"
ALL = {
    "MODEL_NAME": "llama3.2",
    "OLLAMA_URL": "http://ollama:11434",
    "MAX_QUEUE_SIZE": "20",
    "BATCH_WAIT_MS": "50",
    "BATCH_MAX_SIZE": "4",
    "REQUEST_TIMEOUT_SECONDS": "120",
    "SHUTDOWN_GRACE_SECONDS": "10",
    "API_KEY": KEY,
    "HOST": "0.0.0.0",
    "PORT": "9000",
    "LOG_LEVEL": "warning",
}
"""Every variable that there was."""


def test_the_file_means_what_the_variables_mean(shell: Shell) -> None:
    made = migrate(ALL, ".env")
    shell.config.write_text(made.text)
    assert load(shell.config, {}) == load(None, ALL)
    assert NOTES.keys() <= ALL.keys() <= SHORT_NAMES.keys()
    for note in NOTES.values():
        assert " ".join(note.split()) in " ".join(made.text.replace("\n#", "").split())


def test_what_was_open_to_everybody_is_closed_and_that_is_said() -> None:
    for variables in ({}, {"HOST": "0.0.0.0"}, {"HOST": "192.168.0.2"}):
        made = migrate(variables, ".env")
        assert "server" not in tomllib.loads(made.text)
        assert "gateway keys new NAME" in made.text
        assert any("gateway keys new NAME" in note for note in made.notes)
    for variables in ({"HOST": "127.0.0.1"}, {"HOST": "0.0.0.0", "API_KEY": KEY}):
        made = migrate(variables, ".env")
        assert tomllib.loads(made.text)["server"]["host"] == variables["HOST"]
        assert not any("make a key" in note for note in made.notes)


def test_a_default_that_is_another_one_here_is_said() -> None:
    assert "http://ollama:11434" in migrate({"API_KEY": KEY}, ".env").text
    assert "OLLAMA_URL was not set" not in migrate(ALL, ".env").text


@pytest.mark.parametrize(
    ("was", "now"), [("WARN", "warning"), ("critical", "error"), ("Info", "info")]
)
def test_a_log_level_keeps_its_meaning(was: str, now: str) -> None:
    made = migrate({"LOG_LEVEL": was, "API_KEY": KEY}, ".env")
    assert tomllib.loads(made.text)["logging"]["level"] == now


def test_what_nobody_here_needs_is_named_without_its_value() -> None:
    made = migrate({**ALL, "GRAFANA_TOKEN": "canary", "DOMAIN": "canary.example"}, ".env")
    assert "GRAFANA_TOKEN, DOMAIN" in made.text
    assert any("GRAFANA_TOKEN, DOMAIN" in note for note in made.notes)
    assert "canary" not in made.text + "".join(made.notes)


def test_long_variables_of_this_gateway_come_along() -> None:
    made = migrate({**ALL, "GATEWAY__MODELS__CHAT__TARGET": "llama3.2"}, ".env")
    assert tomllib.loads(made.text)["models"] == {"chat": {"target": "llama3.2"}}


def test_a_value_that_is_refused_here_is_told_with_all_others() -> None:
    with pytest.raises(ConfigError) as caught:
        migrate({**ALL, "PORT": "x", "API_KEY": "short", "GATEWAY__NO": "1"}, ".env")
    assert len(caught.value.mistakes) == 3


def test_it_is_written_for_the_daemon_alone_and_never_over_another_file(shell: Shell) -> None:
    source, output = shell.folder / ".env", shell.folder / "made.toml"
    source.write_text("".join(f"{name}={value}\n" for name, value in ALL.items()))
    made = shell.type("config", "migrate", str(source), "--output", str(output))
    assert (made.code, made.out) == (0, "")
    assert load(output, {}) == load(None, ALL)
    assert not stat.S_IMODE(output.stat().st_mode) & stat.S_IRWXO
    before = output.read_text()
    assert shell.type("config", "migrate", str(source), "--output", str(output)).code == (
        exit_codes.CANT_CREATE
    )
    assert output.read_text() == before
    assert shell.type("config", "migrate", str(source)).out == before


def test_a_file_that_is_missing_or_no_env_is_a_sentence(shell: Shell) -> None:
    missing = shell.type("config", "migrate", "/nonexistent")
    assert (missing.code, missing.out) == (exit_codes.NO_INPUT, "")
    source = shell.folder / ".env"
    source.write_text("what is this\nPORT='1\n")
    wrong = shell.type("config", "migrate", str(source))
    assert (wrong.code, wrong.out) == (exit_codes.CONFIG, "")
    assert wrong.said == [
        f"gateway: {source}: line 1: must be NAME=value.",
        f"gateway: {source}: line 2: the quotes of PORT do not close.",
    ]
