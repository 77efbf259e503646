"""Reads a stream of Anthropic's back, as a client does, and holds it to the order of its events."""

import json
from typing import Any

import attrs

MEMBERS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("thinking", "signature"),
    "input_json_delta": ("tool_use", "partial_json"),
}
"""Delta → the type of its block, and what its text is called."""


@attrs.define
class Stream:
    """What a client has seen.

    Attributes:
        message: What `message_start` and `message_delta` say, with its blocks; the input of
            a tool is the text of its deltas, under `json`.
        names: Of all events, in order.
        error: The in-band error, which has to be the last event.
    """

    message: dict[str, Any] = attrs.field(factory=dict)
    names: list[str] = attrs.field(factory=list)
    error: dict[str, Any] | None = None
    done: bool = False

    @property
    def content(self) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = self.message["content"]
        return content

    def texts(self, kind: str, member: str) -> str:
        """What all blocks of one type say together."""
        return "".join(block[member] for block in self.content if block["type"] == kind)


def events(data: bytes) -> list[dict[str, Any]]:
    """The payloads of the records, each of which names its type."""
    records = data.decode().split("\n\n")
    assert records.pop() == "", "the stream ends inside a record"
    payloads = []
    for record in records:
        name, payload = record.split("\n")  # Two lines and no more.
        assert name.startswith("event: ")
        assert payload.startswith("data: ")
        payloads.append(json.loads(payload.removeprefix("data: ")))
        assert payloads[-1]["type"] == name.removeprefix("event: ")
    return payloads


def decode(data: bytes) -> Stream:
    stream = Stream()
    open_block: dict[str, Any] | None = None
    for event in events(data):
        assert not stream.done, "an event after the last one"
        assert stream.error is None, "an event after the error"
        kind = event["type"]
        stream.names.append(kind)
        match kind:
            case "error":
                stream.error = event
            case "ping":
                pass
            case "message_start":
                assert not stream.message
                stream.message = event["message"]
                assert stream.message["content"] == []
                assert stream.message["stop_reason"] is None
            case "content_block_start":
                assert open_block is None, "two blocks at once"
                assert event["index"] == len(stream.content)
                open_block = dict(event["content_block"])
                if open_block["type"] == "tool_use":
                    assert open_block["input"] == {}
                    open_block["json"] = ""
                stream.content.append(open_block)
            case "content_block_delta":
                assert open_block is not None
                assert event["index"] == len(stream.content) - 1
                delta = event["delta"]
                block_type, member = MEMBERS[delta["type"]]
                assert open_block["type"] == block_type
                open_block["json" if member == "partial_json" else member] += delta[member]
            case "content_block_stop":
                assert open_block is not None
                assert event["index"] == len(stream.content) - 1
                if open_block["type"] == "thinking":
                    assert open_block["signature"]
                open_block = None
            case "message_delta":
                assert open_block is None, "the message ends before its last block"
                assert stream.message["stop_reason"] is None, "the message ends twice"
                stream.message |= event["delta"]
                stream.message["usage"] = stream.message["usage"] | event["usage"]
            case "message_stop":
                assert stream.message["stop_reason"] is not None
                stream.done = True
            case _:
                raise AssertionError(kind)
    return stream
