"""What follows from a Config where one setting depends on another. Pure."""

import math
from typing import Final

from gateway.config.schema import CallerSettings, Config, ModelSettings, StoredKey
from gateway.core.api_key import ApiKey, digest_of
from gateway.core.ticket import ANONYMOUS, Caller, CallerLimits, Priority

DEFAULT_CALLER: Final = "default"
"""The name that auth.api_key has in logs and metrics."""

DEFAULT_MODEL: Final = "default"
"""The model name that stands for the default model."""

_USUAL: Final = CallerSettings()


def api_keys(config: Config) -> dict[str, ApiKey]:
    """Name → key, of everybody who may call; empty: anybody may.

    `load()` has put the text of auth.api_key_file into auth.api_key, and what it found in
    auth.keys_file into stored_keys.
    """
    written = dict(config.auth.keys)
    if config.auth.api_key:
        written = {DEFAULT_CALLER: config.auth.api_key, **written}
    return {
        **{name: ApiKey(digest=digest_of(secret)) for name, secret in written.items()},
        **{name: _stored(key) for name, key in config.stored_keys.items()},
    }


def callers(config: Config) -> dict[str, Caller]:
    """Name → how its requests are treated, of everybody who may call.

    Without a key that is one name, since everybody is called alike.
    """
    names = api_keys(config) or (ANONYMOUS.name,)
    return {name: _caller(name, config.callers.get(name, _USUAL)) for name in names}


def several_callers(config: Config) -> bool:
    """Whether there can be more than one share of the slots."""
    known = callers(config).values()
    return len(known) > 1 or any(caller.user_header for caller in known)


def untagged(name: str) -> str:
    """A model's name without the tag that is meant where there is none."""
    return name.removesuffix(":latest")


def model_behind(name: str, settings: ModelSettings, default_model: str) -> str:
    """What runs when this name is asked for. One step: it is never an alias itself."""
    if settings.target == DEFAULT_MODEL:
        return default_model
    return settings.target or name


def contexts(config: Config) -> dict[str, int]:
    """Model → tokens to allocate for it, of each for which `num_ctx` is configured."""
    return {
        model_behind(name, settings, config.generation.default_model): settings.num_ctx
        for name, settings in config.models.items()
        if settings.num_ctx
    }


def bind_address(config: Config) -> tuple[str, int]:
    """Host and port to listen on; without a key only this machine is served."""
    host = config.server.host or ("0.0.0.0" if api_keys(config) else "127.0.0.1")
    return host, config.server.port


def _stored(key: StoredKey) -> ApiKey:
    expires_at = math.inf if key.expires is None else key.expires.timestamp()
    return ApiKey(digest=key.digest, expires_at=expires_at)


def _caller(name: str, settings: CallerSettings) -> Caller:
    return Caller(
        name=name,
        priority=Priority[settings.priority.upper()],
        priority_max=Priority[settings.priority_max.upper()],
        weight=settings.weight,
        user_header=settings.user_header,
        manage_models=settings.manage_models,
        admin=settings.admin,
        models=frozenset(settings.models),
        limits=CallerLimits(
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            tokens_per_day=settings.tokens_per_day,
            requests_at_once=settings.requests_at_once,
            max_tokens=settings.max_tokens,
        ),
    )
