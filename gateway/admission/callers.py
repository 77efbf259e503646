"""Who holds an API key."""

import hmac
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from gateway.core.api_key import ApiKey, digest_of
from gateway.core.errors import NotPermitted, Unauthorized
from gateway.core.ticket import ANONYMOUS, Caller

_NOBODY: Final[Mapping[str, Caller]] = MappingProxyType({})
_UNAUTHORIZED: Final = "Incorrect API key provided. Send yours as `Authorization: Bearer KEY`."
_EXPIRED: Final = "This API key has expired. Ask whoever runs this gateway for a new one."


class Callers:
    """Finds the caller of a request by its key, in the same time whatever is wrong with it.

    Knows digests alone: comparing them says nothing about a key (CVE-2025-59425).

    Args:
        keys: By name. None at all: everybody is anonymous.
        callers: Name to how its requests are treated, where that is not as usual.
    """

    def __init__(self, keys: Mapping[str, ApiKey], callers: Mapping[str, Caller] = _NOBODY) -> None:
        self._callers = [(key, callers.get(name, Caller(name=name))) for name, key in keys.items()]
        self._anonymous = callers.get(ANONYMOUS.name, ANONYMOUS)

    @property
    def open(self) -> bool:
        """Whether no key is asked for."""
        return not self._callers

    def identify(
        self, authorization: Sequence[str], x_api_key: Sequence[str], *, wall_s: float
    ) -> Caller:
        """The caller who sent these header values.

        Args:
            wall_s: Seconds since the epoch; by these a key expires.

        Raises:
            Unauthorized: No key, an unknown one, one that has expired, or two that differ.
        """
        if not self._callers:
            return self._anonymous
        # SDKs send an empty one beside the key that was set.
        presented = [*filter(None, map(_bearer, authorization)), *filter(None, x_api_key)]
        # Two credentials that differ: which one a proxy before us has checked is
        # anybody's guess. An empty one never fits, and costs the same to refuse.
        token = presented[0] if len(set(presented)) == 1 else ""
        digest = digest_of(token)
        found: tuple[ApiKey, Caller] | None = None
        for known in self._callers:
            if hmac.compare_digest(digest, known[0].digest):
                found = known
        if found is None:
            raise Unauthorized(_UNAUTHORIZED)
        key, caller = found
        if wall_s >= key.expires_at:
            # Said to the holder of the very key alone: it can't be used to look for names.
            raise Unauthorized(_EXPIRED)
        return caller


def require_manager(caller: Caller) -> None:
    """Raises NotPermitted when models are not this caller's to manage."""
    if not caller.manage_models:
        raise NotPermitted(
            "This key may not manage models: [callers.NAME] of the gateway's configuration"
            " would have to say `manage_models = true`."
        )


def require_admin(caller: Caller) -> None:
    """Raises NotPermitted when the daemon is not this caller's to look into."""
    if not caller.admin:
        raise NotPermitted(
            "This is for operators: ask on the gateway's own machine as root or as its own user, or"
            " with a key of which [callers.NAME] of the configuration says `admin = true`."
        )


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""
