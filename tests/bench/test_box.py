"""The simulated box speaks as Ollama (0.24) does, and tells the times that passed."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import orjson
import pytest
import pytest_asyncio

from bench.answers import HeavyTailed, Uniform, tokens_in
from bench.box import Box, Settings, parser, settings_of
from bench.machine import Hardware, Job, Machine
from bench.wire import Ask, ask_once, connected, get, ignored, post
from gateway.backends.ollama_wire import ChatReader
from gateway.core.messages import Finished, FinishReason, TextDelta

LINE_FIELDS = ["model", "created_at", "message", "done"]
DONE_FIELDS = [
    *LINE_FIELDS,
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]
QUICK = Settings(
    hardware=Hardware(scale=2000.0, load_s=20.0),
    models=("a:latest", "b:latest"),
    lengths=Uniform(5, 9),
)
SLOW = attrs.evolve(QUICK, hardware=Hardware(load_s=0.0, prefill_per_s=1e6, decode_per_s=0.01))
"""A token of it takes longer than any test."""


class Watched(Machine):
    """A machine that says when somebody has come or gone."""

    def __init__(self, hardware: Hardware) -> None:
        super().__init__(hardware, now=time.monotonic())
        self.came = asyncio.Semaphore(0)
        self.went = asyncio.Semaphore(0)

    def submit(self, job: Job, now: float) -> None:
        super().submit(job, now)
        self.came.release()

    def leave(self, job: Job, now: float) -> None:
        super().leave(job, now)
        self.went.release()


@attrs.frozen
class Served:
    box: Box
    machine: Watched
    port: int

    async def ask(self, ask: Ask) -> Any:
        exchange = await ask_once(self.port, ask)
        assert exchange.status == 200, exchange.body
        return orjson.loads(exchange.body)

    async def state(self) -> Any:
        return await self.ask(get("/box/state"))


@pytest_asyncio.fixture
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    box = Box(getattr(request, "param", QUICK))
    box.machine = machine = Watched(box.settings.hardware)
    async with box.serve() as url:
        yield Served(box, machine, int(url.rpartition(":")[2]))


def chat(**fields: object) -> Ask:
    body = {"model": "a", "messages": [{"role": "user", "content": "Hello"}]} | fields
    return Ask(post("/api/chat", orjson.dumps(body)))


def load(**fields: object) -> Ask:
    return Ask(post("/api/generate", orjson.dumps({"model": "a"} | fields)))


async def test_a_stream_is_ollamas_field_for_field(served: Served) -> None:
    exchange = await ask_once(served.port, chat())
    assert b"application/x-ndjson" in exchange.head
    *lines, last = map(orjson.loads, exchange.body.splitlines())
    assert all(list(line) == LINE_FIELDS for line in lines)
    assert list(last) == DONE_FIELDS
    assert 5 <= len(lines) == last["eval_count"] <= 9
    assert (last["done_reason"], last["model"]) == ("stop", "a:latest")


async def test_a_whole_answer_says_what_the_stream_says(served: Served) -> None:
    lines = [orjson.loads(line) for line in (await ask_once(served.port, chat())).body.splitlines()]
    whole = await served.ask(chat(stream=False))
    assert list(whole) == DONE_FIELDS
    assert whole["message"]["content"] == "".join(line["message"]["content"] for line in lines)


async def test_the_gateways_reader_understands_a_stream(served: Served) -> None:
    reader = ChatReader(line_bytes_max=10_000, new_id=str)
    *texts, last = reader.feed((await ask_once(served.port, chat())).body)
    assert all(isinstance(event, TextDelta) for event in texts)
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.STOP
    assert last.usage.prompt == tokens_in("user: Hello\nassistant:")
    timings = last.timings
    # The world is without contradictions: a load of 10 ms, tokens at 15,000 a second.
    assert timings.load_s == pytest.approx(0.01)
    assert timings.decode_s == pytest.approx(last.usage.completion / 15_000, rel=1e-3)
    assert timings.prefill_s == pytest.approx(last.usage.prompt / 120_000, rel=1e-3)


async def test_time_in_the_queue_is_what_is_missing_in_the_parts(served: Served) -> None:
    await served.ask(load())
    answers = await asyncio.gather(*(served.ask(chat(stream=False)) for _ in range(5)))
    hidden_ns = sorted(
        answer["total_duration"]
        - answer["load_duration"]
        - answer["prompt_eval_duration"]
        - answer["eval_duration"]
        for answer in answers
    )
    assert abs(hidden_ns[0]) < 5
    assert all(later > sooner for sooner, later in itertools.pairwise(hidden_ns))


async def test_num_predict_cuts_an_answer_short(served: Served) -> None:
    answer = await served.ask(chat(stream=False, options={"num_predict": 2}))
    assert (answer["done_reason"], answer["eval_count"]) == ("length", 2)


@pytest.mark.parametrize("limit", [-1, 0, 9, "many"])
async def test_a_limit_that_is_none_cuts_nothing(served: Served, limit: object) -> None:
    answer = await served.ask(chat(stream=False, options={"num_predict": limit}))
    assert answer["done_reason"] == "stop"


async def test_the_whole_prompt_is_counted_and_what_is_held_is_not_evaluated(
    served: Served,
) -> None:
    prompt = [{"role": "user", "content": "long " * 400}]
    first, again = [await served.ask(chat(messages=prompt, stream=False)) for _ in range(2)]
    assert first["prompt_eval_count"] == again["prompt_eval_count"] > 500
    assert again["prompt_eval_duration"] < first["prompt_eval_duration"] / 100
    assert (await served.state())["prefill_tokens"] == first["prompt_eval_count"] + 1


@pytest.mark.parametrize("served", [SLOW], indirect=True)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_slot(served: Served, stream: bool) -> None:
    async with connected(served.port) as leaver:
        leaver.start(chat(stream=stream)).add_done_callback(ignored)
        await served.machine.came.acquire()
    await served.machine.went.acquire()
    state = await served.state()
    assert (state["requests"], state["left"], state["running"]) == (1, 1, 0)


@pytest.mark.parametrize("served", [SLOW], indirect=True)
async def test_a_client_that_leaves_the_queue_never_has_the_slot(served: Served) -> None:
    async with connected(served.port) as holder:
        holder.start(chat()).add_done_callback(ignored)
        await served.machine.came.acquire()
        async with connected(served.port) as leaver:
            leaver.start(chat()).add_done_callback(ignored)
            await served.machine.came.acquire()
            assert served.machine.waiting == 1
        await served.machine.went.acquire()
        state = await served.state()
    assert (state["requests"], state["left"], state["running"], state["waiting"]) == (2, 1, 1, 0)


async def test_models_are_listed_and_only_those_in_memory_run(served: Served) -> None:
    async def names(path: str) -> list[str]:
        return [one["name"] for one in (await served.ask(get(path)))["models"]]

    assert await names("/api/tags") == ["a:latest", "b:latest"]
    assert await names("/api/ps") == []
    await served.ask(chat(stream=False))
    assert await names("/api/ps") == ["a:latest"]
    await served.ask(load(model="b"))
    assert await names("/api/ps") == ["b:latest"]
    answer = await served.ask(load(model="b", keep_alive=0))
    assert answer["done_reason"] == "unload"
    assert await names("/api/ps") == []


async def test_models_in_memory_say_their_context(served: Served) -> None:
    await served.ask(load())
    (model,) = (await served.ask(get("/api/ps")))["models"]
    assert model["context_length"] == 4096


@pytest.mark.parametrize("ask", [load(), chat(messages=[])])
async def test_a_request_without_a_prompt_loads(served: Served, ask: Ask) -> None:
    answer = await served.ask(ask)
    assert (answer["done"], answer["done_reason"]) == (True, "load")
    assert (await served.state())["loads"] == 1


@pytest.mark.parametrize("ask", [chat(model="c"), load(model="c")])
async def test_an_unknown_model_is_ollamas_404(served: Served, ask: Ask) -> None:
    exchange = await ask_once(served.port, ask)
    assert exchange.status == 404
    assert orjson.loads(exchange.body) == {"error": "model 'c' not found"}


@pytest.mark.parametrize(
    "ask", [Ask(post("/api/chat", b"{")), Ask(post("/api/generate", b"{")), load(prompt="x")]
)
async def test_what_cannot_be_done_is_a_400(served: Served, ask: Ask) -> None:
    exchange = await ask_once(served.port, ask)
    assert exchange.status == 400
    assert list(orjson.loads(exchange.body)) == ["error"]


async def test_version_and_model_are_told(served: Served) -> None:
    assert await served.ask(get("/api/version")) == {"version": "0.24.0"}
    shown = await served.ask(Ask(post("/api/show", b"{}")))
    assert shown["capabilities"] == ["completion", "tools"]


async def test_a_reset_forgets_what_was_done_and_not_what_is_there(served: Served) -> None:
    await served.ask(chat(stream=False))
    state = await served.ask(Ask(post("/box/reset", b"")))
    assert (state["requests"], state["decode_tokens"], state["busy_s"]) == (0, 0, 0.0)
    assert (state["resident"], state["scale"]) == (["a:latest"], 2000.0)


@pytest.mark.parametrize("served", [SLOW], indirect=True)
async def test_it_ends_while_answers_run(served: Served) -> None:
    async with connected(served.port) as client:
        client.start(chat()).add_done_callback(ignored)
        await served.machine.came.acquire()


def test_the_command_line_says_all_of_it() -> None:
    text = (
        "--port 1 --slots 2 --memory 3 --load 4 --prefill 50 --decode 6 --gains 1,1.5 --scale 7"
        " --models a,b:small --context 8 --lengths heavy --seed 9"
    )
    assert settings_of(parser().parse_args(text.split())) == Settings(
        hardware=Hardware(
            slots=2,
            memory_models=3,
            load_s=4.0,
            prefill_per_s=50.0,
            decode_per_s=6.0,
            gains=(1.0, 1.5),
            scale=7.0,
        ),
        models=("a:latest", "b:small"),
        context_length=8,
        lengths=HeavyTailed(),
        seed=9,
    )


def test_unless_told_it_is_the_small_box_ten_times_as_fast() -> None:
    settings = settings_of(parser().parse_args(["--port", "1"]))
    assert settings == Settings()
    assert settings.hardware == Hardware(
        slots=1, load_s=5.0, prefill_per_s=60.0, decode_per_s=7.5, scale=10.0
    )
