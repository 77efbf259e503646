"""The items of a response while they are written: what opens one, its deltas, and its end.

One item is open at a time, and what it holds is said three times, as OpenAI does:
in deltas, whole in events of their own, and whole in the item. The last stays as
JSON, for the response that closes the stream.

Source: openai-python 3.54, types/responses/response_stream_event.py.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, Literal

import attrs

from gateway.core import jsonio
from gateway.core.jsonio import Json, Written, quote
from gateway.core.messages import TextDelta, TokenLogprob
from gateway.dialects.framing import END, one_line
from gateway.dialects.openai_common import logprob
from gateway.dialects.openai_responses_sealed import seal

Status = Literal["in_progress", "completed", "incomplete"]

_NUMBER: Final = b',"sequence_number":%d}' + END
_NUMBERS: Final = tuple(_NUMBER % number for number in range(4096))
"""Ready-made, as far as nearly every answer goes: to write a number costs what a token costs."""


@attrs.define(eq=False)
class Records:
    """Events as bytes, numbered from 0.

    Attributes:
        pieces: What was written and not taken yet.
        number: Gives what closes the next record, its number in it.
    """

    pieces: list[bytes] = attrs.field(init=False, factory=list)
    number: Callable[[], bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        others = map(_NUMBER.__mod__, itertools.count(len(_NUMBERS)))
        self.number = itertools.chain(_NUMBERS, others).__next__

    def write(self, kind: str, values: Mapping[str, Json]) -> None:
        self.pieces.append(one_line(_opening(kind, values)) + self.number())

    def delta(self, opening: bytes, text: str) -> None:
        """One whose last value is a text; `opening` is all before it."""
        self.pieces.append(opening + one_line(quote(text)) + self.number())

    def take(self) -> bytes:
        """All that was written since the last time."""
        taken = b"".join(self.pieces)
        self.pieces.clear()
        return taken


def delta_opening(kind: str, values: Mapping[str, Json], name: str = "delta") -> bytes:
    """A record up to the value of `name`, which is its last but for the number."""
    return _opening(kind, values) + b',"%s":' % name.encode()


def _opening(kind: str, values: Mapping[str, Json]) -> bytes:
    event = jsonio.dumps({"type": kind, **values})
    return b"event: %s\ndata: " % kind.encode() + event[:-1]


class Item:
    """What all kinds have in common: a place in the output, an opening and an end.

    Each has a `feed` for what it is made of, and a `close` that writes its last
    records and gives the whole item, as JSON.
    """

    prefix: ClassVar[str]
    """Of its id."""

    def __init__(self, records: Records, index: int, id: str) -> None:
        self._records = records
        self._place: dict[str, Json] = {"output_index": index}
        self.id = f"{self.prefix}_{id}_{index}"
        self._at: dict[str, Json] = {"item_id": self.id, **self._place}

    def _open(self, item: Json) -> None:
        self._write("response.output_item.added", self._place, item=item)

    def _write(self, kind: str, place: Mapping[str, Json], **values: Json) -> None:
        self._records.write(kind, {**place, **values})

    def _close(self, item: Json) -> Written:
        done = Written(jsonio.dumps(item))
        self._write("response.output_item.done", self._place, item=done)
        return done


class Message(Item):
    """What the model answers."""

    prefix = "msg"

    def __init__(self, records: Records, index: int, id: str) -> None:
        super().__init__(records, index, id)
        self.texts: list[str] = []
        self._logprobs: list[Json] = []
        self._part = {**self._at, "content_index": 0}
        self.opening = delta_opening("response.output_text.delta", {**self._part, "logprobs": []})
        self._open(self._item("in_progress", []))
        self._write("response.content_part.added", self._part, part=self._content(""))

    def feed(self, event: TextDelta) -> None:
        self.texts.append(event.text)
        if event.logprobs is None:
            self._records.delta(self.opening, event.text)
            return
        told = _logprobs(event.logprobs)
        self._logprobs += told
        values = {**self._part, "delta": event.text, "logprobs": told}
        self._records.write("response.output_text.delta", values)

    def close(self, status: Status) -> Written:
        text = "".join(self.texts)
        part = Written(jsonio.dumps(self._content(text)))
        told = {"logprobs": self._logprobs, "text": text}
        self._write("response.output_text.done", self._part, **told)
        self._write("response.content_part.done", self._part, part=part)
        return self._close(self._item(status, [part]))

    def _item(self, status: Status, content: list[Json]) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _content(self, text: str) -> Json:
        return {
            "type": "output_text",
            "text": text,
            "annotations": [],
            "logprobs": self._logprobs,
        }


class Reasoning(Item):
    """What the model thinks first.

    Args:
        summary: It is shown as a summary, because the caller asked for one and
            many show nothing else; it is the whole of it all the same.
        sealed: It is given sealed, besides.
    """

    prefix = "rs"

    def __init__(
        self, records: Records, index: int, id: str, *, summary: bool, sealed: bool
    ) -> None:
        super().__init__(records, index, id)
        self._sealed = sealed
        self._summary = summary
        self._texts: list[str] = []
        kind = "reasoning_summary" if summary else "reasoning"
        self._text_events = f"response.{kind}_text"
        self._part_events = (
            "response.reasoning_summary_part" if summary else "response.content_part"
        )
        self._part = {**self._at, "summary_index" if summary else "content_index": 0}
        self._opening = delta_opening(f"{self._text_events}.delta", self._part)
        self._open(self._item("in_progress", []))
        self._write(f"{self._part_events}.added", self._part, part=self._content(""))

    def feed(self, text: str) -> None:
        self._texts.append(text)
        self._records.delta(self._opening, text)

    def close(self, status: Status) -> Written:
        text = "".join(self._texts)
        part = self._content(text)
        self._write(f"{self._text_events}.done", self._part, text=text)
        self._write(f"{self._part_events}.done", self._part, part=part)
        item = self._item(status, [part])
        if self._sealed:
            item["encrypted_content"] = seal(text)
        return self._close(item)

    def _item(self, status: Status, parts: list[Json]) -> dict[str, Json]:
        return {
            "id": self.id,
            "type": "reasoning",
            "status": status,
            "summary": parts if self._summary else [],
            **({} if self._summary else {"content": parts}),
            "encrypted_content": None,
        }

    def _content(self, text: str) -> Json:
        return {"type": "summary_text" if self._summary else "reasoning_text", "text": text}


def _logprobs(tokens: Sequence[TokenLogprob]) -> list[Json]:
    return [
        _logprob(token) | {"top_logprobs": [_logprob(other) for other in token.top]}
        for token in tokens
    ]


def _logprob(token: TokenLogprob) -> dict[str, Json]:
    raw = token.token.encode() if token.raw is None else token.raw
    return {"token": token.token, "logprob": logprob(token.logprob), "bytes": list(raw)}
