"""How every dialect asks for the scripted Ollama's answers, and what is wrong with those.

Chat completions and Ollama's chat are in `bench/wire.py`. All have the same prompt, so
that what differs between two of them is the dialect.
"""

import math
from typing import Any

import orjson

from bench.scripted_ollama import vector
from bench.wire import (
    PROMPT,
    Ask,
    differs,
    fault_in_completion,
    fault_in_ndjson,
    fault_in_ollama_answer,
    fault_in_sse,
    post,
    scripted,
)


def openai_completion(model: str, *, stream: bool) -> Ask:
    body = orjson.dumps({"model": model, "prompt": PROMPT, "stream": stream})
    fault = fault_in_completion_sse if stream else fault_in_text_completion
    return scripted("/v1/completions", model, body, fault)


def openai_response(model: str, *, stream: bool) -> Ask:
    body = orjson.dumps({"model": model, "input": PROMPT, "stream": stream})
    fault = fault_in_response_sse if stream else fault_in_response
    return scripted("/v1/responses", model, body, fault)


def anthropic_message(model: str, *, stream: bool) -> Ask:
    body = orjson.dumps(
        {
            "model": model,
            "max_tokens": 1024,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": stream,
        }
    )
    fault = fault_in_message_sse if stream else fault_in_message
    return scripted("/v1/messages", model, body, fault)


def ollama_generate(model: str, *, stream: bool) -> Ask:
    body = orjson.dumps({"model": model, "prompt": PROMPT, "stream": stream})
    fault = fault_in_generate_ndjson if stream else fault_in_generate_answer
    return scripted("/api/generate", model, body, fault)


def openai_embedding(model: str) -> Ask:
    body = orjson.dumps({"model": model, "input": PROMPT})
    return Ask(post("/v1/embeddings", body), text=PROMPT, find_fault=fault_in_embedding)


# --- What is wrong with an answer; each takes a body and the text that it should say ----


def fault_in_completion_sse(body: bytes, text: str) -> str | None:
    return fault_in_sse(body, text, _text)


def fault_in_text_completion(body: bytes, text: str) -> str | None:
    return fault_in_completion(body, text, _text)


def fault_in_generate_ndjson(body: bytes, text: str) -> str | None:
    return fault_in_ndjson(body, text, _response)


def fault_in_generate_answer(body: bytes, text: str) -> str | None:
    return fault_in_ollama_answer(body, text, _response)


def fault_in_response_sse(body: bytes, text: str) -> str | None:
    """Numbered from 0 without a gap; deltas that are the text of the response that ends it."""
    events = named_events(body)
    if not events or events[-1]["type"] != "response.completed":
        return "the stream ended without response.completed"
    if [event["sequence_number"] for event in events] != list(range(len(events))):
        return "the events are not numbered one after the other"
    deltas = (event["delta"] for event in events if event["type"] == "response.output_text.delta")
    return differs("".join(deltas), text) or _fault_in_response(events[-1]["response"], text)


def fault_in_response(body: bytes, text: str) -> str | None:
    return _fault_in_response(orjson.loads(body), text)


def fault_in_message_sse(body: bytes, text: str) -> str | None:
    """One block of text between the start and the end of a message."""
    events = [event for event in named_events(body) if event["type"] != "ping"]
    kinds = [event["type"] for event in events]
    deltas = kinds.count("content_block_delta")
    expected = [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    if kinds != expected:
        return f"the stream ended with {kinds[-1:]}, or its events are out of order"
    if events[-2]["delta"]["stop_reason"] != "end_turn":
        return "the stream has no stop_reason"
    return differs("".join(event["delta"]["text"] for event in events[2 : 2 + deltas]), text)


def fault_in_message(body: bytes, text: str) -> str | None:
    message = orjson.loads(body)
    if message["stop_reason"] != "end_turn":
        return "the answer has no stop_reason"
    (block,) = message["content"]
    return differs(block["text"], text)


def fault_in_embedding(body: bytes, text: str) -> str | None:
    (item,) = orjson.loads(body)["data"]
    found, expected = item["embedding"], vector(text)
    # What passes through float32 has 7 digits.
    if len(found) == len(expected) and all(
        math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
        for one, other in zip(found, expected, strict=True)
    ):
        return None
    return f"the vector of {len(found)} numbers is that of another text"


def named_events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream that has a name on each; comments are skipped.

    Raises:
        ValueError: A name is not the type of its event, or the last event is not whole.
    """
    records = [record for record in body.split(b"\n\n") if not record.startswith(b":")]
    if records.pop():
        raise ValueError("the stream ended within an event")
    events = []
    for record in records:
        name, _, data = record.partition(b"\ndata: ")
        event = orjson.loads(data)
        if name != b"event: " + event["type"].encode():
            raise ValueError(f"an event of type {event['type']!r} goes by {name!r}")
        events.append(event)
    return events


def _text(choice: Any) -> str:
    text: str = choice["text"]
    return text


def _response(line: Any) -> str:
    response: str = line["response"]
    return response


def _fault_in_response(response: Any, text: str) -> str | None:
    if response["status"] != "completed":
        return f"the response is {response['status']}"
    (item,) = response["output"]
    (part,) = item["content"]
    return differs(part["text"], text)
