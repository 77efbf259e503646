"""The load generator and the simulated box against each other, and clients that are refused."""

import asyncio
import itertools
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from statistics import mean
from typing import Any

import attrs
import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from bench.answers import Uniform
from bench.asking import Client
from bench.box import Box, Settings
from bench.load import (
    Burst,
    ClosedLoop,
    OpenLoop,
    Plan,
    client_of,
    document,
    parser,
    plan_of,
    run,
)
from bench.machine import Hardware
from bench.prompts import Conversations, Unique
from bench.replies import Ollama, OpenAI
from bench.results import BROKEN, TIMEOUT, UNFINISHED, UNREADABLE, Outcome, Result, summarise
from bench.retries import Retries
from bench.wire import HOST

HARDWARE = Hardware(scale=2000.0)
MODELS = ("a:latest", "b:latest")


@pytest_asyncio.fixture
async def box() -> AsyncIterator[tuple[Box, str]]:
    served = Box(Settings(hardware=HARDWARE, models=MODELS, lengths=Uniform(4, 12)))
    async with served.serve() as url:
        yield served, url


DIRECT = Client(dialect=Ollama(), models=MODELS[:1], prompts=Unique(tokens=5), max_tokens=None)


async def test_one_client_alone_keeps_the_slot_at_the_work_that_its_rates_allow(
    box: tuple[Box, str],
) -> None:
    served, url = box
    results = await run(url, ClosedLoop(1, duration_s=0.15), DIRECT)
    totals = served.machine.totals
    assert totals.requests == totals.answered == len(results) > 1
    assert totals.decode_tokens == sum(result.attempts[0].tokens for result in results)
    assert (totals.loads, totals.waiting_max) == (1, 1)
    work_s = HARDWARE.work_s(read=totals.prefill_tokens, written=totals.decode_tokens)
    assert totals.busy_s == pytest.approx(HARDWARE.real_load_s + work_s)
    # It cannot have been answered sooner than the box can write.
    summary = summarise(results, deadline_s=60.0)
    assert summary.in_time == len(results)
    assert summary.wall_s >= totals.busy_s * 0.99


@pytest.mark.parametrize("stream", [True, False])
async def test_a_burst_is_all_answered_and_queues_in_the_box(
    box: tuple[Box, str], stream: bool
) -> None:
    served, url = box
    told: list[tuple[float, int]] = []
    client = attrs.evolve(DIRECT, stream=stream)
    results = await run(url, Burst(20), client, progress=lambda *share: told.append(share))
    assert sorted(result.number for result in results) == list(range(20))
    assert {result.outcome(60.0) for result in results} == {Outcome.IN_TIME}
    assert served.machine.totals.waiting_max >= 19
    assert told[-1] == (1.0, 20)
    for result in results:
        (attempt,) = result.attempts
        assert 4 <= attempt.tokens <= 12
        assert attempt.finish_reason == "stop"
        assert (attempt.first_token_at is not None) == stream


async def test_what_is_late_is_not_in_time(box: tuple[Box, str]) -> None:
    _, url = box
    results = await run(url, Burst(3), DIRECT)
    assert Counter(result.outcome(0.0) for result in results) == {Outcome.LATE: 3}


async def test_an_open_loop_sends_at_its_moments(box: tuple[Box, str]) -> None:
    _, url = box
    plan = OpenLoop(100.0, duration_s=0.2, seed=3)
    results = await run(url, plan, DIRECT)
    began_at = min(result.attempts[0].sent_at for result in results)
    sent_s = sorted(result.attempts[0].sent_at - began_at for result in results)
    moments_s = plan.moments_s()
    assert len(sent_s) == len(moments_s) > 5
    # Never before its moment; how long after is the machine's affair.
    assert all(
        sent >= moment - moments_s[0] - 0.005
        for sent, moment in zip(sent_s, moments_s, strict=True)
    )


def test_the_moments_of_an_open_loop_are_a_poisson_process_of_its_rate() -> None:
    plan = OpenLoop(50.0, duration_s=100.0, seed=1)
    moments_s = plan.moments_s()
    assert len(moments_s) == pytest.approx(5000, rel=0.05)
    gaps_s = [later - sooner for sooner, later in itertools.pairwise([0.0, *moments_s])]
    assert mean(gaps_s) == pytest.approx(0.02, rel=0.05)
    # Of an exponential distribution as many are beyond the mean as 1/e.
    beyond = sum(gap_s > 0.02 for gap_s in gaps_s) / len(gaps_s)
    assert beyond == pytest.approx(1 / math.e, rel=0.05)
    assert plan.moments_s() == moments_s
    assert OpenLoop(50.0, duration_s=100.0, seed=2).moments_s() != moments_s


