"""Loads the default model before the first caller needs it, and sees how fast it is."""

import logging

from gateway.backends.base import LOAD_TIME_MAX_S
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, ModelNotFound, Overloaded, UpstreamUnreachable
from gateway.core.messages import GenerateRequest, Message, Role, Sampling
from gateway.core.ticket import Caller, Ticket
from gateway.pool.pool import Pool
from gateway.scheduling.scheduler import Scheduler
from gateway.scheduling.worker import BatchingWorker

log = logging.getLogger("gateway.warmup")

TRY_AGAIN_S = 1.0
PROMPT = "Count from one to twenty in words, one after the other, without anything else."
TOKENS = 8
"""Enough to tell a rate by, so that the first estimates are not mere priors."""

_CALLER = Caller(name="warm-up", weight=1e-6)
"""Who comes after it has nobody to share with."""


class WarmUp:
    """A few tokens of the default model, by way of the queue, as soon as an upstream is up.

    Attributes:
        model: What is loaded.
        done: The model answered, or can't; until then nobody need come.
        warmed: It answered.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        worker: BatchingWorker,
        scheduler: Scheduler,
        clock: Clock,
        model: str,
        wanted: bool,
    ) -> None:
        self._pool = pool
        self._worker = worker
        self._scheduler = scheduler
        self._clock = clock
        self.model = model
        self.done = not wanted
        self.warmed = False

    async def run(self) -> None:
        while not self.done:
            if any(upstream.up for upstream in self._pool.upstreams):
                await self._try()
            if not self.done:
                await self._clock.sleep(TRY_AGAIN_S)

    async def _try(self) -> None:
        started_at = self._clock.now()
        try:
            await self._run_once(started_at)
        except (UpstreamUnreachable, Overloaded):
            return
        except ModelNotFound as error:
            log.warning("no warm-up of the default model: %s", error.message)
        except GatewayError as error:
            log.warning("the warm-up of %s failed: %s", self.model, error.message)
        else:
            self.warmed = True
            log.info("%s is warm after %.1f s", self.model, self._clock.now() - started_at)
        self.done = True

    async def _run_once(self, now: float) -> None:
        # As its callers will ask it: it stays as long, and the system text has been read.
        request = self._pool.catalogue.applied(
            GenerateRequest(
                model=self.model,
                messages=(Message(role=Role.USER, content=PROMPT),),
                sampling=Sampling(temperature=0.0),
                max_tokens=TOKENS,
            )
        )
        ticket = Ticket(
            request_id="warm-up",
            number=-1,
            caller=_CALLER,
            flow=_CALLER.name,
            request=request,
            arrived_at=now,
            deadline_at=now + LOAD_TIME_MAX_S,
        )
        self._scheduler.price(ticket)
        async with (
            self._worker.lease(ticket) as upstream,
            upstream.backend.open(request) as stream,
        ):
            while await stream.read():
                pass
            self._scheduler.answered(ticket, stream.ends, self._clock.now())
