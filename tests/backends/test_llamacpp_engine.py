"""The engine's process, around a stand-in for xllamacpp that listens but knows no model."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.backends import llamacpp_engine
from tests.backends.children import dying, is_alive

STAND_IN: Final = """
import json, os, socket, time

class CommonParams:
    def __init__(self):
        class Group: pass
        self.model, self.cpuparams, self.cpuparams_batch = Group(), Group(), Group()

class llama_pooling_type:
    LLAMA_POOLING_TYPE_LAST = 3

class Server:
    def __init__(self, params):
        print("chatter of native code", flush=True)
        with open(os.environ["ATTEMPTS"], "a") as attempts:
            attempts.write(json.dumps({
                **{key: value for key, value in vars(params).items()
                   if isinstance(value, (int, str, list))},
                "model_alias": sorted(params.model_alias),
                "threads": params.cpuparams.n_threads,
                "spin": os.environ["GOMP_SPINCOUNT"],
            }) + "\\n")
        match os.environ.get("SERVER"):
            case "fails":
                raise RuntimeError("Failed to init server, please check the input params.")
            case "loads for ever":
                os.write(2, b"LOADING\\n")
                time.sleep(600)
            case "loses the port once" if not os.path.exists(os.environ["ATTEMPTS"] + ".lost"):
                open(os.environ["ATTEMPTS"] + ".lost", "w").close()
                global thief
                thief = socket.create_server(("127.0.0.1", params.port))
                raise RuntimeError("Failed to init server, please check the input params.")
        self.socket = socket.create_server(("127.0.0.1", params.port))
        self.listening_address = f"http://127.0.0.1:{params.port}"
"""


PARENT: Final = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-P", sys.argv[1]], stderr=subprocess.PIPE)
while child.stderr.readline() != b"LOADING\\n":
    pass
print(child.pid, flush=True)
child.wait()
"""


