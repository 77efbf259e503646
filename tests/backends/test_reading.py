"""Reading against aiohttp's own readany on a real connection: the same bytes."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from gateway.backends.reading import arrival, take

PIECES = [b"a", b"bc", b"d" * 200_000, b"", b"e" * 7, *[b"token "] * 500]


async def serve_pieces(web_request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(web_request)
    for piece in PIECES:
        if piece:
            await answer.write(piece)
        else:
            await asyncio.sleep(0)
    return answer


async def serve_nothing(_: web.Request) -> web.Response:
    return web.Response(status=204)


async def serve_cut(web_request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(web_request)
    await answer.write(b"begun")
    assert web_request.transport is not None
    web_request.transport.abort()
    return answer


@pytest.fixture
async def client(aiohttp_client: object) -> aiohttp.ClientSession:
    app = web.Application()
    app.router.add_get("/pieces", serve_pieces)
    app.router.add_get("/nothing", serve_nothing)
    app.router.add_get("/cut", serve_cut)
    return await aiohttp_client(app)  # type: ignore[operator, no-any-return]


async def read_any(content: aiohttp.StreamReader) -> bytes:
    while (arriving := arrival(content)) is not None:
        await arriving
    return take(content)


async def read_all(content: aiohttp.StreamReader) -> bytes:
    received = bytearray()
    while piece := await read_any(content):
        received += piece
    return bytes(received)


async def test_a_body_of_many_chunks_larger_than_the_buffer_comes_whole(
    client: aiohttp.ClientSession,
) -> None:
    async with client.get("/pieces", read_bufsize=1024) as response:
        assert await read_all(response.content) == b"".join(PIECES)
        assert response.content.at_eof()


async def test_the_connection_is_used_again_afterwards(client: aiohttp.ClientSession) -> None:
    for _ in range(3):
        async with client.get("/pieces") as response:
            assert len(await read_all(response.content)) == len(b"".join(PIECES))
            assert response.connection is None


async def test_it_can_take_turns_with_reads_that_leave_a_rest(
    client: aiohttp.ClientSession,
) -> None:
    async with client.get("/pieces") as response:
        begin = await response.content.readexactly(2)
        assert begin + await read_all(response.content) == b"".join(PIECES)


async def test_an_answer_without_a_body_is_empty(client: aiohttp.ClientSession) -> None:
    async with client.get("/nothing") as response:
        assert await read_any(response.content) == b""


async def test_a_broken_body_raises(client: aiohttp.ClientSession) -> None:
    async with client.get("/cut") as response:
        with pytest.raises(aiohttp.ClientError):
            await read_all(response.content)
