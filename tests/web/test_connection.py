"""Connections that are slow, silent, too many, or never read; over real sockets, on both loops."""

import asyncio

import pytest

from gateway.config.schema import Limits, Timeouts
from tests.web.raw import (
    GET_HEALTH,
    HANG_S,
    Client,
    Edge,
    FullTransport,
    assert_quiet,
    post,
    running,
)

HEAD_TIMEOUT_S = Timeouts().head_timeout_seconds


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def pass_time(edge: Edge, seconds: float) -> None:
    """As far as heads are concerned."""
    edge.server.cut_overdue(asyncio.get_running_loop().time() + seconds)


# --- Heads ---------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"GET /hea"])
async def test_who_sends_no_line_is_closed_without_a_word(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as edge:
        client = await edge.send(sent)
        await edge.settle()
        pass_time(edge, HEAD_TIMEOUT_S - 1.0)
        assert edge.closed.told == []
        pass_time(edge, HEAD_TIMEOUT_S + 1.0)
        assert await client.rest() == b""
        assert edge.closed.told == ["header_timeout"]
        assert edge.refusals.told == []
    assert caplog.records == []


async def test_who_sends_a_line_and_no_more_is_told_so() -> None:
    async with running() as edge:
        client = await edge.send(b"GET /health HTTP/1.1\r\nHost: loc")
        await edge.settle()
        pass_time(edge, HEAD_TIMEOUT_S + 1.0)
        reply = await client.some()
        assert reply.status == 408
        assert reply.error["code"] == "request_timeout"
        assert await client.rest() == b""
        assert edge.closed.told == ["header_timeout"]
        assert [error.reason for error in edge.refusals.told] == ["header_timeout"]


@pytest.mark.parametrize("line", [b"GET /health HTTP/1.1\r\n", b"GET /hea"])
async def test_a_line_that_came_with_the_connection_is_one_that_was_read(line: bytes) -> None:
    """It was lost when it came before aiohttp's task of the connection had begun."""
    async with running() as edge:
        connection = edge.server()
        connection.connection_made(FullTransport(waiting=0))
        connection.data_received(line)
        await edge.settle()
        pass_time(edge, HEAD_TIMEOUT_S + 1.0)
        await edge.settle()
        told = [error.status for error in edge.refusals.told]
        assert told == ([408] if line.endswith(b"\n") else [])
        connection.connection_lost(None)


async def test_a_header_now_and_then_does_not_move_the_deadline() -> None:
    async with running() as edge:
        client = await edge.send(b"GET /health HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 5)
        await edge.settle()
        pass_time(edge, HEAD_TIMEOUT_S + 1.0)
        assert (await client.some()).status == 408


async def test_the_deadline_of_a_head_comes_by_itself() -> None:
    async with running(timeouts=Timeouts(head_timeout_seconds=0.02)) as edge:
        first = await edge.send(b"")
        second = await edge.send(b"GET / HTTP/1.1\r\n")
        assert await first.rest() == b""
        assert (await second.some()).status == 408


async def test_the_deadline_is_for_the_first_head_alone() -> None:
    async with running() as edge:
        client = await edge.send(GET_HEALTH)
        await client.some()
        client.send(GET_HEALTH[:20])
        await edge.settle()
        pass_time(edge, HEAD_TIMEOUT_S + 1.0)
        client.send(GET_HEALTH[20:])
        assert (await client.some()).status == 200


async def test_an_endless_head_is_refused_before_its_deadline() -> None:
    async with running() as edge:
        client = await edge.send(b"GET / HTTP/1.1\r\n")
        for number in range(9):
            await edge.settle()
            client.send(b"X-%d: " % number + b"a" * 4000 + b"\r\n")
        assert (await client.some()).status == 431


# --- Idle ----------------------------------------------------------------------


async def test_an_idle_connection_is_closed() -> None:
    async with running(timeouts=Timeouts(keepalive_timeout_seconds=0.02)) as edge:
        client = await edge.send(GET_HEALTH)
        assert (await client.some()).status == 200
        assert await client.rest() == b""
        assert edge.closed.told == ["keepalive_timeout"]


async def test_a_connection_is_not_idle_while_its_request_runs() -> None:
    async with running(timeouts=Timeouts(keepalive_timeout_seconds=0.02)) as edge:
        client = await edge.send(get("/wait"))
        await edge.entered.wait()
        await asyncio.sleep(0.05)
        edge.release.set()
        assert (await client.some()).body == b"released"


# --- Clients who leave -----------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort", "half-close"])
async def test_who_leaves_ends_its_request(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running() as edge:
        client = await edge.send(get("/wait"))
        await edge.entered.wait()
        match how:
            case "close":
                client.writer.close()
            case "abort":
                client.writer.transport.abort()
            case _:
                client.writer.write_eof()
        async with asyncio.timeout(HANG_S):
            await edge.left.wait()
    assert_quiet(caplog)


async def test_who_leaves_within_its_body_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as edge:
        client = await edge.send(post(b"hello")[:-1])
        await edge.entered.wait()
        client.writer.write_eof()
        async with asyncio.timeout(HANG_S):
            await edge.left.wait()
    assert_quiet(caplog)


# --- Clients who don't read -------------------------------------------------------


@pytest.mark.parametrize("path", ["/endless", "/big"])
async def test_who_never_reads_is_cut_off(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running(timeouts=Timeouts(write_timeout_seconds=0.04)) as edge:
        client = await edge.connect(limit=1)
        client.send(get(path))
        await edge.closed.until("write_stall")
        if path == "/endless":
            async with asyncio.timeout(HANG_S):
                await edge.left.wait()
        assert (await edge.ask(GET_HEALTH)).status == 200
    assert_quiet(caplog)


async def test_the_last_bytes_of_a_closed_connection_are_not_waited_for_for_ever() -> None:
    async with running(timeouts=Timeouts(write_timeout_seconds=0.02)) as edge:
        transport = FullTransport()
        connection = edge.server()
        connection.connection_made(transport)
        connection.force_close()
        assert transport.is_closing()
        await edge.closed.until("write_stall")
        assert transport.aborted
        connection.connection_lost(None)


# --- Too many ---------------------------------------------------------------------

FEW = Limits(connections_max=3, connections_reserved=1)


async def busy(edge: Edge, count: int) -> None:
    """So many connections have a request that runs."""
    for _ in range(count):
        edge.entered.clear()
        await edge.send(get("/wait"))
        await edge.entered.wait()


async def test_the_oldest_silent_connection_gives_way() -> None:
    async with running(limits=FEW) as edge:
        await busy(edge, 1)
        oldest, second = await edge.send(b""), await edge.send(b"")
        reply = await edge.ask(GET_HEALTH)
        assert reply.status == 200
        assert await oldest.rest() == b""
        assert edge.closed.told == ["evicted"]
        second.send(GET_HEALTH)
        assert (await second.some()).status == 200


async def test_health_is_answered_while_everything_is_taken() -> None:
    async with running(limits=FEW) as edge:
        await busy(edge, 3)
        client = await edge.send(GET_HEALTH)
        assert (await client.some()).status == 200
        client.send(get("/wait"))
        reply = await client.some()
        assert reply.status == 503
        assert reply.error["code"] == "too_many_connections"
        assert reply.headers["retry-after"] == "1"
        assert edge.closed.told == ["too_many_connections"]


async def test_beyond_the_reserve_connections_are_refused_at_once() -> None:
    async with running(limits=FEW) as edge:
        await busy(edge, 3)
        kept = await edge.send(GET_HEALTH)
        assert (await kept.some()).status == 200
        beyond: Client = await edge.connect()
        assert (await beyond.some()).status == 503
        assert await beyond.rest() == b""
        kept.send(GET_HEALTH)
        assert (await kept.some()).status == 200


async def test_a_flood_of_silent_connections_does_not_keep_health_from_answering() -> None:
    async with running(limits=FEW) as edge:
        await busy(edge, 2)
        for _ in range(50):
            await edge.send(b"")
        assert (await edge.ask(GET_HEALTH)).status == 200
        assert len(edge.server.connections) <= 5


async def test_one_address_with_too_many_connections_is_told_so_and_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Loopback is exempt; here 127.0.0.1 stands for a client from elsewhere.
    monkeypatch.setattr(
        "gateway.web.limits._network", lambda address: "" if address == "127.0.0.2" else address
    )
    async with running(limits=Limits(connections_per_address_max=1)) as edge:
        assert (await edge.ask(GET_HEALTH)).status == 200
        second = await edge.connect()
        reply = await second.some()
        assert reply.status == 429
        assert reply.error["code"] == "too_many_connections"
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["x-gateway-queue-ms"] == "0"
        assert await second.rest() == b""
        other = await edge.connect(local_addr=("127.0.0.2", 0))
        other.send(GET_HEALTH)
        assert (await other.some()).status == 200