async def test_models_take_turns(box: tuple[Box, str]) -> None:
    served, url = box
    client = attrs.evolve(DIRECT, models=MODELS)
    results = await run(url, Burst(4), client)
    assert sorted(result.model for result in results) == ["a:latest"] * 2 + ["b:latest"] * 2
    assert served.machine.totals.loads >= 2


async def test_conversations_find_what_the_slot_holds(box: tuple[Box, str]) -> None:
    served, url = box
    prompts = Conversations(count=1, prefix_tokens=500, tokens=5)
    await run(url, Burst(4), attrs.evolve(DIRECT, prompts=prompts))
    assert 500 < served.machine.totals.prefill_tokens < 600


async def test_a_limit_is_sent_and_kept(box: tuple[Box, str]) -> None:
    _, url = box
    results = await run(url, Burst(6), attrs.evolve(DIRECT, max_tokens=Uniform(1, 3)))
    assert all(result.attempts[0].tokens == result.max_tokens for result in results)
    assert {result.attempts[0].finish_reason for result in results} == {"length"}


# --- Servers that do not simply answer ------------------------------------------------

Handler = Callable[[web.Request], Any]
ANSWER = {
    "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"completion_tokens": 2},
}
PATIENT = Retries(count_max=2, backoff_s=0.001, backoff_s_max=0.002)


def refusal(**headers: str) -> web.Response:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": {"code": "queue_full"}}, status=503, headers=told)


async def against(
    handler: Handler, plan: Plan, client: Client, *, drain_s: float = 60.0
) -> tuple[list[Result], list[web.Request]]:
    """Put a load on a server that answers everything by the handler."""
    requests: list[web.Request] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        await request.read()
        requests.append(request)
        answer = handler(request)
        return answer if isinstance(answer, web.StreamResponse) else await answer

    app = web.Application()
    app.router.add_post("/v1/chat/completions", serve)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        url = f"http://{HOST}:{runner.addresses[0][1]}"
        return await run(url, plan, client, drain_s=drain_s), requests
    finally:
        await runner.cleanup()


async def test_a_refused_request_comes_back_as_the_sdk_does() -> None:
    def answer(request: web.Request) -> web.Response:
        if request.headers["x-stainless-retry-count"] == "2":
            return web.json_response(ANSWER, headers={"x-gateway-truncated": "deadline"})
        return refusal(retry_after_ms="20", retry_after="3000")

    client = Client(retries=PATIENT, key="secret", timeout_s=30.0)
    (result,), requests = await against(answer, Burst(1), client)
    assert [one.headers["x-stainless-retry-count"] for one in requests] == ["0", "1", "2"]
    assert {one.headers["x-stainless-read-timeout"] for one in requests} == {"30"}
    assert {one.headers["Authorization"] for one in requests} == {"Bearer secret"}
    assert len({await one.read() for one in requests}) == 1
    first, second, third = result.attempts
    assert [one.status for one in result.attempts] == [503, 503, 200]
    assert (first.code, first.told_s) == ("queue_full", 0.02)
    assert second.sent_at - first.ended_at >= 0.019
    assert (third.tokens, third.truncated, result.retries) == (2, True, 2)
    assert result.outcome(60.0) is Outcome.IN_TIME


@pytest.mark.parametrize(
    ("headers", "tries"),
    [({}, 3), ({"x_should_retry": "false"}, 1), ({"retry_after": "121"}, 1)],
)
async def test_who_is_refused_for_good_stays_refused(headers: dict[str, str], tries: int) -> None:
    (result,), _ = await against(lambda _: refusal(**headers), Burst(1), Client(retries=PATIENT))
    assert len(result.attempts) == tries
    assert result.outcome(60.0) is Outcome.REFUSED


async def test_a_client_of_a_closed_loop_that_is_refused_waits_for_what_it_was_told() -> None:
    plan = ClosedLoop(2, duration_s=0.2)
    results, requests = await against(lambda _: refusal(retry_after_ms="60000"), plan, Client())
    assert len(results) == len(requests) == 2


