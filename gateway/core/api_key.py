"""An API key as the gateway knows it: by its digest, and until when it holds.

A key has 256 random bits, so that one round of SHA-256 is enough: there is nothing to
guess, and a slow hash would only burn the processor for whoever sends wrong keys.
"""

import hashlib
import math
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Final

import attrs

KEY_BYTES: Final = 32
DIGEST_BYTES: Final = 32


@attrs.frozen(kw_only=True)
class ApiKey:
    """What a key that is sent is compared with.

    Attributes:
        digest: As `digest_of` makes it.
        expires_at: Seconds since the epoch from which on it opens nothing; infinity: never.
    """

    digest: bytes = attrs.field(repr=False)
    expires_at: float = math.inf


def digest_of(key: str) -> bytes:
    """SHA-256 of a key, DIGEST_BYTES long."""
    # Header bytes that are not UTF-8 arrive as lone surrogates.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def new_key(random_bytes: Callable[[int], bytes]) -> str:
    """A key that nobody has: `sk-` and 43 characters of the URL-safe alphabet of base64.

    Args:
        random_bytes: So many bytes that nobody can foresee, as secrets.token_bytes.
    """
    return "sk-" + urlsafe_b64encode(random_bytes(KEY_BYTES)).decode().rstrip("=")
