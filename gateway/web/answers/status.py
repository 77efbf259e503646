"""What the status document is, as a JSON Schema; gateway/daemon/snapshot.py makes it."""

from collections.abc import Mapping
from typing import Final, get_args

from gateway.core.ticket import Outcome, Priority, State
from gateway.web.answers.words import (
    COUNT,
    NUMBER,
    TEXT,
    YES_OR_NO,
    Schema,
    fields,
    listed,
    or_nothing,
    word,
)

_S: Final[Schema] = {**NUMBER, "minimum": 0, "description": "seconds"}
_AT: Final[Schema] = {**NUMBER, "description": "seconds since 1970-01-01 UTC"}
_BYTES: Final[Schema] = {**COUNT, "description": "bytes"}
_MAYBE_BYTES: Final = or_nothing(_BYTES)
_PER_S: Final[Schema] = {**NUMBER, "minimum": 0, "description": "tokens per second"}
_CLASS: Final = word(*(priority.name.lower() for priority in Priority))


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


_SPLIT: Final[Mapping[str, Schema]] = {
    "total_s": _said(_S, "seconds since it arrived, or until it ended"),
    "queue_s": _said(_S, "of these, waiting for a slot"),
    "load_s": _said(_S, "waiting for its model"),
    "prefill_s": _said(_S, "reading the prompt"),
    "decode_s": _said(_S, "writing the answer"),
}

_WAITING: Final = fields(
    {
        "id": TEXT,
        "caller": TEXT,
        "model": TEXT,
        "class": _CLASS,
        "position": _said(COUNT, "how many are due before it"),
        "expected_wait_s": _said(_S, "seconds until its slot, from now"),
        "waited_s": _S,
        "deadline_s": _said(_S, "seconds that are left of its time"),
        "waits_for": TEXT,
    },
    title="StatusWaiting",
)

_RUNNING: Final = fields(
    {
        "id": TEXT,
        "caller": TEXT,
        "model": TEXT,
        "class": _CLASS,
        "upstream": _said(TEXT, "empty where it joined the answer of an earlier try"),
        "state": word(*(state for state in get_args(State) if state not in ("queued", "ended"))),
        "stream": YES_OR_NO,
        **_SPLIT,
        "expected_s": _said(_S, "seconds that it was expected to have its slot"),
        "tokens": _said(COUNT, "of its answer so far, about"),
        "tokens_per_s": or_nothing(_PER_S),
    },
    title="StatusRunning",
)

_ENDED: Final = fields(
    {
        "id": TEXT,
        "at": _AT,
        "caller": TEXT,
        "model": TEXT,
        "class": or_nothing(_CLASS),
        "upstream": TEXT,
        "outcome": word(*(outcome for outcome in get_args(Outcome) if outcome != "refused")),
        "status": {"type": "integer"},
        "reason": TEXT,
        "stream": YES_OR_NO,
        "truncated": YES_OR_NO,
        "rejoined": YES_OR_NO,
        **_SPLIT,
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "tokens_per_s": or_nothing(_PER_S),
    },
    title="StatusEnded",
)

_LOADED: Final = fields(
    {
        "model": TEXT,
        "memory_bytes": _said(_MAYBE_BYTES, "as its engine tells; null: it doesn't"),
        "gpu_bytes": _said(_MAYBE_BYTES, "of these, in a GPU's memory"),
        "file_bytes": _MAYBE_BYTES,
        "context_tokens": or_nothing(COUNT),
        "leaves_at": _said(or_nothing(_AT), "when the engine puts it out; null: not by itself"),
    },
    title="StatusLoaded",
)

_UPSTREAM: Final = fields(
    {
        "name": TEXT,
        "kind": TEXT,
        "version": TEXT,
        "up": YES_OR_NO,
        "breaker": word("closed", "open", "half_open"),
        "busy": COUNT,
        "slots": COUNT,
        "slots_on_trial": _said(COUNT, "of these, only being tried"),
        "loading": or_nothing(_said(TEXT, "the model that is being brought to memory")),
        "loaded": listed(_LOADED),
    },
    title="StatusUpstream",
)

_MODEL: Final = fields(
    {
        "model": TEXT,
        "stands_for": _said(TEXT, "the model that runs, where this is an alias"),
        "loaded": YES_OR_NO,
        "movable": _said(YES_OR_NO, "whether its engine takes it into memory and out of it"),
        "file_bytes": _MAYBE_BYTES,
    },
    title="StatusModel",
)

_CALLER: Final = fields(
    {
        "caller": TEXT,
        "requests": _said(COUNT, "accepted ones"),
        "refusals": COUNT,
        "failures": _said(COUNT, "accepted ones that ended in an error"),
        "prompt_tokens": COUNT,
        "cached_tokens": _said(COUNT, "of these, found in a slot"),
        "completion_tokens": COUNT,
        "slot_s": _said(_S, "seconds of slots"),
    },
    title="StatusCaller",
)

_JUDGED: Final = fields(
    {
        "count": _said(COUNT, "estimates that could be judged"),
        "error": _said(or_nothing(NUMBER), "the part by which a usual one was wrong, either way"),
        "ratio": _said(or_nothing(NUMBER), "what a usual one expected, over what it was"),
    },
    title="StatusJudged",
)

STATUS: Final = fields(
    {
        "object": word("gateway.status"),
        "version": TEXT,
        "at": _AT,
        "uptime_s": _S,
        "state": word("warming_up", "ready", "unready", "draining"),
        "reason": _said(TEXT, "why it is not ready, as /ready tells"),
        "detail": TEXT,
        "default_model": TEXT,
        "queue": fields(
            {
                "waiting": COUNT,
                "bound": COUNT,
                "by_class": fields(dict.fromkeys(_CLASS["enum"], COUNT)),
                "expected_wait_s": _said(or_nothing(_S), "of who would come now"),
                "places_held": _said(COUNT, "for those who were refused"),
                "requests": listed(_WAITING),
            }
        ),
        "slots": fields({"busy": COUNT, "total": COUNT}),
        "upstreams": listed(_UPSTREAM),
        "models": listed(_MODEL),
        "running": listed(_RUNNING),
        "tokens_per_s": _said(_PER_S, "of all answers together, lately"),
        "requests": fields(
            {
                "active": COUNT,
                "completed": COUNT,
                "failed": COUNT,
                "cancelled": COUNT,
                "refused": COUNT,
            }
        ),
        "refusals": fields(
            {
                "total": COUNT,
                "lately": COUNT,
                "lately_s": _S,
                "by_reason": listed(fields({"reason": TEXT, "total": COUNT, "lately": COUNT})),
            }
        ),
        "estimates": fields({"wait": _JUDGED, "service": _JUDGED}),
        "recent": _said(listed(_ENDED), "the last accepted requests, the latest first"),
        "callers": _said(listed(_CALLER), "what each has used today, a day of UTC"),
        "process": fields(
            {
                "memory_bytes": _MAYBE_BYTES,
                "machine_bytes": _MAYBE_BYTES,
                "cpu_s": _S,
                "open_files": or_nothing(COUNT),
                "connections": COUNT,
                "connections_max": COUNT,
                "kept_answers_bytes": _BYTES,
                "log_lines_dropped": COUNT,
            }
        ),
    },
    title="Status",
)

MODEL: Final = fields(
    {"object": word("gateway.model"), "model": TEXT, "loaded": YES_OR_NO, "seconds": _S},
    title="StatusModelMoved",
)
"""Of a model that was brought to memory or put out of it."""
