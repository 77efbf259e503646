"""Does an engine answer, is it safe, and is it set up for several callers? Pure."""

import re
from collections.abc import Iterator
from typing import Final

from gateway.cli.deep.engine_facts import EngineFacts
from gateway.cli.deep.finding import Finding
from gateway.config.schema import Config, SlotCount

KNOWN_HOLES: Final[tuple[tuple[tuple[int, ...], str, str], ...]] = (
    ((0, 1, 34), "CVE-2024-37032", "a file name from outside leads to foreign code"),
    ((0, 17, 1), "CVE-2026-7482", "/api/create and /api/push tell what is in its memory"),
)
"""Of Ollama: the version that has closed it, what it is called, what it is."""

KEEP_ALIVE_S_MIN: Final = 1800.0
SLOW_ANSWER_S: Final = 1.0

_EDIT: Final = "systemctl edit ollama, [Service], Environment={}; then systemctl restart ollama"
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def engine(facts: EngineFacts) -> Finding:
    """Whether it answers, and how soon."""
    about = f"engine {facts.name}"
    match facts:
        case EngineFacts(fault="", fallen_back=True):
            return Finding(
                about,
                "warn",
                f"no Ollama answers at {facts.url}, so the small embedded model is served",
                "start Ollama (systemctl start ollama), or set backend.url (OLLAMA_URL)",
            )
        case EngineFacts(fault="", url=""):
            return Finding(about, "ok", f"{facts.kind} can be started")
        case EngineFacts(fault=""):
            what = f"{facts.kind} {facts.version}".rstrip()
            what += f" answers at {facts.url} in {facts.answer_s * 1000:.0f} ms"
            if facts.answer_s < SLOW_ANSWER_S:
                return Finding(about, "ok", what)
            fix = "look at what keeps it busy: it answers such questions from memory"
            return Finding(about, "warn", what, fix)
        case EngineFacts(url=""):
            return Finding(about, "fail", facts.fault.rstrip("."), "install what is missing")
        case EngineFacts(kind="ollama"):
            fix = "start it (systemctl start ollama), or set backend.url (OLLAMA_URL)"
        case _:
            fix = "start it, or correct its url and api_key"
    return Finding(about, "fail", f"no answer from {facts.url}: {facts.fault.rstrip('.')}", fix)


def holes(facts: EngineFacts) -> Finding | None:
    """Whether its version has holes that are known."""
    about = f"version of {facts.name}"
    version = tuple(map(int, re.findall(r"\d+", facts.version)[:3]))
    if facts.kind != "ollama" or facts.fault:
        return None
    if not any(version):
        return Finding(about, "skip", "it was built without a version")
    found = [
        f"{name} ({what}; closed in {'.'.join(map(str, closed))})"
        for closed, name, what in KNOWN_HOLES
        if version < closed
    ]
    if not found:
        return Finding(about, "ok", f"{facts.version} has no hole that is known here")
    return Finding(about, "warn", f"{facts.version} has {', '.join(found)}", "update Ollama")


def exposure(facts: EngineFacts) -> Finding | None:
    """Whether others can go round the gateway."""
    if not facts.exposed_on:
        return None
    return Finding(
        f"exposure of {facts.name}",
        "warn",
        f"the engine listens on {', '.join(facts.exposed_on)} too, where nobody asks for a key"
        " and no queue keeps order",
        _EDIT.format("OLLAMA_HOST=127.0.0.1") if facts.kind == "ollama" else "bind it to 127.0.0.1",
    )


def keep_alive(facts: EngineFacts, config: Config, model: str) -> Finding | None:
    """Whether the default model stays in memory when nobody asks for a while.

    Args:
        model: The default one.
    """
    if facts.kind != "ollama" or model not in facts.names:
        return None
    about = f"keep-alive of {facts.name}"
    settings = config.models.get(model)
    if settings is not None and settings.keep_alive:
        seconds, source = duration_s(settings.keep_alive), f'[models."{model}"] keep_alive'
    elif facts.environ is not None:
        seconds = duration_s(facts.environ.get("OLLAMA_KEEP_ALIVE") or "5m")
        source = "OLLAMA_KEEP_ALIVE"
    else:
        expires_s = facts.models[facts.names[model]].expires_s
        if expires_s is None or expires_s < KEEP_ALIVE_S_MIN:
            return Finding(about, "skip", "what Ollama has set can't be read; root may")
        seconds, source = expires_s, "/api/ps"
    if seconds is None:
        return Finding(about, "skip", f"{source} is no duration")
    if seconds < 0 or seconds >= KEEP_ALIVE_S_MIN:
        return Finding(about, "ok", f"{model} stays in memory {_long(seconds)} ({source})")
    return Finding(
        about,
        "warn",
        f"{model} leaves the memory after {_long(seconds)} of quiet, and whoever comes next waits"
        " for a load",
        f'[models."{model}"] keep_alive = "-1m", or ' + _EDIT.format("OLLAMA_KEEP_ALIVE=-1"),
    )


def parallel(facts: EngineFacts, slots: SlotCount) -> Finding | None:
    """Whether the gateway and Ollama mean the same number of requests at once.

    Args:
        slots: What is configured.
    """
    if facts.kind != "ollama" or facts.fault:
        return None
    about = f"slots of {facts.name}"
    if facts.environ is None:
        if slots == "auto":
            return Finding(about, "ok", "how many run at once is found out while it serves")
        return Finding(about, "skip", "Ollama's OLLAMA_NUM_PARALLEL can't be read; root may")
    told = facts.environ.get("OLLAMA_NUM_PARALLEL", "")
    runs = int(told) if told.isdecimal() and int(told) else 1
    if slots == "auto":
        fix = "" if runs == 1 else f"slots = {runs} spares finding it out"
        return Finding(about, "ok", f"Ollama runs {runs} at once, which is found out", fix)
    if slots == runs:
        return Finding(about, "ok", f"Ollama runs {runs} at once, and slots says so")
    cure = f"slots = {runs}, or " + _EDIT.format(f"OLLAMA_NUM_PARALLEL={slots}")
    if slots > runs:
        what = f"slots is {slots} and Ollama runs {runs}: the rest waits in it, out of order"
        return Finding(about, "warn", what, cure)
    return Finding(about, "warn", f"slots is {slots}, and Ollama would run {runs} at once", cure)


def all_of(facts: EngineFacts, config: Config, slots: SlotCount, model: str) -> Iterator[Finding]:
    """Every finding about one engine. `model` is the default one."""
    yield engine(facts)
    for finding in (
        holes(facts),
        exposure(facts),
        keep_alive(facts, config, model),
        parallel(facts, slots),
    ):
        if finding is not None:
            yield finding


def duration_s(text: str) -> float | None:
    """As Ollama reads one: `30m`, `1h30m`, seconds, below 0 for ever; None for anything else."""
    bare = text.strip().removeprefix("-")
    sign = -1.0 if text.strip().startswith("-") else 1.0
    try:
        return sign * float(bare)
    except ValueError:
        pass
    parts = _DURATION_PART.findall(bare)
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        return None
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _long(seconds: float) -> str:
    if seconds < 0 or seconds > 366 * 86_400:
        return "for ever"
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
