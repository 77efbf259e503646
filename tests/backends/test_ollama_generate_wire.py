import json
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.ollama_generate_wire import GenerateReader, generate_body
from gateway.core.errors import (
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    UpstreamBadResponse,
    UpstreamDisconnected,
    UpstreamFailed,
)
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    JsonSchema,
    Prompt,
    ReasoningDelta,
    Sampling,
    TextDelta,
    TokenLogprob,
    fold,
)

DATA = Path(__file__).parent.parent / "data"
ONCE = Prompt("Once")


def body(prompt: Prompt = ONCE, **fields: Any) -> dict[str, Any]:
    request = GenerateRequest(model="m", prompts=(prompt,), **fields)
    document: dict[str, Any] = json.loads(generate_body(request, "m:latest"))
    return document


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


DONE = line(response="", done=True, done_reason="stop")


def events_of(*pieces: bytes) -> list[Event]:
    """All events of an answer that comes in these pieces and then ends."""
    reader = GenerateReader(line_bytes_max=1000)
    events: list[Event] = []
    for piece in pieces:
        events += reader.feed(piece)
        if events and isinstance(events[-1], Finished):
            return events
    return events + reader.end()


# --- What is asked ------------------------------------------------------------------


def test_a_text_is_sent_as_it_stands() -> None:
    assert body() == {
        "model": "m:latest",
        "prompt": "Once",
        "raw": True,
        "think": False,
        "stream": True,
        "truncate": False,
        "shift": False,
    }


def test_a_suffix_is_for_the_models_own_template() -> None:
    sent = body(Prompt("def f(", suffix="return x"))
    assert (sent["prompt"], sent["suffix"]) == ("def f(", "return x")
    assert "raw" not in sent


def test_every_parameter_is_sent() -> None:
    schema = {"type": "object"}
    sent = body(
        sampling=Sampling(temperature=0.0, seed=0, stop=("a",)),
        max_tokens=7,
        logprobs=2,
        reasoning_effort="low",
        output_format=JsonSchema(schema),
        extensions={"keep_alive": "1m", "num_ctx": 5},
    )
    assert sent["options"] == {
        "temperature": 0.0,
        "seed": 0,
        "stop": ["a"],
        "num_predict": 7,
        "num_ctx": 5,
    }
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)
    assert (sent["format"], sent["think"], sent["keep_alive"]) == (schema, "low", "1m")


@pytest.mark.parametrize("prompt", [Prompt(tokens=(1, 2)), Prompt(""), Prompt("", suffix="b")])
def test_what_ollama_would_take_for_something_else_is_not_sent(prompt: Prompt) -> None:
    with pytest.raises(BackendRefusedRequest) as caught:
        body(prompt, extensions={"keep_alive": 0})
    assert caught.value.param == "prompt"


# --- What is answered -----------------------------------------------------------------


def test_a_recorded_answer_is_read() -> None:
    (answer,) = fold(events_of((DATA / "ollama_generate.ndjson").read_bytes()))
    assert answer.text.startswith(" Paris")
    assert answer.logprobs is not None
    assert len(answer.logprobs) == 4
    first = answer.logprobs[0]
    assert (first.token, first.raw) == (" Paris", b" Paris")
    assert [other.token for other in first.top] == [" Paris", " the"]
    finished = answer.finished
    assert finished.reason is FinishReason.LENGTH
    assert (finished.usage.prompt, finished.usage.completion) == (5, 4)
    assert finished.timings.prefill_s
    assert finished.timings.decode_s


def test_an_answer_may_be_cut_anywhere() -> None:
    stream = line(response="Grüße ") + line(response="\u2028") + b"\n" + DONE
    expected = [TextDelta("Grüße "), TextDelta("\u2028"), Finished(FinishReason.STOP)]
    for cut in range(len(stream)):
        assert events_of(stream[:cut], stream[cut:]) == expected
    assert events_of(stream.strip()) == expected


def test_thought_is_told_from_text() -> None:
    events = events_of(line(response="", thinking="hm") + line(response="so") + DONE)
    assert events[:2] == [ReasoningDelta("hm"), TextDelta("so")]


def test_logprobs_without_text_are_kept() -> None:
    told = line(response="", logprobs=[{"token": "\ufffd", "logprob": -1.0, "bytes": [240]}])
    assert events_of(told + DONE)[0] == TextDelta("", (TokenLogprob("\ufffd", -1.0, b"\xf0"),))


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([], UpstreamBadResponse),
        ([b"<html>\n"], UpstreamBadResponse),
        ([b"{}\n"], UpstreamBadResponse),
        ([line(response="x" * 2000)], UpstreamBadResponse),
        ([line(response="half")], UpstreamDisconnected),
        ([line(response="half", done=False), line(error="boom")], UpstreamFailed),
        ([line(error="the input length exceeds the context length")], ContextLengthExceeded),
    ],
)
def test_a_broken_answer_never_looks_whole(pieces: list[bytes], error: type[GatewayError]) -> None:
    with pytest.raises(error) as caught:
        events_of(*pieces)
    assert caught.value.param in (None, "prompt")
