import json
import math
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.openai_completions_wire import CompletionReader, completion_body
from gateway.backends.openai_wire import LLAMA_CPP_EXTENSIONS, unsupported
from gateway.core.errors import (
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
    JsonObject,
    JsonSchema,
    Prompt,
    Sampling,
    TextDelta,
    TokenLogprob,
    Usage,
    fold,
)

DATA = Path(__file__).parent.parent / "data"
ONCE = Prompt("Once")
DONE = b"data: [DONE]\n\n"


def body(prompt: Prompt = ONCE, **fields: Any) -> dict[str, Any]:
    request = GenerateRequest(model="m", prompts=(prompt,), **fields)
    document: dict[str, Any] = json.loads(completion_body(request, LLAMA_CPP_EXTENSIONS))
    return document


def record(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def piece(text: str = "", reason: str | None = None, logprobs: object = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs}
    return record({"choices": [choice]})


def events_of(*pieces: bytes, top_logprobs: int | None = None) -> list[Event]:
    """All events of an answer that comes in these pieces and then ends."""
    reader = CompletionReader(event_bytes_max=2000, top_logprobs=top_logprobs)
    events: list[Event] = []
    for each in pieces:
        events += reader.feed(each)
        if events and isinstance(events[-1], Finished):
            return events
    return events + reader.end()


# --- What is asked ------------------------------------------------------------------


def test_a_text_is_sent_as_it_stands() -> None:
    assert body() == {
        "model": "m",
        "prompt": "Once",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_tokens_are_sent_as_tokens() -> None:
    assert body(Prompt(tokens=(1, 0, 7)))["prompt"] == [1, 0, 7]


def test_every_parameter_is_sent() -> None:
    sent = body(
        sampling=Sampling(temperature=0.0, repeat_penalty=1.1, stop=("a",), logit_bias={"1": 2.0}),
        max_tokens=7,
        logprobs=0,
        extensions={"mirostat": 1, "keep_alive": "1m"},
    )
    for name in ("prompt", "model", "stream", "stream_options"):
        del sent[name]
    assert sent == {
        "temperature": 0.0,
        "repeat_penalty": 1.1,
        "repetition_penalty": 1.1,
        "stop": ["a"],
        "logit_bias": {"1": 2.0},
        "max_tokens": 7,
        "logprobs": 1,  # llama.cpp takes 0 for none
        "mirostat": 1,
    }


def test_an_output_format_is_sent_as_each_engine_has_it() -> None:
    schema = {"type": "array"}
    assert body(output_format=JsonSchema(schema))["json_schema"] == schema
    assert body(output_format=JsonObject())["json_schema"] == {"type": "object"}
    assert body(output_format=JsonObject())["response_format"] == {"type": "json_object"}


def test_a_suffix_is_named_and_not_sent() -> None:
    prompt = Prompt("a", suffix="b")
    assert "suffix" not in body(prompt)
    request = GenerateRequest(model="m", prompts=(prompt,), params=frozenset({"suffix", "n"}))
    assert unsupported(request, LLAMA_CPP_EXTENSIONS) == ("suffix",)


# --- What is answered -----------------------------------------------------------------


def test_a_recorded_answer_of_llama_cpp_is_read() -> None:
    (answer,) = fold(events_of((DATA / "llamacpp_completion.sse").read_bytes()))
    assert answer.text.startswith(" Paris")
    assert answer.logprobs is not None
    assert len(answer.logprobs) == 4
    assert [other.token for other in answer.logprobs[0].top] == [" Paris", " the"]
    finished = answer.finished
    assert finished.reason is FinishReason.LENGTH
    assert (finished.usage.prompt, finished.usage.completion) == (5, 4)
    assert finished.timings.prefill_s


def test_the_four_lists_of_vllm_are_read() -> None:
    lists = {
        "text_offset": [0, 3],
        "tokens": [" a", " b"],
        "token_logprobs": [-1.0, None],
        "top_logprobs": [{" c": -3.0, " a": -1.0, " b": -2.0}, None],
    }
    (event, _) = events_of(piece(" a b", logprobs=lists), piece("", "stop"), DONE, top_logprobs=2)
    assert event == TextDelta(
        " a b",
        (
            TokenLogprob(" a", -1.0, top=(TokenLogprob(" a", -1.0), TokenLogprob(" b", -2.0))),
            TokenLogprob(" b", -math.inf),
        ),
    )


def test_lists_without_alternatives_are_read() -> None:
    lists = {"tokens": ["a"], "token_logprobs": [-1.0]}
    (event, _) = events_of(piece("a", logprobs=lists), piece("", "stop"), DONE)
    assert event == TextDelta("a", (TokenLogprob("a", -1.0),))


@pytest.mark.parametrize(("wanted", "told"), [(0, 0), (1, 1), (5, 2), (None, 2)])
def test_no_more_alternatives_are_told_than_wanted(wanted: int | None, told: int) -> None:
    recorded = (DATA / "llamacpp_completion.sse").read_bytes()
    (answer,) = fold(events_of(recorded, top_logprobs=wanted))
    assert answer.logprobs is not None
    assert {len(token.top) for token in answer.logprobs} == {told}


def test_an_answer_may_be_cut_anywhere() -> None:
    usage = record({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    stream = piece("Grüße ") + piece("\u2028") + piece("", "length") + usage + DONE
    expected = [
        TextDelta("Grüße "),
        TextDelta("\u2028"),
        Finished(FinishReason.LENGTH, Usage(3, 2)),
    ]
    for cut in range(len(stream)):
        assert events_of(stream[:cut], stream[cut:]) == expected


def test_with_its_reason_told_an_answer_is_whole() -> None:
    reader = CompletionReader(event_bytes_max=1000)
    reader.feed(piece("a"))
    assert reader.salvage() == []
    reader.feed(piece("", "stop"))
    assert reader.salvage() == [Finished(FinishReason.STOP)]


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([], UpstreamBadResponse),
        ([DONE], UpstreamBadResponse),
        ([b"data: <html>\n\n"], UpstreamBadResponse),
        ([record({})], UpstreamBadResponse),
        ([piece("a", logprobs={"tokens": ["a"], "token_logprobs": [0, 0]})], UpstreamBadResponse),
        ([piece("half")], UpstreamDisconnected),
        ([piece("half"), record({"error": {"message": "boom"}})], UpstreamFailed),
        ([piece("half", "abort")], UpstreamFailed),
        ([record({"error": "exceeds the context length"})], ContextLengthExceeded),
    ],
)
def test_a_broken_answer_never_looks_whole(pieces: list[bytes], error: type[GatewayError]) -> None:
    with pytest.raises(error) as caught:
        events_of(*pieces)
    assert caught.value.param in (None, "prompt")
