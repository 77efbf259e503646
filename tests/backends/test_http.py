import asyncio
import gc
import math
import os
import socket
from collections.abc import AsyncIterator

import pytest
from yarl import URL

from gateway.backends.http import LINGER_S, Exchange, HttpClient, endpoint, headers
from gateway.config.schema import Limits, Timeouts
from gateway.core.clock import LoopClock
from gateway.core.errors import (
    GatewayError,
    RequestTimeout,
    UpstreamBadResponse,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamStalled,
    UpstreamUnreachable,
)
from tests.backends.fake_engine import (
    CLOSE,
    END,
    HALF_CLOSE,
    HANG,
    RESET,
    FakeEngine,
    Pause,
    Step,
    chunk,
    head,
    whole,
)
from tests.fakes import ManualClock

FIRST_BYTE_S = Timeouts().first_byte_timeout_seconds
STALL_S = Timeouts().stall_timeout_seconds


def ask(http: HttpClient, engine: FakeEngine, body: bytes = b"{}") -> Exchange:
    return http.open("POST", endpoint(engine.url, "/do"), body=body)


async def read(exchange: Exchange) -> bytes:
    async with exchange:
        return await exchange.read_all(10_000_000)


# --- What is sent ---------------------------------------------------------------


async def test_only_what_we_name_is_sent(
    http: HttpClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    engine.play(whole(b"1", Set_Cookie="a=b"))
    engine.play(whole(b"2"))
    url = endpoint(engine.url + "/", "/do")
    for _ in range(2):
        await read(http.open("POST", url, body=b"{}", headers=headers({"Accept": "x/y"})))
    for request in engine.requests:
        assert (request.method, request.target, request.body) == ("POST", "/do", b"{}")
        assert set(request.headers) == {"host", "accept", "user-agent", "content-length"}
        assert request.headers["host"] == URL(engine.url).authority


async def test_a_large_body_is_sent_whole(http: HttpClient, engine: FakeEngine) -> None:
    body = bytes(range(256)) * 4096 * 3
    engine.play(whole(b"ok"))
    assert await read(ask(http, engine, body)) == b"ok"
    assert engine.requests[0].body == body


async def test_a_body_may_come_in_pieces(http: HttpClient, engine: FakeEngine) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"0123456789" * 1000

    engine.play(whole(b"ok"))
    url = endpoint(engine.url, "/do")
    assert await read(http.open("POST", url, body=pieces())) == b"ok"
    assert engine.requests[0].body == b"0123456789" * 300_000


async def test_a_request_may_have_times_and_bounds_of_its_own(
    http: HttpClient, engine: FakeEngine, clock: ManualClock, limits: Limits
) -> None:
    before, midway = Pause(), Pause()
    answer = bytes(limits.upstream_answer_bytes_max)
    engine.play(before, head(), chunk(answer), midway, chunk(b"x"), END)
    exchange = http.open(
        "POST",
        endpoint(engine.url, "/do"),
        first_byte_timeout_s=math.inf,
        stall_timeout_s=math.inf,
        bytes_max=len(answer) + 1,
    )
    reading = asyncio.create_task(read(exchange))
    for pause in (before, midway):
        await pause.reached.wait()
        await clock.advance(1e6)
        pause.go.set()
    assert await reading == answer + b"x"


# --- Connecting ------------------------------------------------------------------


async def test_a_refused_connection_is_unreachable(http: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UpstreamUnreachable) as caught:
        await read(http.open("GET", URL(f"http://127.0.0.1:{port}/")))
    assert caught.value.retry_after_s


@pytest.mark.parametrize("host", ["gateway-test.invalid", "a" * 64 + ".example"])
async def test_a_name_that_does_not_resolve_is_unreachable(http: HttpClient, host: str) -> None:
    with pytest.raises(UpstreamUnreachable):
        await read(http.open("GET", URL(f"http://{host}:1/")))


async def test_a_connection_that_does_not_come_about_is_unreachable(limits: Limits) -> None:
    # A listener whose backlog is full drops what else knocks, as a dead host does.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        knocks = [socket.socket() for _ in range(4)]
        for knock in knocks:
            knock.setblocking(False)
            knock.connect_ex(address)
        client = HttpClient(
            timeouts=Timeouts(connect_timeout_seconds=0.05), limits=limits, clock=LoopClock()
        )
        await client.start()
        try:
            with pytest.raises(UpstreamUnreachable):
                await read(client.open("GET", URL(f"http://127.0.0.1:{address[1]}/")))
        finally:
            await client.close()
            for knock in knocks:
                knock.close()


# --- Before the status --------------------------------------------------------------


@pytest.mark.parametrize("steps", [(CLOSE,), (RESET,), (HALF_CLOSE, HANG)], ids=repr)
async def test_closed_before_the_status_is_untouched(
    http: HttpClient, engine: FakeEngine, steps: tuple[Step, ...]
) -> None:
    engine.play(*steps)
    with pytest.raises(UpstreamDisconnected) as caught:
        await read(ask(http, engine))
    assert caught.value.untouched


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"<html>\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 banana OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n",
    ],
)
async def test_what_is_not_http_is_a_bad_response(
    http: HttpClient, engine: FakeEngine, answer: bytes
) -> None:
    engine.play(answer, HANG)
    with pytest.raises(UpstreamBadResponse):
        await read(ask(http, engine))
    await engine.gone.wait()


