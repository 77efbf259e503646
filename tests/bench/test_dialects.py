"""Every dialect's answers are taken for whole only if they are, and say what was ordered."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.dialect_costs import STREAMING
from bench.dialects import named_events, openai_embedding
from bench.scripted_ollama import vector
from bench.wire import PROMPT, Ask, Exchange
from gateway.config.schema import Generation, Limits
from gateway.core.errors import UpstreamFailed
from gateway.core.messages import Embeddings, Event, Finished, FinishReason, TextDelta, fold
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.base import Dialect, Encoder, ReplyHead
from gateway.dialects.ollama_chat import OllamaChat
from gateway.dialects.ollama_generate import OllamaGenerate
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses

DIALECTS: dict[str, Callable[[Limits, Generation], Dialect[Any]]] = {
    "/v1/chat/completions": OpenAIChat,
    "/v1/completions": OpenAICompletions,
    "/v1/responses": OpenAIResponses,
    "/v1/messages": AnthropicMessages,
    "/api/chat": OllamaChat,
    "/api/generate": OllamaGenerate,
}
HEAD = ReplyHead(id="0123abcd", created=1_700_000_000, model="tokens:3")
EVENTS: list[Event] = [
    TextDelta(" w0"),
    TextDelta(" w1"),
    TextDelta(" w2"),
    Finished(FinishReason.STOP),
]
DISPENSABLE = (b"event: ping\n", b'"delta":{"role":"assistant"')
"""What begins a record, or stands in it, that no answer needs."""

every_dialect = pytest.mark.parametrize("name", STREAMING)


def answered(name: str, *, stream: bool) -> tuple[Ask, Encoder]:
    """A request, as the dialect itself understands it."""
    ask = STREAMING[name]("tokens:3", stream=stream)
    head, _, body = ask.payload.partition(b"\r\n\r\n")
    assert head.startswith(b"POST %b HTTP/1.1\r\n" % name.encode())
    dialect = DIALECTS[name](Limits(), Generation())
    parsed = dialect.parse(body)
    assert parsed.request.stream is stream
    assert not parsed.ignored
    return ask, dialect.encoder(parsed, HEAD)


def fault(ask: Ask, body: bytes) -> str | None:
    return Exchange(ask, 0.0, head=b"HTTP/1.1 200 OK\r\n", raw_body=body).fault()


def records(stream: bytes) -> list[bytes]:
    end = b"\n\n" if b"\n\n" in stream else b"\n"
    return [record + end for record in stream.split(end)[:-1]]


def test_every_dialect_that_streams_is_asked() -> None:
    assert set(STREAMING) == set(DIALECTS)


@every_dialect
def test_the_whole_answer_has_no_fault_and_any_other_has(name: str) -> None:
    ask, encoder = answered(name, stream=False)
    assert fault(ask, encoder.reply(fold(EVENTS))) is None
    ask, encoder = answered(name, stream=False)
    assert fault(ask, encoder.reply(fold(EVENTS[1:]))) is not None


@every_dialect
def test_a_stream_has_no_fault_only_if_no_record_is_missing_or_there_twice(name: str) -> None:
    ask, encoder = answered(name, stream=True)
    said = records(encoder.feed(EVENTS))
    assert fault(ask, b"".join(said)) is None
    needed = [
        index for index, one in enumerate(said) if not any(map(one.__contains__, DISPENSABLE))
    ]
    assert len(needed) > len(EVENTS) - 1
    for index in needed:
        assert fault(ask, b"".join([*said[:index], *said[index + 1 :]])) is not None
        assert fault(ask, b"".join([*said[: index + 1], *said[index:]])) is not None


@every_dialect
def test_a_stream_that_broke_has_a_fault(name: str) -> None:
    ask, encoder = answered(name, stream=True)
    begun = encoder.feed(EVENTS[:3])
    assert fault(ask, begun) is not None
    assert fault(ask, begun + encoder.fail(UpstreamFailed("gone"))) is not None


@pytest.mark.parametrize("name", ["/v1/responses", "/v1/messages"])
def test_a_stream_that_was_cut_has_a_fault(name: str) -> None:
    ask, encoder = answered(name, stream=True)
    cut = [*EVENTS[:3], Finished(FinishReason.LENGTH)]
    assert fault(ask, encoder.feed(cut)) is not None


def test_an_event_goes_by_the_name_of_its_type() -> None:
    event = b'event: %b\ndata: {"type":"message_stop"}\n\n'
    assert named_events(event % b"message_stop") == [{"type": "message_stop"}]
    assert named_events(b": still there\n\n" + event % b"message_stop") != []
    with pytest.raises(ValueError, match="goes by"):
        named_events(event % b"message_start")
    with pytest.raises(ValueError, match="within an event"):
        named_events((event % b"message_stop")[:-1])


@pytest.mark.parametrize(
    ("vectors", "right"),
    [
        ([vector(PROMPT)], True),
        ([vector("of somebody else")], False),
        ([vector(PROMPT)[:-1]], False),
        ([vector(PROMPT), vector(PROMPT)], False),
    ],
)
def test_a_vector_is_that_of_its_text(vectors: list[list[float]], right: bool) -> None:
    ask = openai_embedding("tokens:3")
    dialect = OpenAIEmbeddings(Limits(), Generation())
    parsed = dialect.parse(ask.payload.partition(b"\r\n\r\n")[2])
    assert parsed.request.inputs == (PROMPT,)
    body = dialect.reply(parsed, HEAD, Embeddings(vectors, prompt_tokens=3))
    assert (fault(ask, body) is None) == right
