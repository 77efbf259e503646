"""Traces from a client's header to a collector's process, and on to the engine."""

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.config.schema import Auth, Scheduling, Tracing
from gateway.core import exit_codes
from tests.backends.fake_engine import Pause
from tests.e2e.house import CHAT, KEY, WITH_KEY, opened, say, until
from tests.e2e.ollama import ScriptedOllama, error
from tests.e2e.process import environment, spawned
from tests.telemetry.collecting import Collector, Span, collecting

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"
CAME: Final = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "congo=t61r"}

SERVER_KIND: Final = 2
ERROR_STATUS: Final = 2


@pytest.fixture(scope="module")
def running() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def collector(running: Collector) -> Collector:
    running.answer()
    return running


def to(collector: Collector, **settings: Any) -> Tracing:
    return Tracing(endpoint=collector.url, **settings)


def of_one_request(collector: Collector) -> tuple[Span, dict[str, Span]]:
    """The server's span, and those below it by name; of a gateway that had one request."""
    server, *children = collector.next()["spans"]
    assert server["kind"] == SERVER_KIND
    assert {span["parent_id"] for span in children} <= {server["span_id"]}
    assert {span["trace_id"] for span in children} <= {server["trace_id"]}
    return server, {span["name"]: span for span in children}


def assert_one_behind_the_other(server: Span, children: dict[str, Span]) -> None:
    moments = [
        server["start_ns"],
        *(moment for span in children.values() for moment in (span["start_ns"], span["end_ns"])),
        server["end_ns"],
    ]
    assert all(earlier <= later for earlier, later in itertools.pairwise(moments))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_is_a_tree_of_spans_in_its_clients_trace(
    collector: Collector, stream: bool
) -> None:
    async with opened(tracing=to(collector, service_name="llm")) as house:
        answer = await house.chat(say("one two three", stream=stream), CAME)
        (line,) = house.request_lines()
    server, children = of_one_request(collector)
    assert (server["trace_id"], server["parent_id"]) == (TRACE, PARENT)
    assert server["state"] == "congo=t61r"
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{server['span_id']}-01"
    assert (line["trace_id"], line["span_id"]) == (TRACE, server["span_id"])
    assert server["name"] == "POST /v1/chat/completions"
    assert server["resource"]["service.name"] == "llm"
    expected = {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "echo",
        "gen_ai.request.model": "echo",
        "gen_ai.response.model": "echo",
        "gen_ai.request.stream": stream,
        "gen_ai.usage.input_tokens": line["prompt_tokens"],
        "gen_ai.usage.output_tokens": line["completion_tokens"],
        "gateway.request_id": line["request_id"],
        "gateway.caller": "anonymous",
        "gateway.upstream": "default",
        "gateway.outcome": "completed",
    }
    told = server["attributes"]
    assert {name: told[name] for name in expected} == expected
    assert set(told) - set(expected) <= {"url.scheme", "gen_ai.response.time_to_first_chunk"} | {
        "gen_ai.usage.cache_read.input_tokens"
    }
    assert list(children) == ["queue", "prefill", "decode"]
    assert_one_behind_the_other(server, children)


async def test_a_load_that_was_waited_for_is_a_span(
    collector: Collector, engine: ScriptedOllama
) -> None:
    engine.loading = pause = Pause()
    async with opened(engine, tracing=to(collector)) as house:
        asked = asyncio.create_task(house.chat(say("hi")))
        await pause.reached.wait()
        pause.go.set()
        assert (await asked).status == 200
    server, children = of_one_request(collector)
    assert list(children) == ["queue", "load", "prefill", "decode"]
    assert_one_behind_the_other(server, children)


async def test_an_engine_is_told_of_our_span(collector: Collector, engine: ScriptedOllama) -> None:
    async with opened(engine, tracing=to(collector)) as house:
        await house.chat(say("hi"), {**CAME, "baggage": "user=alice"})
        begun_here = await house.chat(say("hi"))
    spans = [span for span in collector.next()["spans"] if span["kind"] == SERVER_KIND]
    came, begun = engine.requests
    assert came.headers["traceparent"] == f"00-{TRACE}-{spans[0]['span_id']}-01"
    assert came.headers["tracestate"] == "congo=t61r"
    assert "baggage" not in came.headers
    # A trace that begins here has an id that is random, which its flags say.
    assert begun.headers["traceparent"] == f"00-{spans[1]['trace_id']}-{spans[1]['span_id']}-03"
    assert begun.headers["traceparent"] == begun_here.headers["traceresponse"]
    assert spans[1]["parent_id"] == ""


