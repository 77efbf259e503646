"""Out of file descriptors: what runs goes on, the log is calm, and it ends by itself."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.web.accept import AcceptGuard
from tests.web.raw import GET_HEALTH, HANG_S, running


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """The process can open nothing more, within this block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each) for each in os.listdir("/proc/self/fd"))
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def test_without_descriptors_running_connections_go_on_and_new_ones_come_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)
    caplog.set_level(logging.INFO)
    async with running() as edge:
        client = await edge.send(GET_HEALTH)
        await client.some()
        loop = asyncio.get_running_loop()
        failed = asyncio.Event()
        guard = loop.get_exception_handler()
        assert isinstance(guard, AcceptGuard)

        def watch(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            guard(loop, context)
            failed.set()

        loop.set_exception_handler(watch)
        # Made before there is no descriptor left for it.
        waiting = edge.unconnected()
        with no_descriptors():
            await loop.sock_connect(waiting, ("127.0.0.1", edge.port))
            async with asyncio.timeout(HANG_S):
                await failed.wait()
            client.send(GET_HEALTH)
            assert (await client.some()).status == 200
        await loop.sock_sendall(waiting, GET_HEALTH)
        async with asyncio.timeout(HANG_S):
            assert (await loop.sock_recv(waiting, 1000)).startswith(b"HTTP/1.1 200")
        waiting.close()
        loop.set_exception_handler(guard)
    lines = [record for record in caplog.records if record.name == "gateway.web"]
    assert [record.__dict__["event"] for record in lines] == ["accept_exhausted"]
    assert lines[0].exc_info is None


async def test_the_guard_passes_on_what_it_is_not_about() -> None:
    passed: list[dict[str, Any]] = []
    guard = AcceptGuard(lambda loop, context: passed.append(context))
    contexts: list[dict[str, Any]] = [
        {"message": "Task was destroyed"},
        {"message": "accept failed", "exception": OSError(errno.EINVAL, "")},
        {"message": "other", "exception": OSError(errno.EMFILE, "")},
    ]
    for context in contexts:
        guard(asyncio.get_running_loop(), context)
    assert passed == contexts


async def test_the_guard_leaves_with_the_runner() -> None:
    loop = asyncio.get_running_loop()
    async with running():
        assert isinstance(loop.get_exception_handler(), AcceptGuard)
    assert loop.get_exception_handler() is None