async def test_a_redirect_is_a_status_like_any_other(http: HttpClient, engine: FakeEngine) -> None:
    engine.play(whole(b"", 307, Location=engine.url + "/elsewhere"))
    async with ask(http, engine) as exchange:
        assert exchange.status == 307
    assert len(engine.requests) == 1


# --- In the body --------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        (head() + chunk(b"one"), RESET),
        (head() + chunk(b"one"), CLOSE),
        (head() + b"5\r\non", CLOSE),
        (head(framing=100) + b"one", CLOSE),
        (head(framing=100) + b"one", RESET),
    ],
)
async def test_a_body_that_is_cut_is_a_disconnect(
    http: HttpClient, engine: FakeEngine, answer: tuple[Step, ...]
) -> None:
    pause = Pause()
    engine.play(answer[0], pause, *answer[1:])
    async with ask(http, engine) as exchange:
        assert await exchange.read_some()
        pause.go.set()
        with pytest.raises(UpstreamDisconnected) as caught:
            await exchange.read_some()
    assert not caught.value.untouched


async def test_a_body_may_end_with_the_connection(http: HttpClient, engine: FakeEngine) -> None:
    engine.play(head(framing="close") + b"one", CLOSE)
    assert await read(ask(http, engine)) == b"one"


async def test_a_broken_chunk_is_a_bad_response(http: HttpClient, engine: FakeEngine) -> None:
    pause = Pause()
    engine.play(head() + chunk(b"one"), pause, b"ZZZ\r\n", HANG)
    async with ask(http, engine) as exchange:
        assert await exchange.read_some() == b"one"
        reading = asyncio.create_task(exchange.read_some())
        await pause.reached.wait()
        pause.go.set()
        with pytest.raises(UpstreamBadResponse):
            await reading


async def test_an_answer_larger_than_its_bound_is_cut_off(
    http: HttpClient, engine: FakeEngine, limits: Limits
) -> None:
    bound = limits.upstream_answer_bytes_max
    engine.play(whole(b"x" * bound))
    assert len(await read(ask(http, engine))) == bound
    engine.play(head() + chunk(b"x" * (bound + 1)), HANG)
    with pytest.raises(UpstreamBadResponse):
        await read(ask(http, engine))
    await engine.gone.wait()


