import asyncio
import logging
import os
import signal

import pytest

from gateway.backends.supervisor import (
    BACKOFF_MAX_S,
    HEALTHY_AFTER_S,
    KILL_AFTER_S,
    READY_TIMEOUT_S,
    Supervisor,
)
from tests.backends.children import Told, command, is_alive, running
from tests.fakes import ManualClock


def supervisor(
    manners: str, clock: ManualClock, told: Told, *, urls: list[str] | None = None
) -> Supervisor:
    def on_ready(url: str, embeddings_url: str) -> None:
        assert embeddings_url == url
        if urls is not None:
            urls.append(url)

    return Supervisor(
        command=command(manners),
        settings=b'{"word": "hello there"}',
        label="the model",
        clock=clock,
        on_ready=on_ready,
        on_change=told,
    )


async def crash(child: Supervisor, told: Told, *, times: int) -> None:
    """Kill the child, and wait until its supervisor has said so for the `times`-th time."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await told.wait_for("ended (signal 9 (SIGKILL))", times=times)


async def test_a_child_that_serves_is_ready_and_ends_with_the_loop(clock: ManualClock) -> None:
    told, urls = Told(), list[str]()
    child = supervisor("serves", clock, told, urls=urls)
    async with running(child.run()):
        await told.wait_for("ready")
        pid = child.pid
        assert pid is not None
        assert [child.url] == urls
    assert child.url is None
    assert child.pid is None
    assert not is_alive(pid)
    assert told.all == ["loading the model", "the model is ready after 0.0 s"]


async def test_a_child_may_serve_embeddings_elsewhere(clock: ManualClock) -> None:
    told, served = Told(), list[tuple[str, str]]()
    child = Supervisor(
        command=command("serves twice"),
        settings=b"{}",
        label="the model",
        clock=clock,
        on_ready=lambda *urls: served.append(urls),
        on_change=told,
    )
    async with running(child.run()):
        await told.wait_for("ready")
        ((url, embeddings_url),) = served
        assert url == child.url != embeddings_url


async def test_a_crashed_child_is_replaced_after_half_a_second(clock: ManualClock) -> None:
    told, urls = Told(), list[str]()
    child = supervisor("serves", clock, told, urls=urls)
    async with running(child.run()):
        await told.wait_for("ready")
        await crash(child, told, times=1)
        assert child.url is None
        await told.wait_for("restarting the model in 0.5 s")
        await clock.advance(0.4)
        assert len(urls) == 1
        await clock.advance(0.1)
        await told.wait_for("ready", times=2)
        assert child.url == urls[1]


async def test_each_wait_is_twice_the_last_up_to_a_bound(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("dies at once", clock, told)
    waits = (0.5, 1, 2, 4, 8, 16, 30, 30)
    async with running(child.run()):
        for number, wait_s in enumerate(waits, 1):
            said = await told.wait_for("restarting", times=number)
            assert said == f"restarting the model in {wait_s:g} s"
            await clock.advance(wait_s)
    assert waits[-1] == BACKOFF_MAX_S


async def test_a_minute_of_service_makes_the_next_wait_short_again(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("serves", clock, told)
    async with running(child.run()):
        for number, served_s in enumerate((0.0, HEALTHY_AFTER_S - 1, HEALTHY_AFTER_S), 1):
            await told.wait_for("ready", times=number)
            await clock.advance(served_s)
            await crash(child, told, times=number)
            await told.wait_for("restarting", times=number)
            await clock.advance(BACKOFF_MAX_S)
    waits = [sentence for sentence in told.all if "restarting" in sentence]
    assert [words.split()[-2] for words in waits] == ["0.5", "1", "0.5"]


async def test_a_child_that_never_gets_ready_is_ended_and_replaced(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("says nothing", clock, told)
    async with running(child.run()):
        await told.wait_for("loading")
        pid = child.pid
        assert pid is not None
        await clock.advance(READY_TIMEOUT_S)
        await told.wait_for("the model was not ready in 300 s (signal 15 (SIGTERM))")
        assert not is_alive(pid)
        await told.wait_for("restarting")


@pytest.mark.parametrize(
    ("manners", "reason"),
    [
        ("repeats its settings", "can't be served: hello there"),
        ("dies at once", "can't be served: it ended without a word (signal 9 (SIGKILL))"),
        ("talks nonsense", "can't be served: it said what is no JSON with a url"),
        ("talks on and on", "can't be served: it said too much"),
    ],
)
async def test_a_child_that_will_not_serve_is_ended_and_the_reason_told(
    clock: ManualClock, manners: str, reason: str
) -> None:
    told = Told()
    child = supervisor(manners, clock, told)
    async with running(child.run()):
        assert reason in await told.wait_for("can't be served")
        await told.wait_for("restarting")
        assert child.pid is None
        assert child.url is None


async def test_a_program_that_cannot_be_run_is_tried_again(clock: ManualClock) -> None:
    told = Told()
    child = Supervisor(
        command=["/nonexistent/program"],
        settings=b"{}",
        label="the model",
        clock=clock,
        on_ready=lambda url, embeddings_url: None,
        on_change=told,
    )
    async with running(child.run()):
        await told.wait_for("no process for the model: No such file or directory")
        await told.wait_for("restarting")
        await clock.advance(0.5)
        await told.wait_for("no process", times=2)


async def test_a_child_that_will_not_end_is_killed_after_five_seconds(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("won't end", clock, told)
    async with running(child.run()) as run:
        await told.wait_for("ready")
        pid = child.pid
        assert pid is not None
        closing = asyncio.ensure_future(child.close())
        await clock.advance(KILL_AFTER_S - 0.1)
        assert is_alive(pid)
        await clock.advance(0.1)
        await closing
        await run
    assert not is_alive(pid)
    assert "ended" not in " ".join(told.all)


async def test_cancelling_twice_leaves_no_child(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("won't end", clock, told)
    run = asyncio.ensure_future(child.run())
    await told.wait_for("ready")
    pid = child.pid
    assert pid is not None
    for _ in range(2):
        run.cancel()
        await asyncio.sleep(0)
    await asyncio.wait((run,))
    assert run.cancelled()
    assert not is_alive(pid)


async def test_closing_before_the_child_is_ready_ends_it(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("says nothing", clock, told)
    async with running(child.run()) as run:
        await told.wait_for("loading")
        pid = child.pid
        assert pid is not None
        await child.close()
        await child.close()
        await run
    assert not is_alive(pid)
    assert told.all == ["loading the model"]


async def test_a_closed_supervisor_starts_nothing(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("serves", clock, told)
    await child.close()
    await child.run()
    assert told.all == []


async def test_what_the_child_complains_of_is_logged_cut_and_harmless(clock: ManualClock) -> None:
    told, logged = Told(), Told()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.DEBUG:
                logged(record.getMessage())

    log, listener = logging.getLogger("gateway.engine"), Listener()
    log.addHandler(listener)
    log.setLevel(logging.DEBUG)
    try:
        async with running(supervisor("complains and serves", clock, told).run()):
            await logged.wait_for("not logged")
    finally:
        log.setLevel(logging.NOTSET)
        log.removeHandler(listener)
    assert logged.all[0] == r"engine: \x1b[31mred"
    assert max(map(len, logged.all)) < 1100
    assert len(logged.all) == 201


def test_uvloop_will_do_as_well() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> None:
        clock, told = ManualClock(), Told()
        child = supervisor("serves", clock, told)
        async with running(child.run()):
            await told.wait_for("ready")
            await crash(child, told, times=1)
            await told.wait_for("restarting")
            await clock.advance(0.5)
            await told.wait_for("ready", times=2)
            pid = child.pid
        assert pid is not None
        assert not is_alive(pid)
        refusing = supervisor("repeats its settings", clock, told)
        async with running(refusing.run()):
            await told.wait_for("can't be served: hello there")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def test_it_knows_when_coming_back_can_help(clock: ManualClock) -> None:
    told = Told()
    child = supervisor("dies at once", clock, told)
    async with running(child.run()):
        for number, wait_s in enumerate((0.5, 1, 2, 4, 8), 1):
            await told.wait_for("restarting", times=number)
            assert child.expected_ready_s() == wait_s + 1.0
            await clock.advance(wait_s)
