"""Reads a stream of responses back, as strictly as a client could.

Every record must be what openai-python's own types accept without any leniency.
The stream as a whole must be what OpenAI sends: numbers that rise by one, one item
open at a time, and all that an item holds said alike in its deltas, in the events
that close it, in the item, and in the response that closes the stream.
"""

import json
from typing import Any, Final

import attrs
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)

Json = dict[str, Any]

LAST: Final = ("response.completed", "response.incomplete", "response.failed")

_DELTAS: Final = {
    "response.output_text.delta": "text",
    "response.reasoning_text.delta": "text",
    "response.reasoning_summary_text.delta": "text",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
"""Events with a piece, and what the event that closes them calls the whole."""


@attrs.define
class Seen:
    """What a client has seen.

    Attributes:
        kinds: Of all events, in order.
        output: The items that were closed.
        response: The last one that was told; its output is `output`.
        error: What the stream broke with.
        logprobs: Of all pieces of text.
    """

    kinds: list[str] = attrs.field(factory=list)
    output: list[Json] = attrs.field(factory=list)
    response: Json = attrs.field(factory=dict)
    error: Json | None = None
    logprobs: list[Json] = attrs.field(factory=list)
    open: Json | None = None
    text: str = ""


def events(data: bytes) -> list[Json]:
    """The events, each checked for its frame and its type."""
    *records, rest = data.split(b"\n\n")
    assert rest == b"", "the stream ends inside a record"
    found: list[Json] = []
    for record in records:
        first, second = record.splitlines()
        assert first.startswith(b"event: ")
        assert second.startswith(b"data: ")
        event = json.loads(second.removeprefix(b"data: "))
        assert event["type"] == first.removeprefix(b"event: ").decode()
        _EVENT.validate_json(second.removeprefix(b"data: "), strict=True)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def decode(data: bytes) -> Seen:
    """Raises AssertionError when the stream is not as a client expects it."""
    seen = Seen()
    for event in events(data):
        assert not seen.kinds or seen.kinds[-1] not in LAST, "an event after the last one"
        _hear(seen, event)
        seen.kinds.append(event["type"])
    return seen


def _hear(seen: Seen, event: Json) -> None:
    kind = event["type"]
    if kind == "error":
        seen.error = event
        assert event["error"]["message"] == event["message"]
    elif "response" in event:
        known = seen.response
        seen.response = event["response"]
        assert not known or {**known, **_moving(seen.response)} == seen.response
        if kind in LAST:
            assert seen.response["output"] == seen.output
            assert seen.open is None or kind == "response.failed"
    elif kind == "response.output_item.added":
        assert seen.open is None, "two items are open"
        assert event["output_index"] == len(seen.output)
        seen.open, seen.text = event["item"], ""
    else:
        _hear_item(seen, event)


def _hear_item(seen: Seen, event: Json) -> None:
    kind = event["type"]
    assert seen.open is not None
    assert event["output_index"] == len(seen.output)
    if kind == "response.output_item.done":
        item = event["item"]
        unchanged = ("id", "type", "call_id", "name", "namespace", "role")
        assert [item.get(name) for name in unchanged] == [seen.open.get(n) for n in unchanged]
        assert item["type"] == "local_shell_call" or seen.text == said(item)
        seen.output.append(item)
        seen.open = None
        return
    assert event["item_id"] == seen.open["id"]
    if kind in _DELTAS:
        seen.text += event["delta"]
        seen.logprobs += event.get("logprobs", [])
    elif kind.removesuffix("done") + "delta" in _DELTAS:
        assert event[_DELTAS[kind.removesuffix("done") + "delta"]] == seen.text
    elif kind.endswith("part.done"):
        assert event["part"]["text"] == seen.text


def _moving(response: Json) -> Json:
    """What may differ between the responses of one stream."""
    names = ("status", "output", "usage", "error", "incomplete_details")
    return {name: response[name] for name in names}


def said(item: Json) -> str:
    """What the model wrote into an item."""
    parts = item.get("content") or item.get("summary") or []
    written: str = item.get("arguments") or item.get("input") or ""
    return "".join(part["text"] for part in parts) + written
