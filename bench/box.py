"""A small box with an Ollama, simulated as a real server: slow in the way that a real one is slow.

    python -m bench.box --port 11500 --slots 1 --decode 7.5 --prefill 60 --load 5 --scale 10

It answers as Ollama 0.24 does and takes its time as `bench.machine` says: one slot, an
unbounded queue, models that must be loaded, prompts that must be read. Everything goes
`--scale` times as fast, and the durations in its answers are those that passed, so that
who measures it sees a world without contradictions.

Spoken are /api/version, /api/tags, /api/ps, /api/show, /api/chat, and /api/generate
without a prompt, which loads a model or, with `keep_alive` 0, unloads it. What is not
Ollama's: GET /box/state tells what the box has done and does, POST /box/reset sets the
totals back.
"""

import argparse
import asyncio
import contextlib
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import attrs
import msgspec
import uvloop
from aiohttp import web

from bench import scripted_ollama
from bench.answers import (
    Lengths,
    Uniform,
    answer_text,
    lengths_of,
    natural_length,
    prompt_text,
    tokens_in,
)
from bench.machine import Hardware, Job, Machine, Totals, shares_s
from bench.scripted_ollama import BODY_BYTES_MAX, message_line
from bench.wire import HOST

STOP_S: Final = 0.01
"""What running answers are given when the box stops; Ollama gives them nothing."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TIMER_S: Final = 0.001
_NDJSON: Final = {"Content-Type": "application/x-ndjson"}


@attrs.frozen(kw_only=True)
class Settings:
    """A box.

    Attributes:
        models: Their names, each with its tag.
        lengths: Of answers that no limit cuts short.
        seed: Of the lengths and the texts.
    """

    hardware: Hardware = Hardware(scale=10.0)
    models: tuple[str, ...] = ("box:latest",)
    context_length: int = 4096
    lengths: Lengths = Uniform(8, 32)
    seed: int = 1


class Message(msgspec.Struct):
    role: str = ""
    content: str | None = None


class Asked(msgspec.Struct):
    """The fields of a request that decide the answer; all others are ignored."""

    model: str = ""
    messages: list[Message] = []
    prompt: str = ""
    stream: bool | None = True
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None


class Box:
    """The server: a machine, one timer for what it has due next, and a task per request."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.machine = Machine(settings.hardware, now=time.monotonic())
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Serve for as long as the block lasts, on a free port unless one is given.

        Yields:
            Its URL, without a slash at the end.
        """
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/api/version", _fixed(scripted_ollama.version)),
                web.post("/api/show", _fixed(scripted_ollama.shown)),
                web.get("/api/tags", self._tags),
                web.get("/api/ps", self._ps),
                web.post("/api/chat", self._chat),
                web.post("/api/generate", self._generate),
                web.get("/box/state", self._state),
                web.post("/box/reset", self._reset),
            ]
        )
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_S
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, port, backlog=4096)
            await site.start()
            yield f"http://{HOST}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
            if self._timer is not None:
                self._timer.cancel()

    def state(self) -> dict[str, Any]:
        """What it has done since the last reset, and what it does now; real seconds."""
        self.machine.advance(time.monotonic())
        return {
            **attrs.asdict(self.machine.totals),
            "waiting": self.machine.waiting,
            "running": self.machine.running,
            "resident": self.machine.resident,
            "scale": self.settings.hardware.scale,
        }

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request)
        if isinstance(asked, web.Response):
            return asked
        if (model := self._known(asked.model)) is None:
            return _model_not_found(asked.model)
        if not asked.messages:
            return await self._change(asked, model, {"message": _message("")})
        job = self._job(asked, model)
        if asked.stream is False:
            async with self._running(job) as progressed:
                while not job.ended():
                    await progressed.wait()
                    progressed.clear()
            return _answered(_last_line(job, asked, content=job.text))
        return await self._stream(request, asked, job)

    async def _stream(self, request: web.Request, asked: Asked, job: Job) -> web.StreamResponse:
        response = web.StreamResponse(headers=_NDJSON)
        sent = 0
        async with self._running(job) as progressed:
            while not job.ended():
                await progressed.wait()
                progressed.clear()
                if job.written == sent:
                    continue
                due = range(sent, job.written)
                lines = [message_line(job.model, index, job.token(index)) for index in due]
                sent = job.written
                if job.ended():
                    lines.append(_last_line(job, asked))
                if not response.prepared:
                    # The head comes with the first token, as Ollama's does.
                    await response.prepare(request)
                await response.write(b"\n".join(lines) + b"\n")
        await response.write_eof()
        return response

    async def _generate(self, request: web.Request) -> web.Response:
        asked = await _read(request)
        if isinstance(asked, web.Response):
            return asked
        if (model := self._known(asked.model)) is None:
            return _model_not_found(asked.model)
        if asked.prompt:
            return _refused(400, "the box writes by /api/chat alone")
        return await self._change(asked, model, {"response": ""})

    async def _change(self, asked: Asked, model: str, empty: dict[str, Any]) -> web.Response:
        """Load a model, or unload it."""
        if asked.keep_alive in (0, "0", "0s"):
            reason = "unload"
            # Ollama's answer is the same when the model is in use; it then goes later.
            self.machine.unload(model, time.monotonic())
        else:
            reason = "load"
            job = Job(model)
            async with self._running(job) as progressed:
                if not job.ended():
                    await progressed.wait()
        head = {"model": model, "created_at": scripted_ollama.created_at(0)}
        return _answered(_json({**head, **empty, "done": True, "done_reason": reason}))

    async def _tags(self, _request: web.Request) -> web.Response:
        modified = {"modified_at": scripted_ollama.created_at(0)}
        models = [_listed(name) | modified for name in self.settings.models]
        return _answered(_json({"models": models}))

    async def _ps(self, _request: web.Request) -> web.Response:
        running = {
            "expires_at": "2318-01-01T00:00:00Z",
            "size_vram": 0,
            "context_length": self.settings.context_length,
        }
        return _answered(
            _json({"models": [_listed(name) | running for name in self.machine.resident]})
        )

    async def _state(self, _request: web.Request) -> web.Response:
        return _answered(_json(self.state()))

    async def _reset(self, _request: web.Request) -> web.Response:
        self.machine.advance(time.monotonic())
        self.machine.totals = Totals(waiting_max=self.machine.waiting)
        return _answered(_json(self.state()))

    def _known(self, model: str) -> str | None:
        """The full name of a model that is here."""
        name = model if ":" in model else f"{model}:latest"
        return name if name in self.settings.models else None

    def _job(self, asked: Asked, model: str) -> Job:
        seed = self.settings.seed
        prompt = prompt_text((one.role, one.content or "") for one in asked.messages)
        natural = natural_length(self.settings.lengths, seed=seed, model=model, prompt=prompt)
        limit = _limit(asked)
        count = natural if limit is None else min(natural, limit)
        text = answer_text(count, seed=seed, model=model, prompt=prompt)
        return Job(model, prompt, text, cut=count < natural)

    @contextlib.asynccontextmanager
    async def _running(self, job: Job) -> AsyncIterator[asyncio.Event]:
        """Give the job to the machine; leaving the block before its end is leaving the queue.

        Yields:
            What is set each time the job has got further.
        """
        progressed = asyncio.Event()
        job.tell = progressed.set
        self.machine.submit(job, time.monotonic())
        self._set_timer()
        try:
            yield progressed
        finally:
            if not job.ended():
                self.machine.leave(job, time.monotonic())
                self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_at = self.machine.due_at
        if due_at is not None:
            # Loops count in milliseconds: a timer for less would come at once, again and again.
            wait_s = math.ceil((due_at - time.monotonic()) / _TIMER_S) * _TIMER_S
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wait_s, _TIMER_S), self._advance)

    def _advance(self) -> None:
        self.machine.advance(time.monotonic())
        self._set_timer()


_json: Final[Callable[[object], bytes]] = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Asked).decode
_DETAILS: Final = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
}


async def _read(request: web.Request) -> Asked | web.Response:
    try:
        return _decode(await request.read())
    except msgspec.MsgspecError as error:
        return _refused(400, str(error))


def _limit(asked: Asked) -> int | None:
    limit = (asked.options or {}).get("num_predict")
    return limit if isinstance(limit, int) and limit > 0 else None


def _message(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def _last_line(job: Job, asked: Asked, *, content: str = "") -> bytes:
    """The last line of a stream; with all of the content, the whole answer."""
    spent = {name: round(seconds * 1e9) for name, seconds in shares_s(job).items()}
    return _json(
        {
            "model": job.model,
            "created_at": scripted_ollama.created_at(job.written),
            "message": _message(content),
            "done": True,
            "done_reason": "length" if job.cut else "stop",
            "total_duration": spent["total"],
            "load_duration": spent["load"],
            "prompt_eval_count": tokens_in(job.prompt),
            "prompt_eval_duration": spent["prefill"],
            "eval_count": job.written,
            "eval_duration": spent["decode"],
        }
    )


def _listed(name: str) -> dict[str, object]:
    return {"name": name, "model": name, "size": 1, "digest": "0" * 64, "details": _DETAILS}


def _fixed(document: Callable[[], bytes]) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return _answered(document())

    return answer


def _answered(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def _refused(status: int, text: str) -> web.Response:
    response = _answered(_json({"error": text}))
    response.set_status(status)
    return response


def _model_not_found(model: str) -> web.Response:
    return _refused(404, f"model '{model}' not found")


async def _serve(settings: Settings, port: int) -> None:
    async with Box(settings).serve(port):
        await asyncio.Event().wait()


def settings_of(options: argparse.Namespace) -> Settings:
    return Settings(
        hardware=Hardware(
            slots=options.slots,
            memory_models=options.memory,
            load_s=options.load,
            prefill_per_s=options.prefill,
            decode_per_s=options.decode,
            gains=options.gains,
            scale=options.scale,
        ),
        models=options.models,
        context_length=options.context,
        lengths=options.lengths,
        seed=options.seed,
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name if ":" in name else f"{name}:latest" for name in text.split(","))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="bench.box", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--port", type=int, required=True)
    add("--slots", type=int, default=1, help="of each model")
    add("--memory", type=int, default=1, help="models that stay loaded")
    add("--load", type=float, default=5.0, help="seconds that a model takes to load")
    add("--prefill", type=float, default=60.0, help="tokens read in a second")
    add("--decode", type=float, default=7.5, help="tokens written in a second")
    add(
        "--gains",
        type=_numbers,
        default=(1.0,),
        help="work done by 1,2,3… slots together, relative to one; such as 1,1.5,1.7",
    )
    add("--scale", type=float, default=10.0, help="how many times as fast all goes")
    add("--models", type=_names, default=("box:latest",), help="names, with commas between")
    add("--context", type=int, default=4096, help="context length told by /api/ps")
    add("--lengths", type=lengths_of, default=Uniform(8, 32), help="8-32, or heavy")
    add("--seed", type=int, default=1, help="of lengths and texts")
    return found


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(settings_of(options), options.port))


if __name__ == "__main__":
    main(sys.argv[1:])