async def test_without_tracing_what_a_client_says_is_passed_on(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        answers = [
            await house.chat(say("hi"), headers)
            for headers in (CAME, {}, {"traceparent": "00-nonsense"}, {"tracestate": "congo=t61r"})
        ]
        lines = house.request_lines()
    assert all("traceresponse" not in answer.headers for answer in answers)
    names = ("traceparent", "tracestate")
    told = [
        {name: sent.headers[name] for name in names if name in sent.headers}
        for sent in engine.requests
    ]
    assert told == [CAME, {}, {}, {}]
    assert [line.get("trace_id") for line in lines] == [TRACE, None, None, None]
    assert not any("span_id" in line for line in lines)


async def test_requests_do_not_take_over_each_others_traces(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        client = await house.connect()
        body = json.dumps(say("hi")).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for more in (f"traceparent: {CAME['traceparent']}\r\n", ""):
            client.send(f"{head}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert (await client.some()).status == 200
    assert ["traceparent" in sent.headers for sent in engine.requests] == [True, False]


async def test_what_failed_says_so_in_a_word(collector: Collector, engine: ScriptedOllama) -> None:
    engine.play(error("the engine's own words", 500))
    async with opened(engine, auth=Auth(api_key=KEY), tracing=to(collector)) as house:
        await house.chat(say("hi"), WITH_KEY)
        await house.chat(say("hi", model="nowhere"), WITH_KEY)
        await house.chat(say("hi"))
        await house.post(b"{", WITH_KEY)
        await house.get("/elsewhere", WITH_KEY)
    spans = [span for span in collector.next()["spans"] if span["kind"] == SERVER_KIND]
    told = [
        (
            span["name"],
            span["attributes"]["http.response.status_code"],
            span["attributes"]["error.type"],
            span["status"] == ERROR_STATUS,
        )
        for span in spans
    ]
    chat = "POST /v1/chat/completions"
    assert [(name, status, failed) for name, status, _, failed in told] == [
        (chat, 502, True),
        (chat, 404, False),
        (chat, 401, False),
        (chat, 400, False),
        ("GET", 404, False),
    ]
    assert all(kind.replace("_", "").isalpha() for _, _, kind, _ in told)
    assert all(span["status_message"] == "" and span["events"] == 0 for span in spans)


async def test_a_caller_who_left_while_it_waited_has_a_span_of_the_queue(
    collector: Collector, engine: ScriptedOllama
) -> None:
    pause = Pause()
    engine.play(pause, *engine.by_default)
    scheduling = Scheduling(deadlines=False)
    async with opened(engine, scheduling=scheduling, tracing=to(collector)) as house:
        first = asyncio.create_task(house.chat(say("hi")))
        await pause.reached.wait()
        waiting = asyncio.create_task(house.chat(say("hi"), CAME))
        await until(lambda: house.daemon.queue.qsize() == 1)
        waiting.cancel()
        await house.told.wait(1)
        pause.go.set()
        await first
    spans = collector.spans("POST /v1/chat/completions")
    server, *children = (span for span in spans if span["trace_id"] == TRACE)
    assert [span["name"] for span in children] == ["queue"]
    assert server["attributes"]["gateway.phase"] == "queued"
    assert server["attributes"]["error.type"] == "client_gone"
    assert "http.response.status_code" not in server["attributes"]


async def test_what_machines_ask_all_the_time_is_not_traced(collector: Collector) -> None:
    async with opened(tracing=to(collector)) as house:
        for path in ("/health", "/ready", "/metrics", "/v1/models"):
            assert "traceresponse" not in (await house.get(path)).headers or path == "/v1/models"
    (span,) = collector.next()["spans"]
    assert span["name"] == "GET /v1/models"


async def test_what_is_not_sampled_is_passed_on_and_not_sent(
    collector: Collector, engine: ScriptedOllama
) -> None:
    async with opened(engine, tracing=to(collector, sample_ratio=0.0)) as house:
        answer = await house.chat(say("hi"))
        await house.chat(say("hi"), CAME)
    (server, *_) = collector.next()["spans"]
    assert server["trace_id"] == TRACE  # Of which its client decides.
    assert answer.headers["traceresponse"].endswith("-02")
    assert engine.requests[0].headers["traceparent"] == answer.headers["traceresponse"]


async def test_a_collector_that_takes_nothing_disturbs_nobody(
    collector: Collector, engine: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.telemetry.traces.LINGER_S", 0.0)
    collector.answer(status=401)
    async with opened(engine, tracing=to(collector)) as house:
        traces = house.daemon.traces
        assert traces is not None
        assert (await house.chat(say("hi"))).status == 200
        collector.next()
        await until(lambda: traces.dropped == 1)
        collector.answer()
        assert (await house.chat(say("hi"))).status == 200
        collector.next()
        await until(lambda: traces.sent == 1)
        metrics = await house.metrics()
        (said,) = [line for line in house.lines() if line["event"] == "traces_not_taken"]
    assert metrics["gateway_traces_dropped_total"] == 1
    assert metrics["gateway_traces_sent_total"] == 1
    assert (said["level"], said["reason"]) == ("warning", "status 401")


async def test_a_mistake_of_ours_is_logged_with_its_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tracing=to(collector)) as house:

        def broken(_headers: object) -> None:
            raise RuntimeError("a broken promise")

        monkeypatch.setattr(house.daemon.service, "run", broken)
        assert (await house.chat(say("hi"), CAME)).status == 500
        (line,) = [line for line in house.lines() if "exception" in line]
    server, _ = of_one_request(collector)
    assert (line["trace_id"], line["span_id"]) == (TRACE, server["span_id"])
    assert server["attributes"]["error.type"] == "internal_error"


@pytest.mark.slow
async def test_without_what_traces_need_it_does_not_start(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text('raise ImportError("not installed here")\n')
    environ = dict(environment("http://127.0.0.1:9"))
    environ["PYTHONPATH"] = f"{hidden.parent}:{environ['PYTHONPATH']}"
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318"
    async with spawned(
        tmp_path, sys.executable, "-m", "gateway", "serve", environ=environ
    ) as process:
        assert process.child.stderr is not None
        said = (await process.child.stderr.read()).decode()
        assert await process.child.wait() == exit_codes.CONFIG
    assert "pip install 'ollama-gateway[otel]'" in said
    assert "Traceback" not in said
