"""The one handler that runs models; which wire format it speaks is its argument."""

import logging
from typing import Generic

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.config.schema import Scheduling
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, InternalError
from gateway.core.messages import Event, Finished, FinishReason, fold
from gateway.dialects.base import Dialect, Encoder, P
from gateway.service import Service
from gateway.story import Answer
from gateway.web.intake import IGNORED_PARAMS, Asked, Intake, is_dry_run
from gateway.web.progress import ProgressComments
from gateway.web.streams import Stream, stream_of
from gateway.web.visit import Visit, json_reply

log = logging.getLogger("gateway.web")


class Inference(Generic[P]):
    """Translates a request, runs it, and writes its answer, streamed or whole."""

    def __init__(
        self,
        *,
        dialect: Dialect[P],
        intake: Intake,
        service: Service,
        clock: Clock,
        scheduling: Scheduling,
    ) -> None:
        self._dialect = dialect
        self._intake = intake
        self._service = service
        self._clock = clock
        # Lines of JSON have no room for comments.
        has_comments = dialect.stream_type == "text/event-stream"
        self._progress_s = scheduling.progress_seconds if has_comments else 0.0

    @property
    def dialect(self) -> Dialect[P]:
        """What it speaks."""
        return self._dialect

    async def handle(self, web_request: web.Request) -> web.StreamResponse:
        intake, dialect = self._intake, self._dialect
        with intake.share() as share:
            asked = await intake.asked(web_request, dialect, share)
            if is_dry_run(web_request):
                return intake.forecast(asked)
            encoder = dialect.encoder(asked.parsed, intake.head(asked))
            if asked.parsed.wants == "unload":
                return await self._unload(asked, encoder)
            if asked.parsed.request.stream:
                return await self._stream(web_request, asked, encoder)
            return await self._whole(asked, encoder)

    async def _unload(self, asked: Asked[P], encoder: Encoder) -> web.StreamResponse:
        """Runs no model, and so waits for no slot."""
        await self._service.unload(asked.parsed.request.model, asked.caller)
        body = encoder.reply(fold([Finished(FinishReason.STOP)]))
        reply = json_reply(asked.visit, body, self._clock.now())
        if asked.parsed.ignored:
            reply.headers[IGNORED_PARAMS] = ", ".join(asked.parsed.ignored)
        return reply

    async def _whole(self, asked: Asked[P], encoder: Encoder) -> web.StreamResponse:
        async def consume(answer: Answer) -> web.Response:
            events: list[Event] = []
            while batch := await answer.read():
                events += batch
                answer.tokens = len(events)
            headers = self._intake.headers(asked.visit, answer)
            headers[hdrs.CONTENT_TYPE] = "application/json"
            return web.Response(body=encoder.reply(fold(events)), headers=headers)

        return await self._intake.run(asked, consume)

    async def _stream(
        self, web_request: web.Request, asked: Asked[P], encoder: Encoder
    ) -> web.StreamResponse:
        response: Stream | None = None
        visit = asked.visit

        async def begin(headers: CIMultiDict[str]) -> Stream:
            nonlocal response
            begun = stream_of(self._dialect.stream_type, headers)
            await begun.prepare(web_request)
            response = begun
            return begun

        async def tell(comment: bytes) -> None:
            # From here on an error has no status of its own any more.
            await (response or await begin(visit.headers(self._clock.now()))).write(comment)

        async def consume(answer: Answer) -> Stream:
            await waiting.stop()
            stream = response or await begin(self._intake.headers(visit, answer))
            async with stream:
                while events := await answer.read():
                    answer.tokens += len(events)
                    record = encoder.feed(events)
                    if answer.whole:
                        await stream.write_eof(record)
                        answer.delivered = True
                        break
                    await stream.write(record)
            return stream

        waiting = ProgressComments(
            clock=self._clock,
            every_s=self._progress_s,
            ask=lambda: self._service.progress(visit.request_id, asked.caller),
            write=tell,
        )
        waiting.start()
        try:
            return await self._intake.run(asked, consume)
        except ConnectionError:
            raise  # The client is gone.
        except Exception as error:
            await waiting.stop()
            if response is None:
                if not isinstance(error, self._dialect.in_stream):
                    raise
                response = await begin(visit.headers(self._clock.now()))
            if response.ended:
                return response  # All was said, and only taken too slowly.
            # After the first byte there is no second status; but the client must
            # not take this for the end of an answer.
            if not isinstance(error, GatewayError):
                log.exception("request %s broke while streaming", visit.request_id)
                error = InternalError("Internal error.")
            await _fail(response, encoder, visit, error)
            return response
        finally:
            waiting.cancel()
            if response is not None:
                response.stop_streaming()  # its pings, if they still go on


async def _fail(response: Stream, encoder: Encoder, visit: Visit, error: GatewayError) -> None:
    visit.error = error
    response.force_close()
    await response.write(encoder.fail(error))
    await response.write_eof()
