"""What a reload changes in the parts, and what it leaves alone; over sockets: tests/e2e."""

import asyncio
import contextlib
import functools
import io
from collections.abc import AsyncIterator, Iterator

import attrs
import pytest

from gateway.backends.ollama import OllamaBackend
from gateway.config.schema import (
    Auth,
    Backend,
    CallerSettings,
    Config,
    Generation,
    Limits,
    ModelSettings,
    Queue,
    Scheduling,
    Timeouts,
)
from gateway.core.clock import LoopClock
from gateway.core.errors import ConfigError, ConfigRefused, InternalError
from gateway.core.messages import GenerateRequest, Message, Role
from gateway.core.ticket import NO_HINTS, Caller
from gateway.daemon import renewal
from gateway.daemon.reload import Reloader
from gateway.daemon.wiring import Daemon, wire
from gateway.pool.upstream import Upstream
from gateway.telemetry import logs as telemetry_logs
from gateway.web.connection import ConnectionSettings
from tests.e2e.house import until

NOBODY = "http://127.0.0.1:9"
ELSEWHERE = "http://127.0.0.1:19"


class Bench:
    """A daemon that was wired and not started, and what it reads next."""

    def __init__(self, daemon: Daemon, written: io.StringIO) -> None:
        self.daemon = daemon
        self.written = written
        self.next: Config | Exception = daemon.config
        self.around: list[str] = []
        self.connections: list[ConnectionSettings] = []
        self.reloader = Reloader(
            daemon,
            reread=self._read,
            around=self._around,
            change_connections=self.connections.append,
        )

    async def reload(self, **tables: object) -> list[str]:
        """With these tables; what was applied, in words."""
        assert isinstance(self.next, Config)
        self.next = attrs.evolve(self.next, **tables)  # type: ignore[arg-type]
        return [change.words() for change in (await self.reloader.reload()).applied]

    def upstream(self, name: str) -> Upstream:
        return next(each for each in self.daemon.pool.upstreams if each.name == name)

    def went(self, times: int) -> bool:
        """Whether so many reloads have ended."""
        return self.around.count("ended") == times

    def _read(self) -> Config:
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    @contextlib.contextmanager
    def _around(self) -> Iterator[None]:
        self.around.append("began")
        try:
            yield
        finally:
            self.around.append("ended")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    config = Config(
        backend=Backend(kind="echo", slots=1),
        upstreams={"one": Backend(kind="ollama", url=NOBODY, slots=2)},
        generation=Generation(default_model="echo"),
    )
    written = io.StringIO()
    logs = telemetry_logs.setup("error", "json", written)
    daemon = await wire(config, clock=LoopClock(), logs=logs)
    yield Bench(daemon, written)
    await daemon.http.close()
    logs.close()


def learn(bench: Bench, name: str) -> None:
    bench.daemon.costs.loaded(name, "m", 12.0)


def knows(bench: Bench, name: str) -> bool:
    """Whether anything is known of how fast it is."""
    document = bench.daemon.costs.to_document()
    return f"'upstream': '{name}'" in str(document)


async def test_what_was_learned_of_an_engine_stays_as_long_as_it_is_the_same_machine(
    bench: Bench,
) -> None:
    learn(bench, "one")
    assert knows(bench, "one")
    old = bench.upstream("one")
    await bench.reload(upstreams={"one": Backend(kind="ollama", url=NOBODY, slots=3)})
    assert bench.upstream("one") is not old
    assert knows(bench, "one")
    await bench.reload(upstreams={"one": Backend(kind="ollama", url=ELSEWHERE, slots=3)})
    assert not knows(bench, "one")


async def test_an_engine_that_did_not_change_keeps_its_health_and_its_slots(bench: Bench) -> None:
    one = bench.upstream("one")
    one.breaker.failed(0.0)
    one.resize(1)
    await bench.reload(upstreams={"one": Backend(kind="ollama", url=NOBODY, slots=2)})
    await bench.reload(queue=Queue(max_queue_size=9), backend=Backend(kind="echo", slots=2))
    assert bench.upstream("one") is one
    assert one.breaker.doubted
    assert one.slots == 1


