"""The one module that knows all: picks the parts, and hands each what it needs."""

import secrets
from collections import Counter
from collections.abc import Callable, Sequence

import attrs
from aiohttp import web

from gateway import __version__
from gateway.admission.admission import Admission
from gateway.admission.callers import Callers
from gateway.admission.limits import Limits
from gateway.admission.rejoin import Rejoin
from gateway.admission.throttle import AuthThrottle
from gateway.backends.http import HttpClient
from gateway.config.effective import api_keys, bind_address, callers, several_callers
from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.messages import GenerateRequest, Message, Role
from gateway.core.ticket import ANONYMOUS, RequestRecord
from gateway.daemon import apis
from gateway.daemon.engines import Engines
from gateway.daemon.last_drain import LastDrain
from gateway.daemon.learned import Learned
from gateway.daemon.snapshot import Snapshots
from gateway.daemon.statistics import Statistics, UpstreamStatistics, gauges, readiness
from gateway.daemon.upstreams import backends, default_model, make, warn_of_contexts
from gateway.daemon.warmup import WarmUp
from gateway.dialects import openai_errors
from gateway.pool.asking import Asker
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
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.families.registry import CONTENT_TYPE
from gateway.telemetry.history import History
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.logs import Logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.spans import Here
from gateway.telemetry.traces import Traces, open_traces
from gateway.telemetry.usage_store import store_in
from gateway.web import app
from gateway.web.allowances import Allowances
from gateway.web.body import BodyBudget
from gateway.web.connection import ConnectionSettings
from gateway.web.home import Home
from gateway.web.hosts import HostPolicy
from gateway.web.intake import Intake
from gateway.web.management import Management
from gateway.web.middleware import Edge
from gateway.web.ops import Ops
from gateway.web.origins import OriginPolicy
from gateway.web.refusals import RefusalLog
from gateway.web.reload import Reload
from gateway.web.route import Route
from gateway.web.status import Status
from gateway.web.switchboard import Switchboard
from gateway.web.usage import Usage
from gateway.web.visit import new_id


@attrs.define(eq=False, kw_only=True)
class Daemon:
    """All parts, wired, nothing started yet."""

    config: Config
    app: web.Application
    connections: ConnectionSettings
    clock: Clock
    admission: Admission
    rejoin: Rejoin
    service: Service
    pool: Pool
    queue: RequestQueue
    worker: BatchingWorker
    health: HealthMonitor
    loads: Loads
    learned: Learned
    ledger: Ledger
    throttle: AuthThrottle
    last_drain: LastDrain
    costs: CostModel
    scheduler: Scheduler
    engines: Engines
    warm_up: WarmUp
    management: Management
    snapshots: Snapshots
    status: Status
    reload: Reload
    bodies: BodyBudget
    edge: Edge
    switchboard: Switchboard
    intake_for: Callable[[Config], Intake]
    table_for: Callable[[Config, Intake], Sequence[Route]]
    http: HttpClient
    metrics: Metrics
    logs: Logs
    traces: Traces | None
    default_model: str

    def statistics(self) -> Statistics:
        return Statistics(
            draining=self.service.draining,
            warm=self.warm_up.done,
            waiting=self.queue.qsize(),
            queue_bound=self.queue.bound,
            active=self.service.active,
            upstreams=tuple(self._statistics_of(upstream) for upstream in self.pool.upstreams),
            log_lines_dropped=self.logs.lines_dropped,
            traces_sent=0 if self.traces is None else self.traces.sent,
            traces_dropped=0 if self.traces is None else self.traces.dropped,
            waiting_by_class=Counter(item.ticket.priority for item in self.queue.live()),
            places=self.admission.places(self.clock.now()),
            kept_answers_bytes=self.rejoin.bytes,
            last_drain_cut_off=self.last_drain.cut_off,
        )

    def expected_wait_s(self) -> float | None:
        """What a request of normal class for the default model would wait, if it came now."""
        newcomer = GenerateRequest(
            model=self.default_model, messages=(Message(role=Role.USER, content="Hello"),)
        )
        try:
            return self.service.forecast(newcomer, caller=ANONYMOUS).wait_s
        except GatewayError:
            return None

    def _statistics_of(self, upstream: Upstream) -> UpstreamStatistics:
        models = upstream.models or {}
        model = models.get(upstream.backend.canonical(self.default_model))
        # One that doesn't say what it holds is taken to hold what it was warmed up with.
        holds = model is not None and (
            self.warm_up.warmed if model.loaded is None else model.loaded
        )
        loaded = [held for held in models.values() if held.loaded]
        return UpstreamStatistics(
            name=upstream.name,
            up=upstream.up,
            slots=upstream.slots,
            busy=upstream.in_flight,
            holds_default_model=holds,
            models_loaded=len(loaded),
            models_loaded_bytes=sum(held.size_bytes or 0 for held in loaded),
        )


