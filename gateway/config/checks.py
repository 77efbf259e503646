"""What types and bounds can't say: text with a form of its own, and keys that depend on keys.

Each check is a function from a Config to the mistakes it sees; CHECKS is all of them.
"""

import re
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from typing import Final

from gateway.config.addresses import is_host, is_host_header, is_loopback, is_origin, url_fault
from gateway.config.effective import DEFAULT_CALLER, api_keys, callers
from gateway.config.keys import Key, dotted, quoted
from gateway.config.mistakes import Mistake
from gateway.config.model_checks import model_names, model_settings
from gateway.config.schema import Backend, Config
from gateway.core.ticket import ANONYMOUS

API_KEY_CHARACTERS_MIN: Final = 8
API_KEY_CHARACTERS_MAX: Final = 1024

_API_KEY: Final = ("auth", "api_key")
_API_KEY_FILE: Final = ("auth", "api_key_file")
_KEYS: Final = ("auth", "keys")
_PRINTABLE: Final = re.compile(r"[!-~]+")
_CALLER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_UPSTREAM_NAME: Final = re.compile(r"[a-z0-9_-]{1,32}")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 section 5.6.2

_NOT_ABOVE: Final[tuple[tuple[Key, Key], ...]] = (
    (("generation", "max_tokens_default"), ("generation", "max_tokens_max")),
    # A body larger than what all bodies may hold together would never be read.
    (("limits", "body_bytes_max"), ("limits", "bodies_in_flight_bytes_max")),
)


def bind(config: Config) -> Iterator[Mistake]:
    """An address that others can reach needs a key, or the operator's word."""
    key = ("server", "host")
    host = config.server.host
    if not host:
        return
    if not is_host(host):
        yield Mistake(
            key,
            "must be an IP address or a host name, without scheme, brackets or port;"
            " the port goes into server.port (PORT).",
        )
    elif not (is_loopback(host) or api_keys(config) or config.server.allow_anonymous):
        yield Mistake(
            key,
            "insecure_bind: anybody who reaches this address could use the engine; set an API key"
            " (auth.api_key or API_KEY), or bind 127.0.0.1, or say server.allow_anonymous = true.",
            concerns=(_API_KEY, _API_KEY_FILE, _KEYS, ("server", "allow_anonymous")),
        )


def browsers(config: Config) -> Iterator[Mistake]:
    """The lists of hosts and origins are matched exactly, so each entry must be matchable."""
    for origin in config.server.allowed_origins:
        if not is_origin(origin):
            yield Mistake(
                ("server", "allowed_origins"),
                f"{quoted(origin)} must be an origin as a browser sends it, such as"
                " https://chat.example; there is no wildcard, name each.",
                value_shown=False,
            )
    for host in config.server.allowed_hosts:
        if not is_host_header(host):
            yield Mistake(
                ("server", "allowed_hosts"),
                f"{quoted(host)} must be a host name or address, such as gateway.example;"
                " there is no wildcard, name each.",
                value_shown=False,
            )


def caller_names(config: Config) -> Iterator[Mistake]:
    """Names stand in logs and metrics; one of them must not look like nobody's."""
    for name in config.auth.keys:
        if not _names_a_caller(name):
            yield Mistake(
                (*_KEYS, name),
                'a name must have 1 to 32 of letters, digits, ".", "_" and "-", and not look like'
                ' a key; write: name = "key".',
                value_shown=False,
            )
        elif name.lower() == ANONYMOUS.name:
            yield Mistake((*_KEYS, name), "this name is what callers without a key are called.")
        elif name == DEFAULT_CALLER and config.auth.api_key:
            yield Mistake(
                (*_KEYS, name),
                f"this name is the one of auth.api_key; pick a name other than {DEFAULT_CALLER}.",
                concerns=(_API_KEY, _API_KEY_FILE),
            )


def caller_keys(config: Config) -> Iterator[Mistake]:
    """A key must fit into a header, be no guess, and tell who calls."""
    owners: dict[str, Key] = {}
    for key, secret in _caller_keys(config):
        fault = _key_fault(secret)
        if fault is None and not API_KEY_CHARACTERS_MIN <= len(secret) <= API_KEY_CHARACTERS_MAX:
            fault = (
                f"the key must have {API_KEY_CHARACTERS_MIN} to {API_KEY_CHARACTERS_MAX}"
                " characters; 32 random ones are right, it is the only lock on the door."
            )
        if fault is not None:
            yield Mistake(key, fault)
        elif secret in owners:
            text = f"the key must be another one than that of {dotted(owners[secret])}."
            yield Mistake(key, text, concerns=(owners[secret],))
        owners.setdefault(secret, key)


