import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pytest

from gateway.config.schema import Auth, Backend, CallerSettings, Limits
from gateway.web import management
from gateway.web.management import TRANSFERS_AT_ONCE
from tests.e2e.house import KEY, WITH_KEY, Answer, House, opened, until
from tests.web.managed_ollama import STEPS, ManagedOllama, managed_ollama

MANAGER: Final = {"anonymous": CallerSettings(manage_models=True)}
FILE: Final = bytes(range(256)) * 3500
DIGEST: Final = f"sha256:{hashlib.sha256(FILE).hexdigest()}"

COMMANDS: Final = [
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("HEAD", f"/api/blobs/{DIGEST}"),
    ("POST", f"/api/blobs/{DIGEST}"),
]


@pytest.fixture
async def engine() -> AsyncIterator[ManagedOllama]:
    async with managed_ollama() as engine:
        yield engine


def serving(engine: ManagedOllama, **tables: Any) -> AbstractAsyncContextManager[House]:
    """A gateway before it, for one who may manage its models unless it says otherwise."""
    tables.setdefault("callers", MANAGER)
    return opened(backend=Backend(kind="ollama", url=engine.url, slots=1), **tables)


async def pull(house: House, model: str = "new", **fields: Any) -> Answer:
    return await house.post(json.dumps({"model": model, **fields}).encode(), path="/api/pull")


# --- Who may ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), COMMANDS)
async def test_nobody_manages_models_who_was_not_told_so(
    engine: ManagedOllama, method: str, path: str
) -> None:
    async with serving(engine, callers={}) as house:
        answer = await house.ask(method, path, data=b'{"model": "new"}')
        assert answer.status == 403
        if method != "HEAD":
            assert "manage_models" in answer.document["error"]
    assert engine.asked == []
    assert engine.blobs == {}


async def test_a_key_may_manage_and_another_not(engine: ManagedOllama) -> None:
    auth = Auth(api_key=KEY, keys={"other": "sk-other-0123456789abcdef"})
    callers = {"default": CallerSettings(manage_models=True)}
    async with serving(engine, auth=auth, callers=callers) as house:
        for key, status in ((KEY, 200), ("sk-other-0123456789abcdef", 403), ("wrong", 401)):
            headers = {"Authorization": f"Bearer {key}"}
            answer = await house.post(b'{"model": "new"}', headers, path="/api/copy")
            assert answer.status == status
    assert len(engine.asked) == 1


@pytest.mark.parametrize(("method", "path"), COMMANDS)
async def test_where_no_engine_is_an_ollama_there_is_nothing_to_manage(
    method: str, path: str
) -> None:
    async with opened(callers=MANAGER) as house:
        assert (await house.ask(method, path, data=b"{}")).status == 501


# --- What is passed on ---------------------------------------------------------------------------


async def test_progress_is_passed_on_and_the_model_is_there_when_it_ends(
    engine: ManagedOllama,
) -> None:
    async with serving(engine) as house:
        answer = await pull(house, insecure=False)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert answer.body == b"".join(STEPS)
        assert engine.asked == [("POST", "/api/pull", {"model": "new", "insecure": False})]
        (upstream,) = house.daemon.pool.upstreams
        assert upstream.serves("new")
        house.assert_at_rest()


async def test_each_step_is_passed_on_as_it_comes(engine: ManagedOllama) -> None:
    engine.midway = asyncio.Event()
    async with serving(engine) as house:
        url = f"{house.url}/api/create"
        async with house.session.post(url, data=b'{"model": "new"}') as response:
            assert await response.content.readline() == STEPS[0]
            engine.midway.set()
            assert await response.read() == b"".join(STEPS[1:])


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/copy"), ("DELETE", "/api/delete")])
async def test_a_command_is_passed_on_with_its_answer(
    engine: ManagedOllama, method: str, path: str
) -> None:
    async with serving(engine) as house:
        assert (await house.ask(method, path, data=b'{"model": "m"}')).status == 200
        refused = await house.ask(method, path, data=b'{"model": "missing"}')
        assert (refused.status, refused.document) == (404, {"error": "model 'missing' not found"})
    assert [asked[:2] for asked in engine.asked] == [(method, path)] * 2


async def test_a_file_is_passed_on_whatever_its_size(engine: ManagedOllama) -> None:
    async with serving(engine, limits=Limits(body_bytes_max=1000)) as house:
        path = f"/api/blobs/{DIGEST}"
        assert (await house.ask("HEAD", path)).status == 404
        assert (await house.ask("POST", path, data=FILE)).status == 201
        assert engine.blobs == {DIGEST: len(FILE)}
        assert (await house.ask("HEAD", path)).status == 200
        too_large = await house.ask("POST", "/api/create", data=b"x" * 1001)
        assert too_large.status == 413


async def test_a_file_may_come_in_pieces_of_unknown_number(engine: ManagedOllama) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(FILE), 10_000):
            yield FILE[at : at + 10_000]

    async with serving(engine) as house:
        url = f"{house.url}/api/blobs/{DIGEST}"
        async with house.session.post(url, data=pieces()) as response:
            assert response.status == 201
    assert engine.blobs == {DIGEST: len(FILE)}


async def test_a_file_that_is_there_is_not_read(engine: ManagedOllama) -> None:
    engine.blobs[DIGEST] = 1
    async with serving(engine) as house:
        # More than fits on the way, of which no more is ever sent.
        client = await house.send(
            f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Length: 1000000000\r\n\r\n".encode()
            + FILE
        )
        assert (await client.some()).status == 200


