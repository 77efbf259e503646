"""An Ollama without a model, fast enough that what stands before it is what is measured.

    python -m bench.scripted_ollama --port 11500

Speaks the part of Ollama's native API that a gateway uses: /api/version, /api/tags,
/api/ps, /api/show, /api/chat, /api/generate, /api/embed. What is answered is in the
name of the model, `tokens:COUNT[xBYTES][-PACEms]`:

    tokens:8            8 tokens, at once
    tokens:200-20ms     200 tokens, one each 20 ms, the first after 20 ms
    tokens:2000x4096    2,000 tokens of 4,096 bytes

The tokens are " w0", " w1", … and each line of a stream is an HTTP chunk of its own,
as Ollama flushes it. Tokens at no pace leave in one write. `options.num_predict`
cuts an answer short, as in Ollama. A request with neither messages nor a prompt loads.
Every model embeds, at once, and a text's vector depends on the text alone. One
endpoint is not Ollama's: GET /scripted/state tells how many answers have not left yet,
and how many were ever asked for.

The shapes are those of Ollama 0.24 (api/types.go: ChatResponse, GenerateResponse,
EmbedResponse, Metrics).
"""

import argparse
import asyncio
import functools
import math
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import attrs
import msgspec
import uvloop

FIRST_WORD: Final = " w0"
LAST_CHUNK: Final = b"0\r\n\r\n"
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
DIMENSIONS: Final = 768
"""Of a vector; those of nomic-embed-text, which Ollama's users embed with most."""

MODEL_NAMES: Final = (
    "tokens:1",
    "tokens:8",
    "tokens:8-5000ms",
    "tokens:20-10ms",
    "tokens:50-20ms",
    "tokens:200",
    "tokens:100-20ms",
    "tokens:200-50ms",
    "tokens:2000x4096",
)
"""What /api/tags lists; any other name of the same form is answered too."""

_MODEL: Final = re.compile(r"tokens:(\d{1,6})(?:x(\d{1,6}))?(?:-(\d{1,6})ms)?")
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_DATE: Final = b"Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n"
_MOMENT: Final = "2026-11-22T12:00:{:02d}.{:09d}Z"
_TOKEN_NS: Final = 1_000_000


@attrs.frozen
class Script:
    """What a model will say: `count` tokens, `pace_s` apart, each filled up to `token_bytes`."""

    count: int
    token_bytes: int = 0
    pace_s: float = 0.0

    def word(self, index: int) -> str:
        return f" w{index}".ljust(self.token_bytes, "x")

    @functools.cached_property
    def words(self) -> list[str]:
        return [self.word(index) for index in range(self.count)]

    @property
    def text(self) -> str:
        return "".join(self.words)


@functools.lru_cache(maxsize=256)
def script_of(model: str) -> Script | None:
    """What the name of a model orders; None where it is no name of ours."""
    if not (match := _MODEL.fullmatch(model)):
        return None
    return Script(
        count=int(match[1]), token_bytes=int(match[2] or 0), pace_s=int(match[3] or 0) / 1000
    )


class Asked(msgspec.Struct):
    """The fields of a chat or a completion that decide the answer; all others are ignored."""

    model: str = ""
    messages: list[msgspec.Raw] = []
    prompt: str = ""
    stream: bool | None = True
    options: dict[str, Any] | None = None


class ToEmbed(msgspec.Struct):
    model: str = ""
    input: str | list[str] = ""


Said = Callable[[str], Mapping[str, object]]
"""The member that holds a text in an answer."""


def message(text: str) -> Mapping[str, object]:
    """As /api/chat says it."""
    return {"message": {"role": "assistant", "content": text}}


def response(text: str) -> Mapping[str, object]:
    """As /api/generate says it."""
    return {"response": text}


@functools.lru_cache(maxsize=256)
def vector(text: str) -> Sequence[float]:
    """Of length 1, as Ollama's are, and with as many digits."""
    seed, scale = zlib.crc32(text.encode()), math.sqrt(2 / DIMENSIONS)
    return [round(scale * math.sin(seed + index), 9) for index in range(DIMENSIONS)]


def created_at(index: int) -> str:
    """The moment of a token, with nanoseconds, as Go prints it."""
    seconds, fraction = divmod(index * _TOKEN_NS, 1_000_000_000)
    return _MOMENT.format(seconds % 60, fraction)