async def test_another_context_is_pinned_where_the_engine_stays(bench: Bench) -> None:
    one = bench.upstream("one")
    backend = one.backend
    assert isinstance(backend, OllamaBackend)
    one.ran("m", None)
    one.ran("other", None)
    await bench.reload(models={"m": ModelSettings(num_ctx=2048)})
    assert one.backend is backend
    assert not one.holds("m"), "it is loaded again with the other context"
    assert one.holds("other")
    request = GenerateRequest(
        model="m", messages=(Message(role=Role.USER, content="hi"),), params=frozenset({"num_ctx"})
    )
    assert "num_ctx" in backend.unsupported(request)
    await bench.reload(models={})
    assert "num_ctx" not in backend.unsupported(request)


async def test_every_owner_of_settings_has_the_new_ones(bench: Bench) -> None:
    await bench.reload(
        auth=Auth(keys={"alice": "a" * 20}),
        queue=Queue(max_queue_size=3, retry_after_max_seconds=7.0),
        scheduling=Scheduling(fairness_quantum_seconds=2.5, reservations_max=11),
        timeouts=Timeouts(request_timeout_seconds=33.0, connect_timeout_seconds=1.5),
        limits=Limits(bodies_in_flight_bytes_max=12_345_678, body_bytes_max=1000),
        generation=Generation(default_model="other"),
    )
    daemon = bench.daemon
    assert daemon.queue.bound == 3
    assert daemon.scheduler.accounts.quantum_s == 2.5
    assert daemon.admission.timeout_s(NO_HINTS) == 33.0
    assert daemon.bodies.bytes_max == 12_345_678
    assert daemon.default_model == daemon.warm_up.model == "other"
    assert daemon.pool.catalogue.shown("default") == "other"
    (connections,) = bench.connections
    assert connections.limits.body_bytes_max == 1000
    assert connections is daemon.connections
    assert not daemon.edge._callers.open


async def test_a_reload_is_entered_and_left_however_it_ends(bench: Bench) -> None:
    await bench.reload(queue=Queue(max_queue_size=3))
    bench.next = ConfigError(["wrong."])
    with pytest.raises(ConfigRefused):
        await bench.reloader.reload()
    assert bench.around == ["began", "ended"] * 2


async def test_what_breaks_is_told_and_leaves_all_as_it_was(bench: Bench) -> None:
    config = bench.daemon.config
    bench.next = OSError("the disk is gone")
    with pytest.raises(InternalError):
        await bench.reloader.reload()
    assert bench.daemon.config is config
    assert bench.daemon.logs.flush()
    assert "the reload broke" in bench.written.getvalue()


async def test_a_part_that_can_not_be_made_leaves_all_as_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tuple(bench.daemon.pool.upstreams)
    let_go: list[str] = []
    monkeypatch.setattr(bench.daemon.engines, "let_go", lambda one: let_go.append(one.name))

    def wrong(*_: object, **__: object) -> None:
        raise ConfigError(["server.allowed_hosts: wrong."])

    monkeypatch.setattr(renewal, "HostPolicy", wrong)
    with pytest.raises(ConfigRefused, match="allowed_hosts"):
        await bench.reload(
            queue=Queue(max_queue_size=3), upstreams={"two": Backend(kind="echo", slots=1)}
        )
    assert tuple(bench.daemon.pool.upstreams) == before
    assert bench.daemon.queue.bound == Queue().max_queue_size
    assert let_go == ["two"], "what was begun is ended"


async def test_signals_are_followed_one_after_the_other_and_a_wrong_file_ends_nothing(
    bench: Bench,
) -> None:
    wanted = asyncio.Event()
    following = asyncio.create_task(bench.reloader.run(wanted))
    turns: list[Config | Exception] = [ConfigError(["wrong."]), OSError("x"), bench.daemon.config]
    for number, turn in enumerate(turns, 1):
        bench.next = turn
        wanted.set()
        await until(functools.partial(bench.went, number))
    assert not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_callers_next_request_has_its_new_weight(bench: Bench) -> None:
    keys = Auth(keys={"alice": "a" * 20})
    await bench.reload(auth=keys, callers={"alice": CallerSettings(weight=2.0)})

    def alice() -> Caller:
        return bench.daemon.edge._callers.identify((f"Bearer {'a' * 20}",), (), wall_s=0.0)

    before = alice()
    words = await bench.reload(callers={"alice": CallerSettings(weight=3.0)})
    assert words == ["callers.alice.weight: 2.0 -> 3.0"]
    assert (before.weight, alice().weight) == (2.0, 3.0)
