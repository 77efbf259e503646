"""The texts are the engines' own: Ollama v0.24.0 and llama.cpp as recorded, others as published."""

import pytest

from gateway.backends.http import HttpClient, endpoint
from gateway.backends.refusals import Overflow, overflow, read_error, refusal
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    UpstreamBusy,
    UpstreamFailed,
)
from tests.backends.fake_engine import CLOSE, FakeEngine, chunk, head, whole

LLAMA_CPP = (
    '{"error":{"code":400,"message":"request (931 tokens) exceeds the available context size'
    ' (512 tokens), try increasing it","type":"exceed_context_size_error",'
    '"n_prompt_tokens":931,"n_ctx":512}}'
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"error":"the input length exceeds the context length"}', Overflow()),
        (LLAMA_CPP, Overflow(931, 512)),
        # Newer Ollama: llama.cpp's error as a string within its own.
        ('{"error":"' + LLAMA_CPP.replace('"', '\\"') + '"}', Overflow(931, 512)),
        (
            "request (931 tokens) exceeds the available context size (512 tokens)",
            Overflow(931, 512),
        ),
        (
            "This model's maximum context length is 4096 tokens. However, your messages"
            " resulted in 5011 tokens.",
            Overflow(5011, 4096),
        ),
        (
            "This model's maximum context length is 4096 tokens. However, you requested 5100"
            " tokens (5000 in the messages, 100 in the completion).",
            Overflow(5000, 4096),
        ),
        (
            "You passed 5001 input tokens and requested 10 output tokens. However, the model's"
            " context length is only 4096 tokens.",
            Overflow(5001, 4096),
        ),
        (
            "input (9001 tokens) is too large to process. increase the physical batch size"
            " (current batch size: 512)",
            Overflow(9001, 512),
        ),
        ('{"error":{"code":"context_length_exceeded"}}', Overflow()),
        ("context deadline exceeded", None),
        ("", None),
    ],
)
def test_a_prompt_that_is_too_long_is_told_with_its_numbers(
    text: str, found: Overflow | None
) -> None:
    assert overflow(text) == found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Overflow(931, 512), ["931", "512"]),
        (Overflow(None, 512), ["at least 513", "512"]),
        (Overflow(400, 512), ["400", "512", "do not fit"]),
        (Overflow(), ["longer than the context"]),
    ],
)
def test_the_message_has_all_that_is_known(found: Overflow, words: list[str]) -> None:
    error = found.error()
    assert error.param == "messages"
    assert all(word in error.message for word in words)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Overflow(931, 512), ["An input", "931", "512"]),
        (Overflow(None, 512), ["An input", "at least 513"]),
        (Overflow(512, 512), ["An input", "512", "no room"]),
        (Overflow(), ["An input", "longer than the context"]),
    ],
)
def test_an_input_is_not_called_a_prompt(found: Overflow, words: list[str]) -> None:
    error = found.error("input")
    assert error.param == "input"
    assert all(word in error.message for word in words)


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (400, "library/smollm2:135m does not support tools", BackendRefusedRequest),
        (400, '"smollm2:135m" does not support thinking', BackendRefusedRequest),
        (500, "image input is not supported - hint: …", BackendRefusedRequest),
        (501, "This server does not support embeddings.", BackendRefusedRequest),
        (400, "Pooling type 'none' is not OAI compatible.", BackendRefusedRequest),
        (400, LLAMA_CPP, ContextLengthExceeded),
        (400, 'time: invalid duration "banana"', BackendRefusedRequest),
        (422, "", BackendRefusedRequest),
        # A caller can cause these: they must not count against the engine.
        (500, "invalid JSON schema in format", BackendRefusedRequest),
        (500, 'option "num_predict" must be of type integer', BackendRefusedRequest),
        (503, "server busy, please try again.  maximum pending requests exceeded", UpstreamBusy),
        (503, '{"error":{"message":"Loading model","type":"unavailable_error"}}', UpstreamBusy),
        (429, "", UpstreamBusy),
        (500, '{"error":{"message":"Context size has been exceeded."}}', UpstreamBusy),
        (500, "llama runner process has terminated", UpstreamFailed),
        (500, "<html><body>Internal Server Error", UpstreamFailed),
        (499, "request cancelled", UpstreamFailed),
        (401, "", UpstreamFailed),
        (418, "", UpstreamFailed),
        (302, "", UpstreamFailed),
        (204, "", UpstreamFailed),
    ],
)
def test_each_refusal_has_its_error(status: int, text: str, error: type[GatewayError]) -> None:
    found = refusal(status, text)
    assert type(found) is error
    # Nothing of the engine's own words, which hold names and paths.
    assert "smollm2" not in found.message
    assert "banana" not in found.message
    assert "llama runner" not in found.message


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("120", 120.0), ("121", 1.0), ("soon", 1.0), ("", 1.0)]
)
def test_a_busy_engine_says_when_to_come_back(header: str, seconds: float) -> None:
    assert refusal(503, "", retry_after=header).retry_after_s == seconds


async def test_an_error_body_that_breaks_leaves_the_status(
    http: HttpClient, engine: FakeEngine
) -> None:
    for steps, text in (
        ((whole(b"\xffwords", 500),), "\ufffdwords"),
        ((whole(b"x" * 70_000, 500),), ""),
        ((head(500) + chunk(b"half"), CLOSE), ""),
    ):
        engine.play(*steps)
        async with http.open("GET", endpoint(engine.url, "/")) as exchange:
            assert await read_error(exchange) == text
