"""One HTTP request on its way through the handlers: its id, its caller, and what became of it."""

import itertools
import re
import secrets
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.core.errors import GatewayError
from gateway.core.ticket import Caller, RequestRecord
from gateway.core.trace import Trace
from gateway.web.allowances import TellAllowances
from gateway.web.origins import CorsHeaders
from gateway.web.traced import TRACE_RESPONSE

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
_run: Final = secrets.token_hex(6)
_numbers: Final = itertools.count(1)


def new_id() -> str:
    """Unique: the run of the daemon, and a number in it."""
    return f"{_run}{next(_numbers):08x}"


def answer_headers(request_id: str, *, total_s: float, queue_s: float) -> CIMultiDict[str]:
    """What every answer carries, errors too.

    Args:
        queue_s: The part of the time so far that was spent waiting for a slot.
    """
    total_ms = total_s * 1000.0
    queue_ms = queue_s * 1000.0
    return CIMultiDict(
        (
            ("x-request-id", request_id),
            # Anthropic's name for it; its SDKs look for no other.
            ("request-id", request_id),
            ("openai-processing-ms", f"{total_ms:.0f}"),
            ("x-gateway-queue-ms", f"{queue_ms:.0f}"),
            ("Server-Timing", f"queue;dur={queue_ms:.1f}, total;dur={total_ms:.1f}"),
            ("X-Content-Type-Options", "nosniff"),
            ("Server", "gateway"),
        )
    )


class Visit:
    """Noted by the edge and the handler, told once by the edge.

    Attributes:
        id: Ours, unique; also what an answer's own id is made of.
        request_id: The client's `x-request-id` if it is sane, else ours.
        arrived_at: Clock seconds.
        caller: None until the request was authenticated.
        cors: Headers of the answer that say which browser pages may read it.
        record: Of the generation, if there was one.
        trace: That it is part of, if it is part of one.
        tell_allowances: Says what is left of its caller's limits; None where it has none.
    """

    __slots__ = (
        "arrived_at",
        "caller",
        "cors",
        "error",
        "id",
        "record",
        "request_id",
        "tell_allowances",
        "trace",
    )

    def __init__(self, client_id: str | None, arrived_at: float) -> None:
        self.id = new_id()
        sane = client_id is not None and _SANE_ID(client_id)
        self.request_id = client_id if sane and client_id is not None else self.id
        self.arrived_at = arrived_at
        self.caller: Caller | None = None
        self.error: GatewayError | None = None
        self.cors: CorsHeaders = ()
        self.record: RequestRecord | None = None
        self.trace: Trace | None = None
        self.tell_allowances: TellAllowances | None = None

    def heard(self, record: RequestRecord) -> None:
        self.record = record

    def headers(self, now: float, queue_s: float = 0.0) -> CIMultiDict[str]:
        """`answer_headers` of an answer that is sent now, and all that is told beside them."""
        headers = answer_headers(self.request_id, total_s=now - self.arrived_at, queue_s=queue_s)
        if self.cors:
            headers.extend(self.cors)
        if self.trace is not None and self.trace.ours:
            headers[TRACE_RESPONSE] = self.trace.context.traceparent
        if self.tell_allowances is not None:
            headers.extend(self.tell_allowances(now))
        return headers


def json_reply(visit: Visit, body: bytes, now: float, *, status: int = 200) -> web.Response:
    """A JSON document that is sent now, with the headers that every answer carries."""
    headers = visit.headers(now)
    headers[hdrs.CONTENT_TYPE] = "application/json"
    return web.Response(body=body, status=status, headers=headers)


VISIT: Final = web.RequestKey("visit", Visit)