class Process:
    """A running engine."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._attempts = folder / "attempts"
        self.popen = popen([llamacpp_engine.__file__], folder, **environment)

    def configure(self, settings: dict[str, Any]) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(settings) + "\n")
        self.popen.stdin.flush()

    def says(self) -> Any:
        assert self.popen.stdout is not None
        return json.loads(self.popen.stdout.readline())

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._attempts.read_text("utf-8").splitlines()]


def popen(program: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    stand_in = folder / "stand_in" / "xllamacpp.py"
    if not stand_in.exists():
        stand_in.parent.mkdir()
        stand_in.write_text(STAND_IN, "utf-8")
    return subprocess.Popen(
        [sys.executable, "-P", *program],
        env={
            **os.environ,
            "PYTHONPATH": str(stand_in.parent),
            "ATTEMPTS": str(folder / "attempts"),
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def parent_of_engine(folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    with popen(["-c", PARENT, llamacpp_engine.__file__], folder, **environment) as parent:
        try:
            yield parent
        finally:
            parent.kill()


@contextmanager
def engine(folder: Path, settings: dict[str, Any], **environment: str) -> Iterator[Process]:
    process = Process(folder, **environment)
    with process.popen:
        try:
            process.configure(settings)
            yield process
        finally:
            process.popen.kill()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF and so on")
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}", "utf-8")
    return {
        "model_path": str(model),
        "model_name": "small:1b",
        "slots": 3,
        "context_length": 1024,
        "threads": 7,
        "api_key": "secret",
        "chat_template": str(template),
    }


def test_it_says_where_it_listens_and_nothing_else(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with engine(tmp_path, settings) as process:
        urls = process.says()
        assert urls.keys() == {"url", "embeddings_url"}
        assert len(set(urls.values())) == 2
        for url in urls.values():
            host, _, port = url.removeprefix("http://").partition(":")
            assert host == "127.0.0.1"
            socket.create_connection((host, int(port))).close()
        rest, _ = process.popen.communicate()
        assert rest == ""


def test_settings_reach_the_engine(tmp_path: Path, settings: dict[str, Any]) -> None:
    with engine(tmp_path, settings) as process:
        process.says()
        params = process.attempts[0]
    assert params["n_ctx"] == 3 * 1024
    assert params["n_parallel"] == 3
    assert params["threads"] == 7
    assert params["model_alias"] == ["small:1b"]
    assert params["api_keys"] == ["secret"]
    assert params["hostnames"] == ["127.0.0.1"]
    assert params["chat_template"] == "{{ messages }}"
    assert params["spin"] == "1000"


def test_text_and_embeddings_share_what_is_not_their_own(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with engine(tmp_path, settings) as process:
        process.says()
        text, vectors = process.attempts
    assert "embedding" not in text
    assert vectors["embedding"] is True
    assert vectors["pooling_type"] == 3
    # One context for all inputs: with several, vectors of unequal inputs come out wrong.
    assert vectors["kv_unified"] is True
    assert vectors["n_ctx"] == 1024
    for name in ("threads", "model_alias", "api_keys", "hostnames", "verbosity"):
        assert text[name] == vectors[name]


def test_a_model_for_embeddings_is_loaded_once_and_pools_as_it_was_trained_to(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with engine(tmp_path, settings | {"embeds_only": True}) as process:
        urls = process.says()
        (params,) = process.attempts
    assert urls["url"] == urls["embeddings_url"]
    assert params["embedding"] is True
    assert "pooling_type" not in params
    # An input is computed in one piece.
    assert params["n_ubatch"] == params["n_batch"] == params["n_ctx"] == 1024


def test_without_a_number_there_is_a_thread_for_each_core(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with engine(tmp_path, settings | {"threads": 0, "chat_template": None}) as process:
        process.says()
        params = process.attempts[0]
    assert params["threads"] == llamacpp_engine.cores()
    assert "chat_template" not in params


def test_it_ends_when_its_parent_lets_go_of_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    with engine(tmp_path, settings) as process:
        process.says()
        assert process.popen.stdin is not None
        process.popen.stdin.close()
        assert process.popen.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_it_dies_with_its_parent_even_while_it_loads(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    # Its stdin is the parent's and does not end: this test holds the other end of it.
    with parent_of_engine(tmp_path, SERVER="loads for ever") as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(json.dumps(settings) + "\n")
        parent.stdin.flush()
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        async with dying(pid):
            parent.kill()


def test_a_port_that_somebody_else_took_is_left_to_them(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with engine(tmp_path, settings, SERVER="loses the port once") as process:
        url = process.says()["url"]
        first, second, _ = process.attempts
    assert first["port"] != second["port"]
    assert url == f"http://127.0.0.1:{second['port']}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "can't be read: No such file or directory"),
        (b"PK\x03\x04", "is not a GGUF file"),
        (b"GG", "is not a GGUF file"),
    ],
)
def test_what_is_no_model_is_told_in_a_sentence(
    tmp_path: Path, settings: dict[str, Any], content: bytes | None, reason: str
) -> None:
    path = tmp_path / "other.gguf"
    if content is not None:
        path.write_bytes(content)
    with engine(tmp_path, settings | {"model_path": str(path)}) as process:
        said = process.says()["error"]
        assert process.popen.wait() == 1
    assert str(path) in said
    assert reason in said


def test_a_model_that_will_not_load_is_tried_once_more_aloud(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with engine(tmp_path, settings, SERVER="fails") as process:
        assert "llama.cpp can't load" in process.says()["error"]
        assert process.popen.wait() == 1
        assert [attempt["verbosity"] for attempt in process.attempts] == [0, 1]


def test_a_missing_library_is_told_in_a_sentence(tmp_path: Path, settings: dict[str, Any]) -> None:
    stand_in = tmp_path / "stand_in" / "xllamacpp.py"
    stand_in.parent.mkdir()
    stand_in.write_text("raise ImportError('no such thing')", "utf-8")
    with engine(tmp_path, settings) as process:
        assert process.says() == {"error": "xllamacpp can't be imported: no such thing"}
        assert process.popen.wait() == 1
