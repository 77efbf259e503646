import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.base import LOAD_TIME_MAX_S, ModelInfo
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
    Event,
    Finished,
    GenerateRequest,
    ImagePart,
    Message,
    Role,
    TextDelta,
    ToolCallDelta,
)
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