async def wire(config: Config, *, clock: Clock, logs: Logs) -> Daemon:
    """Put the parts together; asks an Ollama whether it is there when the kind is `auto`.

    Raises:
        ConfigError: What can only be seen now is wrong, such as a model file that is missing.
    """
    logs.apply(config.logging)
    address, port = bind_address(config)
    here = Here(address=address, port=port, kind_of=lambda name: _kind_of(name, pool))
    traces = open_traces(config.tracing, here=here)
    ledger = Ledger(
        store=store_in(config.server.state_directory, days=config.server.usage_days),
        clock=clock,
        failed=lambda: metrics.storage_failed(),  # noqa: PLW0108 - metrics comes later
        run=secrets.token_hex(6),
    )
    ledger.recall()
    http = HttpClient(timeouts=config.timeouts, limits=config.limits, clock=clock)
    await http.start()
    try:
        upstreams = [
            await make(name, backend, config, http=http, clock=clock)
            for name, backend in backends(config).items()
        ]
    except BaseException:
        await http.close()
        raise
    warn_of_contexts(config, upstreams)
    engines = Engines(clock)
    for upstream in upstreams:
        engines.begin(upstream)
    model = default_model(config, upstreams)
    pool = Pool(upstreams=upstreams, catalogue=Catalogue(config.models, default_model=model))

    costs = CostModel()
    learned = Learned(costs=costs, directory=config.server.state_directory, clock=clock)
    learned.load()
    scheduler = Scheduler(
        pool=pool,
        costs=costs,
        settings=config.scheduling,
        max_tokens=config.generation.max_tokens_default,
        newcomers=several_callers(config),
    )
    queue = RequestQueue(
        bound=config.queue.max_queue_size, scheduler=scheduler, pool=pool, now=clock.now
    )
    worker = BatchingWorker(
        queue=queue,
        pool=pool,
        scheduler=scheduler,
        clock=clock,
        batch_max_size=config.queue.batch_max_size,
        batch_wait_s=config.queue.batch_wait_ms / 1000.0,
        batch_bounds=BatchBounds(
            items_max=config.queue.embed_batch_items_max,
            chars_max=config.queue.embed_batch_chars_max,
        ),
    )

    def loaded(upstream: Upstream, model: str, seconds: float) -> None:
        costs.loaded(upstream.name, model, seconds)
        metrics.model_loaded(seconds)

    loads = Loads(clock=clock, loaded=loaded)
    limits = Limits(ledger)
    admission = Admission(
        pool=pool,
        queue=queue,
        scheduler=scheduler,
        settings=config.queue,
        scheduling=config.scheduling,
        timeouts=config.timeouts,
        strict_params=config.generation.strict_params,
        new_place=_new_place,
        limits=limits,
    )
    health = HealthMonitor(pool=pool, clock=clock)
    warm_up = WarmUp(
        pool=pool,
        worker=worker,
        scheduler=scheduler,
        clock=clock,
        model=model,
        wanted=config.generation.warm_up,
    )
    lines = logs.requests
    history = History(clock=clock)

    def told(record: RequestRecord) -> None:
        metrics.told(record)
        ledger.told(record)
        history.told(record)

    def exchanged(exchange: Exchange) -> None:
        metrics.exchanged(exchange)
        history.exchanged(exchange)
        lines.exchanged(exchange)
        if traces is not None:
            traces.exchanged(exchange)

    rejoin = Rejoin(bytes_max=config.scheduling.rejoin_bytes_max)
    service = Service(
        admission=admission,
        worker=worker,
        pool=pool,
        clock=clock,
        scheduler=scheduler,
        scheduling=config.scheduling,
        loads=loads,
        rejoin=rejoin,
        stream_timeout_s=config.timeouts.stream_timeout_seconds,
        refresh_models=health.refresh,
        tell=told,
        attempt_failed=lambda kind: metrics.upstream_failed(kind),  # noqa: PLW0108 - metrics comes later,
    )
    bodies = BodyBudget(config.limits.bodies_in_flight_bytes_max)
    asker = Asker(pool=pool, clock=clock, refresh_models=health.refresh)

    def intake_for(config: Config) -> Intake:
        return Intake(
            service=service,
            clock=clock,
            limits=config.limits,
            timeouts=config.timeouts,
            scheduling=config.scheduling,
            bodies=bodies,
        )

    intake = intake_for(config)
    management = Management(pool=pool, service=service, health=health, intake=intake, clock=clock)
    snapshots = Snapshots(
        clock=clock,
        service=service,
        pool=pool,
        loads=loads,
        history=history,
        ledger=ledger,
        default_model=lambda: daemon.default_model,
        connections_max=lambda: daemon.config.limits.connections_max,
        statistics=lambda: daemon.statistics(),  # noqa: PLW0108 - daemon comes later
        expected_wait_s=lambda: daemon.expected_wait_s(),  # noqa: PLW0108 - so here
    )
    usage = Usage(ledger=ledger, limits=limits, clock=clock)
    status = Status(look=snapshots.document, clock=clock)
    ops = Ops(
        readiness=lambda: readiness(daemon.statistics()),
        scrape=lambda: metrics.render(gauges(daemon.statistics(), daemon.expected_wait_s())),
        scrape_content_type=CONTENT_TYPE,
        clock=clock,
    )
    reload = Reload(clock=clock)

    def table_for(config: Config, intake: Intake) -> Sequence[Route]:
        return apis.routes(
            config,
            service=service,
            intake=intake,
            pool=pool,
            health=health,
            asker=asker,
            estimate=scheduler.prompt_tokens,
            management=management,
            usage=usage,
            status=status,
            home=Home(
                look=snapshots.document,
                may_look=lambda web_request: edge.is_operator(web_request),  # noqa: PLW0108 - so here
                keyed=bool(api_keys(config)),
                clock=clock,
            ),
            reload=reload,
            ops=ops,
            clock=clock,
        )

    table = table_for(config, intake)
    switchboard = Switchboard(table)
    throttle = AuthThrottle(config.limits.wrong_keys_per_minute_max)
    edge = Edge(
        callers=Callers(api_keys(config), callers(config)),
        clock=clock,
        tell=exchanged,
        origins=OriginPolicy(config.server.allowed_origins),
        access=app.access(table),
        metrics_public=config.server.metrics_public,
        local_admin=config.server.local_admin,
        throttle=throttle,
        allowances=Allowances(limits, clock),
        begin_trace=None if traces is None else traces.tracing.begin,
    )
    application = app.application(table, switchboard, edge)
    metrics = Metrics(
        __version__,
        routes=app.templates(application),
        state_directory=config.server.state_directory,
    )
    pool.listeners.append(lambda: metrics.set_models(_model_labels(pool, daemon.default_model)))
    metrics.set_callers(callers(config))
    pool.listeners.append(lambda: ledger.set_models(info.id for info in pool.models()))
    daemon = Daemon(
        config=config,
        app=application,
        connections=_connections(config, clock=clock, metrics=metrics, history=history),
        clock=clock,
        admission=admission,
        rejoin=rejoin,
        service=service,
        pool=pool,
        queue=queue,
        worker=worker,
        health=health,
        loads=loads,
        learned=learned,
        ledger=ledger,
        throttle=throttle,
        last_drain=LastDrain(config.server.state_directory),
        costs=costs,
        scheduler=scheduler,
        engines=engines,
        warm_up=warm_up,
        management=management,
        snapshots=snapshots,
        status=status,
        reload=reload,
        bodies=bodies,
        edge=edge,
        switchboard=switchboard,
        intake_for=intake_for,
        table_for=table_for,
        http=http,
        metrics=metrics,
        logs=logs,
        traces=traces,
        default_model=model,
    )
    return daemon


