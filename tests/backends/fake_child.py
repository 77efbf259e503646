"""A child for the supervisor, with the manners that its one argument names.

Run as a program of its own; the standard library alone.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

MODEL: Final = "m"


class _Handler(BaseHTTPRequestHandler):
    """Knows one model, and its key."""

    key: str
    counts = False
    """A vector is instead how many characters are being embedded, by all who ask."""

    chars = 0
    lock = threading.Lock()

    def _crowd(self, chars: int) -> float:
        kind = type(self)
        with self.lock:
            kind.chars += chars
        time.sleep(0.02)
        with self.lock:
            there = kind.chars
            kind.chars -= chars
        return float(there)

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == f"Bearer {self.key}"
        body = json.dumps(
            {"data": [{"id": MODEL, "created": 1, "meta": {"n_ctx": 512, "n_ctx_train": 2048}}]}
        ).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Embeds: a vector is the port, so that a test sees which server was asked."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Authorization"] == f"Bearer {self.key}"
        vector = [float(self.connection.getsockname()[1])]
        if self.counts:
            vector = [self._crowd(sum(map(len, asked["input"])))]
        body = json.dumps({"data": [{"embedding": vector} for _ in asked["input"]]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def say(text: str) -> None:
    print(text, flush=True)


def listen(settings: dict[str, Any]) -> str:
    _Handler.key = settings.get("api_key", "")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def serve(settings: dict[str, Any]) -> None:
    say(json.dumps({"url": listen(settings)}))
    sys.stdin.read()


def main(manners: str) -> None:
    settings = json.loads(sys.stdin.readline())
    match manners:
        case "serves":
            serve(settings)
        case "counts who is there":
            _Handler.counts = True
            serve(settings)
        case "serves twice":
            say(json.dumps({"url": listen(settings), "embeddings_url": listen(settings)}))
            sys.stdin.read()
        case "complains and serves":
            sys.stderr.write("\x1b[31mred\n" + "x" * 5000 + "\n" + "line\n" * 1000)
            sys.stderr.flush()
            serve(settings)
        case "repeats its settings":
            say(json.dumps({"error": settings["word"]}))
            sys.exit(1)
        case "dies at once":
            os.kill(os.getpid(), signal.SIGKILL)
        case "talks nonsense":
            say("listening!")
            sys.stdin.read()
        case "talks on and on":
            sys.stdout.write("x" * 100_000)
            sys.stdout.flush()
            sys.stdin.read()
        case "says nothing":
            sys.stdin.read()
        case "won't end":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say(json.dumps({"url": "http://127.0.0.1:1"}))
            signal.pause()
        case _:
            sys.exit(f"unknown manners: {manners}")


if __name__ == "__main__":
    main(sys.argv[1])
