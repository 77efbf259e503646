"""What a load takes for an answer, a token, an end and an error, in both APIs."""

from typing import Any

import orjson
import pytest

from bench.replies import Dialect, Ollama, OpenAI, Reply, error_code
from bench.scripted_ollama import Script, answer_lines, done_line, message

MESSAGES = [{"role": "user", "content": "Hello"}]


def event(delta: dict[str, str], finish_reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({"choices": [choice]} | more)


def read(dialect: Dialect, *lines: bytes) -> tuple[Reply, list[bool]]:
    reply = Reply()
    return reply, [dialect.read_line(line + b"\n", reply) for line in lines]


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":5}}'


def test_openais_stream_has_its_tokens_from_the_usage_and_its_text_where_it_is() -> None:
    reply, texts = read(
        OpenAI(),
        b": queued",
        b"",
        event({"role": "assistant", "content": ""}),
        event({"content": "two words"}),
        event({}, "length"),
        USAGE,
        b"data: [DONE]",
    )
    assert reply == Reply(tokens=5, finish_reason="length")
    assert texts == [False, False, False, True, False, False, False]


def test_without_usage_each_piece_counts() -> None:
    reply, _ = read(OpenAI(), event({"content": "a"}), event({"content": "b"}), event({}, "stop"))
    assert reply == Reply(tokens=2, finish_reason="stop")


def test_an_error_midway_is_an_error() -> None:
    error = b'data: {"error":{"message":"Too late.","type":"x","code":"request_timeout"}}'
    assert read(OpenAI(), event({"content": "a"}), error)[0].error == "request_timeout"
    assert read(Ollama(), b'{"error":"gone"}')[0].error == "gone"


def test_ollamas_stream_ends_with_its_counts() -> None:
    reply, texts = read(Ollama(), *answer_lines("tokens:3", Script(3), 3, message))
    assert reply == Reply(tokens=3, finish_reason="stop")
    assert texts == [True, True, True, False]


def test_whole_answers_are_read() -> None:
    reply = Reply()
    Ollama().read_whole(done_line("tokens:3", 3, reason="length", content=" w0 w1 w2"), reply)
    assert reply == Reply(tokens=3, finish_reason="length")
    reply = Reply()
    answer = {
        "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 7},
    }
    OpenAI().read_whole(orjson.dumps(answer), reply)
    assert reply == Reply(tokens=7, finish_reason="stop")


@pytest.mark.parametrize("dialect", [OpenAI(), Ollama()])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"1", b"{}"])
def test_what_is_no_answer_is_told_apart(dialect: Dialect, body: bytes) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        dialect.read_whole(body, Reply())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"queue_full","type":"overloaded"}}', "queue_full"),
        (b'{"error":{"code":null,"type":"overloaded"}}', "overloaded"),
        (b'{"error":{}}', "error"),
        (b'{"error":"server busy"}', "server busy"),
        (b"<html>", ""),
        (b"[]", ""),
        (b"{}", ""),
    ],
)
def test_a_refusal_has_its_code(body: bytes, code: str) -> None:
    assert error_code(body) == code


def test_both_apis_are_asked_the_same_in_their_own_words() -> None:
    bodies = [
        orjson.loads(dialect.body("a:latest", MESSAGES, stream=True, max_tokens=9))
        for dialect in (OpenAI(), Ollama())
    ]
    assert bodies[0].pop("stream_options") == {"include_usage": True}
    assert bodies[0].pop("max_tokens") == bodies[1].pop("options")["num_predict"] == 9
    assert bodies[0] == bodies[1] == {"model": "a:latest", "messages": MESSAGES, "stream": True}


@pytest.mark.parametrize("dialect", [OpenAI(), Ollama()])
def test_no_limit_is_not_sent(dialect: Dialect) -> None:
    body = orjson.loads(dialect.body("a:latest", MESSAGES, stream=False, max_tokens=None))
    assert set(body) == {"model", "messages", "stream"}