async def test_read_all_has_a_bound_of_its_own(http: HttpClient, engine: FakeEngine) -> None:
    engine.play(whole(b"x" * 11))
    async with ask(http, engine) as exchange:
        with pytest.raises(UpstreamBadResponse):
            await exchange.read_all(10)


# --- Silence --------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", head()], ids=["nothing", "half", "head"])
async def test_silence_from_the_start_is_a_timeout(
    http: HttpClient, engine: FakeEngine, clock: ManualClock, said: bytes
) -> None:
    pause = Pause()
    engine.play(said, pause, HANG)
    reading = asyncio.create_task(read(ask(http, engine)))
    await pause.reached.wait()
    pause.go.set()
    await clock.advance(FIRST_BYTE_S - 1)
    assert not reading.done()
    await clock.advance(1)
    with pytest.raises(RequestTimeout) as caught:
        await reading
    assert type(caught.value) is RequestTimeout
    await engine.gone.wait()


async def test_silence_midway_is_a_stall_and_the_connection_is_not_used_again(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    engine.play(head() + chunk(b"one"), HANG)
    async with ask(http, engine) as exchange:
        assert await exchange.read_some() == b"one"
        reading = asyncio.create_task(exchange.read_some())
        await clock.advance(STALL_S - 1)
        assert not reading.done()
        await clock.advance(1)
        with pytest.raises(UpstreamStalled):
            await reading
    await engine.gone.wait()
    engine.play(whole(b"two"))
    assert await read(ask(http, engine)) == b"two"
    assert engine.connections == 2


async def test_a_late_first_byte_leaves_the_whole_stall_timeout_to_the_second(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    pause = Pause()
    engine.play(head(), pause, chunk(b"one"), HANG)
    async with ask(http, engine) as exchange:
        reading = asyncio.create_task(exchange.read_some())
        await pause.reached.wait()
        await clock.advance(FIRST_BYTE_S - 1)
        pause.go.set()
        assert await reading == b"one"
        reading = asyncio.create_task(exchange.read_some())
        await clock.advance(STALL_S - 1)
        assert not reading.done()
        await clock.advance(1)
        with pytest.raises(UpstreamStalled):
            await reading


async def test_a_long_first_byte_timeout_does_not_hide_a_stall(
    engine: FakeEngine, clock: ManualClock, limits: Limits
) -> None:
    timeouts = Timeouts(first_byte_timeout_seconds=5000.0, stall_timeout_seconds=10.0)
    http = HttpClient(timeouts=timeouts, limits=limits, clock=clock)
    await http.start()
    pause = Pause()
    engine.play(head(), pause, chunk(b"one"), HANG)
    async with ask(http, engine) as exchange:
        reading = asyncio.create_task(exchange.read_some())
        await pause.reached.wait()
        await clock.advance(44.0)
        pause.go.set()
        assert await reading == b"one"
        reading = asyncio.create_task(exchange.read_some())
        await clock.advance(10.0)
        with pytest.raises(UpstreamStalled):
            await reading
    await http.close()


async def test_a_slow_but_steady_answer_never_stalls(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    pauses = [Pause() for _ in range(10)]
    engine.play(head(), *(step for pause in pauses for step in (pause, chunk(b"x"))), END)
    async with ask(http, engine) as exchange:
        for pause in pauses:
            reading = asyncio.create_task(exchange.read_some())
            await pause.reached.wait()
            await clock.advance(STALL_S - 1)
            pause.go.set()
            assert await reading == b"x"
        assert await exchange.read_some() == b""


async def test_a_reader_that_takes_its_time_is_no_stall(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    pause = Pause()
    engine.play(head() + chunk(b"one"), pause, chunk(b"two") + END)
    async with ask(http, engine) as exchange:
        assert await exchange.read_some() == b"one"
        await clock.advance(10 * STALL_S)
        pause.go.set()
        assert await exchange.read_some() == b"two"


async def test_a_reader_that_comes_late_finds_what_has_come(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    engine.play(head() + chunk(b"one") + chunk(b"two"), HANG)
    async with ask(http, engine) as exchange:
        await clock.advance(10 * FIRST_BYTE_S)
        assert await exchange.read_some() == b"onetwo"


async def test_an_answer_costs_one_timer_and_leaves_none(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    engine.play(head() + chunk(b"x") * 100 + END)
    async with ask(http, engine) as exchange:
        while await exchange.read_some():
            assert clock.pending == 1
    assert clock.pending == 0


# --- Leaving --------------------------------------------------------------------------


async def test_a_connection_is_used_again_after_a_whole_answer(
    http: HttpClient, engine: FakeEngine
) -> None:
    for _ in range(3):
        engine.play(head() + chunk(b"one") + END)
        assert await read(ask(http, engine)) == b"one"
    assert engine.connections == 1


async def test_leaving_early_closes_the_connection_at_once(
    http: HttpClient, engine: FakeEngine
) -> None:
    engine.play(head() + chunk(b"one"), HANG)
    async with ask(http, engine) as exchange:
        await exchange.read_some()
    await engine.gone.wait()


async def test_leaving_early_does_not_wait_for_the_request_to_be_sent(http: HttpClient) -> None:
    body = b"x" * 50_000_000
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        exchange = http.open("POST", url, body=body)
        entering = asyncio.create_task(exchange.__aenter__())
        peer, _ = await loop.sock_accept(listener)
        with peer:
            # It answers before it has read what it was asked, and reads no further.
            await loop.sock_recv(peer, 1)
            await loop.sock_sendall(peer, head() + chunk(b"x"))
            await entering
            assert await exchange.read_some() == b"x"
            for _ in range(1000):  # Until the kernel takes no more of it.
                await asyncio.sleep(0)
            descriptors = len(os.listdir("/proc/self/fd"))
            exchange.leave()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) == descriptors - 1


@pytest.mark.parametrize("said", [b"", head(), head() + chunk(b"one")])
async def test_a_cancelled_task_closes_the_connection_at_once(
    http: HttpClient, engine: FakeEngine, said: bytes
) -> None:
    pause = Pause()
    engine.play(said, pause, HANG)
    reading = asyncio.create_task(read(ask(http, engine)))
    await pause.reached.wait()
    pause.go.set()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await engine.gone.wait()


async def test_a_finished_answer_need_not_be_read_to_its_end(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    pause = Pause()
    engine.play(head() + chunk(b"done"), pause, END)
    async with ask(http, engine) as exchange:
        assert await exchange.read_some() == b"done"
        exchange.finish()
    pause.go.set()
    await clock.advance(LINGER_S / 2)
    assert clock.pending == 0
    engine.play(whole(b"two"))
    assert await read(ask(http, engine)) == b"two"
    assert engine.connections == 1


async def test_a_finished_answer_whose_end_does_not_come_is_closed(
    http: HttpClient, engine: FakeEngine, clock: ManualClock
) -> None:
    engine.play(head() + chunk(b"done"), HANG)
    async with ask(http, engine) as exchange:
        assert await exchange.read_some() == b"done"
        exchange.finish()
    assert not engine.gone.is_set()
    await clock.advance(LINGER_S)
    await engine.gone.wait()


async def test_a_connection_that_went_stale_is_replaced(
    http: HttpClient, engine: FakeEngine
) -> None:
    pause = Pause()
    engine.play(whole(b"one"), pause, CLOSE)
    assert await read(ask(http, engine)) == b"one"
    pause.go.set()
    engine.play(whole(b"two"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert await read(ask(http, engine)) == b"two"
    assert engine.connections == 2


async def test_an_idle_connection_that_is_reset_makes_no_noise(
    engine: FakeEngine, limits: Limits
) -> None:
    # The loop's own clock, which lets go of cancelled timers and of what they hold.
    http = HttpClient(timeouts=Timeouts(), limits=limits, clock=LoopClock())
    await http.start()
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    end, reset = Pause(), Pause()
    engine.play(head() + chunk(b"one"), end, END, reset, RESET)
    async with ask(http, engine) as exchange:
        assert await exchange.read_some() == b"one"
        end.go.set()
        assert await exchange.read_some() == b""
    reset.go.set()
    for _ in range(20):
        await asyncio.sleep(0)
    del exchange
    engine.play(whole(b"two"))
    assert await read(ask(http, engine)) == b"two"
    assert engine.connections == 2
    gc.collect()
    await http.close()
    assert complaints == []


async def test_a_connection_that_closes_on_the_next_request_is_untouched(
    http: HttpClient, engine: FakeEngine
) -> None:
    engine.play(whole(b"one"))
    engine.play(CLOSE)
    await read(ask(http, engine))
    with pytest.raises(UpstreamDisconnected) as caught:
        await read(ask(http, engine))
    assert caught.value.untouched
    assert engine.connections == 1


async def test_closing_the_client_ends_what_still_runs(
    http: HttpClient, engine: FakeEngine
) -> None:
    engine.play(head() + chunk(b"one"), HANG)
    async with ask(http, engine) as exchange:
        await exchange.read_some()
        reading = asyncio.create_task(exchange.read_some())
        await asyncio.sleep(0)
        await http.close()
        with pytest.raises(UpstreamDisconnected):
            await reading
    await engine.gone.wait()


# --- Small questions ------------------------------------------------------------------


async def test_a_question_gets_its_document(http: HttpClient, engine: FakeEngine) -> None:
    engine.play(whole(b'{"a": 1}'))
    assert await http.get_json(endpoint(engine.url, "/q")) == {"a": 1}
    assert engine.requests[0].method == "GET"


async def test_the_status_of_a_question_can_be_asked_for(
    http: HttpClient, engine: FakeEngine
) -> None:
    engine.play(whole(b"{}", 404))
    assert await http.ask("POST", endpoint(engine.url, "/q"), body=b"{}") == (404, None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (whole(b"{}", 500), UpstreamFailed),
        (whole(b"<html>"), UpstreamBadResponse),
        (whole(b""), UpstreamBadResponse),
        (whole(b"x" * 100_001), UpstreamBadResponse),
    ],
)
async def test_a_bad_answer_to_a_question_is_an_error(
    http: HttpClient, engine: FakeEngine, answer: bytes, error: type[GatewayError]
) -> None:
    engine.play(answer)
    with pytest.raises(error):
        await http.get_json(endpoint(engine.url, "/q"))


@pytest.mark.parametrize("said", [b"", head() + chunk(b"{")])
async def test_a_question_has_its_own_short_timeout(
    http: HttpClient, engine: FakeEngine, clock: ManualClock, said: bytes
) -> None:
    pause = Pause()
    engine.play(said, pause, HANG)
    asking = asyncio.create_task(http.get_json(endpoint(engine.url, "/q"), timeout_s=3.0))
    await pause.reached.wait()
    pause.go.set()
    await clock.advance(3.0)
    with pytest.raises(RequestTimeout):
        await asking
    await engine.gone.wait()


async def test_no_message_tells_where_the_engine_is(http: HttpClient, engine: FakeEngine) -> None:
    for steps in ((CLOSE,), (b"garbage\r\n\r\n", CLOSE), (head() + chunk(b"x"), CLOSE)):
        engine.play(*steps)
        with pytest.raises(GatewayError) as caught:
            await read(ask(http, engine))
        assert "127.0.0.1" not in caught.value.message
        assert "garbage" not in caught.value.message


async def test_a_client_that_was_closed_says_why_it_asks_nobody(
    http: HttpClient, engine: FakeEngine
) -> None:
    await http.close()
    with pytest.raises(UpstreamDisconnected, match="stopping"):
        await read(ask(http, engine))
    assert engine.connections == 0
