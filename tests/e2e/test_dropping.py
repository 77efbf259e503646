"""A connection that is lost on the way, and a client that sends its request once more: the
engine writes one answer, and the client gets it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import openai
import pytest

from gateway.config.schema import Auth, Queue, Scheduling
from tests.backends.fake_engine import HANG, Pause, chunk, head
from tests.e2e.house import Body, House, http_chat, opened, short, until
from tests.e2e.ollama import HELLO, ScriptedOllama, line
from tests.e2e.test_openai_python import HI
from tests.web.raw import HANG_S, Client

PARTLY: Final = head() + chunk(line("oh "))
REST: Final = HELLO.removeprefix(head())
PATIENT: Final = Scheduling(rejoin_seconds=HANG_S)
FIRST_TRY: Final = {"x-stainless-retry-count": "0"}
SECOND_TRY: Final = {"x-stainless-retry-count": "1"}


class Cuttable:
    """A proxy that passes bytes on, until its connections are cut."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Its URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._port)
        both = {writer, to_writer}
        self._writers |= both
        try:
            await asyncio.gather(_pass_on(reader, to_writer), _pass_on(to_reader, writer))
        finally:
            self._writers -= both
            for one in both:
                one.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@attrs.define(eq=False)
class Scene:
    """An answer that has begun and waits to go on."""

    house: House
    engine: ScriptedOllama
    midway: Pause

    async def begin(self, body: Body) -> Client:
        """The first try of a client whose tries are counted."""
        client = await self.house.send(http_chat(body, "x-stainless-retry-count: 0"))
        await self.engine.wait_asked(1)
        await self.midway.reached.wait()
        return client

    async def left(self) -> None:
        """Until it was noticed that the client is gone, whose answer goes on."""
        running = self.house.daemon.rejoin._running
        await until(lambda: any(recording.free for recording in running))


@asynccontextmanager
async def midway(
    engine: ScriptedOllama, scheduling: Scheduling = PATIENT, **tables: Any
) -> AsyncIterator[Scene]:
    pause = Pause()
    engine.play(PARTLY, pause, REST)
    async with opened(engine, scheduling=scheduling, **tables) as house, asyncio.timeout(HANG_S):
        yield Scene(house, engine, pause)


def leave(client: Client) -> None:
    client.writer.transport.abort()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_second_try_gets_the_answer_of_the_first(
    engine: ScriptedOllama, stream: bool
) -> None:
    async with midway(engine) as scene:
        body = short("hi", stream=stream)
        leave(await scene.begin(body))
        await scene.left()
        asking = asyncio.create_task(scene.house.chat(body, SECOND_TRY))
        await until(lambda: scene.house.daemon.service.active == 2)
        scene.midway.go.set()
        answer = await asking
        statuses = sorted(exchange.status for exchange in await scene.house.told.wait(2))
        scene.house.assert_at_rest()
        metrics = await scene.house.metrics()
    assert answer.status == 200
    assert answer.headers["x-gateway-rejoined"] == "1"
    assert (answer.streamed_text if stream else answer.text) == "oh hello"
    assert engine.chats == 1
    assert statuses == [200, 499]
    assert metrics["gateway_requests_accepted_total"] == 2
    assert metrics["gateway_requests_completed_total"] == 1
    assert metrics["gateway_requests_cancelled_total"] == 1


async def test_it_can_be_had_after_its_end_as_well(engine: ScriptedOllama) -> None:
    async with midway(engine) as scene:
        leave(await scene.begin(short("hi")))
        await scene.left()
        scene.midway.go.set()
        await scene.house.told.wait(1)
        scene.house.assert_at_rest()
        answer = await scene.house.chat(short("hi"), SECOND_TRY)
    assert (answer.text, answer.headers["x-gateway-rejoined"]) == ("oh hello", "1")
    assert engine.chats == 1


async def test_an_answer_that_was_lost_on_its_last_yard_is_given_again(
    engine: ScriptedOllama,
) -> None:
    """As far as can be seen from here it was delivered."""
    async with opened(engine) as house:
        assert (await house.chat(short("hi"), FIRST_TRY)).text == "hello"
        again = await house.chat(short("hi"), SECOND_TRY)
    assert (again.text, again.headers["x-gateway-rejoined"]) == ("hello", "1")
    assert engine.chats == 1


