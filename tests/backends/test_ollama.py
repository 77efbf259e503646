import asyncio
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from gateway.backends.base import LOAD_TIME_MAX_S
from gateway.backends.http import HttpClient
from gateway.backends.ollama import OllamaBackend
from gateway.config.schema import Limits
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    ModelNotFound,
    RequestTimeout,
    UpstreamBadResponse,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamStalled,
    UpstreamUnreachable,
)
from gateway.core.messages import (
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    ImagePart,
    Message,
    Prompt,
    Role,
    TextDelta,
    ToolCallDelta,
)
from gateway.core.models import ModelInfo
from tests.backends.fake_engine import (
    CLOSE,
    END,
    HANG,
    RESET,
    FakeEngine,
    Pause,
    Step,
    chunk,
    head,
    whole,
)
from tests.fakes import ManualClock

DATA = Path(__file__).parent.parent / "data"
TAGS = (DATA / "ollama_tags.json").read_bytes()
PS = (DATA / "ollama_ps.json").read_bytes()
SHOW = (DATA / "ollama_show.json").read_bytes()

REQUEST = GenerateRequest(model="m", messages=(Message(Role.USER, "hello"),), max_tokens=100)
TOKEN = b'{"message":{"content":"x"},"done":false}\n'
DONE = b'{"message":{"content":""},"done":true,"done_reason":"stop"}\n'


@pytest.fixture
def backend(http: HttpClient, engine: FakeEngine, limits: Limits) -> OllamaBackend:
    return OllamaBackend(http=http, url=engine.url, limits=limits)


async def run(
    backend: OllamaBackend,
    request: GenerateRequest = REQUEST,
    *,
    into: list[Event] | None = None,
) -> list[Event]:
    events: list[Event] = [] if into is None else into
    async with backend.open(request) as stream:
        while batch := await stream.read():
            events += batch
    return events


def refused(status: int, text: str, **headers: str) -> bytes:
    return whole(json.dumps({"error": text}).encode(), status, **headers)


# --- Answers ------------------------------------------------------------------------


async def test_a_chat_is_asked_for_and_read(backend: OllamaBackend, engine: FakeEngine) -> None:
    engine.play(head() + chunk((DATA / "ollama_chat.ndjson").read_bytes()) + END)
    events = await run(backend)
    assert isinstance(events[-1], Finished)
    assert len(events) == 25
    (request,) = engine.requests
    assert (request.method, request.target) == ("POST", "/api/chat")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body)["model"] == "m:latest"
    assert "authorization" not in request.headers


