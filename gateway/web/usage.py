"""Who has used how much: GET /gateway/usage for operators, GET /v1/usage for each caller."""

import math
from collections.abc import Sequence
from typing import Final, get_args

from aiohttp import web

from gateway.admission.limits import Allowance, Limits
from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import InvalidRequest, StorageBusy
from gateway.core.jsonio import Json
from gateway.core.ticket import ANONYMOUS
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.usage import SINCE, By, counts_document, day_of, document_of, first_day
from gateway.web.answers.usage import OWN_USAGE, USAGE
from gateway.web.route import JSON, Answer, Route
from gateway.web.visit import VISIT, json_reply

_BY: Final[dict[str, By]] = {by: by for by in get_args(By)}


class Usage:
    """Asks the ledger."""

    def __init__(self, *, ledger: Ledger, limits: Limits, clock: Clock) -> None:
        self._ledger = ledger
        self._limits = limits
        self._clock = clock

    async def everybodys(self, web_request: web.Request) -> web.Response:
        query = web_request.query
        by = _BY.get(query.get("by", "caller"))
        if by is None:
            raise InvalidRequest(f"'by' must be one of {', '.join(_BY)}.", param="by")
        try:
            since = first_day(query.get("since", SINCE), self._clock.wall())
        except ValueError as error:
            raise InvalidRequest(f"'since' {error}.", param="since") from None
        document = document_of(await self._ledger.totals(since, by), since, by)
        return self._reply(web_request, document)

    async def own(self, web_request: web.Request) -> web.Response:
        """Costs next to nothing, and is asked of memory alone."""
        caller = web_request[VISIT].caller or ANONYMOUS
        standing = self._limits.standing(caller, self._clock.now())
        document = {
            "object": "gateway.caller_usage",
            "caller": caller.name,
            "day": day_of(self._clock.wall()),
            "usage": counts_document(self._ledger.today(caller.name)),
            "limits": {name: _allowance(allowance) for name, allowance in standing.items()},
        }
        return self._reply(web_request, document)

    def _reply(self, web_request: web.Request, document: Json) -> web.Response:
        return json_reply(web_request[VISIT], jsonio.dumps(document), self._clock.now())


def usage_routes(usage: Usage) -> Sequence[Route]:
    """Both URLs."""
    return (
        Route(
            "GET",
            "/gateway/usage",
            usage.everybodys,
            "What was used, by caller, model or day",
            tag="Gateway",
            access="admin",
            answers=[Answer(content={JSON: USAGE})],
            errors=[InvalidRequest, StorageBusy],
            query={
                "since": {
                    "type": "string",
                    "default": SINCE,
                    "description": "so many days with today, such as 7d; or the first day",
                },
                "by": {"type": "string", "enum": [*_BY], "default": "caller"},
            },
        ),
        Route(
            "GET",
            "/v1/usage",
            usage.own,
            "What the caller itself has used today, and what it may still use",
            tag="Gateway",
            answers=[Answer(content={JSON: OWN_USAGE})],
            errors=[],
        ),
    )


def _allowance(allowance: Allowance) -> dict[str, Json]:
    return {
        "limit": allowance.limit,
        "remaining": allowance.left,
        "reset_ms": math.ceil(allowance.reset_s * 1000.0),
    }
