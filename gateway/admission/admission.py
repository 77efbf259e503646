"""The door: a ticket, or a refusal at once. Decides on values; waits for nothing."""

import itertools
from collections.abc import Collection, Sequence

from gateway.config.schema import Queue, Timeouts
from gateway.core.errors import QueueFull, ShuttingDown, UnsupportedParameter
from gateway.core.messages import GenerateRequest
from gateway.core.ticket import Caller, Ticket
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import ServiceTime, retry_after_s
from gateway.scheduling.queue import RequestQueue


class Admission:
    """Lets a request in when somebody can run it and there is room to wait.

    Args:
        strict_params: Refuse a request with a parameter that nobody can honour.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        queue: RequestQueue,
        service_time: ServiceTime,
        settings: Queue,
        timeouts: Timeouts,
        strict_params: bool,
    ) -> None:
        self._pool = pool
        self._queue = queue
        self._service_time = service_time
        self._settings = settings
        self._timeouts = timeouts
        self._strict_params = strict_params
        self._numbers = itertools.count()
        self.draining = False

    def admit(
        self,
        request: GenerateRequest,
        *,
        caller: Caller,
        request_id: str,
        ignored: Collection[str],
        now: float,
    ) -> Ticket:
        """A ticket for the request.

        Args:
            ignored: Parameters that its dialect already could not honour.

        Raises:
            ShuttingDown: The daemon drains.
            ModelNotFound, UpstreamUnreachable: Nobody can run it.
            UnsupportedParameter: In strict mode.
            QueueFull: It would have to wait, and too many do.
        """
        if self.draining:
            raise ShuttingDown(
                "The gateway is shutting down.", retry_after_s=self._retry_after_s(request.model)
            )
        serving = self._pool.require(request.model)
        if self._strict_params:
            _require_honoured(request, ignored, serving)
        if self._queue.full() and (
            self._pool.free_for(request.model) is None or not self._queue.empty()
        ):
            raise self.queue_full(request.model)
        return Ticket(
            request_id=request_id,
            number=next(self._numbers),
            caller=caller,
            request=request,
            arrived_at=now,
            deadline_at=now + self._timeouts.request_timeout_seconds,
        )

    def queue_full(self, model: str) -> QueueFull:
        """The refusal, with the time to come back."""
        return QueueFull(
            f"The queue is full ({self._settings.max_queue_size} requests are waiting).",
            retry_after_s=self._retry_after_s(model),
        )

    def _retry_after_s(self, model: str) -> float:
        load = self._pool.load(
            model, waiting=self._queue.qsize(), service_time_s=self._service_time.mean_s
        )
        return retry_after_s(load, self._settings.retry_after_max_seconds)


def _require_honoured(
    request: GenerateRequest, ignored: Collection[str], serving: Sequence[Upstream]
) -> None:
    """Somebody must honour every parameter."""
    missing = [*ignored, *min((up.backend.unsupported(request) for up in serving), key=len)]
    if missing:
        raise UnsupportedParameter(
            f"Not supported here: {', '.join(missing)}. (The gateway runs with strict_params.)",
            param=missing[0],
        )
