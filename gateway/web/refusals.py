"""What is told of a request that is refused below the app: to its client, and to the log."""

import logging
import math
from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.core.clock import Clock
from gateway.core.errors import (
    AuthThrottled,
    DeadlineUnmeetable,
    GatewayError,
    NotSupported,
    Overloaded,
    RateLimited,
    RequestTimeout,
)
from gateway.web.visit import answer_headers

log = logging.getLogger("gateway.web")

LINES_PER_SECOND: Final = 5

RETRY_AFTER_MS: Final = "retry-after-ms"
SHOULD_RETRY: Final = "x-should-retry"
"""Both are OpenAI's own; its SDKs obey them above everything else that an answer says."""

WAIT_S_MAX: Final = 120.0
"""SDKs that are told to come back later than this come back at once, or not at all."""

PLACE: Final = "x-gateway-place"
"""Names the place that is held for a refused client; it may send it back."""

EncodeError = Callable[[GatewayError, str], bytes]
"""An error and the request's id → the JSON envelope."""


def say_when(error: GatewayError, headers: CIMultiDict[str]) -> None:
    """When coming back can help, and whether it can at all.

    `Retry-After` is whole seconds (RFC 9110 section 10.2.3), rounded up: who comes
    early is refused once more. The milliseconds keep clients apart that were told
    moments within one second.
    """
    if error.retry_after_s is not None:
        headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(error.retry_after_s)))
        headers[RETRY_AFTER_MS] = str(max(1, math.ceil(error.retry_after_s * 1000.0)))
        too_far = isinstance(error, RateLimited) and error.retry_after_s > WAIT_S_MAX
        # Nor does a wrong key get right by waiting.
        in_vain = too_far or isinstance(error, AuthThrottled)
        headers[SHOULD_RETRY] = "false" if in_vain else "true"
    elif isinstance(error, DeadlineUnmeetable | RequestTimeout | NotSupported):
        # It would never fit, has had all its time, or is not done here: SDKs would send
        # it twice more.
        headers[SHOULD_RETRY] = "false"
    if isinstance(error, Overloaded) and error.promise is not None and error.promise.place:
        headers[PLACE] = error.promise.place


def refusal_response(
    error: GatewayError, request_id: str, encode_error: EncodeError
) -> web.Response:
    """The answer; the connection is closed after it. Holds nothing of what the client sent."""
    headers = answer_headers(request_id, total_s=0.0, queue_s=0.0)
    headers[hdrs.CONTENT_TYPE] = "application/json"
    say_when(error, headers)
    response = web.Response(
        status=error.status, body=encode_error(error, request_id), headers=headers
    )
    response.force_close()
    return response


class LineBudget:
    """Lets through the first lines of each second and counts the others. Pure."""

    def __init__(self, *, lines: int, per_s: float) -> None:
        self._lines = lines
        self._per_s = per_s
        self._since = -math.inf
        self._told = 0
        self._untold = 0

    def take(self, now: float) -> bool:
        """Whether this line may be written; if not, it is counted."""
        if now - self._since >= self._per_s:
            self._since = now
            self._told = 0
        if self._told < self._lines:
            self._told += 1
            return True
        self._untold += 1
        return False

    def take_untold(self) -> int:
        """How many were kept back since this was last asked."""
        untold, self._untold = self._untold, 0
        return untold


class RefusalLog:
    """One line per refusal, and a count instead of a flood.

    Fits `ConnectionSettings.on_refusal`; nothing of the client's bytes is in a line.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._budget = LineBudget(lines=LINES_PER_SECOND, per_s=1.0)
        self._summary_due = False

    def __call__(self, error: GatewayError, *, remote: str, request_id: str) -> None:
        now = self._clock.now()
        if self._budget.take(now):
            log.info(
                "refused a request below the app: %s",
                error.reason,
                extra={
                    "event": "http_refused",
                    "request_id": request_id,
                    "remote": remote,
                    "status": error.status,
                    "code": error.code,
                    "reason": error.reason,
                },
            )
        elif not self._summary_due:
            self._summary_due = True
            self._clock.call_at(now + 1.0, self._summarise)

    def _summarise(self) -> None:
        self._summary_due = False
        untold = self._budget.take_untold()
        log.info(
            "refused %d more requests below the app",
            untold,
            extra={"event": "http_refused_more", "count": untold},
        )
