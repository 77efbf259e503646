"""One answered HTTP request, as metrics and the log are told of it."""

from typing import Final

import attrs

from gateway.core.ticket import Priority, RequestRecord
from gateway.core.trace import Trace

OTHER: Final = "other"
"""Stands for every value that is not one of ours: a route, a model, a reason."""

METHODS: Final = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "OTHER")

CLASSES: Final = tuple(priority.name.lower() for priority in Priority)
"""How each priority is spelled; a priority is its index."""

CLIENT_GONE: Final = 499
"""nginx's status for a caller who left before the answer; it never reaches a wire."""


@attrs.define(eq=False, kw_only=True)
class Exchange:
    """One HTTP request and what it was answered. Holds no text and no key.

    Not frozen, since a frozen one costs three times as much to make; nobody
    changes one.

    Attributes:
        request_id: The one that the caller sees in `x-request-id`.
        route: The template of the matched route, or "other"; never the path.
        method: One of METHODS.
        status: As sent, or 499 when the caller left first.
        code: The public error code; "" when all went well.
        reason: The error's `reason`; "" when all went well, and for a `/ready`
            that says no: it answers a question, it refuses nobody.
        caller: The name that belongs to the key; "" when nobody was recognised.
        total_s: From the end of the request's head to the end of the answer.
        record: What became of the generation request that it held, if it held one.
        trace: That it is part of, if it is part of one.
    """

    request_id: str
    route: str
    method: str
    status: int
    code: str = ""
    reason: str = ""
    caller: str = ""
    total_s: float = 0.0
    record: RequestRecord | None = None
    trace: Trace | None = None


def tokens_per_s(record: RequestRecord) -> float | None:
    """How fast the answer was generated; None where that can't be said, or was said before.

    By the engine's own clock if it tells, else by the time after the first
    token, which that token had no part in.
    """
    if record.rejoined:
        return None
    tokens = record.usage.completion
    decode_s = record.timings.decode_s
    if decode_s is None:
        if record.first_token_s is None:
            return None
        tokens -= 1
        decode_s = record.total_s - record.first_token_s
    return tokens / decode_s if tokens > 0 and decode_s > 0 else None


def cached_tokens(record: RequestRecord) -> int:
    """How many tokens of the prompt were found in the slot.

    As the engine tells, else estimated: the part of the characters that the slot
    was expected to hold.
    """
    prompt, cached = max(record.usage.prompt, 0), record.usage.cached
    if cached is None:
        if record.prompt_chars <= 0:
            return 0
        cached = prompt * record.cached_chars // record.prompt_chars
    # Of several answers to one prompt the engine may count it each time.
    return min(max(cached, 0), prompt)
