"""Environment variables as settings.

The common settings have short names, most of them those of the predecessor;
every key has the long form `GATEWAY__TABLE__KEY`, which wins over a short one.
An empty variable counts as unset.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_origin

import attrs

from gateway.config.keys import NAME, Key, Setting, dotted, names_in, nearest, quoted, setting_at
from gateway.config.mistakes import Document
from gateway.config.schema import SlotCount
from gateway.core import jsonio

SHORT_NAMES: Final[Mapping[str, Key]] = {
    "HOST": ("server", "host"),
    "PORT": ("server", "port"),
    "SHUTDOWN_GRACE_SECONDS": ("server", "shutdown_grace_seconds"),
    "STATE_DIRECTORY": ("server", "state_directory"),
    "API_KEY": ("auth", "api_key"),
    "MAX_QUEUE_SIZE": ("queue", "max_queue_size"),
    "BATCH_MAX_SIZE": ("queue", "batch_max_size"),
    "BATCH_WAIT_MS": ("queue", "batch_wait_ms"),
    "RETRY_AFTER_MAX_SECONDS": ("queue", "retry_after_max_seconds"),
    "REQUEST_TIMEOUT_SECONDS": ("timeouts", "request_timeout_seconds"),
    "MODEL_NAME": ("generation", "default_model"),
    "OLLAMA_URL": ("backend", "url"),
    "SLOTS": ("backend", "slots"),
    "LOG_LEVEL": ("logging", "level"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("tracing", "endpoint"),
    "OTEL_SERVICE_NAME": ("tracing", "service_name"),
}

_PREFIX: Final = "GATEWAY__"
_SWITCHES: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,18}\.?[0-9]{0,18}|\.[0-9]{1,18})([eE][+-]?[0-9]{1,4})?")


@attrs.frozen(kw_only=True)
class Override:
    """A value that wins over the file's.

    Attributes:
        source: Where it came from, for a mistake's line.
        key: A key of the schema.
        value: What was written, as the key's type where it can be read as one,
            else as it stands, for the converter to refuse.
    """

    source: str
    key: Key
    value: Any = attrs.field(repr=False)


def override(source: str, key: Key, text: str) -> Override:
    """Read text as the value of a key that exists."""
    setting = setting_at(key)
    assert setting is not None, key
    return Override(source=source, key=key, value=parse_text(text, setting.type))


def overrides(environ: Mapping[str, str], document: Document) -> tuple[list[Override], list[str]]:
    """Read the environment.

    Args:
        document: The file's, for the spelling of names the operator picked: the
            environment is written in capitals, `GATEWAY__AUTH__KEYS__ALICE` is
            `Alice` where the file has her.

    Returns:
        What is set, the stronger one last, and a line for each variable with our
        prefix that sets nothing.
    """
    found: list[Override] = []
    mistakes: list[str] = []
    for variable, key in SHORT_NAMES.items():
        if text := environ.get(variable):
            found.append(override(_words(variable), key, text))
    spelt: dict[Key, str] = {}
    for variable in sorted(name for name in environ if name.startswith(_PREFIX) and environ[name]):
        parts = tuple(variable.removeprefix(_PREFIX).lower().split("__"))
        setting = setting_at(parts)
        if setting is None:
            mistakes.append(f"{_words(variable)}: {_unknown(parts)}")
            continue
        key = _as_in_file(parts, setting, document)
        if key in spelt:
            mistakes.append(f"{_words(variable)}: {dotted(key)} is also set by {spelt[key]}.")
            continue
        spelt[key] = variable
        found.append(override(_words(variable), key, environ[variable]))
    return found, mistakes


def long_name(key: Key) -> str:
    """The variable that sets this key, whichever it is."""
    return _PREFIX + "__".join(key).upper()


def parse_text(text: str, type_: Any) -> Any:
    """Read text as a value of a setting's type; what can't be read comes back as it is."""
    bare = text.strip()
    if type_ is bool:
        return _SWITCHES.get(bare.lower(), text)
    if type_ in (int, SlotCount):
        if _WHOLE.fullmatch(bare):
            return int(bare)
        return bare.lower() if type_ == SlotCount else text
    if type_ is float:
        return float(bare) if _NUMBER.fullmatch(bare) else text
    if get_origin(type_) is Literal:
        return bare.lower()
    if get_origin(type_) is tuple:
        return _parse_list(bare)
    return text


def _parse_list(text: str) -> Any:
    if not text.startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return jsonio.loads(text)
    except ValueError:
        return text


def _as_in_file(parts: Key, setting: Setting, document: Document) -> Key:
    key: Key = ()
    node: Any = document
    for part, pattern in zip(parts, setting.key, strict=True):
        names = node if isinstance(node, dict) else {}
        name = part
        if pattern == NAME:
            name = next((given for given in names if given.lower() == part), part)
        key = (*key, name)
        node = names.get(name)
    return key


def _unknown(parts: Key) -> str:
    meant = nearest(parts)
    if meant is None:
        return "there is no such setting."
    setting = meant
    while names := names_in(setting):
        setting = (*setting, "name" if names[0] == NAME else names[0])
    variable = quoted(long_name(setting))[1:-1]
    if meant == parts:
        return f"this is a table; set a key in it, such as {variable}."
    return f"there is no such setting; did you mean {variable}?"


def _words(variable: str) -> str:
    return f"environment variable {quoted(variable)[1:-1]}"
