"""POST /gateway/reload: the configuration is read again."""

from collections.abc import Awaitable, Callable, Sequence

import attrs
from aiohttp import web

from gateway.config.diff import Change
from gateway.config.keys import dotted
from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.errors import NotSupported
from gateway.core.jsonio import Json
from gateway.web.visit import VISIT, json_reply


@attrs.frozen(kw_only=True)
class Reloaded:
    """What a reload has come to.

    Attributes:
        applied: Keys whose new values hold from now on.
        waiting: Keys whose new values need a restart.
        notes: Sentences on what the operator should know of it.
    """

    applied: Sequence[Change]
    waiting: Sequence[Change]
    notes: Sequence[str] = ()


class Reload:
    """Tells operators what became of a reload that they asked for.

    Attributes:
        perform: Does it. Raises ConfigRefused, ShuttingDown.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self.perform: Callable[[], Awaitable[Reloaded]] = _nothing_to_read

    async def handle(self, web_request: web.Request) -> web.Response:
        body = jsonio.dumps(document(await self.perform()))
        return json_reply(web_request[VISIT], body, self._clock.now())


def document(reloaded: Reloaded) -> dict[str, Json]:
    """As JSON; secrets are hidden, and what was not there before, or is no more, is null."""
    return {
        "object": "gateway.reload",
        "applied": [_told(change) for change in reloaded.applied],
        "needs_restart": [{**_told(change), "why": change.restart} for change in reloaded.waiting],
        "notes": list(reloaded.notes),
    }


def _told(change: Change) -> dict[str, Json]:
    return {
        "key": dotted(change.key),
        "was": change.was or None,
        "now": change.now or None,
        "words": change.words(),
    }


async def _nothing_to_read() -> Reloaded:
    raise NotSupported("This gateway was not started from a configuration that could change.")