async def test_a_second_try_needs_no_place_in_the_queue(engine: ScriptedOllama) -> None:
    async with midway(engine, queue=Queue(max_queue_size=0)) as scene:
        leave(await scene.begin(short("hi")))
        await scene.left()
        assert (await scene.house.chat(short("another"))).status == 503
        asking = asyncio.create_task(scene.house.chat(short("hi"), SECOND_TRY))
        await until(lambda: scene.house.daemon.service.active == 2)
        scene.midway.go.set()
        assert (await asking).text == "oh hello"
    assert engine.chats == 1


async def test_another_key_never_gets_it(engine: ScriptedOllama) -> None:
    keys = {"me": "sk-mine-0123456789abcdef", "somebody": "sk-other-0123456789abcdef"}
    mine, other = [{"Authorization": f"Bearer {key}"} for key in keys.values()]
    async with midway(engine, auth=Auth(keys=keys)) as scene:
        asking = asyncio.create_task(scene.house.chat(short("hi"), {**mine, **FIRST_TRY}))
        await scene.midway.reached.wait()
        asking.cancel()
        await scene.left()
        stranger = asyncio.create_task(scene.house.chat(short("hi"), {**other, **SECOND_TRY}))
        await until(lambda: scene.house.daemon.queue.qsize() == 1)
        scene.midway.go.set()
        answer = await stranger
    assert answer.text == "hello"
    assert "x-gateway-rejoined" not in answer.headers
    assert engine.chats == 2


async def test_when_nobody_comes_back_the_engine_is_stopped(engine: ScriptedOllama) -> None:
    engine.play(PARTLY, HANG)
    async with opened(engine, scheduling=Scheduling(rejoin_seconds=0.1)) as house:
        async with asyncio.timeout(HANG_S):
            client = await house.send(
                http_chat(short("hi", stream=True), "x-stainless-retry-count: 0")
            )
            await client.reader.readuntil(b'"oh "')
            leave(client)
            await engine.gone.wait()
            (exchange,) = await house.told.wait(1)
        house.assert_at_rest()
    assert exchange.record is not None
    assert (exchange.status, exchange.record.outcome) == (499, "cancelled")


async def test_a_client_that_does_not_say_that_it_comes_back_is_not_waited_for(
    engine: ScriptedOllama,
) -> None:
    engine.play(PARTLY, HANG)
    async with opened(engine, scheduling=PATIENT) as house, asyncio.timeout(HANG_S):
        client = await house.send(http_chat(short("hi", stream=True)))
        await client.reader.readuntil(b'"oh "')
        leave(client)
        await engine.gone.wait()
        await house.told.wait(1)
        house.assert_at_rest()


async def test_a_drain_does_not_wait_for_who_has_left(engine: ScriptedOllama) -> None:
    async with midway(engine, Scheduling(rejoin_seconds=0.2)) as scene:
        leave(await scene.begin(short("hi")))
        await scene.left()
        scene.house.daemon.service.begin_drain()
        await scene.house.daemon.service.wait_idle()
        scene.house.assert_at_rest()


@pytest.mark.slow
@pytest.mark.parametrize("before", ["the first word", "the end"])
async def test_openai_python_whose_connection_is_cut_asks_the_engine_once(
    engine: ScriptedOllama, before: str
) -> None:
    """It waits half a second and tries again by itself; nobody above it hears of the accident."""
    pause = Pause()
    engine.play(*((pause, HELLO) if before == "the first word" else (PARTLY, pause, REST)))
    async with opened(engine, scheduling=PATIENT) as house, asyncio.timeout(HANG_S):
        proxy = Cuttable(house.port)
        async with (
            proxy.serve() as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=2) as client,
        ):
            raw = client.chat.completions.with_raw_response
            asking = asyncio.ensure_future(raw.create(model="m", messages=HI, max_tokens=2))
            await pause.reached.wait()
            proxy.cut()
            await until(lambda: house.daemon.service.active == 2)
            pause.go.set()
            reply = await asking
        assert (reply.parse().choices[0].message.content or "").endswith("hello")
        assert reply.headers["x-gateway-rejoined"] == "1"
        await house.told.wait(2)
        house.assert_at_rest()
    assert proxy.connections == 2
    assert engine.chats == 1
