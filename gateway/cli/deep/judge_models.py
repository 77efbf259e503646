"""Are the models there that are asked for, and do they fit into memory? Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import attrs

from gateway.cli.deep.engine_facts import CONTEXT_DEFAULT, EngineFacts, ModelFacts
from gateway.cli.deep.finding import Finding, size_words
from gateway.config.effective import contexts, model_behind
from gateway.config.schema import Config

WORKING_SHARE: Final = 0.1
"""Kept free beside weights and contexts for what an engine computes with, which it does not tell
before it has loaded."""


@attrs.frozen
class Memory:
    """Of this machine, in bytes; `available` is what can be had without swapping."""

    total: int
    available: int


def wanted(config: Config, default_model: str) -> dict[str, str]:
    """Every model that the configuration names, as it does → why."""
    found = {default_model: "the default model"}
    for name, settings in config.models.items():
        model = model_behind(name, settings, default_model)
        found.setdefault(model, f"what {name} means" if settings.target else "configured")
    return found


def names(config: Config) -> list[str]:
    """All that may be wanted, whichever model turns out to be the default one."""
    return list({**wanted(config, config.generation.default_model), config.embedded.model_name: ""})


def presence(models: Mapping[str, str], engines: Sequence[EngineFacts]) -> Iterator[Finding]:
    """Whether some engine has each of them. Nobody knows of an engine that is silent."""
    silent = [facts.name for facts in engines if facts.fault]
    for number, (model, why) in enumerate(models.items()):
        about = f"model {model}"
        having = [facts.name for facts in engines if model in facts.names]
        if having:
            yield Finding(about, "ok", f"on {', '.join(having)}; {why}")
        elif silent:
            yield Finding(about, "skip", f"{', '.join(silent)} can't be asked; {why}")
        else:
            ollama = any(facts.kind == "ollama" for facts in engines)
            yield Finding(
                about,
                # Without the default model nothing is warmed up, and `default` is nobody.
                "fail" if number == 0 else "warn",
                f"on no engine; {why}",
                f"ollama pull {model}" if ollama else "name one that is (gateway models list)",
            )


def memory(
    facts: EngineFacts,
    config: Config,
    models: Collection[str],
    machine: Memory | None,
    *,
    gpu: bool,
) -> Iterator[Finding]:
    """Whether each model fits, as far as an Ollama on this machine tells.

    Args:
        models: Those that are wanted.
        gpu: Whether the machine has one, which could take a model or a part of it.
    """
    if facts.kind != "ollama" or not any(name in facts.names for name in models):
        return
    if not facts.local or machine is None:
        yield Finding(f"memory of {facts.name}", "skip", "its machine's memory is not known here")
        return
    # What is in memory now makes room for another.
    held = sum(
        model.loaded_bytes - model.gpu_bytes
        for model in facts.models.values()
        if model.loaded_bytes is not None
    )
    pinned = {facts.names.get(name): context for name, context in contexts(config).items()}
    for spelt in dict.fromkeys(facts.names[name] for name in models if name in facts.names):
        model = facts.models[spelt]
        yield _fits(model, facts, pinned.get(model.name), machine, held, gpu=gpu)


def need_bytes(model: ModelFacts, context: int, at_once: int) -> int:
    """What a model takes with contexts of so many tokens."""
    return round(
        (model.file_bytes + (model.token_bytes or 0) * context * at_once) * (1 + WORKING_SHARE)
    )


def _fits(
    model: ModelFacts,
    facts: EngineFacts,
    pinned: int | None,
    machine: Memory,
    held: int,
    *,
    gpu: bool,
) -> Finding:
    about = f"memory for {model.name}"
    if model.loaded_bytes is not None:
        where = f", {size_words(model.gpu_bytes)} of it a GPU's" if model.gpu_bytes else ""
        return Finding(
            about, "ok", f"it is loaded and takes {size_words(model.loaded_bytes)}{where}"
        )
    environ = facts.environ or {}
    context = pinned or model.context or _number(environ.get("OLLAMA_CONTEXT_LENGTH"))
    context = context or CONTEXT_DEFAULT
    at_once = _number(environ.get("OLLAMA_NUM_PARALLEL")) or 1
    need = need_bytes(model, context, at_once)
    times = f" times {at_once} at once" if at_once > 1 else ""
    bound = "about" if model.token_bytes else "more than"
    what = (
        f"it takes {bound} {size_words(need)} with a context of {context}{times}, and"
        f" {size_words(machine.available + held)} of {size_words(machine.total)} can be had"
    )
    if need <= machine.available + held:
        return Finding(about, "ok", what)
    if gpu:
        return Finding(about, "skip", f"{what}, but a GPU may take it")
    fix = "a smaller model or quantization, or a smaller num_ctx in [models.NAME]"
    if need <= machine.total:
        return Finding(about, "warn", what, f"end what holds the memory; else {fix}")
    return Finding(about, "fail", what, fix)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
