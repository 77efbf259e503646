"""What can be known of an engine from outside, before any judgement. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from gateway.backends.values import natural
from gateway.core.jsonio import Json

CONTEXT_DEFAULT: Final = 4096
"""Of Ollama, where neither the model nor OLLAMA_CONTEXT_LENGTH says otherwise (v0.24)."""

_KV_NUMBER_BYTES: Final = 2
"""A key or a value is 16 bits wide, unless OLLAMA_KV_CACHE_TYPE says otherwise."""


@attrs.frozen(kw_only=True)
class ModelFacts:
    """One model of an Ollama.

    Attributes:
        name: As Ollama spells it.
        file_bytes: What its weights take, on the disk and in memory.
        token_bytes: What each token of a context takes; None where it doesn't say.
        context: What its Modelfile sets; None where it sets none.
        loaded_bytes: What it takes now; None while it is not in memory.
        gpu_bytes: How much of that is a GPU's.
        expires_s: From now until it is put out of memory; None while it is not in it.
    """

    name: str
    file_bytes: int
    token_bytes: int | None = None
    context: int | None = None
    loaded_bytes: int | None = None
    gpu_bytes: int = 0
    expires_s: float | None = None


@attrs.frozen(kw_only=True)
class EngineFacts:
    """One configured engine.

    Attributes:
        name: Of the upstream; `default` is [backend].
        kind: As it was chosen, where the configuration says auto.
        url: "" where there is none.
        fault: Why it doesn't answer; "" when it does.
        fallen_back: It was to be an Ollama, and is not.
        answer_s: How long it took to.
        version: As it tells it.
        names: What is wanted of it that it has: as callers name it → as it does.
        models: Of these, by the latter; Ollama's alone.
        local: Whether it is on this machine.
        exposed_on: Addresses beyond this machine on which it can be reached, going round the
            gateway.
        environ: Its process's variables; None where they can't be read.
    """

    name: str
    kind: str
    url: str = ""
    fault: str = ""
    fallen_back: bool = False
    answer_s: float = 0.0
    version: str = ""
    names: Mapping[str, str] = attrs.field(factory=dict)
    models: Mapping[str, ModelFacts] = attrs.field(factory=dict)
    local: bool = False
    exposed_on: tuple[str, ...] = ()
    environ: Mapping[str, str] | None = attrs.field(default=None, repr=False)


def token_bytes(model_info: Json) -> int | None:
    """What a token of context takes, of `model_info` in Ollama's /api/show.

    A key and a value for each head in each layer, as llama.cpp lays them out.
    """
    if not isinstance(model_info, dict):
        return None
    family = model_info.get("general.architecture")

    def number(name: str) -> int | None:
        return natural(model_info.get(f"{family}.{name}"))

    layers, heads = number("block_count"), number("attention.head_count")
    if not layers or not heads:
        return None
    kv_heads = _kv_heads(model_info.get(f"{family}.attention.head_count_kv"), layers, heads)
    head_size = (number("embedding_length") or 0) // heads
    key_size = number("attention.key_length") or head_size
    value_size = number("attention.value_length") or head_size
    return kv_heads * (key_size + value_size) * _KV_NUMBER_BYTES or None


def modelfile_context(parameters: Json) -> int | None:
    """`num_ctx` among the `parameters` of /api/show, which are lines of text."""
    for line in parameters.splitlines() if isinstance(parameters, str) else ():
        name, _, value = line.strip().partition(" ")
        if name == "num_ctx" and value.strip().isdecimal():
            return int(value)
    return None


def _kv_heads(told: Any, layers: int, heads: int) -> int:
    """Of all layers together: one number for each, a list of them, or as many as heads."""
    if isinstance(told, list):
        return sum(natural(count) or 0 for count in told)
    return layers * (natural(told) or heads)
