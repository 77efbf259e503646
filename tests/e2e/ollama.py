"""An Ollama whose answers are bytes, written by the test.

It answers the questions of the health check by itself, so that what a test
plays is for the requests that it sends, and plays a plain answer where nothing
was planned.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tests.backends.fake_engine import (
    END,
    FakeEngine,
    Pause,
    Step,
    chunk,
    head,
    read_request,
    whole,
)

MODEL: Final = "m"
"""What requests name; to Ollama it is `m:latest`."""

Steps = Sequence[Step]


def line(content: str, **fields: Any) -> bytes:
    """One NDJSON line of a chat, with its end."""
    message = {"role": "assistant", "content": content}
    document = {"model": "m:latest", "message": message, "done": False, **fields}
    return json.dumps(document).encode() + b"\n"


def done(**fields: Any) -> bytes:
    """The last line of a chat; a field that is None is left out."""
    counts: dict[str, Any] = {"prompt_eval_count": 3, "eval_count": 2, "done_reason": "stop"}
    counts = {name: value for name, value in {**counts, **fields}.items() if value is not None}
    return line("", done=True, **counts)


def answer(*lines: bytes) -> bytes:
    """A whole chunked answer, the lines an HTTP chunk each."""
    return head() + b"".join(map(chunk, lines)) + END


def error(text: str, status: int, **headers: str) -> bytes:
    """An answer with another status than 200."""
    return whole(json.dumps({"error": text}).encode(), status, **headers)


HELLO: Final = answer(line("hel"), line("lo"), done())


class ScriptedOllama(FakeEngine):
    """The server; see `FakeEngine`. `chats` is how often it was asked for an answer.

    Attributes:
        by_default: What is played where nothing was planned.
        loading: Where its models are not in memory: what the first load of one waits for.
        loads: How often it was asked for a load.
    """

    def __init__(self, models: Iterable[str] = ("m:latest",)) -> None:
        super().__init__()
        self.by_default: Steps = (HELLO,)
        self.models = list(models)
        self.loading: Pause | None = None
        self.loads = 0
        self.asked = asyncio.Condition()
        self._plans: deque[Steps] = deque()

    @property
    def chats(self) -> int:
        return len(self.requests)

    def play(self, *steps: Step) -> None:
        self._plans.append(steps)

    async def wait_asked(self, chats: int) -> None:
        """Until it was asked for so many answers."""
        async with self.asked:
            await self.asked.wait_for(lambda: self.chats >= chats)

    def leave(self) -> None:
        """Stop listening and break every connection, as a crash does."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def come_back(self) -> None:
        """Listen on the same port again."""
        port = int(self.url.rpartition(":")[2])
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while (request := await read_request(reader)) is not None:
                if request.target == "/api/generate":
                    await self._load()
                if request.target != "/api/chat":
                    writer.write(self._told(request.target))
                    continue
                self.requests.append(request)
                async with self.asked:
                    self.asked.notify_all()
                await self._play(tuple(self._next()), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _load(self) -> None:
        self.loads += 1
        if self.loading is not None:
            self.loading.reached.set()
            await self.loading.go.wait()
            self.loading = None

    def _next(self) -> Steps:
        return self._plans.popleft() if self._plans else self.by_default

    def _told(self, target: str) -> bytes:
        models = [{"name": name, "model": name, "size": 1} for name in self.models]
        match target:
            case "/api/version":
                return _json({"version": "0.24.0"})
            case "/api/tags":
                return _json({"models": models})
            case "/api/ps":
                running = [] if self.loading else models
                return _json({"models": [{**model, "context_length": 4096} for model in running]})
            case "/api/generate":
                return _json({"model": "m:latest", "done": True, "done_reason": "load"})
            case "/api/show":
                return _json(
                    {
                        "model_info": {"general.architecture": "l", "l.context_length": 8192},
                        "capabilities": ["completion", "tools"],
                    }
                )
            case _:
                return error("404 page not found", 404)


def _json(document: Any) -> bytes:
    return whole(json.dumps(document).encode(), Content_Type="application/json")
