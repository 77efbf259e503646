"""The status document in words: what `gateway status` prints and `gateway top` shows. Pure.

Its members are described in gateway/web/answers/status.py.
"""

from collections.abc import Iterator
from typing import Any, Final

_BYTES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

Rows = list[tuple[str, ...]]


def seconds(value: float | None) -> str:
    """Such as 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h; `-` for none."""
    if value is None:
        return "-"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    hours = whole // 3600
    return (
        f"{hours} h {whole % 3600 // 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
    )


def size(value: int | None) -> str:
    for unit, name in _BYTES:
        if value is not None and value >= unit:
            return f"{value / unit:.1f} {name}"
    return "-" if value is None else f"{value} B"


def speed(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def headline(status: Any) -> str:
    """What it is doing, in a line."""
    state = status["state"]
    if status["detail"]:
        state += f" ({status['detail']})"
    return (
        f"gateway {status['version']}: {state}, up {seconds(status['uptime_s'])};"
        f" default model {status['default_model']}"
    )


def facts(status: Any) -> Iterator[tuple[str, str]]:
    """What counts, each by its name."""
    queue, slots, requests = status["queue"], status["slots"], status["requests"]
    yield "slots", f"{slots['busy']} of {slots['total']} busy"
    waiting = f"{queue['waiting']} of {queue['bound']} wait"
    classes = [f"{count} {name}" for name, count in queue["by_class"].items() if count]
    if classes:
        waiting += f" ({', '.join(classes)})"
    if queue["expected_wait_s"] is not None:
        waiting += f"; the next would wait about {seconds(queue['expected_wait_s'])}"
    yield "queue", waiting
    yield "speed", f"{speed(status['tokens_per_s'])} tokens/s"
    told = ", ".join(
        f"{requests[name]} {name}" for name in ("completed", "failed", "cancelled", "refused")
    )
    yield "requests", told
    refusals = status["refusals"]
    if refusals["by_reason"]:
        reasons = ", ".join(
            f"{each['reason']} {each['total']}" for each in refusals["by_reason"][:5]
        )
        yield (
            "refusals",
            f"{refusals['total']}, {refusals['lately']} of them in the last"
            f" {seconds(refusals['lately_s'])}: {reasons}",
        )
    process = status["process"]
    yield (
        "process",
        f"{size(process['memory_bytes'])} of memory, {process['connections']} of"
        f" {process['connections_max']} connections",
    )


def engines(status: Any) -> Rows:
    rows: Rows = [("engine", "kind", "state", "slots", "in memory")]
    for each in status["upstreams"]:
        state = "up" if each["up"] else f"down (breaker {each['breaker']})"
        if each["loading"]:
            state += f", loads {each['loading']['model']}"
        loaded = ", ".join(
            f"{model['model']} ({size(model['memory_bytes'] or model['file_bytes'])})"
            for model in each["loaded"]
        )
        kind = f"{each['kind']} {each['version']}".strip()
        rows.append((each["name"], kind, state, f"{each['busy']}/{each['slots']}", loaded or "-"))
    return rows


def running(status: Any) -> Rows:
    rows: Rows = [("running", "caller", "model", "class", "does", "since", "tokens", "tokens/s")]
    rows += [
        (
            each["id"],
            each["caller"],
            each["model"],
            each["class"],
            each["state"],
            seconds(each["total_s"]),
            str(each["tokens"]),
            speed(each["tokens_per_s"]),
        )
        for each in status["running"]
    ]
    return rows


def waiting(status: Any) -> Rows:
    rows: Rows = [("waiting", "caller", "model", "class", "place", "waited", "starts in", "for")]
    rows += [
        (
            each["id"],
            each["caller"],
            each["model"],
            each["class"],
            str(each["position"] + 1),
            seconds(each["waited_s"]),
            seconds(each["expected_wait_s"]),
            each["waits_for"],
        )
        for each in status["queue"]["requests"]
    ]
    return rows


def ended(status: Any, at_most: int) -> Rows:
    """Those that ended last, with what their time was made of."""
    rows: Rows = [
        (
            "ended",
            "caller",
            "model",
            "outcome",
            "whole",
            "queue",
            "load",
            "prompt",
            "answer",
            "tokens/s",
        )
    ]
    rows += [
        (
            each["id"],
            each["caller"],
            each["model"],
            each["reason"] or each["outcome"],
            seconds(each["total_s"]),
            seconds(each["queue_s"]),
            seconds(each["load_s"]),
            seconds(each["prefill_s"]),
            seconds(each["decode_s"]),
            speed(each["tokens_per_s"]),
        )
        for each in status["recent"][:at_most]
    ]
    return rows
