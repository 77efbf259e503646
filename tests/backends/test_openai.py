import asyncio
import json
from pathlib import Path

import pytest

from gateway.backends.base import ModelInfo
from gateway.backends.http import HttpClient
from gateway.backends.openai import OpenAIBackend
from gateway.config.schema import Limits
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    ModelNotFound,
    UpstreamBadResponse,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Role,
    TextDelta,
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
REQUEST = GenerateRequest(model="m", messages=(Message(Role.USER, "hello"),), max_tokens=100)
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def backend(http: HttpClient, engine: FakeEngine, limits: Limits) -> OpenAIBackend:
    return OpenAIBackend(http=http, url=engine.url, limits=limits)


async def run(backend: OpenAIBackend) -> list[Event]:
    events: list[Event] = []
    async with backend.open(REQUEST) as stream:
        while batch := await stream.read():
            events += batch
    return events


async def test_a_chat_is_asked_for_with_the_engines_own_key(
    http: HttpClient, engine: FakeEngine, limits: Limits
) -> None:
    backend = OpenAIBackend(http=http, url=engine.url, limits=limits, api_key="sk-own")
    engine.play(head() + chunk((DATA / "llamacpp_chat.sse").read_bytes()) + END)
    events = await run(backend)
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.completion == 12
    (request,) = engine.requests
    assert (request.method, request.target) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-own"
    assert request.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_a_url_may_name_the_version(
    http: HttpClient, engine: FakeEngine, limits: Limits, suffix: str
) -> None:
    backend = OpenAIBackend(http=http, url=engine.url + suffix, limits=limits)
    engine.play(whole(TOKEN + STOP + DONE))
    await run(backend)
    assert engine.requests[0].target == "/v1/chat/completions"
    assert "authorization" not in engine.requests[0].headers


async def test_an_engine_may_move(http: HttpClient, engine: FakeEngine, limits: Limits) -> None:
    backend = OpenAIBackend(http=http, url="http://127.0.0.1:1", limits=limits)
    backend.relocate(engine.url)
    engine.play(whole(TOKEN + STOP + DONE))
    assert await run(backend) == [TextDelta("x"), Finished(FinishReason.STOP)]


async def test_the_end_is_told_when_the_mark_has_come(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    pause = Pause()
    engine.play(head() + chunk(TOKEN + STOP), pause, chunk(DONE) + END)
    async with backend.open(REQUEST) as stream:
        assert await stream.read() == [TextDelta("x")]
        reading = asyncio.ensure_future(stream.read())
        await pause.reached.wait()
        assert not reading.done()
        pause.go.set()
        assert await reading == [Finished(FinishReason.STOP)]


@pytest.mark.parametrize("after", [CLOSE, RESET, END], ids=repr)
async def test_an_answer_that_breaks_after_its_reason_is_whole(
    backend: OpenAIBackend, engine: FakeEngine, after: Step
) -> None:
    pause = Pause()
    engine.play(head() + chunk(TOKEN + STOP), pause, after)
    async with backend.open(REQUEST) as stream:
        assert await stream.read() == [TextDelta("x")]
        pause.go.set()
        assert await stream.read() == [Finished(FinishReason.STOP)]


async def test_an_engine_that_forgets_the_mark_is_waited_for_only_so_long(
    backend: OpenAIBackend, engine: FakeEngine, clock: ManualClock
) -> None:
    engine.play(head() + chunk(TOKEN + STOP), HANG)
    async with backend.open(REQUEST) as stream:
        assert await stream.read() == [TextDelta("x")]
        reading = asyncio.ensure_future(stream.read())
        await clock.advance(60.0)
        assert await reading == [Finished(FinishReason.STOP)]
    await engine.gone.wait()


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([head() + chunk(TOKEN), RESET], UpstreamDisconnected),
        ([head() + chunk(TOKEN) + END], UpstreamDisconnected),
        ([whole(b"")], UpstreamBadResponse),
        ([whole(b"<html>all is well</html>")], UpstreamBadResponse),
        ([head() + chunk(b"data: " + b"x" * 2000), HANG], UpstreamBadResponse),
        ([head() + chunk(b'data: {"error":{"message":"x"}}\n\n') + END], UpstreamFailed),
    ],
)
async def test_a_broken_answer_is_an_error(
    backend: OpenAIBackend, engine: FakeEngine, steps: list[Step], error: type[GatewayError]
) -> None:
    engine.play(*steps)
    with pytest.raises(error) as caught:
        await run(backend)
    assert type(caught.value) is error


