"""What the status document says of one request, one engine, one model. Pure."""

import datetime
from collections.abc import Sequence
from typing import Final

import attrs

from gateway.backends.ollama import OllamaBackend
from gateway.backends.values import natural
from gateway.core.jsonio import Json
from gateway.core.models import ModelInfo
from gateway.core.ticket import Active
from gateway.pool.upstream import Upstream
from gateway.story import ended_progress
from gateway.telemetry.exchange import CLASSES, tokens_per_s
from gateway.telemetry.history import Ended, Judged
from gateway.telemetry.usage import Counts

LISTED_MAX: Final = 100
"""Entries of each list, beyond which only numbers tell."""


def waiting(active: Active) -> dict[str, Json]:
    """A request that waits for a slot."""
    progress = active.progress
    return {
        "id": progress.request_id,
        "caller": active.caller,
        "model": progress.model,
        "class": CLASSES[active.priority],
        "position": progress.position,
        "expected_wait_s": rounded(progress.wait_s),
        "waited_s": rounded(progress.so_far_s),
        "deadline_s": rounded(active.deadline_s),
        "waits_for": progress.why,
    }


def running(active: Active) -> dict[str, Json]:
    """A request that has one."""
    progress = active.progress
    tokens, decode_s = written(active)
    return {
        "id": progress.request_id,
        "caller": active.caller,
        "model": progress.model,
        "class": CLASSES[active.priority],
        "upstream": active.upstream,
        "state": progress.state,
        "stream": active.stream,
        "total_s": rounded(progress.so_far_s),
        "queue_s": rounded(progress.queue_s),
        "load_s": rounded(progress.load_s),
        "prefill_s": rounded(progress.prefill_s),
        "decode_s": rounded(decode_s),
        "expected_s": rounded(progress.service_s),
        "tokens": tokens,
        # The first one took no part in that time.
        "tokens_per_s": round((tokens - 1) / decode_s, 2) if tokens > 1 and decode_s > 0 else None,
    }


def ended(one: Ended) -> dict[str, Json]:
    """A request that is over; the engine's own times where it told them."""
    record, progress = one.record, ended_progress(one.record)
    speed = tokens_per_s(record)
    return {
        "id": record.request_id,
        "at": round(one.at, 3),
        "caller": record.caller,
        "model": record.model,
        "class": None if record.priority is None else CLASSES[record.priority],
        "upstream": record.upstream,
        "outcome": record.outcome,
        "status": record.status,
        "reason": record.reason,
        "stream": record.stream,
        "truncated": record.truncated,
        "rejoined": record.rejoined,
        "total_s": rounded(record.total_s),
        "queue_s": rounded(progress.queue_s),
        "load_s": rounded(progress.load_s),
        "prefill_s": rounded(progress.prefill_s),
        "decode_s": rounded(progress.decode_s),
        "prompt_tokens": record.usage.prompt,
        "completion_tokens": record.usage.completion,
        "tokens_per_s": None if speed is None else round(speed, 2),
    }


def engine(upstream: Upstream, loading: str | None) -> dict[str, Json]:
    """An upstream.

    Args:
        loading: The model that is being brought to its memory.
    """
    return {
        "name": upstream.name,
        "kind": upstream.backend.kind,
        "version": upstream.version,
        "up": upstream.up,
        "breaker": upstream.breaker.state.value,
        "busy": upstream.in_flight,
        "slots": upstream.slots,
        "slots_on_trial": upstream.slots - upstream.sure_slots,
        "loading": loading,
        "loaded": loaded(upstream) if upstream.up else [],
    }


def loaded(upstream: Upstream) -> list[Json]:
    """The models in its memory, with what an Ollama tells of that."""
    backend = upstream.backend
    told = backend.running if isinstance(backend, OllamaBackend) else {}
    held = [info for name, info in (upstream.models or {}).items() if upstream.holds(name)]
    return [
        {
            "model": info.id,
            "memory_bytes": natural(told.get(info.id, {}).get("size")),
            "gpu_bytes": natural(told.get(info.id, {}).get("size_vram")),
            "file_bytes": info.size_bytes,
            "context_tokens": info.context_length,
            "leaves_at": moment(told.get(info.id, {}).get("expires_at")),
        }
        for info in held[:LISTED_MAX]
    ]


def model(info: ModelInfo, upstreams: Sequence[Upstream]) -> dict[str, Json]:
    """A name that callers may ask for."""
    name = info.alias_of or info.id
    serving = [upstream for upstream in upstreams if upstream.up and upstream.serves(name)]
    return {
        "model": info.id,
        "stands_for": info.alias_of,
        "loaded": any(upstream.holds(name) for upstream in serving),
        "movable": any(isinstance(upstream.backend, OllamaBackend) for upstream in serving),
        "file_bytes": info.size_bytes,
    }


def caller(name: str, counts: Counts) -> dict[str, Json]:
    """What a caller has used."""
    return {"caller": name, **attrs.asdict(counts), "slot_s": rounded(counts.slot_s)}


def judged(one: Judged) -> dict[str, Json]:
    """How well a time was foreseen."""
    return {
        "count": one.count,
        "error": None if one.error is None else round(one.error, 3),
        "ratio": None if one.ratio is None else round(one.ratio, 3),
    }


def written(active: Active) -> tuple[int, float]:
    """Tokens of an answer so far, and for how long it has been written."""
    return active.tokens, active.progress.decode_s


def moment(text: Json) -> float | None:
    """Seconds since the epoch of when an Ollama puts a model out; None for never."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.datetime.fromisoformat(text)
        # A model that stays for ever has a date centuries away, or Go's zero.
        return at.timestamp() if 1970 < at.year < 2200 else None
    except (ValueError, OverflowError):
        return None


def rounded(seconds: float) -> float:
    """To the millisecond, and never below nothing: clocks of two machines may disagree."""
    return round(max(0.0, seconds), 3)