def caller_settings(config: Config) -> Iterator[Mistake]:
    """How somebody is treated who can't call has no effect, and is a slip of the pen."""
    names = callers(config)
    for name in config.callers:
        if name not in names:
            yield Mistake(
                ("callers", name),
                _why_nobody(name, names),
                concerns=(_API_KEY, _API_KEY_FILE, _KEYS),
                value_shown=False,
            )


def request_texts(config: Config) -> Iterator[Mistake]:
    """What is looked for in requests must be something that a request can have."""
    for name, settings in config.callers.items():
        if settings.user_header and not _HEADER_NAME.fullmatch(settings.user_header):
            yield Mistake(
                ("callers", name, "user_header"),
                "must be the name of a header, such as X-OpenWebUI-User-Id.",
            )
    for header in config.scheduling.session_headers:
        if not _HEADER_NAME.fullmatch(header):
            yield Mistake(
                ("scheduling", "session_headers"),
                f"{quoted(header)} must be the name of a header, such as x-session-id.",
                value_shown=False,
            )
    if "" in config.scheduling.background_prompts:
        yield Mistake(
            ("scheduling", "background_prompts"),
            'must hold no empty text: every prompt begins with "", so that all would be batch.',
            value_shown=False,
        )


def engines(config: Config) -> Iterator[Mistake]:
    """Upstreams need a name of their own, a plain URL and a key that fits into a header."""
    yield from _engine(("backend",), config.backend)
    for name, backend in config.upstreams.items():
        key = ("upstreams", name)
        if name == "default":
            yield Mistake(
                key, "this name is taken, [backend] is called so; pick another.", value_shown=False
            )
        elif not _UPSTREAM_NAME.fullmatch(name):
            yield Mistake(
                key,
                'an upstream\'s name must have 1 to 32 of lower-case letters, digits, "_" and "-".',
                value_shown=False,
            )
        yield from _engine(key, backend)


def bounds_in_order(config: Config) -> Iterator[Mistake]:
    """Where one bound lies inside another."""
    for low, high in _NOT_ABOVE:
        low_value, high_value = _number_at(config, low), _number_at(config, high)
        if low_value > high_value:
            yield Mistake(
                low,
                f"{dotted(low)} ({low_value}) must not be above {dotted(high)} ({high_value});"
                " set both.",
                concerns=(high,),
            )


CHECKS: Final[tuple[Callable[[Config], Iterator[Mistake]], ...]] = (
    bind,
    browsers,
    caller_names,
    caller_keys,
    caller_settings,
    request_texts,
    model_names,
    model_settings,
    engines,
    bounds_in_order,
)


def _engine(table: Key, backend: Backend) -> Iterator[Mistake]:
    fault = url_fault(backend.url)
    if fault is not None:
        yield Mistake((*table, "url"), fault)
    fault = _key_fault(backend.api_key) if backend.api_key else None
    if fault is not None:
        yield Mistake((*table, "api_key"), fault)


def _caller_keys(config: Config) -> Iterator[tuple[Key, str]]:
    if config.auth.api_key:
        yield (_API_KEY_FILE if config.auth.api_key_file else _API_KEY), config.auth.api_key
    for name, secret in config.auth.keys.items():
        if _names_a_caller(name):
            yield (*_KEYS, name), secret


def _why_nobody(name: str, names: Collection[str]) -> str:
    """Why no caller is called so, and what was probably meant."""
    if name == ANONYMOUS.name:
        return "nobody is anonymous once an API key is set."
    if ANONYMOUS.name in names:
        return f"no API key is set; without one everybody is called {ANONYMOUS.name}."
    likely = {known.lower(): known for known in names if _names_a_caller(known)}
    close = get_close_matches(name.lower(), likely, n=1)
    hint = f"; did you mean `{likely[close[0]]}`?" if close else "."
    return f"no API key has this name{hint}"


def _names_a_caller(name: str) -> bool:
    return _CALLER_NAME.fullmatch(name) is not None and not name.startswith("sk-")


def _key_fault(secret: str) -> str | None:
    if _PRINTABLE.fullmatch(secret):
        return None
    return "the key must be printable ASCII without spaces or line breaks, and not empty."


def _number_at(config: Config, key: Key) -> int:
    table, name = key
    value = getattr(getattr(config, table), name)
    assert isinstance(value, int)
    return value
