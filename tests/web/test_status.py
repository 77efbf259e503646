"""The status document over a socket, once and as a stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import jsonschema
import pytest

from gateway.backends.echo import EchoScript
from gateway.config.schema import Auth, CallerSettings, Server
from gateway.core.jsonio import Json
from gateway.web.answers.status import STATUS
from gateway.web.status import EVERY_S, WATCHERS_MAX, Status
from tests.e2e.house import House, opened, say, until
from tests.fakes import ManualClock
from tests.web.raw import HANG_S

CANARY: Final = "canary-in-a-prompt"
OPERATOR: Final = "sk-operator-0123456789abcdefghij"
USER: Final = "sk-user-0123456789abcdefghijklmn"

KEYED: Final[dict[str, Any]] = {
    "auth": Auth(keys={"operator": OPERATOR, "user": USER}),
    "callers": {"operator": CallerSettings(admin=True)},
    "server": Server(local_admin=False),
}

PATHS: Final = ("/gateway/status", "/gateway/events")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def status(house: House) -> Any:
    answer = await house.get("/gateway/status")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.document
    jsonschema.validate(document, STATUS)
    return document


# --- What it says ---------------------------------------------------------------------


async def test_what_runs_and_what_waits_and_what_has_ended_is_told() -> None:
    async with opened() as house:
        await house.chat(say(f"{CANARY} two three"))
        house.daemon.pool.upstreams[0].resize(1)
        house.echo.script = EchoScript(stall_after=2)
        first = asyncio.create_task(house.chat(say(f"{CANARY} two three", stream=True)))
        await until(lambda: [one.tokens for one in house.daemon.service.running(9)] == [2])
        second = asyncio.create_task(house.chat(say(CANARY)))
        await until(lambda: house.daemon.queue.qsize() == 1)
        now = await status(house)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await until(lambda: house.daemon.service.active == 0)
        later = await status(house)
    (running,) = now["running"]
    assert (running["state"], running["tokens"], running["caller"]) == ("decode", 2, "anonymous")
    assert running["upstream"] == "default"
    (waiting,) = now["queue"]["requests"]
    assert (waiting["position"], waiting["class"], waiting["waits_for"]) == (0, "normal", "a slot")
    assert now["queue"]["waiting"] == now["queue"]["by_class"]["normal"] == 1
    assert now["slots"] == {"busy": 1, "total": 1}
    assert now["requests"]["active"] == 2
    assert now["state"] == "ready"
    (ended,) = now["recent"]
    assert (ended["outcome"], ended["prompt_tokens"] > 0) == ("completed", True)
    assert ended["completion_tokens"] == 3
    parts = sum(ended[f"{part}_s"] for part in ("queue", "load", "prefill", "decode"))
    assert parts == pytest.approx(ended["total_s"], abs=0.01)
    assert [one["outcome"] for one in later["recent"]] == ["cancelled", "cancelled", "completed"]
    assert later["running"] == later["queue"]["requests"] == []
    assert CANARY not in json.dumps([now, later])


async def test_engines_models_and_refusals_are_told() -> None:
    async with opened() as house:
        assert (await house.chat({**say("hi"), "model": "nobody-has-this"})).status == 404
        now = await status(house)
        house.daemon.pool.upstreams[0].breaker.probed(False, house.daemon.clock.now())
        down = await status(house)
    (engine,) = now["upstreams"]
    assert (engine["name"], engine["kind"], engine["up"]) == ("default", "echo", True)
    assert [model["model"] for model in engine["loaded"]] == ["echo"]
    (model,) = now["models"]
    assert (model["model"], model["loaded"], model["movable"]) == ("echo", True, False)
    assert now["default_model"] == "echo"
    assert now["refusals"]["by_reason"] == [{"reason": "model_not_found", "total": 1, "lately": 1}]
    assert (down["state"], down["reason"]) == ("unready", "backend")
    assert down["upstreams"][0]["loaded"] == []
    assert not down["models"][0]["loaded"]
    assert down["slots"]["total"] == 0


async def test_who_used_how_much_today_is_told() -> None:
    async with opened(**KEYED) as house:
        for key in (USER, USER, OPERATOR):
            await house.chat(say("one two"), bearer(key))
        told = (await house.get("/gateway/status", bearer(OPERATOR))).document["callers"]
    by_name = {one["caller"]: one for one in told}
    assert {name: one["requests"] for name, one in by_name.items()} == {"user": 2, "operator": 1}
    assert by_name["user"]["completion_tokens"] == 4


# --- Who may ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_for_operators(path: str) -> None:
    async with opened(**KEYED) as house:
        assert (await house.get(path)).status == 401
        refused = await house.get(path, bearer(USER))
        assert (refused.status, refused.error["code"]) == (403, "not_permitted")
        async with house.session.get(house.url + path, headers=bearer(OPERATOR)) as response:
            assert response.status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_no_page_of_another_site_sees_it(path: str) -> None:
    async with opened() as house:
        foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert (await house.get(path, foreign)).status == 403


# --- The stream ------------------------------------------------------------------------


class Looker:
    """Counts how often it is asked, and tells that."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> Json:
        self.looks += 1
        return {"looks": self.looks}


