"""`gateway check --deep`, typed on a machine whose engines are the test's."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.deep import look
from tests.cli.typing_in import Shell

DATA = Path(__file__).parents[2] / "data"
SHOW = json.loads((DATA / "ollama_show.json").read_text())


class Ollama(ThreadingHTTPServer):
    """Answers what is asked of one about itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Any] = {
            "/api/version": {"version": "0.16.0"},
            "/api/tags": {"models": [{"name": "m:latest", "size": 1000}]},
            "/api/ps": {"models": []},
            "/api/show": SHOW,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Ollama

    def do_GET(self) -> None:
        body = json.dumps(self.server.answers[self.path]).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    with Ollama() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(look, "UNIT", tmp_path / "no.service")


def found(shell: Shell) -> dict[str, tuple[str, str]]:
    """What was looked at → verdict and words; the exit status must say the worst."""
    done = shell.type("check", "--deep", "--json")
    told = json.loads(done.out)
    assert done.code == (1 if told["verdict"] == "fail" else 0)
    return {one["about"]: (one["verdict"], one["what"]) for one in told["findings"]}


def test_an_ollama_is_asked_about_all_that_it_tells(shell: Shell, ollama: Ollama) -> None:
    shell.config.write_text(
        f'backend = {{kind = "ollama", url = "{ollama.url}"}}\ngeneration.default_model = "m"\n'
        f'server = {{port = 0, state_directory = "{shell.folder}"}}\nmodels.x.target = "gone"\n'
    )
    told = found(shell)
    assert told["engine default"][0] == "ok"
    assert "CVE-2026-7482" in told["version of default"][1]
    assert told["model m"] == ("ok", "on default; the default model")
    assert told["model gone"] == ("warn", "on no engine; what x means")
    assert told["memory for m:latest"][0] == "ok"
    assert told["state"][1].endswith(f"may write into {shell.folder}")
    assert told["configuration"] == ("ok", str(shell.config))


def test_a_missing_default_model_and_a_silent_engine_are_faults(
    shell: Shell, ollama: Ollama
) -> None:
    shell.config.write_text(
        f'backend = {{kind = "ollama", url = "{ollama.url}"}}\nserver.port = 0\n'
        f'upstreams.gpu = {{kind = "openai", url = "http://127.0.0.1:1"}}\n'
    )
    told = found(shell)
    assert told["engine gpu"] == ("fail", "no answer from http://127.0.0.1:1: connection refused")
    assert told["model llama3.2"][0] == "skip"
    shell.config.write_text(
        f'backend = {{kind = "ollama", url = "{ollama.url}"}}\nserver.port = 0\n'
    )
    assert found(shell)["model llama3.2"][0] == "fail"


def test_a_loaded_model_is_told_as_it_is(shell: Shell, ollama: Ollama) -> None:
    ollama.answers["/api/ps"] = {
        "models": [
            {
                "name": "m:latest",
                "size": 3 * 1024**3,
                "size_vram": 1024**3,
                "expires_at": "2318-01-01T00:00:00Z",
            }
        ]
    }
    shell.config.write_text(
        f'backend = {{kind = "ollama", url = "{ollama.url}"}}\ngeneration.default_model = "m"\n'
        "server.port = 0\n"
    )
    told = found(shell)
    assert told["memory for m:latest"] == (
        "ok",
        "it is loaded and takes 3.0 GiB, 1.0 GiB of it a GPU's",
    )


def test_people_read_what_to_do(shell: Shell) -> None:
    shell.config.write_text(
        'backend.kind = "echo"\ngeneration.default_model = "echo"\nserver.port = 0\n'
    )
    done = shell.type("check", "--deep")
    assert done.code == 0
    assert "Fix: set server.state_directory" in done.out
    assert done.out.splitlines()[-1].startswith("0 failed, ")


def test_a_wrong_configuration_is_told_before_anything_is_looked_at(shell: Shell) -> None:
    shell.config.write_text("server.port = -1")
    done = shell.type("check", "--deep")
    assert (done.code, done.out) == (78, "")
