"""What follows from a Config where one setting depends on another. Pure."""

from typing import Final

from gateway.config.schema import CallerSettings, Config
from gateway.core.ticket import ANONYMOUS, Caller, Priority

DEFAULT_CALLER: Final = "default"
"""The name that auth.api_key has in logs and metrics."""

_USUAL: Final = CallerSettings()


def api_keys(config: Config) -> dict[str, str]:
    """Name → key, of everybody who may call; empty: anybody may.

    `load()` has put the text of auth.api_key_file into auth.api_key.
    """
    if not config.auth.api_key:
        return dict(config.auth.keys)
    return {DEFAULT_CALLER: config.auth.api_key, **config.auth.keys}


def callers(config: Config) -> dict[str, Caller]:
    """Name → how its requests are treated, of everybody who may call.

    Without a key that is one name, since everybody is called alike.
    """
    names = api_keys(config) or (ANONYMOUS.name,)
    return {name: _caller(name, config.callers.get(name, _USUAL)) for name in names}


def bind_address(config: Config) -> tuple[str, int]:
    """Host and port to listen on; without a key only this machine is served."""
    host = config.server.host or ("0.0.0.0" if api_keys(config) else "127.0.0.1")
    return host, config.server.port


def _caller(name: str, settings: CallerSettings) -> Caller:
    return Caller(
        name=name,
        priority=Priority[settings.priority.upper()],
        priority_max=Priority[settings.priority_max.upper()],
        weight=settings.weight,
        user_header=settings.user_header,
    )
