import asyncio
import json
from pathlib import Path

import attrs
import pytest

from gateway.backends.http import HttpClient
from gateway.backends.openai import OpenAIBackend
from gateway.config.schema import Limits
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    NotSupported,
    UpstreamBadResponse,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.messages import (
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Prompt,
    Role,
    TextDelta,
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
REQUEST = GenerateRequest(model="m", messages=(Message(Role.USER, "hello"),), max_tokens=100)
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def backend(http: HttpClient, engine: FakeEngine, limits: Limits) -> OpenAIBackend:
    return OpenAIBackend(http=http, url=engine.url, limits=limits)


async def run(backend: OpenAIBackend, request: GenerateRequest = REQUEST) -> list[Event]:
    events: list[Event] = []
    async with backend.open(request) as stream:
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
            format="gguf",
            parameter_count=134515008,
            quantization="Q4_1",
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


async def test_such_an_engine_keeps_what_it_has(backend: OpenAIBackend, engine: FakeEngine) -> None:
    with pytest.raises(NotSupported):
        await backend.unload("a")
    assert engine.requests == []


# --- Texts that are continued -------------------------------------------------------------

TEXT = GenerateRequest(model="m", prompts=(Prompt("The capital of France is"),), logprobs=1)


async def test_a_text_is_continued_without_a_template(
    http: HttpClient, engine: FakeEngine, limits: Limits
) -> None:
    backend = OpenAIBackend(http=http, url=f"{engine.url}/v1", limits=limits, api_key="sk-own")
    engine.play(head() + chunk((DATA / "llamacpp_completion.sse").read_bytes()) + END)
    first, *_, last = await run(backend, TEXT)
    assert isinstance(first, TextDelta)
    assert first.text == " Paris"
    assert first.logprobs is not None
    assert [other.token for other in first.logprobs[0].top] == [" Paris"]
    assert isinstance(last, Finished)
    assert last.usage.completion == 4
    (request,) = engine.requests
    assert (request.method, request.target) == ("POST", "/v1/completions")
    assert request.headers["authorization"] == "Bearer sk-own"
    assert json.loads(request.body)["prompt"] == TEXT.prompts[0].text


async def test_a_text_that_is_too_long_is_refused_as_a_prompt(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    words = "request (9001 tokens) exceeds the available context size (2048 tokens)"
    engine.play(whole(json.dumps({"error": {"message": words}}).encode(), 400))
    with pytest.raises(ContextLengthExceeded, match="9001") as caught:
        await run(backend, TEXT)
    assert caught.value.param == "prompt"


# --- Embeddings -----------------------------------------------------------------------------

VECTORS = (DATA / "llamacpp_embeddings.json").read_bytes()
EMBED = EmbedRequest(model="m", inputs=("a cat sleeps on the sofa", "stock markets fell"))
EMBED_TOO_LONG = (
    '{"error":{"code":500,"message":"input (9001 tokens) is too large to process. increase the'
    ' physical batch size (current batch size: 512)","type":"server_error"}}'
)


async def test_texts_are_embedded_with_the_engines_own_key(
    http: HttpClient, engine: FakeEngine, limits: Limits
) -> None:
    backend = OpenAIBackend(http=http, url=f"{engine.url}/v1", limits=limits, api_key="sk-own")
    engine.play(whole(VECTORS))
    found = await backend.embed(EMBED)
    assert [len(vector) for vector in found.vectors] == [576, 576]
    assert found.prompt_tokens == 13
    (request,) = engine.requests
    assert (request.method, request.target) == ("POST", "/v1/embeddings")
    assert request.headers["authorization"] == "Bearer sk-own"
    assert json.loads(request.body)["input"] == list(EMBED.inputs)


async def test_many_texts_are_several_calls(backend: OpenAIBackend, engine: FakeEngine) -> None:
    for count in (128, 1):
        items = [{"embedding": [float(count)], "index": index} for index in range(count)]
        engine.play(whole(json.dumps({"data": items, "usage": {"prompt_tokens": 7}}).encode()))
    found = await backend.embed(attrs.evolve(EMBED, inputs=("x",) * 129))
    assert (len(found.vectors), found.vectors[-1], found.prompt_tokens) == (129, [1.0], 14)
    assert [len(json.loads(request.body)["input"]) for request in engine.requests] == [128, 1]


@pytest.mark.parametrize(
    ("status", "text", "error", "words"),
    [
        (500, EMBED_TOO_LONG, ContextLengthExceeded, "9001 tokens.* 512 tokens"),
        (
            400,
            '{"error":{"code":400,"message":"request (4096 tokens) exceeds the available context'
            ' size (4096 tokens), try increasing it","type":"exceed_context_size_error",'
            '"n_prompt_tokens":4096,"n_ctx":4096}}',
            ContextLengthExceeded,
            "4096 tokens leaves no room",
        ),
        (
            400,
            '{"error":{"message":"This model\'s maximum context length is 512 tokens. However,'
            ' you requested 600 tokens in the input for embedding generation."}}',
            ContextLengthExceeded,
            "600 tokens.* 512 tokens",
        ),
        (
            400,
            '{"error":{"code":400,"message":"Prompt contains invalid tokens",'
            '"type":"invalid_request_error"}}',
            InvalidRequest,
            "vocabulary",
        ),
        (
            501,
            '{"error":{"code":501,"message":"This server does not support embeddings. Start it'
            ' with `--embeddings`","type":"not_supported_error"}}',
            BackendRefusedRequest,
            "can't embed",
        ),
        (
            400,
            '{"error":{"message":"Pooling type \'none\' is not OAI compatible. Please use a'
            ' different pooling type"}}',
            BackendRefusedRequest,
            "can't embed",
        ),
        (
            400,
            '{"message":"The model does not support Embeddings API"}',
            BackendRefusedRequest,
            "can't embed",
        ),
        (
            400,
            '{"message":"Model \\"m\\" does not support matryoshka representation, changing'
            ' output dimensions will lead to poor results."}',
            BackendRefusedRequest,
            "dimensions",
        ),
        (404, '{"detail":"Not Found"}', BackendRefusedRequest, "can't embed"),
        (404, '{"message":"The model `m` does not exist."}', ModelNotFound, "model"),
        (503, "Loading", UpstreamBusy, "too much to do"),
        (500, "out of memory", UpstreamFailed, "with an error"),
        (200, '{"data":[]}', UpstreamBadResponse, "too few vectors"),
    ],
)
async def test_why_there_are_no_vectors_is_told_in_our_words(
    backend: OpenAIBackend,
    engine: FakeEngine,
    *,
    status: int,
    text: str,
    error: type[GatewayError],
    words: str,
) -> None:
    engine.play(whole(text.encode(), status))
    with pytest.raises(error, match=words) as caught:
        await backend.embed(EMBED)
    assert caught.value.param in (None, "input", "model")


async def test_an_answer_that_is_too_large_is_not_read(
    backend: OpenAIBackend, engine: FakeEngine, limits: Limits
) -> None:
    engine.play(whole(b" " * (limits.upstream_answer_bytes_max + 1)))
    with pytest.raises(UpstreamBadResponse, match="larger"):
        await backend.embed(EMBED)


async def test_who_wants_no_vectors_any_more_closes_the_connection(
    backend: OpenAIBackend, engine: FakeEngine
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


async def test_what_is_too_long_is_cut_by_the_engines_own_tokens(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    engine.play(whole(EMBED_TOO_LONG.encode(), 500))
    engine.play(whole(b'{"tokens":[1,2,3]}'))
    engine.play(whole(json.dumps({"tokens": list(range(9001))}).encode()))
    engine.play(whole(VECTORS))
    found = await backend.embed(attrs.evolve(EMBED, truncate=True))
    assert len(found.vectors) == 2
    *asked, last = engine.requests[1:]
    assert [request.target for request in asked] == ["/tokenize", "/tokenize"]
    assert [json.loads(request.body)["content"] for request in asked] == list(EMBED.inputs)
    # llama.cpp wants room for one more.
    assert json.loads(last.body)["input"] == [[1, 2, 3], list(range(511))]


async def test_what_still_does_not_fit_is_not_cut_twice(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    engine.play(whole(EMBED_TOO_LONG.encode(), 500))
    engine.play(whole(EMBED_TOO_LONG.encode(), 500))
    with pytest.raises(ContextLengthExceeded):
        await backend.embed(attrs.evolve(EMBED, inputs=((7,) * 9001,), truncate=True))
    assert len(engine.requests) == 2


async def test_an_engine_that_cannot_take_texts_apart_refuses_what_is_too_long(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    engine.play(whole(EMBED_TOO_LONG.encode(), 500))
    engine.play(whole(b"", 404))
    with pytest.raises(ContextLengthExceeded, match="9001"):
        await backend.embed(attrs.evolve(EMBED, truncate=True))


async def test_vllm_shortens_vectors_and_cuts_texts_by_itself(
    backend: OpenAIBackend, engine: FakeEngine
) -> None:
    asked = attrs.evolve(
        EMBED,
        dimensions=576,
        truncate=True,
        extensions={"num_ctx": 9},
        params=frozenset({"dimensions", "truncate", "num_ctx"}),
    )
    assert backend.unsupported(asked) == ("dimensions", "num_ctx")
    engine.play(whole(b'{"data":[{"id":"m","owned_by":"vllm"}]}'))
    engine.play(whole(VECTORS))
    await backend.probe()
    await backend.embed(asked)
    sent = json.loads(engine.requests[-1].body)
    assert (sent["dimensions"], sent["truncate_prompt_tokens"]) == (576, -1)
    assert backend.unsupported(asked) == ("num_ctx",)