async def test_each_token_is_handed_on_as_it_comes(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    pause = Pause()
    engine.play(head() + chunk(TOKEN), pause, chunk(TOKEN + DONE) + END)
    async with backend.open(REQUEST) as stream:
        assert await stream.read() == [TextDelta("x")]
        reading = asyncio.ensure_future(stream.read())
        await pause.reached.wait()
        assert not reading.done()
        pause.go.set()
        assert (await reading)[0] == TextDelta("x")


async def test_a_line_without_an_event_is_waited_over(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    pause = Pause()
    empty = b'{"message":{"content":""},"done":false}\n'
    engine.play(head() + chunk(empty), pause, chunk(TOKEN + DONE) + END)
    async with backend.open(REQUEST) as stream:
        reading = asyncio.ensure_future(stream.read())
        await pause.reached.wait()
        pause.go.set()
        assert (await reading)[0] == TextDelta("x")


async def test_ids_of_tool_calls_are_unique(backend: OllamaBackend, engine: FakeEngine) -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": {}}}
    said = {"message": {"content": "", "tool_calls": [call, call]}, "done": False}
    body = json.dumps(said).encode() + b"\n" + DONE
    ids = set()
    for _ in range(2):
        engine.play(whole(body))
        ids |= {event.id for event in await run(backend) if isinstance(event, ToolCallDelta)}
    assert len(ids) == 4
    assert all(id is not None and id.startswith("call_") and len(id) == 29 for id in ids)


async def test_the_connection_is_used_for_the_next_answer(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    for _ in range(3):
        engine.play(head() + chunk(TOKEN + DONE) + END)
        await run(backend)
    assert engine.connections == 1


async def test_a_caller_who_left_closes_the_connection(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    pause = Pause()
    engine.play(head() + chunk(TOKEN), pause, HANG)
    running = asyncio.create_task(run(backend))
    await pause.reached.wait()
    pause.go.set()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await engine.gone.wait()


async def test_it_speaks_for_ollamas_wire(backend: OllamaBackend) -> None:
    assert backend.canonical("m") == "m:latest"
    params = frozenset({"logit_bias", "seed"})
    request = GenerateRequest(model="m", messages=REQUEST.messages, params=params)
    assert backend.unsupported(request) == ("logit_bias",)


# --- A context that is configured -------------------------------------------------------


@pytest.fixture
def pinned(http: HttpClient, engine: FakeEngine, limits: Limits) -> OllamaBackend:
    return OllamaBackend(http=http, url=engine.url, limits=limits, contexts={"m": 1024})


@pytest.mark.parametrize("extensions", [{}, {"num_ctx": 1024}, {"num_ctx": 9, "num_keep": 1}])
@pytest.mark.parametrize("model", ["m", "m:latest"])
async def test_every_request_has_the_context_that_its_model_has(
    pinned: OllamaBackend, engine: FakeEngine, model: str, extensions: dict[str, Any]
) -> None:
    engine.play(head() + chunk(DONE) + END)
    await run(pinned, attrs.evolve(REQUEST, model=model, extensions=extensions))
    sent = json.loads(engine.requests[0].body)["options"]
    assert sent == {"num_predict": 100, **extensions, "num_ctx": 1024}


async def test_a_prompt_that_is_continued_has_it_too(
    pinned: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(head() + chunk(b'{"response":"","done":true,"done_reason":"stop"}\n') + END)
    await run(pinned, GenerateRequest(model="m", prompts=(Prompt("Once"),)))
    assert json.loads(engine.requests[0].body)["options"]["num_ctx"] == 1024


async def test_a_load_has_it_too(pinned: OllamaBackend, engine: FakeEngine) -> None:
    engine.play(whole(LOADED))
    await pinned.load("m")
    assert json.loads(engine.requests[0].body)["options"] == {"num_ctx": 1024}


async def test_other_models_have_the_context_that_was_asked_for(
    pinned: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(head() + chunk(DONE) + END)
    await run(pinned, attrs.evolve(REQUEST, model="m:7b", extensions={"num_ctx": 9}))
    assert json.loads(engine.requests[0].body)["options"]["num_ctx"] == 9


@pytest.mark.parametrize(
    ("model", "num_ctx", "named"), [("m", 9, True), ("m", 1024, False), ("other", 9, False)]
)
def test_a_callers_own_context_is_named_where_another_holds(
    pinned: OllamaBackend, model: str, num_ctx: int, named: bool
) -> None:
    request = GenerateRequest(
        model=model,
        messages=REQUEST.messages,
        extensions={"num_ctx": num_ctx, "mirostat": 1},
        params=frozenset({"num_ctx", "mirostat"}),
    )
    assert pinned.unsupported(request) == (("mirostat", "num_ctx") if named else ("mirostat",))


# --- Faults ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([head() + chunk(TOKEN), RESET], UpstreamDisconnected),
        ([head() + chunk(TOKEN), CLOSE], UpstreamDisconnected),
        ([head() + chunk(TOKEN) + END], UpstreamDisconnected),
        ([head(framing="close") + TOKEN, CLOSE], UpstreamDisconnected),
        ([head(framing="close") + TOKEN, RESET], UpstreamDisconnected),
        ([whole(b"")], UpstreamBadResponse),
        ([whole(b"<html>all is well</html>")], UpstreamBadResponse),
        ([head() + chunk(TOKEN + b'{"mess') + END], UpstreamBadResponse),
        ([head() + chunk(b"x" * 2000), HANG], UpstreamBadResponse),
        ([head() + chunk(b'{"error":"x"}\n') + END], UpstreamFailed),
    ],
)
async def test_a_broken_answer_is_an_error_and_never_finished(
    backend: OllamaBackend, engine: FakeEngine, steps: list[Step], error: type[GatewayError]
) -> None:
    engine.play(*steps)
    events: list[Event] = []
    with pytest.raises(error) as caught:
        await run(backend, into=events)
    assert type(caught.value) is error
    assert not any(isinstance(event, Finished) for event in events)


@pytest.mark.parametrize("steps", [[CLOSE], [RESET]])
async def test_closed_before_the_status_is_untouched(
    backend: OllamaBackend, engine: FakeEngine, steps: list[Step]
) -> None:
    engine.play(*steps)
    with pytest.raises(UpstreamDisconnected) as caught:
        await run(backend)
    assert caught.value.untouched


async def test_an_engine_that_is_not_there_is_unreachable(http: HttpClient, limits: Limits) -> None:
    async with FakeEngine() as gone:
        url = gone.url
    with pytest.raises(UpstreamUnreachable):
        await run(OllamaBackend(http=http, url=url, limits=limits))


async def test_silence_is_a_timeout_before_the_first_token_and_a_stall_after_it(
    backend: OllamaBackend, engine: FakeEngine, clock: ManualClock
) -> None:
    silent: list[tuple[list[Step], float, type[GatewayError]]] = [
        ([], 120.0, RequestTimeout),
        ([head() + chunk(TOKEN)], 60.0, UpstreamStalled),
    ]
    for steps, seconds, error in silent:
        pause = Pause()
        engine.play(*steps, pause, HANG)
        running = asyncio.create_task(run(backend))
        await pause.reached.wait()
        pause.go.set()
        await clock.advance(seconds)
        with pytest.raises(error) as caught:
            await running
        assert type(caught.value) is error


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(404, "model 'm' not found"), ModelNotFound),
        (refused(400, "invalid model name"), ModelNotFound),
        (refused(400, "library/m does not support tools"), BackendRefusedRequest),
        (refused(503, "server busy, please try again"), UpstreamBusy),
        (refused(429, "slow down"), UpstreamBusy),
        (refused(500, "llama runner process has terminated"), UpstreamFailed),
        (refused(499, "request cancelled"), UpstreamFailed),
        (whole(b"<html>", 500), UpstreamFailed),
        (whole(b"", 401), UpstreamFailed),
        (whole(b"teapot", 418), UpstreamFailed),
        (whole(b"", 302, Location="http://127.0.0.1:1/"), UpstreamFailed),
        (head(204, 0), UpstreamFailed),
    ],
)
async def test_each_status_has_its_error(
    backend: OllamaBackend, engine: FakeEngine, answer: bytes, error: type[GatewayError]
) -> None:
    engine.play(answer)
    with pytest.raises(error) as caught:
        await run(backend)
    assert type(caught.value) is error
    assert len(engine.requests) == 1


async def test_a_busy_engine_says_when_to_come_back(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(refused(503, "server busy", Retry_After="7"))
    with pytest.raises(UpstreamBusy) as caught:
        await run(backend)
    assert caught.value.retry_after_s == 7.0


# --- Loading --------------------------------------------------------------------------

LOADED = b'{"model":"m:latest","response":"","done":true,"done_reason":"load"}'


async def test_a_load_asks_for_no_answer_and_ends_with_it(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(whole(LOADED))
    await backend.load("m")
    (request,) = engine.requests
    assert (request.method, request.target) == ("POST", "/api/generate")
    assert json.loads(request.body) == {"model": "m:latest", "stream": False}


@pytest.mark.parametrize("begun", [b"", head(framing=len(LOADED))], ids=["nothing", "the head"])
async def test_a_load_has_longer_than_a_first_byte_and_not_for_ever(
    backend: OllamaBackend, engine: FakeEngine, clock: ManualClock, begun: bytes
) -> None:
    pause = Pause()
    engine.play(begun, pause, HANG)
    loading = asyncio.create_task(backend.load("m"))
    await pause.reached.wait()
    pause.go.set()
    await clock.advance(LOAD_TIME_MAX_S - 1.0)
    assert not loading.done()
    await clock.advance(1.0)
    with pytest.raises(RequestTimeout):
        await loading
    await engine.gone.wait()


async def test_a_load_that_is_cancelled_closes_the_connection(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    pause = Pause()
    engine.play(pause, HANG)
    loading = asyncio.create_task(backend.load("m"))
    await pause.reached.wait()
    pause.go.set()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await engine.gone.wait()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(404, "model 'm' not found"), ModelNotFound),
        (refused(400, '"m" does not support generate'), BackendRefusedRequest),
        (refused(500, "model requires more system memory than is available"), UpstreamFailed),
        (refused(503, "server busy, please try again"), UpstreamBusy),
        (whole(b'{"error":"runner has terminated"}'), UpstreamFailed),
        (whole(b'{"done":false}'), UpstreamBadResponse),
        (whole(b"[]"), UpstreamBadResponse),
        (whole(b"<html>"), UpstreamBadResponse),
        (whole(b"x" * 2000), UpstreamBadResponse),
        (CLOSE, UpstreamDisconnected),
    ],
)
async def test_a_load_that_fails_is_the_error_that_an_answer_would_be(
    backend: OllamaBackend, engine: FakeEngine, answer: Step, error: type[GatewayError]
) -> None:
    engine.play(answer)
    with pytest.raises(error) as caught:
        await backend.load("m")
    assert type(caught.value) is error


# --- The context ------------------------------------------------------------------------

TOO_LONG = refused(400, "the input length exceeds the context length")


async def test_an_overflow_without_numbers_is_completed_from_what_is_loaded(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(TOO_LONG)
    engine.play(whole(PS))
    request = GenerateRequest(model="smollm2:135m", messages=REQUEST.messages)
    with pytest.raises(ContextLengthExceeded) as caught:
        await run(backend, request)
    assert "2049" in caught.value.message
    assert "2048" in caught.value.message
    assert [asked.target for asked in engine.requests] == ["/api/chat", "/api/ps"]


@pytest.mark.parametrize("answer", [whole(b"", 500), whole(b"{}"), whole(b"[]"), CLOSE])
async def test_an_overflow_stays_one_when_nothing_more_is_known(
    backend: OllamaBackend, engine: FakeEngine, answer: Step
) -> None:
    engine.play(TOO_LONG)
    engine.play(answer)
    engine.play(answer)  # aiohttp asks once more where a GET was cut.
    with pytest.raises(ContextLengthExceeded):
        await run(backend)


async def test_an_overflow_with_numbers_asks_no_further(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    inner = '{"error":{"n_prompt_tokens":931,"n_ctx":512,"type":"exceed_context_size_error"}}'
    engine.play(refused(400, inner))
    with pytest.raises(ContextLengthExceeded, match=r"931.*512"):
        await run(backend)
    assert len(engine.requests) == 1


# --- Images -------------------------------------------------------------------------------

SEEN = GenerateRequest(
    model="smollm2:135m",
    messages=(Message(Role.USER, (ImagePart("aGk=", "image/png"),)),),
)


async def test_an_image_for_a_model_that_cannot_see_is_refused(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(whole(SHOW))
    engine.play(whole(PS))
    with pytest.raises(BackendRefusedRequest, match="images"):
        await run(backend, SEEN)
    assert "/api/chat" not in [request.target for request in engine.requests]


@pytest.mark.parametrize("capabilities", [["completion", "vision"], [], None])
async def test_an_image_is_sent_where_nothing_speaks_against_it(
    backend: OllamaBackend, engine: FakeEngine, capabilities: object
) -> None:
    engine.play(whole(json.dumps({"capabilities": capabilities}).encode()))
    engine.play(whole(PS))
    engine.play(whole(TOKEN + DONE))
    await run(backend, SEEN)
    assert json.loads(engine.requests[-1].body)["messages"][0]["images"] == ["aGk="]


# --- Reasoning ----------------------------------------------------------------------------

REASONED = attrs.evolve(
    REQUEST,
    reasoning_effort="high",
    reasoning_optional=True,
    params=frozenset({"reasoning_effort"}),
)


@pytest.mark.parametrize(
    ("capabilities", "think", "told"),
    [
        (["completion"], None, ("reasoning_effort",)),
        (["completion", "thinking"], "high", ()),
        (None, "high", ()),
    ],
)
async def test_a_model_that_cannot_reason_answers_without_where_that_will_do(
    backend: OllamaBackend,
    engine: FakeEngine,
    capabilities: object,
    think: str | None,
    told: tuple[str, ...],
) -> None:
    engine.play(whole(json.dumps({"capabilities": capabilities}).encode()))
    engine.play(whole(PS))
    engine.play(whole(TOKEN + DONE))
    assert (await run(backend, REASONED))[0] == TextDelta("x")
    assert json.loads(engine.requests[-1].body).get("think") == think
    assert backend.unsupported(REASONED) == told


async def test_where_it_will_not_do_the_model_is_asked(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(refused(400, '"m" does not support thinking'))
    with pytest.raises(BackendRefusedRequest, match="reason"):
        await run(backend, attrs.evolve(REASONED, reasoning_optional=False))
    assert [request.target for request in engine.requests] == ["/api/chat"]


# --- What it tells of itself ------------------------------------------------------------


async def test_a_probe_lists_what_there_is_and_what_is_loaded(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(whole(TAGS))
    engine.play(whole(b'{"version":"0.24.0"}'))
    engine.play(whole(PS))
    probe = await backend.probe()
    assert [request.target for request in engine.requests] == [
        "/api/tags",
        "/api/version",
        "/api/ps",
    ]
    assert probe.version == "0.24.0"
    assert probe.models == (
        ModelInfo(
            id="smollm2:135m",
            created=1795351390,
            owned_by="library",
            context_length=2048,
            loaded=True,
            size_bytes=98363022,
        ),
        ModelInfo(
            id="smollm2-b:135m",
            created=1795351390,
            owned_by="library",
            loaded=False,
            size_bytes=98363022,
        ),
    )


async def test_what_a_probe_has_heard_is_kept_as_it_was_said(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    assert (backend.tags, backend.running) == ({}, {})
    for answer in (TAGS, b'{"version":"0.24.0"}', PS):
        engine.play(whole(answer))
    await backend.probe()
    assert list(backend.tags.values()) == json.loads(TAGS)["models"]
    assert list(backend.running.values()) == json.loads(PS)["models"]


async def test_a_description_is_passed_on_as_it_stands(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(whole(SHOW))
    assert await backend.show({"model": "m", "verbose": True}) == json.loads(SHOW)
    assert json.loads(engine.requests[0].body) == {"model": "m", "verbose": True}


async def test_a_model_is_put_out_of_memory(backend: OllamaBackend, engine: FakeEngine) -> None:
    backend.running = {"m:latest": {}, "other:latest": {}}
    engine.play(whole(b'{"done":true,"done_reason":"unload"}'))
    await backend.unload("m")
    [asked] = engine.requests
    assert asked.target == "/api/generate"
    assert json.loads(asked.body) == {"model": "m:latest", "keep_alive": 0, "stream": False}
    assert backend.running == {"other:latest": {}}


@pytest.mark.parametrize(("status", "error"), [(404, ModelNotFound), (500, UpstreamFailed)])
async def test_a_model_that_stays_in_memory_is_an_error(
    backend: OllamaBackend, engine: FakeEngine, status: int, error: type[GatewayError]
) -> None:
    engine.play(refused(status, "no"))
    with pytest.raises(error):
        await backend.unload("m")


async def test_an_old_ollama_tells_less(backend: OllamaBackend, engine: FakeEngine) -> None:
    engine.play(whole(b'{"models":[{"name":"m:latest","modified_at":"soon","size":-1},7,{}]}'))
    engine.play(whole(b"404 page not found", 404))
    engine.play(whole(b"404 page not found", 404))
    probe = await backend.probe()
    assert probe.version == ""
    assert probe.models == (ModelInfo(id="m:latest", owned_by="library", loaded=False),)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (whole(b"{}", 500), UpstreamFailed),
        (whole(b"<html>"), UpstreamBadResponse),
    ],
)
async def test_a_probe_without_a_list_of_models_fails(
    backend: OllamaBackend, engine: FakeEngine, answer: bytes, error: type[GatewayError]
) -> None:
    engine.play(answer)
    with pytest.raises(error):
        await backend.probe()


async def test_a_model_is_described(backend: OllamaBackend, engine: FakeEngine) -> None:
    engine.play(whole(SHOW))
    engine.play(whole(PS))
    info = await backend.describe("smollm2:135m")
    assert json.loads(engine.requests[0].body) == {"model": "smollm2:135m"}
    assert (info.id, info.context_length, info.context_length_max) == ("smollm2:135m", 2048, 8192)
    assert info.loaded
    assert info.capabilities == ("completion",)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(404, "model 'm' not found"), ModelNotFound),
        (refused(400, "invalid model name"), ModelNotFound),
        (whole(b"", 500), UpstreamFailed),
        (whole(b"[]"), UpstreamBadResponse),
    ],
)
async def test_a_model_that_cannot_be_described_says_why(
    backend: OllamaBackend, engine: FakeEngine, answer: bytes, error: type[GatewayError]
) -> None:
    engine.play(answer)
    with pytest.raises(error):
        await backend.describe("m")


@pytest.mark.parametrize(
    "shown", [{}, {"model_info": 7}, {"model_info": {"general.architecture": []}}]
)
async def test_an_odd_description_is_an_empty_one(
    backend: OllamaBackend, engine: FakeEngine, shown: dict[str, Any]
) -> None:
    engine.play(whole(json.dumps(shown).encode()))
    engine.play(whole(b'{"models":null}'))
    info = await backend.describe("m")
    assert info == ModelInfo(id="m:latest", owned_by="library", loaded=False)


# --- Texts that are continued -------------------------------------------------------------

TEXT = GenerateRequest(model="m", prompts=(Prompt("The capital of France is"),), max_tokens=100)


async def test_a_text_is_continued_without_a_template(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(head() + chunk((DATA / "ollama_generate.ndjson").read_bytes()) + END)
    events = await run(backend, TEXT)
    assert isinstance(events[0], TextDelta)
    assert events[0].text == " Paris"
    assert isinstance(events[-1], Finished)
    (request,) = engine.requests
    assert (request.method, request.target) == ("POST", "/api/generate")
    sent = json.loads(request.body)
    assert (sent["model"], sent["prompt"], sent["raw"]) == ("m:latest", TEXT.prompts[0].text, True)


async def test_a_text_that_is_too_long_is_refused_as_a_prompt(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(TOO_LONG)
    engine.play(whole(PS))
    with pytest.raises(ContextLengthExceeded) as caught:
        await run(backend, TEXT)
    assert caught.value.param == "prompt"


async def test_a_model_that_cannot_fill_in_the_middle_says_so(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(refused(400, "registry.ollama.ai/library/m:latest does not support insert"))
    with pytest.raises(BackendRefusedRequest, match="middle"):
        await run(backend, attrs.evolve(TEXT, prompts=(Prompt("a", suffix="b"),)))


async def test_tokens_are_refused_before_anything_is_sent(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    with pytest.raises(BackendRefusedRequest) as caught:
        await run(backend, attrs.evolve(TEXT, prompts=(Prompt(tokens=(1, 2)),)))
    assert caught.value.param == "prompt"
    assert engine.requests == []


# --- Embeddings -----------------------------------------------------------------------------

VECTORS = (DATA / "ollama_embed.json").read_bytes()
EMBED = EmbedRequest(model="m", inputs=("a cat sleeps on the sofa", "stock markets fell"))


async def test_texts_are_embedded(backend: OllamaBackend, engine: FakeEngine) -> None:
    engine.play(whole(VECTORS))
    found = await backend.embed(EMBED)
    assert [len(vector) for vector in found.vectors] == [8, 8]
    assert found.prompt_tokens == 13
    (request,) = engine.requests
    assert (request.method, request.target) == ("POST", "/api/embed")
    sent = json.loads(request.body)
    assert (sent["model"], sent["input"]) == ("m:latest", list(EMBED.inputs))


async def test_an_input_that_is_too_long_is_refused_with_the_real_context(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    engine.play(TOO_LONG)
    engine.play(whole(PS))
    with pytest.raises(ContextLengthExceeded, match="An input") as caught:
        await backend.embed(EMBED)
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (404, 'model "m" not found, try pulling it first', ModelNotFound),
        (400, '"m" does not support embeddings', BackendRefusedRequest),
        (400, "invalid input type", BackendRefusedRequest),
        (503, "server busy, please try again.  maximum pending requests exceeded", UpstreamBusy),
        (500, "llama runner process has terminated", UpstreamFailed),
    ],
)
async def test_why_there_are_no_vectors_is_told_in_our_words(
    backend: OllamaBackend, engine: FakeEngine, status: int, text: str, error: type[GatewayError]
) -> None:
    engine.play(refused(status, text))
    with pytest.raises(error):
        await backend.embed(EMBED)


async def test_inputs_of_tokens_are_refused_before_anything_is_sent(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    with pytest.raises(BackendRefusedRequest) as caught:
        await backend.embed(attrs.evolve(EMBED, inputs=((1, 2),)))
    assert caught.value.param == "input"
    assert engine.requests == []


async def test_vectors_are_computed_in_the_context_that_is_configured(
    http: HttpClient, engine: FakeEngine, limits: Limits
) -> None:
    backend = OllamaBackend(http=http, url=engine.url, limits=limits, contexts={"m": 512})
    asked = attrs.evolve(
        EMBED, extensions={"num_ctx": 99}, params=frozenset({"num_ctx", "dimensions"})
    )
    engine.play(whole(VECTORS))
    await backend.embed(asked)
    assert json.loads(engine.requests[0].body)["options"] == {"num_ctx": 512}
    assert backend.unsupported(asked) == ("num_ctx",)


async def test_who_wants_no_vectors_any_more_closes_the_connection(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    pause = Pause()
    engine.play(pause, HANG)
    asking = asyncio.ensure_future(backend.embed(EMBED))
    await pause.reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    pause.go.set()
    await engine.gone.wait()