def _kind_of(name: str, pool: Pool) -> str:
    """Of the upstream with this name; "" if there is none any more."""
    kinds = (upstream.backend.kind for upstream in pool.upstreams if upstream.name == name)
    return next(kinds, "")


def _new_place() -> str:
    """The id of a place in the line: whoever knows it may take the place."""
    return secrets.token_urlsafe(9)


def _model_labels(pool: Pool, default_model: str) -> list[str]:
    """The names that may be a metric's label, as callers spell them; the first ones matter most."""
    names = [info.id for info in pool.models()]
    return [default_model, *names, *(name.removesuffix(":latest") for name in names)]


def _connections(
    config: Config, *, clock: Clock, metrics: Metrics, history: History
) -> ConnectionSettings:
    refusal_log = RefusalLog(clock)

    def refused(error: GatewayError, *, remote: str, request_id: str) -> None:
        metrics.refused(error.reason, error.status)
        history.refused(error.reason)
        refusal_log(error, remote=remote, request_id=request_id)

    return ConnectionSettings(
        timeouts=config.timeouts,
        limits=config.limits,
        hosts=HostPolicy(
            bind_host=bind_address(config)[0], allowed_hosts=config.server.allowed_hosts
        ),
        encode_error=lambda error, _request_id: openai_errors.body(error),
        new_request_id=new_id,
        on_refusal=refused,
        on_closed=metrics.connection_closed,
    )
