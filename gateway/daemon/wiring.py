"""The one module that knows all: picks the parts, and hands each what it needs."""

import logging
import secrets
from collections import Counter

import attrs
from aiohttp import web

from gateway import __version__
from gateway.admission.admission import Admission
from gateway.admission.callers import Callers
from gateway.admission.rejoin import Rejoin
from gateway.backends import kinds
from gateway.backends.base import InferenceBackend
from gateway.backends.http import HttpClient
from gateway.backends.llamacpp import LlamaCppBackend
from gateway.config.effective import api_keys, bind_address, callers, contexts
from gateway.config.schema import Backend, Config
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.messages import GenerateRequest, Message, Role
from gateway.core.ticket import ANONYMOUS, RequestRecord
from gateway.daemon import apis
from gateway.daemon.learned import Learned
from gateway.daemon.statistics import Statistics, UpstreamStatistics, gauges, readiness
from gateway.daemon.warmup import WarmUp
from gateway.dialects import openai_errors
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
from gateway.telemetry.logs import Logs
from gateway.telemetry.metrics import CONTENT_TYPE, Metrics
from gateway.web import app
from gateway.web.body import BodyBudget
from gateway.web.connection import ConnectionSettings
from gateway.web.hosts import HostPolicy
from gateway.web.intake import Intake
from gateway.web.management import Management
from gateway.web.middleware import Edge
from gateway.web.ops import Ops
from gateway.web.origins import OriginPolicy
from gateway.web.refusals import RefusalLog
from gateway.web.visit import new_id

DEFAULT_UPSTREAM = "default"
"""The name of [backend] in logs and metrics."""

