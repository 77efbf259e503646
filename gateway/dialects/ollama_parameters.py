"""What Ollama's two ways to ask for text have in common: parameters, and an empty request.

A request that asks nothing is how Ollama's clients load a model, and, with a
`keep_alive` of 0, how they put it out of memory: `ollama run` begins with one.

Source: ollama v0.24.0, api/types.go; the options that it has dropped are those of
ollama-python 0.6.3, `Options`.
"""

from typing import Final

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import GenerateRequest, JsonObject, JsonSchema, ReasoningEffort
from gateway.dialects import fields, sampling
from gateway.dialects.base import Parsed
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Table,
    check_size,
    schema_of,
    to_request,
    to_sampling,
    walk,
    without_effect,
)

TOP_LOGPROBS_MAX: Final = 20

_INT32_MAX: Final = 2**31 - 1

# --- Options ---------------------------------------------------------------------

_RUNNERS: Final = "how the engine runs the model is not a caller's affair: it would be loaded anew"
_DROPPED: Final = "Ollama itself has dropped it"

_SWITCH: Final = without_effect(fields.boolean, note=_DROPPED)
_COUNT: Final = without_effect(fields.integer(-1, _INT32_MAX), note=_RUNNERS)

OPTIONS: Final[Table] = {
    **sampling.SAMPLING,
    # Wider than OpenAI's: Ollama bounds it not at all.
    "temperature": to_sampling("temperature", fields.number(0, 100)),
    "num_batch": _COUNT,
    "num_gpu": _COUNT,
    "main_gpu": _COUNT,
    "num_thread": _COUNT,
    "use_mmap": without_effect(fields.boolean, note=_RUNNERS),
    "numa": _SWITCH,
    "low_vram": _SWITCH,
    "f16_kv": _SWITCH,
    "logits_all": _SWITCH,
    "vocab_only": _SWITCH,
    "use_mlock": _SWITCH,
    "embedding_only": _SWITCH,
    "penalize_newline": _SWITCH,
}


def _options(draft: Draft, value: Json, path: str) -> Fate:
    walk(draft, OPTIONS, fields.obj(value, path), under=f"{path}.")
    return "no-op"


# --- Beside the options ------------------------------------------------------------


def _format(draft: Draft, value: Json, path: str) -> Fate:
    match value:
        case "":
            return "no-op"
        case "json":
            draft.request["output_format"] = JsonObject()
        case dict():
            check_size(draft, value, path)
            draft.request["output_format"] = JsonSchema(value)
        case _:
            raise fields.invalid(path, "'json' or a JSON Schema")
    return "asked"


_LEVELS: Final[dict[str, ReasoningEffort]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
}
_LEVEL: Final = fields.one_of(_LEVELS)


def _think(draft: Draft, value: Json, path: str) -> Fate:
    match value:
        case True:
            draft.request["reasoning_effort"] = "medium"
            # Not every model of Ollama's that can think knows of levels.
            draft.extensions["think"] = True
        case False:
            draft.request["reasoning_effort"] = "none"
        case str():
            draft.request["reasoning_effort"] = _LEVEL(value, path)
        case _:
            raise fields.invalid(path, "true, false, low, medium, high or max")
    return "asked"


def _logprobs(draft: Draft, value: Json, path: str) -> Fate:
    if not fields.boolean(value, path):
        return "no-op"
    draft.request.setdefault("logprobs", 0)
    return "asked"


_TOP_LOGPROBS: Final = fields.integer(0, TOP_LOGPROBS_MAX)


def _top_logprobs(draft: Draft, value: Json, path: str) -> Fate:
    count = _TOP_LOGPROBS(value, path)
    if draft.body.get("logprobs") is not True:
        return "ignored" if count else "no-op"
    draft.request["logprobs"] = count
    return "asked"


def _debug_render_only(draft: Draft, value: Json, path: str) -> Fate:
    if fields.boolean(value, path):
        raise InvalidRequest(f"'{path}' is not served: no prompt is shown here.", param=path)
    return "no-op"


OPTIONS_PARAMETER: Final = Parameter(_options, schema_of(OPTIONS))

COMMON: Final[Table] = {
    "model": to_request("model", fields.model_name),
    "stream": to_request("stream", fields.boolean, no_op=True, note="true if it is left out"),
    "format": Parameter(_format, {"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]}),
    "options": OPTIONS_PARAMETER,
    "keep_alive": sampling.keep_alive,
    "think": Parameter(_think, {"anyOf": [{"type": "boolean"}, _LEVEL.schema]}),
    "logprobs": Parameter(_logprobs, fields.boolean.schema),
    "top_logprobs": Parameter(_top_logprobs, _TOP_LOGPROBS.schema, note="needs logprobs"),
    "truncate": without_effect(
        fields.boolean, False, note="a prompt that does not fit is refused, never cut"
    ),
    "shift": without_effect(
        fields.boolean, False, note="an answer that outgrows the context ends there"
    ),
    "_debug_render_only": Parameter(_debug_render_only, {"const": False}, how="refused"),
}

REQUIRED: Final = {"model": "the name of a model, or 'default'"}


# --- What was read ------------------------------------------------------------------


def answer_wanted(draft: Draft) -> Parsed:
    """A request for text."""
    draft.request.setdefault("stream", True)
    return Parsed(request=draft.finish(), ignored=draft.ignored)


def nothing_asked(draft: Draft) -> Parsed:
    """A request for the model alone: it is to be loaded, or to be put out of memory.

    Whatever else was said is for an answer that there will not be.
    """
    unload = sampling.duration_s(draft.extensions.get("keep_alive")) == 0
    meant = {"model", "stream", "keep_alive"} if unload else {"model", "stream"}
    for name in sorted(draft.params - meant):
        draft.ignore(name)
    return Parsed(
        request=GenerateRequest(model=draft.request["model"], max_tokens=1),
        ignored=draft.ignored,
        wants="unload" if unload else "load",
    )
