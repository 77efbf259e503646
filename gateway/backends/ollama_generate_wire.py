"""Ollama's native completion of one text: our request to its body, its lines to our events. Pure.

With `raw` no template is put around the prompt. A suffix needs the model's own
template, which says how it was taught to fill in the middle, and so is not raw.
"""

from typing import Any

import msgspec

from gateway.backends.ollama_lines import LinesReader, broke_off, finished
from gateway.backends.ollama_wire import common_fields
from gateway.backends.pieces import Logprob, logprobs
from gateway.core import jsonio
from gateway.core.errors import BackendRefusedRequest
from gateway.core.jsonio import Json, LineDecoder
from gateway.core.messages import Event, GenerateRequest, ReasoningDelta, TextDelta


def generate_body(request: GenerateRequest, model: str) -> bytes:
    """The body for /api/generate. The request has one prompt.

    Raises:
        BackendRefusedRequest: The prompt is tokens; or empty, which to Ollama means to
            load the model, or to throw it out.
    """
    (prompt,) = request.prompts
    if prompt.tokens:
        raise BackendRefusedRequest("Ollama takes no tokens: send the text.", param="prompt")
    if not prompt.text:
        raise BackendRefusedRequest("Ollama continues no empty text.", param="prompt")
    body: dict[str, Json] = {"model": model, "prompt": prompt.text, **common_fields(request)}
    if prompt.suffix is None:
        body["raw"] = True
    else:
        body["suffix"] = prompt.suffix
    # By default what a model writes in its tags for thinking is cut out of the text.
    body.setdefault("think", False)
    return jsonio.dumps(body)


# gc=False: nothing here can be part of a cycle, and one is made for each token.
class _Line(msgspec.Struct, gc=False):
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    error: Any = None
    logprobs: list[Logprob] | None = None


_line = LineDecoder(_Line)


class GenerateReader(LinesReader):
    """Reads the NDJSON of one completion."""

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        record = None
        for index, record in enumerate(_line.many(lines)):
            if record.error is not None:
                raise broke_off(record.error, param="prompt")
            if record.thinking:
                events.append(ReasoningDelta(record.thinking))
            if record.response or (record.logprobs and not record.thinking):
                events.append(TextDelta(record.response or "", logprobs(record.logprobs)))
            if record.done:
                line = [line for line in lines if line][index]
                events.append(finished(line))
                break
            if record.response is None:
                raise ValueError("a line without a response")
        if record is not None:
            self._any = True
        return events
