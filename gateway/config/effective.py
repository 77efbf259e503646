"""What follows from a Config where one setting depends on another. Pure."""

from typing import Final

from gateway.config.schema import Config

DEFAULT_CALLER: Final = "default"
"""The name that auth.api_key has in logs and metrics."""


def api_keys(config: Config) -> dict[str, str]:
    """Name → key, of everybody who may call; empty: anybody may.

    `load()` has put the text of auth.api_key_file into auth.api_key.
    """
    if not config.auth.api_key:
        return dict(config.auth.keys)
    return {DEFAULT_CALLER: config.auth.api_key, **config.auth.keys}


def bind_address(config: Config) -> tuple[str, int]:
    """Host and port to listen on; without a key only this machine is served."""
    host = config.server.host or ("0.0.0.0" if api_keys(config) else "127.0.0.1")
    return host, config.server.port
