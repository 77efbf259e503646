"""A renewal comes into force: assignments alone, in one turn of the loop."""

from gateway.backends.ollama import OllamaBackend
from gateway.config.effective import callers, contexts, several_callers
from gateway.config.schema import Backend, Config
from gateway.daemon.process import make_room_for_connections
from gateway.daemon.renewal import Renewal
from gateway.daemon.upstreams import backends, warn_of_contexts
from gateway.daemon.wiring import Daemon
from gateway.scheduling.microbatch import BatchBounds


def take_over(daemon: Daemon, renewal: Renewal) -> None:
    """From here on the daemon runs by it."""
    config = renewal.config
    daemon.logs.apply(config.logging)
    make_room_for_connections(config.limits)
    daemon.http.change(config.timeouts)
    _change_scheduling(daemon, config)
    _change_upstreams(daemon, renewal)
    daemon.bodies.bytes_max = config.limits.bodies_in_flight_bytes_max
    daemon.management.intake = renewal.intake
    daemon.switchboard.change(renewal.table)
    daemon.edge.change(
        callers=renewal.callers,
        origins=renewal.origins,
        metrics_public=config.server.metrics_public,
        local_admin=config.server.local_admin,
    )
    daemon.throttle.failures_max = config.limits.wrong_keys_per_minute_max
    daemon.metrics.set_callers(callers(config))
    daemon.connections = renewal.connections
    daemon.config = config


def _change_scheduling(daemon: Daemon, config: Config) -> None:
    queue = config.queue
    daemon.scheduler.change(
        config.scheduling,
        max_tokens=config.generation.max_tokens_default,
        newcomers=several_callers(config),
    )
    daemon.queue.bound = queue.max_queue_size
    daemon.worker.change(
        batch_max_size=queue.batch_max_size,
        batch_wait_s=queue.batch_wait_ms / 1000.0,
        batch_bounds=BatchBounds(
            items_max=queue.embed_batch_items_max, chars_max=queue.embed_batch_chars_max
        ),
    )
    daemon.admission.change(
        settings=queue,
        scheduling=config.scheduling,
        timeouts=config.timeouts,
        strict_params=config.generation.strict_params,
    )
    daemon.service.change(
        scheduling=config.scheduling,
        stream_timeout_s=config.timeouts.stream_timeout_seconds,
    )
    daemon.rejoin.resize(config.scheduling.rejoin_bytes_max)


def _change_upstreams(daemon: Daemon, renewal: Renewal) -> None:
    config = renewal.config
    before, now = backends(daemon.config), backends(config)
    for upstream in renewal.upstreams:
        name = upstream.name
        if upstream in renewal.new:
            if name in before and _where(before[name]) != _where(now[name]):
                daemon.costs.forget(name)  # That was another machine.
        elif isinstance(upstream.backend, OllamaBackend):
            for model in upstream.backend.pin(contexts(config)):
                upstream.dropped(model)
    warn_of_contexts(config, renewal.upstreams)
    daemon.default_model = renewal.model
    daemon.warm_up.model = renewal.model
    gone = [each for each in daemon.pool.upstreams if each not in renewal.upstreams]
    daemon.pool.change(renewal.upstreams, renewal.catalogue)
    for upstream in gone:
        daemon.engines.let_go(upstream)


def _where(backend: Backend) -> tuple[str, str]:
    """What learned costs belong to."""
    return backend.kind, backend.url