def message_line(model: str, index: int, content: str, *, said: Said = message) -> bytes:
    """A line of a stream that is not the last."""
    return _json({"model": model, "created_at": created_at(index), **said(content), "done": False})


def done_line(
    model: str, count: int, *, reason: str, content: str = "", said: Said = message
) -> bytes:
    """The last line of a stream; with all of the content, the whole non-streamed answer."""
    return _json(
        {
            "model": model,
            "created_at": created_at(count),
            **said(content),
            "done": True,
            "done_reason": reason,
            "total_duration": count * _TOKEN_NS + 3_100_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": 26,
            "prompt_eval_duration": 2_000_000,
            "eval_count": count,
            "eval_duration": max(1, count * _TOKEN_NS),
        }
    )


def answer_lines(model: str, script: Script, count: int, said: Said) -> list[bytes]:
    """A stream's lines, each with its newline: one for each token and the last."""
    lines = [message_line(model, index, script.word(index), said=said) for index in range(count)]
    lines.append(done_line(model, count, reason=_reason(script, count), said=said))
    return [line + b"\n" for line in lines]


def as_chunk(data: bytes) -> bytes:
    """Data in the chunked transfer coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@functools.lru_cache(maxsize=64)
def streamed_answer(model: str, script: Script, count: int, said: Said) -> tuple[bytes, ...]:
    """The pieces to write: head with the first line, then a line each, then the end."""
    first, *others = map(as_chunk, answer_lines(model, script, count, said))
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
        + _DATE
        + b"Transfer-Encoding: chunked\r\n\r\n"
    )
    pieces = [head + first, *others]
    pieces[-1] += LAST_CHUNK
    return tuple(pieces)


@functools.lru_cache(maxsize=64)
def streamed_at_once(model: str, script: Script, count: int, said: Said) -> bytes:
    return b"".join(streamed_answer(model, script, count, said))


@functools.lru_cache(maxsize=64)
def whole_answer(model: str, script: Script, count: int, said: Said) -> bytes:
    """A non-streamed answer with its head."""
    text = "".join(script.word(index) for index in range(count))
    reason = _reason(script, count)
    return http_answer(done_line(model, count, reason=reason, content=text, said=said))


def http_answer(body: bytes, *, status: str = "200 OK") -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/json; charset=utf-8\r\n%b"
        b"Content-Length: %d\r\n\r\n%b" % (status.encode(), _DATE, len(body), body)
    )


def error_answer(status: str, text: str) -> bytes:
    return http_answer(_json({"error": text}), status=status)


def version() -> bytes:
    return _json({"version": "0.24.0"})


def tags() -> bytes:
    return _json({"models": [_listed(name) | _MODIFIED for name in MODEL_NAMES]})


def loaded() -> bytes:
    """/api/ps: every model is loaded, for ever."""
    running = {"expires_at": "2318-01-01T00:00:00Z", "size_vram": 0, "context_length": 4096}
    return _json({"models": [_listed(name) | running for name in MODEL_NAMES]})


def shown() -> bytes:
    return _json(
        {
            "modelfile": "FROM scripted",
            "parameters": "",
            "template": "{{ .Prompt }}",
            "details": _DETAILS,
            "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
            "capabilities": ["completion", "tools"],
            **_MODIFIED,
        }
    )


@attrs.define
class State:
    """What all connections share."""

    connections: "set[OllamaConnection]" = attrs.field(factory=set)
    asked: int = 0

    def document(self) -> bytes:
        running = sum(connection.running for connection in self.connections)
        return _json({"running": running, "asked": self.asked})


class OllamaConnection(asyncio.Protocol):
    """One connection: a request at a time, kept alive.

    A paced answer is a chain of timers, one ahead at the most; a connection that is
    lost takes its chain with it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._received = bytearray()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._timer is not None or self._transport.get_write_buffer_size() > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the methods of asyncio.Transport without being one.
        self._transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end])
            length_field = _CONTENT_LENGTH.search(head)
            length = int(length_field[1]) if length_field else 0
            if length > BODY_BYTES_MAX or _CHUNKED.search(head):
                self._transport.write(error_answer("411 Length Required", "length required"))
                self._transport.close()
                return
            if len(self._received) < end + 4 + length:
                return
            body = bytes(self._received[end + 4 : end + 4 + length])
            del self._received[: end + 4 + length]
            self._answer(head[: head.find(b" HTTP/")], body)

    def _answer(self, target: bytes, body: bytes) -> None:
        try:
            if said := _SAID.get(target):
                self._say(_decode_asked(body), said)
            elif target == b"POST /api/embed":
                self._embed(_decode_to_embed(body))
            elif target == b"GET /scripted/state":
                self._transport.write(http_answer(self._state.document()))
            elif document := _DOCUMENTS.get(target):
                self._transport.write(http_answer(document()))
            else:
                self._transport.write(error_answer("404 Not Found", "page not found"))
        except msgspec.MsgspecError as error:
            self._transport.write(error_answer("400 Bad Request", str(error)))

    def _say(self, request: Asked, said: Said) -> None:
        script = script_of(request.model)
        if script is None:
            self._transport.write(_not_found(request.model))
        elif request.messages or request.prompt:
            self._generate(request, script, said)
        else:
            self._transport.write(http_answer(_load_answer(request.model, said)))

    def _embed(self, request: ToEmbed) -> None:
        if script_of(request.model) is None:
            self._transport.write(_not_found(request.model))
            return
        self._state.asked += 1
        texts = [request.input] if isinstance(request.input, str) else request.input
        self._transport.write(http_answer(_embeddings(request.model, texts)))

    def _generate(self, request: Asked, script: Script, said: Said) -> None:
        self._state.asked += 1
        count = script.count
        limit = (request.options or {}).get("num_predict")
        if isinstance(limit, int) and 0 < limit < count:
            count = limit
        if request.stream is False:
            answer = whole_answer(request.model, script, count, said)
            if script.pace_s:
                self._pace([answer], pace_s=script.pace_s * count)
            else:
                self._transport.write(answer)
        elif script.pace_s:
            self._pace(streamed_answer(request.model, script, count, said), pace_s=script.pace_s)
        else:
            self._transport.write(streamed_at_once(request.model, script, count, said))

    def _pace(self, pieces: Sequence[bytes], *, pace_s: float) -> None:
        """Write a piece each `pace_s`; the last line follows its token at once, as in Ollama."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        if len(pieces) > 1:
            pieces = [*pieces[:-2], pieces[-2] + pieces[-1]]

        def write(index: int) -> None:
            self._transport.write(pieces[index])
            self._timer = None
            if index + 1 < len(pieces):
                # From the start, not from now: a late timer must not slow the stream.
                at = started_at + (index + 2) * pace_s
                self._timer = loop.call_at(at, write, index + 1)

        self._timer = loop.call_at(started_at + pace_s, write, 0)


_json: Final[Callable[[object], bytes]] = msgspec.json.Encoder().encode
_decode_asked: Final = msgspec.json.Decoder(Asked).decode
_decode_to_embed: Final = msgspec.json.Decoder(ToEmbed).decode
_SAID: Final[Mapping[bytes, Said]] = {
    b"POST /api/chat": message,
    b"POST /api/generate": response,
}
_DETAILS: Final = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_1",
}
_MODIFIED: Final = {"modified_at": "2026-11-22T12:00:00.000000001Z"}
_DOCUMENTS: Final = {
    b"GET /api/version": version,
    b"GET /api/tags": tags,
    b"GET /api/ps": loaded,
    b"POST /api/show": shown,
}


def _listed(name: str) -> dict[str, object]:
    return {"name": name, "model": name, "size": 1, "digest": "0" * 64, "details": _DETAILS}


def _reason(script: Script, count: int) -> str:
    return "stop" if count == script.count else "length"


def _load_answer(model: str, said: Said) -> bytes:
    return _json(
        {
            "model": model,
            "created_at": created_at(0),
            **said(""),
            "done": True,
            "done_reason": "load",
        }
    )


def _embeddings(model: str, texts: Sequence[str]) -> bytes:
    return _json(
        {
            "model": model,
            "embeddings": [vector(text) for text in texts],
            "total_duration": len(texts) * _TOKEN_NS + 1_100_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": sum(len(text.split()) for text in texts),
        }
    )


def _not_found(model: str) -> bytes:
    return error_answer("404 Not Found", f"model '{model}' not found")


async def serve(port: int) -> None:
    state = State()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: OllamaConnection(state), "127.0.0.1", port, backlog=4096
    )
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench.scripted_ollama")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args(arguments).port))


if __name__ == "__main__":
    main(sys.argv[1:])
