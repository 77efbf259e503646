"""An engine with OpenAI's API whose answers are written down: what no small model does by itself.

It thinks, calls tools, calls several at once, has too much to do, is slow, or breaks off midway:
as the test plans it, or, for clients that run in a process of their own, as the model's name says.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

MODEL: Final = "scripted"
"""Says what the test has planned; `Hello.` where it has not."""

MODELS: Final = (MODEL, "calls", "thinks", "breaks", "slow", "busy")

_PACE_S: Final = 0.05
_SLOW_WORDS: Final = 600

Delta = dict[str, Any]
Plan = tuple[Sequence[Delta], str | None] | int
"""The pieces of an answer and why it ends, None for not at all; or seconds to come back after."""


def text(said: str) -> Delta:
    return {"content": said}


def thought(said: str) -> Delta:
    return {"reasoning_content": said}


def call(index: int, name: str, arguments: str) -> Delta:
    """A whole tool call in one piece."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": f"call_{index}", "function": function}]}


class ScriptedEngine:
    """The engine.

    Attributes:
        url: Where it listens.
        asked: The bodies of all requests for an answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[dict[str, Any]] = []
        self._plans: deque[Plan] = deque()
        self._refused: list[dict[str, Any]] = []

    def answer(self, *deltas: Delta, reason: str = "stop") -> None:
        self._plans.append((deltas, reason))

    def break_after(self, *deltas: Delta) -> None:
        """Say this much and close the connection."""
        self._plans.append((deltas, None))

    def be_busy(self, *, retry_after_s: int) -> None:
        self._plans.append(retry_after_s)

    def plan(self, body: dict[str, Any]) -> Plan:
        """What becomes of a request."""
        self.asked.append(body)
        match body["model"]:
            case "calls":
                return _call_or_tell(body)
            case "thinks":
                return (thought("It was "), thought("asked."), text("Forty-"), text("two.")), "stop"
            case "breaks":
                return (text("half an "), text("ans")), None
            case "slow":
                return [text(f"word{number} ") for number in range(_SLOW_WORDS)], "stop"
            case "busy":  # Until the same is asked again.
                if body not in self._refused:
                    self._refused.append(body)
                    return 1
                self._refused.remove(body)
                return (text("At last."),), "stop"
            case _:
                return self._plans.popleft() if self._plans else ((text("Hello."),), "stop")


def _call_or_tell(body: dict[str, Any]) -> Plan:
    """Calls the first tool, with the JSON that stands in the user's message; tells what it said.

    One call for each object: `Weather? {"city": "Oslo"} {"city": "Rome"}` makes two.
    """
    *_, last = body["messages"]
    if last["role"] == "user" and body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        arguments = list(_objects(_text_of(last)))
        return [call(index, name, each) for index, each in enumerate(arguments)], "tool_calls"
    results = [_text_of(each) for each in body["messages"] if each["role"] == "tool"]
    return (text("It is "), text(" and ".join(results))), "stop"


def _text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _objects(said: str) -> Iterator[str]:
    begin = said.find("{")
    while begin >= 0:
        _, end = json.JSONDecoder().raw_decode(said, begin)
        yield said[begin:end]
        begin = said.find("{", end)


@contextmanager
def scripted_engine() -> Iterator[ScriptedEngine]:
    """One that runs while the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.engine = ScriptedEngine(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.engine  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        found = self.path == "/v1/models"
        models = [{"id": model, "object": "model"} for model in MODELS]
        self._whole(200 if found else 404, {"object": "list", "data": models} if found else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self._whole(404, {})
            return
        engine: ScriptedEngine = self.server.engine  # type: ignore[attr-defined]
        plan = engine.plan(body)
        if isinstance(plan, int):
            self._whole(503, {"error": {"message": "busy"}}, Retry_After=str(plan))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        with suppress(ConnectionError):  # Whoever asked may go.
            self._stream(*plan, pace_s=_PACE_S if body["model"] == "slow" else 0)

    def _stream(self, deltas: Sequence[Delta], reason: str | None, *, pace_s: float) -> None:
        for delta in deltas:
            self._record({"choices": [{"index": 0, "delta": delta}]})
            time.sleep(pace_s)
        if reason is not None:
            self._record({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            usage = {"prompt_tokens": 7, "completion_tokens": len(deltas)}
            self._record({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")

    def _record(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(b"data: %b\n\n" % json.dumps(chunk).encode())

    def _whole(self, status: int, document: Any, **headers: str) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
