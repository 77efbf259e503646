"""Parts of known APIs that are not served here, over a real socket."""

from typing import Final

import pytest

from gateway.config.schema import Auth
from gateway.web.unserved import UNSERVED
from tests.e2e.house import KEY, WITH_KEY, http_post, opened

ASKED: Final = [
    ("POST", "/v1/audio/speech"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/images/edits"),
    ("POST", "/v1/images/variations"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/videos"),
    ("GET", "/v1/videos/video_1/content"),
    ("GET", "/v1/realtime?model=m"),
    ("POST", "/v1/realtime/client_secrets"),
    ("GET", "/v1/files"),
    ("DELETE", "/v1/files/file-1"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/batches/batch_1/cancel"),
    ("POST", "/v1/messages/batches"),
    ("GET", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/threads/thread_1/runs"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_it_is_told_in_a_sentence_and_need_not_be_sent_again(method: str, path: str) -> None:
    async with opened() as house:
        answer = await house.ask(method, path)
        (line,) = house.request_lines()
    assert answer.status == 501
    assert answer.document["error"]["message"] in UNSERVED.values()
    assert answer.headers["x-should-retry"] == "false"
    assert "Retry-After" not in answer.headers
    assert (line["status"], line["code"], line["route"]) == (501, "not_supported", "other")


async def test_it_has_openais_envelope() -> None:
    async with opened() as house:
        answer = await house.ask("POST", "/v1/audio/speech")
    assert answer.error["code"] == "not_supported"


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/files"])
async def test_without_a_key_nobody_learns_of_it(path: str) -> None:
    async with opened(auth=Auth(api_key=KEY)) as house:
        assert (await house.ask("POST", path)).status == 401
        assert (await house.ask("POST", path, headers=WITH_KEY)).status == 501


async def test_nothing_of_a_body_is_read() -> None:
    head = http_post(b"", "Expect: 100-continue", path="/v1/audio/transcriptions")
    async with opened() as house:
        client = await house.send(head.replace(b"Length: 0", b"Length: 100000000"))
        reply = await client.some()
        assert reply.status == 501
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""