log = logging.getLogger("gateway.engine")


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
    warm_up: WarmUp
    management: Management
    http: HttpClient
    metrics: Metrics
    logs: Logs
    default_model: str

    @property
    def engines(self) -> list[LlamaCppBackend]:
        """The backends that run an engine of their own."""
        return [
            upstream.backend
            for upstream in self.pool.upstreams
            if isinstance(upstream.backend, LlamaCppBackend)
        ]

    def statistics(self) -> Statistics:
        return Statistics(
            draining=self.service.draining,
            warm=self.warm_up.done,
            waiting=self.queue.qsize(),
            queue_bound=self.queue.bound,
            active=self.service.active,
            upstreams=tuple(self._statistics_of(upstream) for upstream in self.pool.upstreams),
            log_lines_dropped=self.logs.lines_dropped,
            waiting_by_class=Counter(item.ticket.priority for item in self.queue.live()),
            places=self.admission.places(self.clock.now()),
            kept_answers_bytes=self.rejoin.bytes,
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
        return UpstreamStatistics(
            name=upstream.name,
            up=upstream.up,
            slots=upstream.slots,
            busy=upstream.in_flight,
            holds_default_model=holds,
        )


async def wire(config: Config, *, clock: Clock, logs: Logs) -> Daemon:
    """Put the parts together; asks an Ollama whether it is there when the kind is `auto`.

    Raises:
        ConfigError: What can only be seen now is wrong, such as a model file that is missing.
    """
    http = HttpClient(timeouts=config.timeouts, limits=config.limits, clock=clock)
    await http.start()
    try:
        upstreams = [
            await _upstream(name, backend, config, http=http, clock=clock)
            for name, backend in {DEFAULT_UPSTREAM: config.backend, **config.upstreams}.items()
        ]
    except BaseException:
        await http.close()
        raise
    if contexts(config) and all(upstream.backend.kind != "ollama" for upstream in upstreams):
        log.warning("models.*.num_ctx has no effect: no engine here is an Ollama")
    default_model = _default_model(config, [upstream.backend for upstream in upstreams])
    pool = Pool(
        upstreams=upstreams, catalogue=Catalogue(config.models, default_model=default_model)
    )

    costs = CostModel()
    learned = Learned(costs=costs, directory=config.server.state_directory, clock=clock)
    learned.load()
    scheduler = Scheduler(
        pool=pool,
        costs=costs,
        settings=config.scheduling,
        max_tokens=config.generation.max_tokens_default,
        newcomers=_several(config),
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
    admission = Admission(
        pool=pool,
        queue=queue,
        scheduler=scheduler,
        settings=config.queue,
        scheduling=config.scheduling,
        timeouts=config.timeouts,
        strict_params=config.generation.strict_params,
        new_place=_new_place,
    )
    health = HealthMonitor(pool=pool, clock=clock)
    warm_up = WarmUp(
        pool=pool,
        worker=worker,
        scheduler=scheduler,
        clock=clock,
        model=default_model,
        wanted=config.generation.warm_up,
    )
    lines = logs.requests

    def told(record: RequestRecord) -> None:
        metrics.told(record)

    def exchanged(exchange: Exchange) -> None:
        metrics.exchanged(exchange)
        lines.exchanged(exchange)

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
    intake = Intake(
        service=service,
        clock=clock,
        limits=config.limits,
        timeouts=config.timeouts,
        scheduling=config.scheduling,
        bodies=BodyBudget(config.limits.bodies_in_flight_bytes_max),
    )

    management = Management(pool=pool, service=service, health=health, intake=intake, clock=clock)
    ops = Ops(
        readiness=lambda: readiness(daemon.statistics()),
        scrape=lambda: metrics.render(gauges(daemon.statistics(), daemon.expected_wait_s())),
        scrape_content_type=CONTENT_TYPE,
        clock=clock,
    )
    table = apis.routes(
        config,
        service=service,
        intake=intake,
        pool=pool,
        health=health,
        estimate=scheduler.prompt_tokens,
        management=management,
        ops=ops,
        clock=clock,
    )
    edge = Edge(
        callers=Callers(api_keys(config), callers(config)),
        clock=clock,
        tell=exchanged,
        origins=OriginPolicy(config.server.allowed_origins),
        access=app.access(table),
        metrics_public=config.server.metrics_public,
        local_admin=config.server.local_admin,
    )
    application = app.application(table, edge)
    metrics = Metrics(__version__, routes=app.templates(application))
    pool.listeners.append(lambda: metrics.set_models(_model_labels(pool, default_model)))
    daemon = Daemon(
        config=config,
        app=application,
        connections=_connections(config, clock=clock, metrics=metrics),
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
        warm_up=warm_up,
        management=management,
        http=http,
        metrics=metrics,
        logs=logs,
        default_model=default_model,
    )
    return daemon


async def _upstream(
    name: str, backend: Backend, config: Config, *, http: HttpClient, clock: Clock
) -> Upstream:
    chosen = await kinds.choose(backend, config.embedded, http=http)
    made = kinds.make(
        chosen,
        embedded=config.embedded,
        contexts=contexts(config),
        http=http,
        limits=config.limits,
        clock=clock,
    )
    slots = kinds.slots(chosen, config.embedded)
    return Upstream(
        name=name,
        backend=made,
        slots=slots.first,
        slots_max=slots.most,
        offered=frozenset(made.canonical(model) for model in backend.models),
    )


def _several(config: Config) -> bool:
    """Whether there can be more than one share of the slots."""
    known = callers(config).values()
    return len(known) > 1 or any(caller.user_header for caller in known)


def _new_place() -> str:
    """The id of a place in the line: whoever knows it may take the place."""
    return secrets.token_urlsafe(9)


def _default_model(config: Config, backends: list[InferenceBackend]) -> str:
    """The configured one; with nothing but the embedded engine, the one model that it has."""
    if all(isinstance(backend, LlamaCppBackend) for backend in backends):
        return config.embedded.model_name
    return config.generation.default_model


def _model_labels(pool: Pool, default_model: str) -> list[str]:
    """The names that may be a metric's label, as callers spell them; the first ones matter most."""
    names = [info.id for info in pool.models()]
    return [default_model, *names, *(name.removesuffix(":latest") for name in names)]


def _connections(config: Config, *, clock: Clock, metrics: Metrics) -> ConnectionSettings:
    refusal_log = RefusalLog(clock)

    def refused(error: GatewayError, *, remote: str, request_id: str) -> None:
        metrics.refused(error.reason, error.status)
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
