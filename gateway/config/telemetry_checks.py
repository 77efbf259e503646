"""What types and bounds can't say of `[logging]` and `[tracing]`."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from gateway.config.addresses import url_fault
from gateway.config.keys import quoted
from gateway.config.mistakes import Mistake
from gateway.config.schema import Config

LOGGERS: Final = (
    "gateway",
    "gateway.config",
    "gateway.engine",
    "gateway.health",
    "gateway.learned",
    "gateway.loads",
    "gateway.log",
    "gateway.loop",
    "gateway.request",
    "gateway.systemd",
    "gateway.traces",
    "gateway.usage",
    "gateway.warmup",
    "gateway.web",
)
"""Ours. `gateway` is above the others, `gateway.request` tells each HTTP request."""

LIBRARIES: Final = ("aiohttp", "asyncio", "py.warnings")
"""Whose loggers may be named as well, and what is below them."""

TRACES_PATH: Final = "/v1/traces"
"""Where a collector takes traces, below its endpoint (OTLP 1.0, "OTLP/HTTP Request")."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 section 5.6.2
_HEADER_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")


def log_levels(config: Config) -> Iterator[Mistake]:
    """A level for a logger that nothing speaks through is a slip of the pen."""
    for name in config.logging.levels:
        if name in LOGGERS or any(_is_below(name, library) for library in LIBRARIES):
            continue
        known = (*LOGGERS, *LIBRARIES)
        close = get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {quoted(close[0])}?" if close else f"there are {', '.join(known)}."
        yield Mistake(
            ("logging", "levels", name), f"there is no such logger; {hint}", value_shown=False
        )


def trace_collector(config: Config) -> Iterator[Mistake]:
    """The collector needs a plain URL, and headers that HTTP can carry."""
    tracing = config.tracing
    if tracing.endpoint and (fault := _endpoint_fault(tracing.endpoint)):
        # A key may stand anywhere in a URL.
        yield Mistake(("tracing", "endpoint"), fault, value_shown=False)
    for name, value in tracing.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            fault = "this is no name of a header, such as authorization."
        elif not _HEADER_VALUE.fullmatch(value):
            fault = "must be printable ASCII, and not empty."
        else:
            continue
        yield Mistake(("tracing", "headers", name), fault, value_shown=False)


def _is_below(name: str, logger: str) -> bool:
    return name == logger or name.startswith(f"{logger}.")


def _endpoint_fault(url: str) -> str | None:
    """What is wrong with a collector's URL, as "must …"; None when nothing is."""
    if "@" in url:
        return "must have no user name or password in it; put them into tracing.headers."
    if "?" in url or "#" in url:
        return "must have no query and no fragment."
    if url.rstrip("/").endswith(TRACES_PATH):
        return f"must end before {TRACES_PATH}, which is added."
    if not (url.isascii() and url.isprintable()) or " " in url:
        return "must be plain ASCII without spaces, such as http://localhost:4318."
    scheme, _, rest = url.partition("://")
    if url_fault(f"{scheme}://{rest.partition('/')[0]}"):
        return (
            "must be http:// or https://, a host and maybe a port, such as http://localhost:4318."
        )
    return None
