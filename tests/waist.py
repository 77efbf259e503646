"""The middle of the gateway, from the queue to the service, over upstreams of the test's choice."""

from collections.abc import Callable, Mapping, Sequence

import attrs

from gateway.admission.admission import Admission
from gateway.admission.limits import Limits
from gateway.admission.rejoin import Rejoin
from gateway.config.schema import ModelSettings, Queue, Scheduling, Timeouts
from gateway.core.clock import Clock
from gateway.core.ticket import RequestRecord
from gateway.pool.catalogue import Catalogue
from gateway.pool.health import HealthMonitor
from gateway.pool.loads import Loads
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.scheduling.estimate import CostModel
from gateway.scheduling.microbatch import BatchBounds
from gateway.scheduling.queue import RequestQueue
from gateway.scheduling.scheduler import Scheduler
from gateway.scheduling.worker import BatchingWorker
from gateway.service import Service

ARRIVAL_ALONE = Scheduling(
    deadlines=False,
    reservations=False,
    rejoin=False,
    priorities=False,
    fairness=False,
    model_affinity=False,
    prefix_affinity=False,
    truncate_at_deadline=False,
)
"""First come, first served, and only the bound of the queue refuses."""


USUAL_TIMEOUTS = Timeouts()
USUAL_BATCH = BatchBounds(items_max=64, chars_max=32_768)


@attrs.frozen
class RecordedDay:
    """A day that has all records in it, and never ends."""

    records: list[RequestRecord]

    def tokens(self, caller: str) -> int:
        mine = (record.charged for record in self.records if record.caller == caller)
        return sum(used.prompt + used.completion for used in mine)

    def left_s(self) -> float:
        return 1e6


@attrs.frozen
class Waist:
    """The parts, wired as the daemon wires them; the worker is not running yet."""

    pool: Pool
    costs: CostModel
    scheduler: Scheduler
    queue: RequestQueue
    worker: BatchingWorker
    limits: Limits
    admission: Admission
    service: Service
    loads: Loads
    records: list[RequestRecord]
    broken: list[str]


def waist(
    upstreams: Sequence[Upstream],
    clock: Clock,
    *,
    bound: int = 50,
    scheduling: Scheduling = ARRIVAL_ALONE,
    timeouts: Timeouts = USUAL_TIMEOUTS,
    strict_params: bool = False,
    batch_max_size: int = 8,
    batch_bounds: BatchBounds = USUAL_BATCH,
    retry_after_max_s: float = 120.0,
    newcomers: bool = False,
    costs: CostModel | None = None,
    models: Mapping[str, ModelSettings] | None = None,
    tell: Callable[[RequestRecord], None] | None = None,
) -> Waist:
    pool = Pool(upstreams=upstreams, catalogue=Catalogue(models, default_model="m"))
    costs = costs or CostModel()
    scheduler = Scheduler(
        pool=pool, costs=costs, settings=scheduling, max_tokens=2048, newcomers=newcomers
    )
    queue = RequestQueue(bound=bound, scheduler=scheduler, pool=pool, now=clock.now)
    worker = BatchingWorker(
        queue=queue,
        pool=pool,
        scheduler=scheduler,
        clock=clock,
        batch_max_size=batch_max_size,
        batch_wait_s=0.1,
        batch_bounds=batch_bounds,
    )
    places = iter(range(1_000_000))
    records: list[RequestRecord] = []
    limits = Limits(RecordedDay(records))
    admission = Admission(
        pool=pool,
        queue=queue,
        scheduler=scheduler,
        settings=Queue(max_queue_size=bound, retry_after_max_seconds=retry_after_max_s),
        scheduling=scheduling,
        timeouts=timeouts,
        strict_params=strict_params,
        new_place=lambda: f"place-{next(places)}",
        limits=limits,
    )
    loads = Loads(
        clock=clock,
        loaded=lambda upstream, model, seconds: costs.loaded(upstream.name, model, seconds),
    )
    broken: list[str] = []
    service = Service(
        admission=admission,
        worker=worker,
        pool=pool,
        clock=clock,
        scheduler=scheduler,
        scheduling=scheduling,
        loads=loads,
        rejoin=Rejoin(bytes_max=scheduling.rejoin_bytes_max),
        stream_timeout_s=timeouts.stream_timeout_seconds,
        refresh_models=HealthMonitor(pool=pool, clock=clock).refresh,
        tell=records.append if tell is None else tell,
        attempt_failed=broken.append,
    )
    return Waist(
        pool=pool,
        costs=costs,
        scheduler=scheduler,
        queue=queue,
        worker=worker,
        limits=limits,
        admission=admission,
        service=service,
        loads=loads,
        records=records,
        broken=broken,
    )