async def test_no_retry_begins_after_the_end_of_a_closed_loop() -> None:
    patient = Client(retries=Retries(count_max=2))
    plan = ClosedLoop(1, duration_s=0.05)
    (result,), _ = await against(lambda _: refusal(retry_after_ms="60000"), plan, patient)
    assert len(result.attempts) == 1
    assert result.outcome(60.0) is Outcome.ABANDONED


async def test_a_load_ends_though_the_server_does_not_answer() -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    (result,), _ = await against(never, Burst(1), Client(), drain_s=0.05)
    assert result.outcome(60.0) is Outcome.ABANDONED


async def test_a_client_that_has_waited_long_enough_leaves() -> None:
    left = 0

    async def never(_: web.Request) -> web.Response:
        nonlocal left
        try:
            await asyncio.Event().wait()
        finally:
            left += 1
        raise AssertionError

    client = Client(timeout_s=0.03, retries=PATIENT)
    (result,), requests = await against(never, Burst(1), client)
    assert len(requests) == left == 3
    assert result.attempts[-1].code == TIMEOUT
    assert result.outcome(60.0) is Outcome.TIMED_OUT


async def test_who_cannot_connect_has_no_status() -> None:
    with socket.socket() as bound:
        # Bound and not listening: nobody else can have the port either.
        bound.bind((HOST, 0))
        (result,) = await run(f"http://{HOST}:{bound.getsockname()[1]}", Burst(1), Client())
    assert (result.attempts[0].status, result.attempts[0].code) == (0, BROKEN)
    assert result.outcome(60.0) is Outcome.FAILED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b": queued\n\n", UNFINISHED),
        (b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n', UNFINISHED),
        (b'data: {"error":{"code":"backend_error"}}\n\n', "backend_error"),
        (b"data: <html>\n\n", UNREADABLE),
        (b'data: {"choices":[1]}\n\n', UNREADABLE),
    ],
)
async def test_a_stream_that_is_not_whole_has_failed_and_is_not_asked_for_again(
    body: bytes, code: str
) -> None:
    client = Client(stream=True, retries=PATIENT)
    (result,), requests = await against(lambda _: web.Response(body=body), Burst(1), client)
    assert len(requests) == 1
    assert result.attempts[0].code == code
    assert result.outcome(60.0) is Outcome.FAILED


# --- The command line ------------------------------------------------------------------


def test_the_command_line_says_all_of_it() -> None:
    text = (
        "http://127.0.0.1:1 --open 3.5 --duration 9 --stream --deadline 6 --timeout 7 --retries 2"
        " --scale 10 --model a,b --max-tokens 16-24 --prompt-tokens 5 --conversations 3"
        " --prefix-tokens 50 --key k --ollama --seed 4"
    )
    options = parser().parse_args(text.split())
    assert plan_of(options) == OpenLoop(3.5, 9.0, seed=4)
    client = client_of(options)
    assert isinstance(client.dialect, Ollama)
    assert attrs.evolve(client, dialect=DIRECT.dialect) == Client(
        dialect=DIRECT.dialect,
        models=("a", "b"),
        prompts=Conversations(count=3, prefix_tokens=50, tokens=5, seed=4),
        max_tokens=Uniform(16, 24),
        stream=True,
        deadline_s=6.0,
        timeout_s=7.0,
        retries=Retries(count_max=2, told_s_max=12.0, backoff_s=0.05, backoff_s_max=0.8),
        key="k",
        seed=4,
    )


@pytest.mark.parametrize(
    ("text", "plan"), [("--closed 3 --duration 2", ClosedLoop(3, 2.0)), ("--burst 9", Burst(9))]
)
def test_plans_are_read(text: str, plan: Plan) -> None:
    options = parser().parse_args(["http://127.0.0.1:1", *text.split()])
    assert plan_of(options) == plan
    assert isinstance(client_of(options).dialect, OpenAI)


async def test_the_document_has_every_result_and_no_key() -> None:
    client = Client(key="secret")
    plan = Burst(2)
    results, _ = await against(lambda _: refusal(), plan, client)
    told = document(plan, client, summarise(results, deadline_s=60.0), results)
    assert b"secret" not in told
    found = orjson.loads(told)
    assert found["plan"] == {"kind": "Burst", "requests": 2}
    assert found["summary"]["outcomes"]["refused"] == 2
    assert [one["outcome"] for one in found["results"]] == ["refused"] * 2
