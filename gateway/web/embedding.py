"""The handler of requests for embeddings; which wire format it speaks is its argument."""

import asyncio
from typing import Final, Generic

from aiohttp import hdrs, web

from gateway.dialects.base import E, EmbedDialect
from gateway.story import Answer
from gateway.web.intake import Intake, is_dry_run

WRITTEN_IN_A_THREAD_NUMBERS: Final = 100_000
"""More would hold up everybody else while they are written."""


class Embedding(Generic[E]):
    """Translates a request, has its vectors computed, and writes them."""

    def __init__(self, *, dialect: EmbedDialect[E], intake: Intake) -> None:
        self._dialect = dialect
        self._intake = intake

    @property
    def dialect(self) -> EmbedDialect[E]:
        """What it speaks."""
        return self._dialect

    async def handle(self, web_request: web.Request) -> web.Response:
        intake, dialect = self._intake, self._dialect
        with intake.share() as share:
            asked = await intake.asked(web_request, dialect, share)
            if is_dry_run(web_request):
                return intake.forecast(asked)
            head = intake.head(asked)

            async def consume(answer: Answer) -> web.Response:
                await answer.read()
                embeddings = answer.embeddings
                if sum(map(len, embeddings.vectors)) > WRITTEN_IN_A_THREAD_NUMBERS:
                    body = await asyncio.to_thread(dialect.reply, asked.parsed, head, embeddings)
                else:
                    body = dialect.reply(asked.parsed, head, embeddings)
                headers = intake.headers(asked.visit, answer)
                headers[hdrs.CONTENT_TYPE] = "application/json"
                return web.Response(body=body, headers=headers)

            return await intake.run(asked, consume)
