"""Bodies that are slow, stalled, or too many at once, over real sockets."""

import asyncio

import pytest

from gateway.config.schema import Limits, Timeouts
from gateway.core.errors import MemoryPressure
from gateway.web.body import BodyBudget
from tests.web.raw import GET_HEALTH, Edge, assert_quiet, post, running

KIB = 1024


def test_what_a_body_held_is_given_back_on_every_way_out() -> None:
    budget = BodyBudget(10)
    with budget.share() as one:
        one.grow(6)
        with budget.share() as other:
            other.grow(4)
            with pytest.raises(MemoryPressure) as caught:
                other.grow(1)
        assert caught.value.retry_after_s
        assert budget.bytes_in_flight == 6
    assert budget.bytes_in_flight == 0


async def test_half_a_body_is_a_timeout_and_the_end() -> None:
    async with running(timeouts=Timeouts(body_timeout_seconds=0.02)) as edge:
        client = await edge.send(post(b"hello")[:-2])
        reply = await client.some()
        assert reply.status == 408
        assert reply.error["code"] == "request_timeout"
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""
        assert edge.closed.told == ["body_timeout"]
        assert edge.budget.bytes_in_flight == 0


async def test_a_body_byte_by_byte_has_one_deadline() -> None:
    async with running(timeouts=Timeouts(body_timeout_seconds=0.05)) as edge:
        client = await edge.send(post(bytes(1_000_000))[:200])
        answer = asyncio.create_task(client.some())
        while not answer.done():
            client.send(b"a")
            await asyncio.sleep(0.002)
        assert answer.result().status == 408


async def stalled(edge: Edge, size: int) -> None:
    """A client that has sent all of its body but the end."""
    await edge.send(post(bytes(size))[:-10])
    await edge.settle()


async def test_bodies_over_their_common_budget_are_refused_for_now(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(body_bytes_max=64 * KIB, bodies_in_flight_bytes_max=100 * KIB)
    async with running(limits=limits) as edge:
        await stalled(edge, 60 * KIB)
        await stalled(edge, 30 * KIB)
        assert 80 * KIB < edge.budget.bytes_in_flight <= 100 * KIB
        reply = await edge.ask(post(bytes(60 * KIB))[:-10])
        assert reply.status == 503
        assert reply.error["code"] == "memory_pressure"
        assert reply.headers["retry-after"] == "1"
        assert 80 * KIB < edge.budget.bytes_in_flight <= 100 * KIB
        assert (await edge.ask(GET_HEALTH)).status == 200
        assert (await edge.ask(post(b"hello"))).status == 200, "it is there at once"
    assert edge.budget.bytes_in_flight == 0
    assert_quiet(caplog)


async def test_a_client_that_leaves_within_its_body_gives_its_share_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as edge:
        await stalled(edge, 60 * KIB)
        edge.left.clear()
        edge.clients[0].writer.transport.abort()
        await edge.left.wait()
        assert edge.budget.bytes_in_flight == 0
    assert_quiet(caplog)