async def one(records: AsyncIterator[bytes]) -> Any:
    async with asyncio.timeout(HANG_S):
        line = await anext(records)
        assert await anext(records) == b"\n"
    return json.loads(line.removeprefix(b"data: "))


@asynccontextmanager
async def watching(house: House) -> AsyncIterator[AsyncIterator[bytes]]:
    async with house.session.get(f"{house.url}/gateway/events") as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield aiter(response.content)


def replaced(house: House, clock: ManualClock) -> Looker:
    """From now on the stream follows this clock, and tells how often was looked."""
    looker = Looker()
    house.daemon.status.__init__(look=looker, clock=clock)  # type: ignore[misc]
    return looker


async def test_all_who_watch_are_told_at_once_and_then_each_second_of_one_look() -> None:
    async with opened() as house:
        clock = ManualClock()
        looker = replaced(house, clock)
        async with watching(house) as first, watching(house) as second:
            assert [await one(first), await one(second)] == [{"looks": 1}, {"looks": 2}]
            for looks in (3, 4):
                await clock.advance(EVERY_S)
                assert await one(first) == await one(second) == {"looks": looks}
        await until(lambda: house.daemon.status.watchers == 0)
        await clock.advance(10 * EVERY_S)
        assert looker.looks <= 5, "nobody watches any more"


async def test_too_many_who_watch_are_refused_and_take_no_place_from_others() -> None:
    async with opened() as house:
        opened_streams = [
            await house.session.get(f"{house.url}/gateway/events") for _ in range(WATCHERS_MAX)
        ]
        refused = await house.get("/gateway/events")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert (await house.get("/gateway/status")).status == 200
        opened_streams.pop().close()
        await until(lambda: house.daemon.status.watchers < WATCHERS_MAX)
        async with watching(house) as records:
            assert (await one(records))["object"] == "gateway.status"
        for stream in opened_streams:
            stream.close()


async def test_the_end_is_told_and_nobody_is_waited_for() -> None:
    async with opened() as house, watching(house) as records:
        assert (await one(records))["state"] == "ready"
        house.daemon.service.begin_drain()
        house.daemon.status.end()
        assert (await one(records))["state"] == "draining"
        async with asyncio.timeout(HANG_S):
            assert [rest async for rest in records] == []


async def test_who_only_wants_the_head_gets_no_stream() -> None:
    async with opened() as house:
        answer = await house.ask("HEAD", "/gateway/events")
        assert (answer.status, answer.body) == (200, b"")
        assert house.daemon.status.watchers == 0


async def test_a_look_that_fails_leaves_nobody_waiting_for_ever() -> None:
    def look() -> Json:
        raise RuntimeError("a part of the document is broken")

    clock = ManualClock()
    status = Status(look=look, clock=clock)
    waiting = asyncio.create_task(status.ticked())
    with pytest.raises(RuntimeError):
        await clock.advance(EVERY_S)
    async with asyncio.timeout(HANG_S):
        await waiting


async def test_a_watcher_who_leaves_is_forgotten() -> None:
    async with opened() as house:
        response = await house.session.get(f"{house.url}/gateway/events")
        await until(lambda: house.daemon.status.watchers == 1)
        response.close()
        await until(lambda: house.daemon.status.watchers == 0)
