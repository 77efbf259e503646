import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load
from gateway.config.schema import Config
from tests.cli.typing_in import Shell

KEY = "sk-canary-7f3a-canary"


def told(shell: Shell, *words: str) -> dict[str, Any]:
    """Key → entry."""
    shown = json.loads(shell.type("config", "show", "--json", *words).out)
    return {entry["key"]: entry for entry in shown["settings"]}


def test_what_is_printed_is_the_configuration_again(shell: Shell, tmp_path: Path) -> None:
    shell.config.write_text(
        'models."a.b:1" = {target = "c", options = {temperature = 0.5}}\nserver.port = 1\n'
        'upstreams.gpu = {kind = "openai", url = "http://gpu:1", models = ["x"]}\n'
        "callers.anonymous.weight = 2\n"
    )
    again = tmp_path / "again.toml"
    again.write_text(shell.type("config", "show").out)
    assert load(again, {}) == load(shell.config, {})


def test_every_default_is_told_and_none_as_changed(shell: Shell) -> None:
    shown = tomllib.loads(shell.type("config", "show").out)
    assert shown["server"]["port"] == Config().server.port
    assert shown["scheduling"]["session_headers"] == list(Config().scheduling.session_headers)
    assert shell.type("config", "show", "--changed").out == "\n"


def test_what_is_set_to_its_default_has_not_changed(shell: Shell) -> None:
    shell.config.write_text("server.port = 8000\nqueue.max_queue_size = 7")
    assert list(told(shell, "--changed")) == ["queue.max_queue_size"]


def test_each_value_says_where_it_was_written(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.config.write_text('[server]\nport = 1\nhost = ""\n[queue]\nmax_queue_size = 2\n')
    over = tmp_path / "conf.d" / "over.toml"
    over.parent.mkdir()
    over.write_text("\nserver.port = 3\n")
    shell.type("keys", "new", "alice", "--weight", "2")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    env_file = tmp_path / "environment"
    env_file.write_text("LOG_LEVEL=error\nMODEL_NAME=m\n")

    shown = told(shell, "--env-file", str(env_file))
    origins = {
        key: (entry["value"], entry["origin"], entry["line"]) for key, entry in shown.items()
    }
    assert origins["server.port"] == (3, str(over), 2)
    assert origins["server.host"] == ("", str(shell.config), 3)
    assert origins["logging.level"] == ("debug", "environment variable LOG_LEVEL", None)
    assert origins["generation.default_model"] == ("m", "environment variable MODEL_NAME", None)
    assert origins["callers.alice.weight"] == (2.0, str(shell.keys), None)
    assert origins["callers.alice.priority"] == ("normal", "default", None)
    assert origins["timeouts.stall_timeout_seconds"][1:] == ("default", None)

    text = shell.type("config", "show", "--origin", "--changed").out
    assert f"port = 3                                  # {over}:2" in text.splitlines()
    assert text.endswith(f"# Stored keys, in {shell.keys}: alice\n")


def test_no_secret_is_shown_wherever_it_stands(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    shell.config.write_text(
        f'auth = {{api_key_file = "{key_file}", keys = {{bob = "{KEY}-2"}}}}\n'
        f'backend.api_key = "{KEY}"\nupstreams.gpu = {{url = "http://g:1", api_key = "{KEY}"}}\n'
        f'tracing.headers = {{authorization = "{KEY}"}}\n'
    )
    shown = told(shell)
    assert shown["auth.api_key"]["value"] == "***"
    assert shown["auth.api_key"]["origin"] == "auth.api_key_file"
    assert shown["auth.keys.bob"]["value"] == "***"
    assert shown["upstreams.gpu.api_key"]["value"] == "***"
    for words in ((), ("--json",), ("--origin", "--changed")):
        assert "canary" not in shell.type("config", "show", *words).out