async def test_a_file_that_is_compressed_is_refused(engine: ManagedOllama) -> None:
    async with serving(engine) as house:
        client = await house.send(
            f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Encoding: gzip\r\nContent-Length: {len(FILE)}\r\n\r\n".encode()
            + FILE
        )
        assert (await client.some()).status == 415
    assert engine.blobs == {}


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:" + "0" * 64, "..%2f..%2fetc"])
async def test_what_is_no_digest_goes_nowhere(engine: ManagedOllama, digest: str) -> None:
    async with serving(engine) as house:
        assert (await house.ask("POST", f"/api/blobs/{digest}", data=b"x")).status == 400
    assert engine.blobs == {}


# --- What may go wrong -------------------------------------------------------------------------


async def test_a_transfer_that_breaks_says_so_in_its_last_line(engine: ManagedOllama) -> None:
    engine.breaks = True
    async with serving(engine) as house:
        answer = await pull(house)
        first, last = answer.body.splitlines(keepends=True)
        assert first == STEPS[0]
        assert set(json.loads(last)) == {"error"}


async def test_an_ollama_that_is_not_there_is_a_502(engine: ManagedOllama) -> None:
    async with serving(engine) as house:
        house.daemon.pool.upstreams[0].backend._url = "http://127.0.0.1:1"  # type: ignore[attr-defined]
        answer = await pull(house)
        assert answer.status == 502
        assert set(answer.document) == {"error"}


async def test_a_transfer_that_falls_silent_is_ended(
    engine: ManagedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "SILENCE_S", 0.05)
    engine.midway = asyncio.Event()
    async with serving(engine) as house:
        first, last = (await pull(house)).body.splitlines(keepends=True)
        assert first == STEPS[0]
        assert "silent" in json.loads(last)["error"]


async def test_a_client_who_stops_midway_holds_nothing_for_ever(
    engine: ManagedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "SILENCE_S", 0.05)
    async with serving(engine) as house:
        client = await house.send(
            f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Length: 1000000\r\n\r\nsome".encode()
        )
        assert (await client.some()).status == 504
    assert engine.blobs == {}


async def test_who_leaves_ends_the_transfer(engine: ManagedOllama) -> None:
    engine.midway = asyncio.Event()
    async with serving(engine) as house:
        pulling = asyncio.create_task(pull(house))
        await engine.started.wait()
        pulling.cancel()
        await asyncio.wait_for(engine.left.wait(), 10)


async def test_no_more_than_so_many_go_on_at_once(engine: ManagedOllama) -> None:
    engine.midway = asyncio.Event()
    async with serving(engine) as house:
        pulls = [asyncio.create_task(pull(house)) for _ in range(TRANSFERS_AT_ONCE + 2)]
        await until(lambda: engine.running == TRANSFERS_AT_ONCE)
        # Small things don't wait for large ones.
        assert (await house.post(b'{"model": "m"}', path="/api/copy")).status == 200
        engine.midway.set()
        assert {answer.status for answer in await asyncio.gather(*pulls)} == {200}
    assert engine.most == TRANSFERS_AT_ONCE


async def test_who_waits_too_long_is_told_to_come_back(
    engine: ManagedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "TURN_WAIT_S", 0.05)
    engine.midway = asyncio.Event()
    async with serving(engine) as house:
        pulls = [asyncio.create_task(pull(house)) for _ in range(TRANSFERS_AT_ONCE)]
        await until(lambda: engine.running == TRANSFERS_AT_ONCE)
        answer = await pull(house)
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        engine.midway.set()
        await asyncio.gather(*pulls)


async def test_during_a_drain_nothing_new_starts(engine: ManagedOllama) -> None:
    async with serving(engine) as house:
        house.daemon.service.begin_drain()
        assert (await pull(house)).status == 503
    assert engine.asked == []


async def test_at_the_end_of_the_daemon_what_goes_on_is_told_so_and_broken_off(
    engine: ManagedOllama,
) -> None:
    engine.midway = asyncio.Event()
    async with serving(engine) as house:
        pulling = asyncio.create_task(pull(house))
        await engine.started.wait()
        await until(lambda: bool(house.daemon.management._open))
        await house.life.end_leftovers(house.daemon.app)
        _, last = (await pulling).body.splitlines()
        assert "stopping" in json.loads(last)["error"]
        await asyncio.wait_for(engine.left.wait(), 10)


# --- Several -----------------------------------------------------------------------------------


async def test_of_several_the_first_is_meant_or_the_one_that_is_named(
    engine: ManagedOllama,
) -> None:
    async with managed_ollama() as second:
        upstreams = {
            "small": Backend(kind="echo"),
            "attic": Backend(kind="ollama", url=second.url, slots=1),
        }
        async with serving(engine, upstreams=upstreams) as house:
            assert (await pull(house)).status == 200
            assert (len(engine.asked), len(second.asked)) == (1, 0)
            for name, status in (("attic", 200), ("default", 200), ("small", 400), ("x", 400)):
                answer = await house.post(b'{"model": "a"}', path=f"/api/copy?upstream={name}")
                assert answer.status == status
            assert (len(engine.asked), len(second.asked)) == (2, 1)


async def test_with_a_key_a_manager_needs_it(engine: ManagedOllama) -> None:
    callers = {"default": CallerSettings(manage_models=True)}
    async with serving(engine, auth=Auth(api_key=KEY), callers=callers) as house:
        assert (await house.ask("HEAD", f"/api/blobs/{DIGEST}")).status == 401
        assert (await house.ask("HEAD", f"/api/blobs/{DIGEST}", headers=WITH_KEY)).status == 404
