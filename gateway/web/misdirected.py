"""Which URL a client meant that came to one that is not there. Pure.

Nearly all of these are a base URL that was set with a part too many or too few:
SDKs put their own path after it.
"""

import re
from collections.abc import Collection

_SLASHES = re.compile(r"/{2,}")
_PREFIXES = re.compile(r"^(?:/(?:openai|anthropic|ollama|api|v1))*(?=/)")


def meant(path: str, known: Collection[str]) -> str:
    """The URL that was probably meant; "" where nothing is near.

    Args:
        path: What was asked for; the answer holds nothing of it.
        known: The URLs that there are.
    """
    plain = _SLASHES.sub("/", path[:256]).rstrip("/")
    bare = _PREFIXES.sub("", plain)
    for candidate in (plain, f"/v1{bare}", f"/api{bare}", bare):
        if candidate != path and candidate in known:
            return candidate
    return ""
