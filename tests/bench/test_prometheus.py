import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from bench import prometheus
from bench.prometheus import BadQuery, NotFound, Prometheus

Answer = tuple[int, dict[str, Any]]


@pytest.fixture
def scripted() -> Iterator[tuple[Prometheus, dict[str, Answer]]]:
    """A Prometheus that answers what the test has put there, by query."""
    answers: dict[str, Answer] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, document = answers[asked["query"][0]]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Prometheus(f"http://127.0.0.1:{server.server_port}"), answers
        finally:
            server.shutdown()
            thread.join()


def test_what_is_no_number_is_no_value(
    scripted: tuple[Prometheus, dict[str, Answer]],
) -> None:
    asked, answers = scripted
    result = [
        {"metric": {"a": "1"}, "values": [[1, "NaN"], [2, "0.5"], [3, "+Inf"]]},
        {"metric": {"a": "2"}, "values": [[1, "NaN"]]},
    ]
    answers["up"] = (200, {"data": {"result": result}})
    (series,) = asked.over("up", start=1, end=3, step_s=1)
    assert series.labels == {"a": "1"}
    assert series.values == [(2, 0.5), (3, float("inf"))]


def test_a_query_that_is_wrong_is_told_in_its_words(
    scripted: tuple[Prometheus, dict[str, Answer]],
) -> None:
    asked, answers = scripted
    answers["up{"] = (400, {"error": "unclosed brace"})
    with pytest.raises(BadQuery, match=r"unclosed brace, in up\{"):
        asked.now("up{")


def test_without_the_program_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(prometheus, "FETCHED", tmp_path)
    with pytest.raises(NotFound, match="fetch-validators"):
        prometheus.program("prometheus")


def test_a_program_that_was_fetched_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(prometheus, "FETCHED", tmp_path)
    fetched = tmp_path / "usr" / "bin" / "prometheus"
    fetched.parent.mkdir(parents=True)
    fetched.touch(mode=0o755)
    assert prometheus.program("prometheus") == fetched
