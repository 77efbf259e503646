"""Keys that are made, replaced and ended while the daemon serves, as an operator does it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.ollama import ScriptedOllama
from tests.e2e.process import PATIENCE_S, ROOT, Process, serving
from tests.web.raw import Reply

pytestmark = pytest.mark.slow


async def keys(config: Path, process: Process, *words: str) -> str:
    """What `gateway keys … --reload` prints; it must succeed."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "keys", *words, "--reload"),
        *("--url", f"http://127.0.0.1:{process.port}"),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "GATEWAY_CONFIG": str(config),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await child.communicate()
    assert child.returncode == 0, err
    assert b"has taken it" in err
    return out.decode().strip()


async def models(process: Process, key: str) -> Reply:
    head = ("GET /v1/models HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", "", "")
    return await process.ask("\r\n".join(head).encode())


async def test_a_key_is_live_once_it_is_made_and_dead_once_it_is_replaced_or_ended(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('server.host = "127.0.0.1"')
    async with serving(tmp_path, engine.url, GATEWAY_CONFIG=str(config)) as process:
        # Nobody has a key yet, and so everybody may call.
        assert (await models(process, "sk-nobodys")).status == 200
        alice = await keys(config, process, "new", "alice")
        bob = await keys(config, process, "new", "bob")
        assert (await models(process, "sk-nobodys")).status == 401
        assert [(await models(process, key)).status for key in (alice, bob)] == [200, 200]

        newer = await keys(config, process, "rotate", "alice")
        assert [(await models(process, key)).status for key in (alice, newer)] == [401, 200]
        await keys(config, process, "revoke", "alice")
        assert [(await models(process, key)).status for key in (newer, bob)] == [401, 200]

        process.child.terminate()
        assert await process.exit_code() == 0
    written = "".join(map(str, process.lines)) + (tmp_path / "keys.toml").read_text()
    assert not any(key.removeprefix("sk-") in written for key in (alice, newer, bob))


async def test_a_key_that_has_expired_opens_nothing_and_its_holder_is_told(
    engine: ScriptedOllama, tmp_path: Path
) -> None:
    config, stored = tmp_path / "gateway.toml", tmp_path / "keys.toml"
    config.write_text('server.host = "127.0.0.1"')
    async with serving(tmp_path, engine.url, GATEWAY_CONFIG=str(config)) as process:
        alice = await keys(config, process, "new", "alice", "--expires", "2099-01-01")
        bob = await keys(config, process, "new", "bob")
        assert (await models(process, alice)).status == 200
        stored.write_text(stored.read_text().replace("2099-01-01", "2020-01-01"))
        await keys(config, process, "rotate", "bob")
        refused, unknown = await models(process, alice), await models(process, bob)
        assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
        assert "expired" in refused.error["message"]
        assert "expired" not in unknown.error["message"]
