"""What types and bounds can't say of `[models.NAME]`: names that depend on names."""

import re
from collections.abc import Iterator
from typing import Final

from gateway.config.effective import DEFAULT_MODEL, model_behind, untagged
from gateway.config.keys import Key, dotted, quoted
from gateway.config.mistakes import Mistake
from gateway.config.schema import Config, ModelSettings

STOPS_MAX: Final = 32
STOP_CHARACTERS_MAX: Final = 256

_NAME: Final = re.compile(r"[!-~]{1,256}")
# As Go's time.ParseDuration reads it, which is what Ollama reads it with.
_DURATION: Final = re.compile(r"-?(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h)){1,8}|0")
_NOT_ITSELF: Final = "must be the name of a model itself; {} is an alias."


def model_names(config: Config) -> Iterator[Mistake]:
    """A name means one model, and leads to it in one step."""
    aliases = {untagged(name): name for name, model in config.models.items() if model.target}
    spelt: dict[str, str] = {}
    for name, settings in config.models.items():
        if fault := _name_fault(name, spelt):
            yield Mistake(("models", name), fault, value_shown=False)
        spelt.setdefault(untagged(name), name)
        if settings.target:
            yield from _target_faults(name, settings.target, aliases)
    if alias := aliases.get(untagged(config.generation.default_model)):
        yield Mistake(
            ("generation", "default_model"),
            _NOT_ITSELF.format(quoted(alias)),
            concerns=(("models", alias, "target"),),
        )


def model_settings(config: Config) -> Iterator[Mistake]:
    """Texts with a form of their own, and numbers that depend on numbers elsewhere."""
    pinned: dict[str, tuple[Key, int]] = {}
    for name, settings in config.models.items():
        key = ("models", name)
        yield from _text_faults(key, settings)
        tokens_max = config.generation.max_tokens_max
        if settings.max_tokens > tokens_max:
            yield Mistake(
                (*key, "max_tokens"),
                f"must not be above generation.max_tokens_max ({tokens_max}); set both.",
                concerns=(("generation", "max_tokens_max"),),
            )
        if settings.num_ctx:
            model = model_behind(name, settings, config.generation.default_model)
            here = ((*key, "num_ctx"), settings.num_ctx)
            first, num_ctx = pinned.setdefault(untagged(model), here)
            if num_ctx != settings.num_ctx:
                yield Mistake(
                    here[0],
                    f"must be the same as {dotted(first)} ({num_ctx}): both names mean one model,"
                    " which has one context.",
                    concerns=(first,),
                )


def _name_fault(name: str, spelt: dict[str, str]) -> str:
    """What is wrong with a name beside those that came before; nothing: "".

    Args:
        spelt: Name without a tag → the name as it stands in the file.
    """
    if not _NAME.fullmatch(name):
        return "a model's name must have 1 to 256 printable ASCII characters, and no space."
    if untagged(name) == DEFAULT_MODEL:
        return (
            "this name stands for generation.default_model; give the table that model's own name."
        )
    if other := spelt.get(untagged(name)):
        return f"this is the same name as {dotted(('models', other))}; keep one of the two."
    return ""


def _target_faults(name: str, target: str, aliases: dict[str, str]) -> Iterator[Mistake]:
    key = ("models", name, "target")
    if not _NAME.fullmatch(target):
        yield Mistake(key, "must be a model's name: printable ASCII, and no space.")
    elif untagged(target) == untagged(name):
        yield Mistake(key, "must be another name than its own; leave it out.")
    elif alias := aliases.get(untagged(target)):
        yield Mistake(
            key, _NOT_ITSELF.format(quoted(alias)), concerns=(("models", alias, "target"),)
        )


def _text_faults(key: Key, settings: ModelSettings) -> Iterator[Mistake]:
    if settings.keep_alive and not _DURATION.fullmatch(settings.keep_alive):
        yield Mistake(
            (*key, "keep_alive"), "must be a duration such as 30m or 1h30m, or -1m for ever."
        )
    stops = settings.options.stop
    if len(stops) > STOPS_MAX or not all(1 <= len(stop) <= STOP_CHARACTERS_MAX for stop in stops):
        yield Mistake(
            (*key, "options", "stop"),
            f"must be up to {STOPS_MAX} texts of 1 to {STOP_CHARACTERS_MAX} characters each.",
        )
