import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from gateway import __version__
from gateway.cli.main import COMMANDS, main
from gateway.config import load as load_module
from gateway.config.environment import SHORT_NAMES
from gateway.config.schema import Config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file in a default place, and no variable of ours set."""
    monkeypatch.setattr(load_module, "DEFAULT_PATHS", ())
    for variable in (*SHORT_NAMES, "GATEWAY_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


class Daemon:
    """Stands in for gateway.daemon.run: keeps what it was started with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[tuple[Config, Path | None]] = []
        self.outcome: int | BaseException = 0
        module = ModuleType("gateway.daemon.run")
        vars(module)["serve"] = self.serve
        monkeypatch.setitem(sys.modules, "gateway.daemon.run", module)

    def serve(self, config: Config, config_path: Path | None, reread: Callable[[], Config]) -> int:
        self.started.append((config, config_path))
        assert reread() == config
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    return Daemon(monkeypatch)


def test_check_says_where_it_would_listen_and_what_it_would_serve(
    capsys: pytest.CaptureFixture[str], daemon: Daemon
) -> None:
    assert main(["check", "--config", str(ROOT / "conf/gateway.toml")]) == 0
    assert capsys.readouterr().out == (
        f"{ROOT}/conf/gateway.toml: OK\n"
        "Would listen on http://127.0.0.1:8000 (no API key) and serve from default: Ollama at"
        " http://localhost:11434 if it answers, else the embedded model.\n"
    )
    assert daemon.started == []


def test_check_names_every_engine_and_no_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        'server.host = "::"\nauth.keys = {alice = "key-of-alice", bob = "key-of-bob-x"}\n'
        'backend.kind = "ollama"\nupstreams.gpu = {kind = "openai", url = "http://gpu:1"}\n'
        'upstreams.small.kind = "llamacpp"\nupstreams.toy.kind = "echo"\n'
    )
    assert main(["check", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert (
        "http://[::]:8000 (2 API keys) and serve from default: ollama at http://localhost:11434,"
        " gpu: openai at http://gpu:1, small: the embedded model, toy: echo."
    ) in out
    assert "key-of" not in out


def test_check_says_what_each_alias_means(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        'models."gpt-4o-mini".target = "llama3.2"\nmodels.fast.target = "default"\n'
        'models."llama3.2".max_tokens = 100\n'
    )
    assert main(["check", "--config", str(path)]) == 0
    assert capsys.readouterr().out.endswith(
        "\nAliases: gpt-4o-mini is llama3.2, fast is default.\n"
    )


def test_without_a_file_the_defaults_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith("defaults and environment: OK\n")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_mistakes_are_told_a_line_each_and_nothing_starts(
    command: str, capsys: pytest.CaptureFixture[str], daemon: Daemon, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[server]\nport = -1\n[queue]\nmax_queue_siz = 5\n")
    assert main([command, "--config", str(path)]) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"gateway: {path}: server.port = -1: must be at least 0.\n"
        f"gateway: {path}: queue.max_queue_siz: there is no such key;"
        " did you mean `max_queue_size`?\n"
    )
    assert daemon.started == []


def test_a_missing_file_is_a_mistake_of_the_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "--config", "/nonexistent.toml"]) == 78
    assert capsys.readouterr().err == (
        "gateway: --config: /nonexistent.toml: there is no such file.\n"
    )


def test_a_public_address_without_a_key_starts_nothing(
    capsys: pytest.CaptureFixture[str], daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    assert main(["serve"]) == 78
    assert "insecure_bind" in capsys.readouterr().err
    assert daemon.started == []


def test_serve_hands_over_the_config_and_its_file(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("queue.max_queue_size = 7")
    daemon.outcome = 3
    assert main(["serve", "--config", str(path)]) == 3
    ((config, config_path),) = daemon.started
    assert config.queue.max_queue_size == 7
    assert config_path == path


def test_options_win_over_the_environment(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("GATEWAY__SERVER__HOST", "localhost")
    assert main(["serve", "--host", "127.0.0.2", "--port", "2"]) == 0
    ((config, _),) = daemon.started
    assert (config.server.host, config.server.port) == ("127.0.0.2", 2)


def test_a_wrong_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "70000"]) == 78
    assert capsys.readouterr().err == (
        "gateway: --port: server.port = 70000: must be at most 65535.\n"
    )


def test_an_interrupt_before_the_start_ends_quietly(
    capsys: pytest.CaptureFixture[str], daemon: Daemon
) -> None:
    daemon.outcome = KeyboardInterrupt()
    assert main(["serve"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "argv", [[], ["sevre"], ["serve", "--prot", "1"], ["check", "--port", "1"]]
)
def test_a_wrong_usage_is_told_as_such(
    argv: list[str], capsys: pytest.CaptureFixture[str], daemon: Daemon
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 64
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gateway")
    assert line.endswith("--help tells more)")
    assert daemon.started == []


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"gateway {__version__}\n"


@pytest.mark.slow
def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("server.port = 'x'")
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 78
    assert ended.stderr == (
        f'gateway: {path}: server.port = "x": must be a whole number, such as 8000.\n'
    )


def test_every_command_is_told_in_the_manual_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    _, found, rest = readme.partition("| command | what it does |\n| --- | --- |\n")
    assert found
    told = re.findall(r"^\| `gateway (\w+)` \| ", rest.partition("\n\n")[0], re.MULTILINE)
    assert sorted(told) == sorted(command.name for command in COMMANDS)


@pytest.mark.slow
def test_whoever_reads_our_output_may_stop_reading(tmp_path: Path) -> None:
    ended = subprocess.run(
        f"{sys.executable} -m gateway config show | head -1",
        shell=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "GATEWAY_CONFIG": str(ROOT / "conf/gateway.toml")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("[server]\n", "")