def error(status: int, message: str, **fields: object) -> bytes:
    return whole(json.dumps({"error": {"message": message, **fields}}).encode(), status)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(404, "The model `m` does not exist."), ModelNotFound),
        (error(404, "File Not Found", type="not_found_error"), UpstreamFailed),
        (error(400, "…", type="exceed_context_size_error", n_ctx=512), ContextLengthExceeded),
        (error(400, "This model's maximum context length is 4096 tokens"), ContextLengthExceeded),
        (error(400, "unrecognized type bogus"), BackendRefusedRequest),
        (error(500, "image input is not supported"), BackendRefusedRequest),
        (error(503, "Loading model"), UpstreamBusy),
        (error(429, "Rate limit reached"), UpstreamBusy),
        (error(401, "Incorrect API key"), UpstreamFailed),
        (error(500, "…"), UpstreamFailed),
        (whole(b"", 307, Location="http://127.0.0.1:1/"), UpstreamFailed),
    ],
)
async def test_each_status_has_its_error(
    backend: OpenAIBackend, engine: FakeEngine, answer: bytes, expected: type[GatewayError]
) -> None:
    engine.play(answer)
    with pytest.raises(expected) as caught:
        await run(backend)
    assert type(caught.value) is expected


async def test_a_probe_of_llama_cpp_tells_the_allocated_context(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    listing = (DATA / "llamacpp_models.json").read_bytes()
    engine.play(whole(listing))
    probe = await backend.probe()
    assert engine.requests[0].target == "/v1/models"
    assert probe.models == (
        ModelInfo(
            id="smollm2:135m",
            created=json.loads(listing)["data"][0]["created"],
            owned_by="llamacpp",
            context_length=512,
            context_length_max=8192,
            size_bytes=96576768,
        ),
    )
    assert backend.canonical("smollm2:135m") == "smollm2:135m"


async def test_a_probe_of_vllm_tells_its_own_limit_and_what_it_does_not_know(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    request = GenerateRequest(
        model="m", messages=REQUEST.messages, params=frozenset({"mirostat", "keep_alive"})
    )
    assert backend.unsupported(request) == ("keep_alive",)
    entry = {"id": "org/m", "created": 7, "owned_by": "vllm", "max_model_len": 4096}
    engine.play(whole(json.dumps({"data": [entry, 7, {}]}).encode()))
    (info,) = (await backend.probe()).models
    assert (info.id, info.context_length, info.created) == ("org/m", 4096, 7)
    assert backend.unsupported(request) == ("keep_alive", "mirostat")


@pytest.mark.parametrize("listing", [b"[]", b"{}", b'{"data":7}', b"<html>"])
async def test_a_probe_without_a_list_fails(
    backend: OpenAIBackend, engine: FakeEngine, listing: bytes
) -> None:
    engine.play(whole(listing))
    with pytest.raises(UpstreamBadResponse):
        await backend.probe()


async def test_a_model_is_described_from_the_list(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    for _ in range(2):
        engine.play(whole(b'{"data":[{"id":"a","meta":null},{"id":"b"}]}'))
    assert (await backend.describe("b")).id == "b"
    with pytest.raises(ModelNotFound):
        await backend.describe("c")


async def test_such_an_engine_is_not_asked_to_load(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    await backend.load("a")
    assert engine.requests == []
