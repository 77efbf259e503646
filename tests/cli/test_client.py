"""The client of commands, against a server that says what the test wants."""

import json
import socket
import threading
from argparse import Namespace
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from gateway.cli.client import Client, NotRunning, Refused, address_of, connect
from gateway.cli.command import CommandError
from gateway.config.schema import Auth, Config, Server
from gateway.core import exit_codes


class Daemon(HTTPServer):
    """Answers every request with the same bytes, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body = b"{}"
        self.cut = 0
        self.asked: list[tuple[str, str, str | None, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def says(self, document: Any, status: int = 200) -> None:
        self.body, self.status = json.dumps(document).encode(), status


class _Handler(BaseHTTPRequestHandler):
    server: Daemon

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Authorization")
        self.server.asked.append((self.command, self.path, key, body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body) + self.server.cut))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_document_is_asked_for_with_the_key(daemon: Daemon) -> None:
    daemon.says({"a": 1})
    assert Client(daemon.url, "sk-1").get("/gateway/status") == {"a": 1}
    assert daemon.asked == [("GET", "/gateway/status", "Bearer sk-1", b"")]


def test_a_body_is_sent_as_json_and_without_a_key_none_is_sent(daemon: Daemon) -> None:
    daemon.says({"a": 1})
    assert Client(daemon.url).post("/gateway/reload", {"b": "ü"}) == {"a": 1}
    assert daemon.asked == [("POST", "/gateway/reload", None, '{"b":"ü"}'.encode())]


def test_a_stream_is_read_line_by_line(daemon: Daemon) -> None:
    daemon.body = b"data: 1\n\ndata: 2\n"
    with Client(daemon.url).open("GET", "/gateway/events") as reply:
        assert list(reply.lines()) == [b"data: 1\n", b"\n", b"data: 2\n"]


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (401, exit_codes.NO_PERMISSION),
        (403, exit_codes.NO_PERMISSION),
        (404, exit_codes.FAILED),
        (503, exit_codes.FAILED),
    ],
)
def test_a_refusal_is_told_in_the_daemons_words(
    daemon: Daemon, status: int, exit_code: int
) -> None:
    daemon.says({"error": {"message": "No.", "type": "t", "param": None, "code": "c"}}, status)
    with pytest.raises(Refused, match=r"^No\.") as caught:
        Client(daemon.url).get("/x")
    assert (caught.value.status, caught.value.code) == (status, "c")
    assert caught.value.exit_code == exit_code
    assert ("$GATEWAY_KEY" in str(caught.value)) == (status < 404)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (404, b"<html>"), (500, b'{"error": 1}'), (502, b""), (404, b"[]")],
)
def test_whatever_else_listens_there_is_told_apart(
    daemon: Daemon, status: int, body: bytes
) -> None:
    daemon.status, daemon.body = status, body
    with pytest.raises(CommandError, match=f"what answers at {daemon.url} is no gateway") as caught:
        Client(daemon.url).get("/x")
    assert caught.value.exit_code == exit_codes.UNAVAILABLE


def test_a_port_that_nobody_listens_on_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NotRunning, match=f"answers at {url} .connection refused.") as caught:
            Client(url).get("/x")
    assert caught.value.exit_code == exit_codes.UNAVAILABLE


def test_an_answer_that_breaks_off_is_told(daemon: Daemon) -> None:
    daemon.cut = 10
    with pytest.raises(NotRunning, match="broke off"):
        Client(daemon.url).get("/x")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://h:x",
        "http://[::1",
        "http://h/v1",
        "http://a..b",
    ],
)
def test_what_is_no_url_is_a_wrong_command_line(url: str) -> None:
    with pytest.raises(CommandError, match="must be like http") as caught:
        Client(url)
    assert caught.value.exit_code == exit_codes.USAGE


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("192.0.2.1", "http://192.0.2.1:8000"),
        ("llm.example", "http://llm.example:8000"),
    ],
)
def test_a_daemon_that_listens_everywhere_is_reached_on_this_machine(host: str, url: str) -> None:
    config = Config(server=Server(host=host), auth=Auth(api_key="sk-0123456789"))
    assert address_of(config) == url


@pytest.mark.parametrize("key", ["sk-x\n", "\u201csk-x\u201d"])
def test_a_key_that_no_header_can_hold_is_a_wrong_command_line(
    key: str, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", key)
    with pytest.raises(CommandError, match="printable ASCII") as caught:
        connect(Namespace(url=daemon.url, config=None))
    assert caught.value.exit_code == exit_codes.USAGE
    assert not daemon.asked


def test_a_port_that_is_not_known_before_has_to_be_named() -> None:
    with pytest.raises(CommandError, match="name it with --url"):
        address_of(Config(server=Server(port=0)))


def test_the_url_that_is_named_wins_and_the_key_comes_from_the_environment(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "sk-2")
    connect(Namespace(url=daemon.url, config="/nowhere/at/all")).get("/x")
    assert daemon.asked == [("GET", "/x", "Bearer sk-2", b"")]
