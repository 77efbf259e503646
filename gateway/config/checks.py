"""What types and bounds can't say: text with a form of its own, and keys that depend on keys.

Each check is a function from a Config to the mistakes it sees; CHECKS is all of them.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from gateway.config.addresses import is_host, is_host_header, is_loopback, is_origin, url_fault
from gateway.config.caller_checks import (
    KEY_SOURCES,
    caller_keys,
    caller_names,
    caller_settings,
    key_fault,
)
from gateway.config.effective import api_keys
from gateway.config.keys import Key, dotted, quoted
from gateway.config.mistakes import Mistake
from gateway.config.model_checks import model_names, model_settings
from gateway.config.schema import Backend, Config
from gateway.config.telemetry_checks import log_levels, trace_collector

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
            " (`gateway keys new NAME`, or API_KEY), or bind 127.0.0.1, or say"
            " server.allow_anonymous = true.",
            concerns=(*KEY_SOURCES, ("server", "allow_anonymous")),
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
    log_levels,
    trace_collector,
    bounds_in_order,
)


def _engine(table: Key, backend: Backend) -> Iterator[Mistake]:
    fault = url_fault(backend.url)
    if fault is not None:
        yield Mistake((*table, "url"), fault)
    fault = key_fault(backend.api_key) if backend.api_key else None
    if fault is not None:
        yield Mistake((*table, "api_key"), fault)


def _number_at(config: Config, key: Key) -> int:
    table, name = key
    value = getattr(getattr(config, table), name)
    assert isinstance(value, int)
    return value
