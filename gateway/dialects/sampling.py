"""Parameters of how tokens are drawn, by the names that OpenAI and Ollama share.

They stand at the top of a body, OpenAI's way, or in Ollama's `options` object.
What only some engines know travels as an extension, by its name.
"""

import re
from typing import Final

from gateway.core.jsonio import Json
from gateway.dialects import fields
from gateway.dialects.draft import (
    UNLIMITED,
    Draft,
    Fate,
    Parameter,
    Table,
    schema_of,
    to_extensions,
    to_sampling,
    walk,
)

STOPS_MAX: Final = 32
"""OpenAI takes 4; editors that complete code send a dozen, and engines take them."""

STOP_CHARS_MAX: Final = 256
KEEP_ALIVE_S_MAX: Final = 24 * 3600

_INT32_MAX: Final = 2**31 - 1
_FINITE: Final = 1e6
"""Beyond any use, and well inside the 32-bit floats of the engines."""

_stop = fields.text(1, STOP_CHARS_MAX)


def stop(value: Json, path: str) -> tuple[str, ...]:
    """Reads one string or a list of them; each ends the answer where it appears."""
    if isinstance(value, str):
        return (_stop(value, path),)
    if not isinstance(value, list) or len(value) > STOPS_MAX:
        raise fields.invalid(path, f"a string or a list of up to {STOPS_MAX} strings")
    return tuple(_stop(item, f"{path}[{index}]") for index, item in enumerate(value))


def _num_ctx(draft: Draft, value: Json, path: str) -> Fate:
    """The context to allocate: memory that one caller takes from all, so it is bounded."""
    wanted, most = _CONTEXT(value, path), draft.generation.num_ctx_max
    draft.extensions["num_ctx"] = min(wanted, most)
    if wanted > most:
        draft.ignore(path)
    return "asked"


def _num_predict(draft: Draft, value: Json, path: str) -> Fate:
    """Up to 0 it is as much as the model likes, which is never more than our own bound."""
    wanted = _NUM_PREDICT(value, path)
    draft.limit_tokens(wanted if wanted > 0 else UNLIMITED)
    return "asked"


_CONTEXT: Final = fields.integer(1, fields.INT64_MAX)
_NUM_PREDICT: Final = fields.integer(-2, fields.INT64_MAX)

_STOP_SCHEMA: Final = {
    "anyOf": [
        _stop.schema,
        {"type": "array", "items": _stop.schema, "maxItems": STOPS_MAX},
    ]
}

SAMPLING: Final[Table] = {
    "temperature": to_sampling("temperature", fields.number(0, 2)),
    "top_p": to_sampling("top_p", fields.number(0, 1)),
    "top_k": to_sampling("top_k", fields.integer(-1, _INT32_MAX)),
    "min_p": to_sampling("min_p", fields.number(0, 1)),
    "seed": to_sampling("seed", fields.integer(fields.INT64_MIN, fields.INT64_MAX)),
    "stop": to_sampling("stop", stop, _STOP_SCHEMA),
    "presence_penalty": to_sampling("presence_penalty", fields.number(-2, 2)),
    "frequency_penalty": to_sampling("frequency_penalty", fields.number(-2, 2)),
    "repeat_penalty": to_sampling("repeat_penalty", fields.number(0, 10, above_low=True)),
    "num_predict": Parameter(
        _num_predict, _NUM_PREDICT.schema, note="-1 and -2 are as many as generation.max_tokens_max"
    ),
    "num_ctx": Parameter(
        _num_ctx, _CONTEXT.schema, note="more than generation.num_ctx_max is cut to that, by name"
    ),
    "num_keep": to_extensions("num_keep", fields.integer(-1, _INT32_MAX)),
    "mirostat": to_extensions("mirostat", fields.integer(0, 2)),
    "mirostat_tau": to_extensions("mirostat_tau", fields.number(0, _FINITE)),
    "mirostat_eta": to_extensions("mirostat_eta", fields.number(0, _FINITE)),
    "tfs_z": to_extensions("tfs_z", fields.number(0, _FINITE)),
    "typical_p": to_extensions("typical_p", fields.number(0, 1)),
    "repeat_last_n": to_extensions("repeat_last_n", fields.integer(-1, _INT32_MAX)),
}


def _options(draft: Draft, value: Json, path: str) -> Fate:
    """Ollama's object of options. What also stands at the top of the body holds there.

    Each option is noted by itself, so the object has no fate of its own.
    """
    inner: dict[str, Json] = {}
    for name, option in fields.obj(value, path).items():
        if name in SAMPLING and option is not None and draft.body.get(name) is not None:
            draft.ignore(name, under=f"{path}.")
        else:
            inner[name] = option
    walk(draft, SAMPLING, inner, under=f"{path}.")
    return "no-op"


options: Final = Parameter(_options, schema_of(SAMPLING), note="Ollama's options, by their names")


# --- How long the model stays loaded -----------------------------------------

_UNIT_S: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_STEP = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|ms|s|m|h)")
_DURATION = re.compile(rf"-?(?:{_STEP.pattern}){{1,8}}|0")


def duration_s(value: Json) -> float | None:
    """Seconds of a length as Go writes it ("10m", "1h30m"), or of a number of them.

    Below 0 is for ever, as Ollama has it. None where it is no length.
    """
    if isinstance(value, str) and len(value) <= 64 and _DURATION.fullmatch(value):
        length = sum(float(count) * _UNIT_S[unit] for count, unit in _STEP.findall(value))
        return -length if value.startswith("-") else length
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def _keep_alive(draft: Draft, value: Json, path: str) -> Fate:
    """How long the model stays loaded.

    For ever has no effect, and neither has what lasts longer than a day: one caller would
    hold the memory of all. It is no reason to refuse: many a client asks for it by default.
    """
    seconds = duration_s(value)
    if seconds is None:
        raise fields.invalid(path, "a duration such as '10m', or a number of seconds")
    if not 0 <= seconds <= KEEP_ALIVE_S_MAX:
        return "ignored"
    draft.extensions["keep_alive"] = value
    return "asked"


DURATION_SCHEMA: Final = {
    "type": "string",
    "maxLength": 64,
    "pattern": f"^({_DURATION.pattern})$",
}

keep_alive: Final = Parameter(
    _keep_alive,
    {"anyOf": [{"type": "number"}, DURATION_SCHEMA]},
    note="a day at the most: more, or for ever, has no effect",
)
