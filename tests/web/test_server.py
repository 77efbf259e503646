"""The end: nobody who was accepted is lost, and nothing holds it up."""

import asyncio
import socket

import pytest
from aiohttp import web

from tests.web.raw import GET_HEALTH, HANG_S, FullTransport, assert_quiet, post, running
from tests.web.test_connection import get


async def test_an_idle_connection_may_send_one_more_request_during_the_drain() -> None:
    async with running() as edge:
        client = await edge.send(GET_HEALTH)
        await client.some()
        edge.runner.begin_drain()
        client.send(GET_HEALTH)
        reply = await client.some()
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_an_idle_connection_ends_at_the_end() -> None:
    async with running() as edge:
        client = await edge.send(GET_HEALTH)
        await client.some()
        await edge.runner.cleanup()
        assert await client.rest() == b""


async def test_a_stream_that_began_before_the_drain_keeps_its_promise_of_the_connection() -> None:
    async with running() as edge:
        client = await edge.send(get("/stream"))
        await edge.entered.wait()
        edge.runner.begin_drain()
        edge.release.set()
        assert (await client.some()).status == 200
        await client.reader.readuntil(b"0\r\n\r\n")
        client.send(GET_HEALTH)
        reply = await client.some()
        assert reply.status == 200
        assert reply.headers["connection"] == "close"


async def test_a_running_request_is_answered_and_its_connection_closed() -> None:
    async with running() as edge:
        client = await edge.send(get("/wait"))
        await edge.entered.wait()
        edge.runner.begin_drain()
        edge.release.set()
        reply = await client.some()
        assert reply.body == b"released"
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_body_may_come_to_its_end_during_the_drain() -> None:
    async with running() as edge:
        client = await edge.send(post(b"hello")[:-2])
        await edge.entered.wait()
        edge.runner.begin_drain()
        client.send(b"lo")
        assert (await client.some()).body == b"hello"


@pytest.mark.parametrize("sent", [0, 20])
async def test_a_request_on_its_way_is_still_heard_during_the_drain(sent: int) -> None:
    async with running() as edge:
        client = await edge.send(GET_HEALTH[:sent])
        await edge.settle()
        edge.runner.begin_drain()
        client.send(GET_HEALTH[sent:])
        reply = await client.some()
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_who_was_accepted_just_before_the_end_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(settle_s=0.05) as edge:
        client = await edge.send(GET_HEALTH)
        await edge.runner.cleanup()
        assert (await client.some()).status == 200
    assert_quiet(caplog)


@pytest.mark.parametrize("made", ["before the others close", "after the others closed"])
async def test_who_was_accepted_at_the_end_and_says_nothing_does_not_hold_it_up(made: str) -> None:
    async with running() as edge:
        transport = FullTransport(waiting=0)
        connection = edge.server()
        if made == "before the others close":
            connection.connection_made(transport)
        edge.server.pre_shutdown()
        if made == "after the others closed":
            connection.connection_made(transport)
        # The application's own shutdown comes between, and lets the loop turn.
        await asyncio.sleep(0)
        async with asyncio.timeout(1.0):
            await edge.server.shutdown(timeout=60.0)
        assert transport.is_closing()
        connection.connection_lost(None)


async def test_no_new_connection_is_accepted_after_listening_ends() -> None:
    async with running() as edge:
        client = await edge.send(get("/wait"))
        await edge.entered.wait()
        await edge.runner.stop_listening()
        with pytest.raises(OSError):  # noqa: PT011  # Refused or reset, as the moment is.
            await edge.ask(GET_HEALTH)
        edge.release.set()
        assert (await client.some()).body == b"released"


async def test_what_still_runs_after_the_grace_is_cancelled() -> None:
    async with running(shutdown_timeout_s=0.02) as edge:
        await edge.send(get("/wait"))
        await edge.entered.wait()
        async with asyncio.timeout(HANG_S):
            await edge.runner.cleanup()
        assert edge.left.is_set()


# --- A listening socket that outlives the process ----------------------------------


async def test_each_connection_is_answered_once_more_before_it_is_handed_over() -> None:
    async with running() as edge:
        client = await edge.send(GET_HEALTH)
        await client.some()
        over = asyncio.create_task(edge.runner.hand_over(HANG_S))
        await asyncio.sleep(0)
        client.send(GET_HEALTH)
        reply = await client.some()
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        # And then nobody is waited for.
        async with asyncio.timeout(HANG_S / 2):
            await over


async def test_who_asks_nothing_is_closed_so_that_it_connects_to_the_next_process() -> None:
    async with running() as edge:
        asked = await edge.send(GET_HEALTH)
        await asked.some()
        silent = await edge.send(b"")
        await edge.settle()
        await edge.runner.hand_over(0.05)
        assert await asked.rest() == b""
        assert await silent.rest() == b""


async def test_what_runs_is_not_waited_for_and_not_disturbed_by_the_hand_over() -> None:
    async with running() as edge:
        client = await edge.send(get("/wait"))
        begun = await edge.send(GET_HEALTH[:20])
        await edge.entered.wait()
        async with asyncio.timeout(HANG_S / 2):
            await edge.runner.hand_over(HANG_S)
        edge.release.set()
        assert (await client.some()).body == b"released"
        begun.send(GET_HEALTH[20:])
        assert (await begun.some()).status == 200


async def test_a_stream_that_began_before_the_hand_over_closes_its_connection() -> None:
    async with running() as edge:
        client = await edge.send(get("/stream"))
        await edge.entered.wait()
        await edge.runner.hand_over(0.0)
        edge.release.set()
        assert (await client.rest()).endswith(b"released\r\n0\r\n\r\n")


async def test_whoever_connects_during_the_hand_over_waits_for_the_next_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as kept:
        async with running() as first:
            await web.SockSite(first.runner, kept.dup()).start()
            await first.runner.hand_over(0.0)
            _, port = kept.getsockname()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET_HEALTH)
        # The first process is gone; nobody was there when this one came.
        async with running() as second, asyncio.timeout(HANG_S):
            await web.SockSite(second.runner, kept.dup()).start()
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_who_is_connected_is_counted() -> None:
    async with running() as edge:
        assert edge.runner.connections == 0
        first, second = await edge.send(GET_HEALTH), await edge.send(GET_HEALTH)
        assert (await first.some()).status == (await second.some()).status == 200
        assert edge.runner.connections == 2
        first.writer.close()
        async with asyncio.timeout(HANG_S):
            while edge.runner.connections > 1:  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0)
