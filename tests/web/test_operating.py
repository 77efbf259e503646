"""What operators do with models, over a socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from gateway.config.schema import Auth, Backend, CallerSettings, ModelSettings, Server
from tests.backends.fake_engine import Pause
from tests.e2e.house import ANY_WAIT, KEY, WITH_KEY, Answer, House, opened, say, until
from tests.e2e.ollama import ScriptedOllama

PATHS: Final = ["/gateway/models/load", "/gateway/models/unload"]


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as engine:
        yield engine


async def move(house: House, word: str, **body: Any) -> Answer:
    return await house.post(json.dumps(body).encode(), path=f"/gateway/models/{word}")


async def test_a_model_is_loaded_and_put_out(engine: ScriptedOllama) -> None:
    engine.loading = Pause()
    async with opened(engine, models={"quick": ModelSettings(target="m")}) as house:
        assert not house.daemon.pool.upstreams[0].holds("m")
        loading = asyncio.create_task(move(house, "load", model="quick"))
        await engine.loading.reached.wait()
        assert (await house.get("/gateway/status")).document["upstreams"][0][
            "loading"
        ] == "m:latest"
        engine.loading.go.set()
        loaded = await loading
        assert loaded.status == 200
        assert (loaded.document["model"], loaded.document["loaded"]) == ("quick", True)
        assert house.daemon.pool.upstreams[0].holds("m")
        assert engine.chats == 0, "nothing was computed"

        gone = await move(house, "unload", model="m")
        assert (gone.status, gone.document["loaded"]) == (200, False)
        assert not house.daemon.pool.upstreams[0].holds("m")
        house.assert_at_rest()


async def test_a_load_waits_for_its_turn(engine: ScriptedOllama) -> None:
    engine.play(pause := Pause())
    async with opened(engine, scheduling=ANY_WAIT) as house:
        running = asyncio.create_task(house.chat(say("hi")))
        await pause.reached.wait()
        loading = asyncio.create_task(move(house, "load", model="m"))
        await until(lambda: house.daemon.queue.qsize() == 1)
        assert not loading.done()
        running.cancel()
        assert (await loading).status == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None),
        (b"[]", 400, None),
        (b"{}", 422, "model"),
        (b'{"model": 3}', 422, "model"),
        (b'{"model": "../../etc/passwd"}', 422, "model"),
        (b'{"model": "m", "keep_alive": 0}', 422, "keep_alive"),
        (b'{"model": "nobody-has-this"}', 404, "model"),
    ],
)
async def test_what_is_wrong_is_said(
    path: str, body: bytes, status: int, param: str | None
) -> None:
    async with opened() as house:
        refused = await house.post(body, path=path)
        assert (refused.status, refused.error["param"]) == (status, param)


@pytest.mark.parametrize("path", PATHS)
async def test_what_pages_of_other_sites_can_send_unasked_is_not_read(path: str) -> None:
    async with opened() as house:
        plain = {"Content-Type": "text/plain"}
        assert (await house.post(b'{"model": "echo"}', plain, path=path)).status == 415


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_for_operators(path: str) -> None:
    keyed: dict[str, Any] = {
        "auth": Auth(keys={"user": KEY}),
        "callers": {"user": CallerSettings(manage_models=True)},
        "server": Server(local_admin=False),
    }
    async with opened(**keyed) as house:
        body = b'{"model": "echo"}'
        assert (await house.post(body, path=path)).status == 401
        assert (await house.post(body, WITH_KEY, path=path)).error["code"] == "not_permitted"


async def test_an_engine_that_keeps_its_models_says_so() -> None:
    async with opened() as house:
        assert (await move(house, "load", model="echo")).status == 200
        refused = await move(house, "unload", model="echo")
        assert refused.error["code"] == "not_supported"


async def test_an_engine_that_is_gone_is_told_of(engine: ScriptedOllama) -> None:
    backend = Backend(kind="ollama", url=engine.url, slots=1)
    async with opened(engine, backend=backend) as house:
        engine.leave()
        refused = await move(house, "unload", model="m")
        assert (refused.status, refused.error["code"]) == (502, "backend_error")
