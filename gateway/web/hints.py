"""What a client says beside its request, in headers. Pure.

None of it has to be there, and all of it may be a lie: what does not fit is as
if it were missing, and nothing is taken that could give a caller more than its
key may have.

`x-stainless-…` are the headers of OpenAI's SDKs: `read-timeout` is Python's, in
seconds (openai-python 3.54, _base_client.py, `_build_headers`), `timeout` Node's,
in whole seconds (openai-node, src/client.ts, `buildHeaders`).
"""

import hashlib
import math
import re
from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDictProxy, istr

from gateway.core.ticket import Caller, Hints, Priority
from gateway.web.refusals import PLACE

# As `istr` a name is looked up without being folded to one case first.
_TIMEOUTS: Final = (
    (istr("x-request-timeout-ms"), 0.001),
    (istr("x-stainless-read-timeout"), 1.0),
    (istr("x-stainless-timeout"), 1.0),
)
"""Header and how many seconds its unit has."""

_RETRY_COUNT: Final = istr("x-stainless-retry-count")
_PRIORITY: Final = istr("x-gateway-priority")
_PLACE: Final = istr(PLACE)

_RETRIES_MAX: Final = 100

# An answer must arrive before the client hangs up, which has counted from before
# its request came here and counts until the answer has come back.
_WAY_BACK_SHARE: Final = 0.02
_WAY_BACK_S_MAX: Final = 1.0

_CLASSES: Final = {priority.name.lower(): priority for priority in Priority}
_IS_PLACE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_IS_PLAIN: Final = re.compile(r"[A-Za-z0-9._@+-]{1,128}").fullmatch


def hints_of(
    headers: CIMultiDictProxy[str],
    caller: Caller,
    *,
    fingerprint: bytes,
    session_headers: Iterable[str],
) -> Hints:
    """Read the headers of one request.

    Args:
        caller: Whether an end user is named, and in which header, is its key's
            affair. Its sessions are named with it: what two callers call the same
            is not the same.
        fingerprint: See `fingerprint_of`.
        session_headers: The first that is there names the conversation.
    """
    get = headers.get
    user = get(caller.user_header, "") if caller.user_header else ""
    user = user and _name(user)
    session = next(filter(None, map(get, session_headers)), "")
    place = get(_PLACE, "")
    return Hints(
        timeout_s=_timeout_s(headers),
        priority=_CLASSES.get(get(_PRIORITY, "").lower()),
        user=user,
        session=session and f"{caller.name}/{user}/{_name(session)}",
        retry_count=_retries(get(_RETRY_COUNT, "")),
        place=place if _IS_PLACE(place) else "",
        fingerprint=fingerprint,
    )


def fingerprint_of(body: bytes | bytearray, api: bytes = b"") -> bytes:
    """Digest of a body, (16,): SDKs send the very same bytes again. Takes about 1 ms per MiB.

    Args:
        api: For which it is meant: the same bytes may ask for something else in another.
    """
    return hashlib.blake2b(body, digest_size=16, key=api).digest()


def _timeout_s(headers: CIMultiDictProxy[str]) -> float | None:
    """The least that is said, less what the way back takes."""
    least = math.inf
    for name, unit_s in _TIMEOUTS:
        text = headers.get(name)
        if text is None:
            continue
        try:
            said = float(text) * unit_s
        except ValueError:
            continue
        if 0.0 < said < least:  # Neither NaN nor infinity is.
            least = said
    if least == math.inf:
        return None
    return least - min(least * _WAY_BACK_SHARE, _WAY_BACK_S_MAX)


def _retries(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_RETRIES_MAX))):
        return None
    count = int(text)
    return count if count <= _RETRIES_MAX else None


def _name(text: str) -> str:
    """A name that a client made up, short and plain: as it is, or its digest if it is neither.

    A digest and not a cut, so that two long names that begin alike stay two. The
    `~` is in no plain name, so that nobody can pass for another by naming its digest.
    """
    if _IS_PLAIN(text):
        return text
    # Bytes that are no UTF-8 arrive as lone surrogates.
    return f"~{fingerprint_of(text.encode('utf-8', 'surrogateescape')).hex()}"
