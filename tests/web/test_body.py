"""Bodies that are slow, stalled, compressed, or too many at once, over real sockets."""

import asyncio
import gzip
import zlib

import pytest

from gateway.config.schema import Limits, Timeouts
from gateway.core.errors import MemoryPressure
from gateway.web.body import BodyBudget, BodyShare
from gateway.web.inflate import STEP_BYTES
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


# --- Compressed ones -------------------------------------------------------------

MIB = 1024 * KIB


def bomb(size: int) -> bytes:
    """Gzip of so many zeros, made of one block again and again; its checksum is wrong."""
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * (size // MIB) + compressor.flush() + bytes(8)


@pytest.mark.parametrize(
    ("coding", "compress"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress)],
)
@pytest.mark.parametrize("size", [0, 5, 300 * KIB])
async def test_a_compressed_body_is_inflated(coding, compress, size: int) -> None:  # type: ignore[no-untyped-def]
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with running(limits=Limits(body_bytes_max=300 * KIB)) as edge:
        whole = post(compress(body), f"Content-Encoding: {coding}")
        reply = await edge.ask(whole)
        assert (reply.status, reply.body) == (200, body)
        reply = await edge.ask(whole[:-7], whole[-7:])
        assert (reply.status, reply.body) == (200, body)
    assert edge.budget.bytes_in_flight == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (gzip.compress(b"hello")[:-1], "invalid_content_encoding"),
        (gzip.compress(b"hello") + b"x", "invalid_content_encoding"),
        (b"{}", "invalid_content_encoding"),
        (b"", "invalid_content_encoding"),
        (gzip.compress(bytes(64 * KIB + 1)), "request_too_large"),
        (gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 14_000, "request_too_large"),
    ],
    ids=["cut short", "garbage after it", "not gzip", "nothing", "one byte too many", "all blocks"],
)
async def test_what_is_wrong_with_a_compressed_body_is_told(body: bytes, code: str) -> None:
    async with running(limits=Limits(body_bytes_max=64 * KIB)) as edge:
        reply = await edge.ask(post(body, "Content-Encoding: gzip"))
        assert reply.error["code"] == code
        assert (await edge.ask(GET_HEALTH)).status == 200
    assert edge.budget.bytes_in_flight == 0


async def test_a_bomb_is_inflated_up_to_the_bound_and_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[int] = []
    grow = BodyShare.grow

    def watched(share: BodyShare, size: int) -> None:
        grow(share, size)
        held.append(size)

    monkeypatch.setattr(BodyShare, "grow", watched)
    async with running(limits=Limits(body_bytes_max=2 * MIB)) as edge:
        gigabyte = bomb(1024 * MIB)
        assert len(gigabyte) < 1.1 * MIB
        reply = await edge.ask(post(gigabyte, "Content-Encoding: gzip"))
        assert reply.status == 413
        assert reply.error["code"] == "request_too_large"
    assert sum(held) <= 2 * MIB
    assert edge.budget.bytes_in_flight == 0


async def test_others_go_on_while_a_body_is_inflated() -> None:
    turns = 0
    stop = asyncio.Event()

    async def somebody_else() -> None:
        nonlocal turns
        while not stop.is_set():
            await asyncio.sleep(0)
            turns += 1

    async with running(limits=Limits(body_bytes_max=32 * MIB)) as edge:
        other = asyncio.create_task(somebody_else())
        reply = await edge.ask(post(bomb(33 * MIB), "Content-Encoding: gzip"))
        assert reply.status == 413
        stop.set()
        await other
    assert turns >= 32 * MIB / STEP_BYTES


async def test_what_is_inflated_counts_in_the_common_budget() -> None:
    limits = Limits(body_bytes_max=64 * KIB, bodies_in_flight_bytes_max=100 * KIB)
    small = gzip.compress(bytes(60 * KIB))
    async with running(limits=limits) as edge:
        await stalled(edge, 60 * KIB)
        reply = await edge.ask(post(small, "Content-Encoding: gzip"))
        assert reply.error["code"] == "memory_pressure"
