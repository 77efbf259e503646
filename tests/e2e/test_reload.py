"""A new configuration for a daemon that serves (A8, D5): nothing is dropped, and nothing half."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

import attrs
import pytest

from gateway.backends.echo import EchoBackend, EchoScript
from gateway.config.schema import (
    Auth,
    Backend,
    CallerSettings,
    Generation,
    Limits,
    Logging,
    ModelOptions,
    ModelSettings,
    Queue,
    Scheduling,
    Server,
    Timeouts,
)
from gateway.core.errors import ConfigRefused, ShuttingDown
from gateway.pool.upstream import Upstream
from tests.backends.fake_engine import Pause, chunk, head
from tests.e2e.house import (
    ANY_WAIT,
    CHAT,
    House,
    http_chat,
    opened,
    say,
    short,
    streamed,
    until,
)
from tests.e2e.ollama import HELLO, ScriptedOllama, answer, done, line
from tests.engines import settle

ALICE: Final = "sk-alice-0123456789"
BOB: Final = "sk-bob-0123456789ab"
AS_ALICE: Final = {"Authorization": f"Bearer {ALICE}"}
AS_BOB: Final = {"Authorization": f"Bearer {BOB}"}
BOTH: Final = Auth(keys={"alice": ALICE, "bob": BOB})

RELOADS: Final = 20
AT_ONCE: Final = 8
WORDS: Final = 12

SLOW: Final = EchoScript(pace_s=0.001, tokens=WORDS)
"""Slow enough that each reload meets answers that have begun."""


def slow_down(house: House) -> None:
    for upstream in house.daemon.pool.upstreams:
        assert isinstance(upstream.backend, EchoBackend)
        upstream.backend.script = SLOW


def configurations() -> Iterator[dict[str, Any]]:
    """Each differs from the one before in many ways; the key of alice is in all of them."""
    for number in itertools.count(1):
        odd = number % 2 == 1
        upstreams = {"one": Backend(kind="echo", slots=1 + number % 3)}
        if odd:
            upstreams["two"] = Backend(kind="echo", slots=2)
        yield {
            "auth": Auth(keys={"alice": ALICE, f"guest-{number}": f"sk-guest-{number:012}"}),
            "callers": {"alice": CallerSettings(weight=float(number), priority="interactive")},
            "models": {
                "alias": ModelSettings(target="default", system=f"Number {number}."),
                f"alias-{number}": ModelSettings(
                    target="default", options=ModelOptions(temperature=0.5)
                ),
            },
            "backend": Backend(kind="echo", slots=3 if odd else 4),
            "upstreams": upstreams,
            "queue": Queue(max_queue_size=40 + number),
            "scheduling": Scheduling(deadlines=False, fairness=odd, prefix_affinity=not odd),
            "timeouts": Timeouts(request_timeout_seconds=50.0 + number),
            "limits": Limits(messages_max=100 + number),
            "logging": Logging(level="info" if odd else "warning"),
        }


async def keep_asking(house: House, client: int, over: asyncio.Event) -> list[str]:
    """Streams and whole answers in turn until it is over; what was wrong with any of them."""
    faults: list[str] = []
    for number in itertools.count(client):
        if over.is_set():
            return faults
        stream = number % 2 == 0
        body = say(f"client {client}", model="alias" if number % 3 else "default", stream=stream)
        answer = await house.chat(body, AS_ALICE)
        if answer.status != 200:
            faults.append(f"{answer.status}: {answer.body!r}")
        else:
            text = answer.streamed_text if stream else answer.text
            if len(text.split()) != WORDS:
                faults.append(f"not whole: {answer.body!r}")
    raise AssertionError("it never ends by itself")


async def test_under_a_steady_load_no_request_fails_while_all_changes_twenty_times() -> None:
    following = configurations()
    async with opened(**next(following)) as house:
        slow_down(house)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(keep_asking(house, n, over)) for n in range(AT_ONCE)]
            met: list[int] = []
            for tables in itertools.islice(following, RELOADS):
                before = len(house.told.exchanges)
                await house.told.wait(before + AT_ONCE)
                met.append(house.daemon.service.active)
                reloaded = await house.reload(**tables)
                slow_down(house)
                keys = {change.key for change in reloaded.applied}
                assert {("backend", "slots"), ("queue", "max_queue_size")} < keys
                assert not reloaded.waiting
                assert not reloaded.notes
            over.set()
        assert [fault for client in clients for fault in client.result()] == []
        assert max(met) > 1, "nothing ran while it was reloaded"
        answered = len(house.told.exchanges)
        assert answered > RELOADS * AT_ONCE
        upstreams = house.daemon.pool.upstreams
        assert [upstream.in_flight for upstream in upstreams] == [0] * len(upstreams)
        assert house.daemon.service.active == house.daemon.queue.qsize() == 0
        metrics = await house.metrics_as(AS_ALICE)
        assert metrics['gateway_config_reloads_total{result="applied"}'] == RELOADS
        assert metrics["gateway_config_last_reload_successful"] == 1
        assert metrics["gateway_requests_failed_total"] == 0


async def test_a_key_that_is_gone_is_refused_at_once_and_what_runs_with_it_ends(
    engine: ScriptedOllama,
) -> None:
    hold = Pause()
    engine.play(head() + chunk(line("hel")), hold, chunk(line("lo")) + chunk(done()) + b"0\r\n\r\n")
    async with opened(engine, auth=BOTH) as house:
        kept = await house.connect()
        kept.send(http_chat(short("warm", stream=False), f"Authorization: Bearer {BOB}"))
        running = await house.send(
            http_chat(say("x", stream=True), f"Authorization: Bearer {BOB}", "Connection: close")
        )
        await engine.wait_asked(1)
        await hold.reached.wait()
        reloaded = await house.reload(auth=Auth(keys={"alice": ALICE}))
        assert [change.words() for change in reloaded.applied] == ["auth.keys.bob removed"]
        for headers, status in ((AS_BOB, 401), (AS_ALICE, 200)):
            assert (await house.get("/v1/models", headers)).status == status
        hold.go.set()
        assert streamed(await running.rest()).streamed_text == "hello"
        # One that waited has its turn too: it was let in.
        assert (await kept.some()).status == 200
        kept.send(http_chat(short("again"), f"Authorization: Bearer {BOB}"))
        assert (await kept.some()).status == 401, "an open connection is no key"


async def test_a_new_key_opens_at_once_and_its_settings_hold() -> None:
    async with opened(auth=Auth(keys={"alice": ALICE})) as house:
        assert (await house.get("/v1/models", AS_BOB)).status == 401
        callers = {"bob": CallerSettings(admin=True)}
        await house.reload(auth=BOTH, callers=callers, server=_remote(house))
        assert (await house.get("/gateway/status", AS_BOB)).status == 200
        assert (await house.get("/gateway/status", AS_ALICE)).status == 403


def _remote(house: House) -> Server:
    """Nobody is an operator for being on this machine."""
    return attrs.evolve(house.config.server, local_admin=False)


async def test_a_wrong_configuration_changes_nothing_and_every_mistake_is_told() -> None:
    async with opened(auth=BOTH, queue=Queue(max_queue_size=7)) as house:
        table = house.daemon.config
        house.mistakes = ["a.toml: line 1: wrong.", "conf.d/b.toml: queue.max: no such key."]
        refused = await house.post(b"", AS_ALICE, path="/gateway/reload")
        assert (refused.status, refused.error["code"]) == (422, "config_refused")
        told = refused.error["message"].splitlines()
        assert told == ["The old configuration stays in force.", *house.mistakes]
        assert house.daemon.config is table
        assert (await house.get("/v1/models", AS_BOB)).status == 200
        failed = [line for line in house.lines() if line["event"] == "config_reload_failed"]
        assert [line["message"].partition(": ")[2] for line in failed] == house.mistakes
        metrics = await house.metrics_as(AS_ALICE)
        assert metrics['gateway_config_reloads_total{result="refused"}'] == 1
        assert metrics["gateway_config_last_reload_successful"] == 0

        house.mistakes = []
        assert (await house.post(b"", AS_ALICE, path="/gateway/reload")).status == 200
        metrics = await house.metrics_as(AS_ALICE)
        assert metrics["gateway_config_last_reload_successful"] == 1


async def test_what_a_reload_did_and_could_not_do_is_told() -> None:
    async with opened(queue=Queue(max_queue_size=7)) as house:
        house.config = attrs.evolve(
            house.config,
            queue=Queue(max_queue_size=8),
            server=attrs.evolve(house.config.server, port=1),
            upstreams={"dead": Backend(kind="openai", url="http://127.0.0.1:9")},
        )
        for applied in (["queue.max_queue_size", "upstreams.dead"], []):
            told = (await house.post(b"", path="/gateway/reload")).document
            assert [change["key"] for change in told["applied"]] == applied
            (waiting,) = told["needs_restart"]
            assert (waiting["key"], waiting["was"], waiting["now"]) == ("server.port", "0", "1")
            assert waiting["why"] == "the port is bound at the start"
            assert len(told["notes"]) == bool(applied)
        assert (await house.chat(say("hi"))).status == 200


async def test_an_operator_alone_may_reload() -> None:
    callers = {"bob": CallerSettings(admin=True)}
    server = Server(local_admin=False)
    async with opened(auth=BOTH, callers=callers, server=server) as house:
        for headers, status in ((None, 401), (AS_ALICE, 403), (AS_BOB, 200)):
            assert (await house.post(b"", headers, path="/gateway/reload")).status == status


async def test_who_waits_only_for_an_upstream_that_is_gone_is_told_now_and_who_runs_ends(
    engine: ScriptedOllama,
) -> None:
    hold = Pause()
    engine.play(hold, HELLO)
    upstreams = {"one": Backend(kind="ollama", url=engine.url, slots=1)}
    async with opened(upstreams=upstreams, scheduling=ANY_WAIT) as house:
        await until(lambda: all(upstream.up for upstream in house.daemon.pool.upstreams))
        running, waiting, other = (
            asyncio.create_task(house.chat(short(text, model=model)))
            for text, model in (("a", "m"), ("b", "m"), ("c", "echo"))
        )
        await engine.wait_asked(1)
        await until(lambda: house.daemon.queue.qsize() == 1)
        await house.reload(upstreams={})
        refused = await waiting
        assert (refused.status, refused.error["code"]) == (404, "model_not_found")
        assert (await house.chat(short("d", model="m"))).status == 404
        assert not running.done()
        hold.go.set()
        assert (await running).text == "hello"
        assert (await other).status == 200
        house.assert_at_rest()


async def test_who_waits_goes_to_the_engine_that_takes_the_place(engine: ScriptedOllama) -> None:
    async with ScriptedOllama() as successor:
        hold = Pause()
        engine.play(hold, HELLO)
        successor.play(answer(line("from the new one"), done()))
        async with opened(engine, scheduling=ANY_WAIT) as house:
            running = asyncio.create_task(house.chat(short("a")))
            await engine.wait_asked(1)
            waiting = asyncio.create_task(house.chat(short("b")))
            await until(lambda: house.daemon.queue.qsize() == 1)
            old = house.daemon.pool.upstreams[0]
            await house.reload(backend=Backend(kind="ollama", url=successor.url, slots=1))
            assert (await waiting).text == "from the new one"
            assert old.in_flight == 1
            hold.go.set()
            assert (await running).text == "hello"
            assert old.in_flight == 0
            house.assert_at_rest()
            assert (len(engine.requests), len(successor.requests)) == (1, 1)


async def test_an_upstream_that_did_not_change_stays_the_very_same() -> None:
    upstreams = {"one": Backend(kind="echo", slots=2)}
    async with opened(upstreams=upstreams) as house:
        before = tuple(house.daemon.pool.upstreams)
        more = {**upstreams, "two": Backend(kind="echo")}
        await house.reload(upstreams=more, models={"alias": ModelSettings(target="echo")})
        default, one, two = house.daemon.pool.upstreams
        assert (default, one) == before
        assert two.up, "it was asked before anybody is sent there"


async def test_each_request_is_answered_by_the_newest_configuration() -> None:
    async with opened() as house:
        long = say("x" * 2000)
        assert (await house.chat(long)).status == 200
        house.config = attrs.evolve(
            house.config,
            limits=attrs.evolve(house.config.limits, body_bytes_max=1000),
            generation=attrs.evolve(house.config.generation, strict_params=True),
            models={"alias": ModelSettings(target="echo", max_tokens=1)},
        )
        assert (await house.post(b"", path="/gateway/reload")).status == 200
        assert (await house.chat(long)).status == 413
        assert (await house.post(b"x" * 2000, path="/api/pull")).status in (403, 413)
        strict = await house.chat(say("hi", logit_bias={"1": 1}))
        assert (strict.status, strict.error["code"]) == (400, "unsupported_parameter")
        capped = await house.chat(say("one two three", model="alias"))
        assert capped.document["usage"]["completion_tokens"] == 1
        listed = (await house.get("/v1/models")).document["data"]
        assert [model["id"] for model in listed] == ["echo", "alias"]
        await house.reload(models={}, limits=Limits(), generation=Generation(default_model="echo"))
        assert (await house.chat(long)).status == 200
        assert (await house.chat(say("hi", model="alias"))).status == 404


async def test_hosts_and_the_log_follow_on_open_connections() -> None:
    server = Server(allowed_hosts=("a.example",))
    async with opened(server=server, logging=Logging(level="error")) as house:
        client = await house.connect()
        asked = b"GET /v1/models HTTP/1.1\r\nHost: a.example\r\n\r\n"
        client.send(asked)
        assert (await client.some()).status == 200
        server = attrs.evolve(house.config.server, allowed_hosts=())
        await house.reload(server=server, logging=Logging(level="info"))
        client.send(asked)
        assert (await client.some()).status == 403
        # The first that is less than an error is that of the reload itself.
        assert house.lines()[0]["event"] == "config_reloaded"


def hold_checks(house: House) -> tuple[asyncio.Event, asyncio.Event]:
    """Set when an upstream is first asked whether it lives, and when it may answer."""
    asked, go = asyncio.Event(), asyncio.Event()
    check = house.daemon.health.check

    async def held(upstream: Upstream) -> None:
        asked.set()
        await go.wait()
        await check(upstream)

    house.daemon.health.check = held  # type: ignore[method-assign]
    return asked, go


async def test_reloads_at_once_come_one_after_the_other(engine: ScriptedOllama) -> None:
    async with opened() as house:
        asked, go = hold_checks(house)
        house.config = attrs.evolve(
            house.config, upstreams={"one": Backend(kind="ollama", url=engine.url)}
        )
        first = asyncio.create_task(house.reload())
        await asked.wait()
        second = asyncio.create_task(house.reload())
        for _ in range(5):  # It would read in a thread.
            await settle()
            await asyncio.to_thread(int)
        go.set()
        assert [change.key for change in (await first).applied] == [("upstreams", "one")]
        assert (await second).applied == ()
        assert [upstream.name for upstream in house.daemon.pool.upstreams] == ["default", "one"]


async def test_while_it_drains_nothing_is_reloaded() -> None:
    async with opened() as house:
        house.daemon.service.begin_drain()
        with pytest.raises(ShuttingDown):
            await house.reload(queue=Queue(max_queue_size=3))
        assert house.daemon.queue.bound == Queue().max_queue_size


async def test_a_drain_that_begins_meanwhile_is_not_disturbed(engine: ScriptedOllama) -> None:
    async with opened() as house:
        asked, go = hold_checks(house)
        upstreams = {"one": Backend(kind="ollama", url=engine.url)}
        reload = asyncio.create_task(house.reload(upstreams=upstreams))
        await asked.wait()
        house.daemon.service.begin_drain()
        go.set()
        with pytest.raises(ShuttingDown):
            await reload
        assert [upstream.name for upstream in house.daemon.pool.upstreams] == ["default"]


async def test_a_public_address_keeps_its_key() -> None:
    async with opened(auth=BOTH) as house:
        # As where the address follows from the keys; here it is really bound to another.
        public = attrs.evolve(house.config.server, host="0.0.0.0")
        house.daemon.config = attrs.evolve(house.config, server=public)
        house.config = attrs.evolve(house.config, server=Server(port=0))
        with pytest.raises(ConfigRefused, match="insecure_bind"):
            await house.reload(auth=Auth())
        assert (await house.get("/v1/models")).status == 401


async def test_one_whose_operator_leaves_changes_nothing(engine: ScriptedOllama) -> None:
    async with opened() as house:
        asked, _ = hold_checks(house)
        house.config = attrs.evolve(
            house.config,
            queue=Queue(max_queue_size=3),
            upstreams={"one": Backend(kind="ollama", url=engine.url)},
        )
        client = await house.send(b"POST /gateway/reload HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asked.wait()
        client.writer.transport.abort()
        await house.told.wait(1)
        assert house.daemon.queue.bound == Queue().max_queue_size
        assert len(house.daemon.pool.upstreams) == 1
        house.config = attrs.evolve(house.config, upstreams={})
        assert (await house.reload()).applied, "the next one is not held up"


async def test_the_page_of_urls_tells_of_keys_once_there_are_any() -> None:
    async with opened() as house:
        assert "Bearer" not in json.dumps((await house.get("/openapi.json")).document["components"])
        await house.reload(auth=BOTH)
        described = (await house.get("/openapi.json", AS_ALICE)).document
        assert "bearer" in json.dumps(described["components"]).lower()
        assert (await house.get(CHAT, AS_ALICE)).status == 405
