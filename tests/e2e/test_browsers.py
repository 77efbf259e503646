"""A page of another origin calls the API, as a browser makes OpenAI's and Anthropic's SDKs do."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from gateway.backends.echo import EchoScript
from gateway.config.schema import Auth, Server
from gateway.core.errors import UpstreamBusy
from tests.e2e.house import CHAT, KEY, WITH_KEY, Answer, House, opened, say

PAGE: Final = "https://chat.example"
MINE: Final = {"Origin": PAGE}
BOTH: Final = {**MINE, **WITH_KEY}
FOR_PAGE: Final[dict[str, Any]] = {
    "auth": Auth(api_key=KEY),
    "server": Server(allowed_origins=(PAGE,)),
}


def is_readable(answer: Answer) -> bool:
    """Whether a browser would show it, with its headers, to a page that sends no cookies."""
    return (
        answer.headers.getall("Access-Control-Allow-Origin") == [PAGE]
        and answer.headers.getall("Access-Control-Expose-Headers") == ["*"]
        and answer.headers.getall("Vary") == ["Origin"]
    )


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        (CHAT, "POST", "authorization,content-type,x-stainless-lang,x-stainless-retry-count"),
        (
            "/v1/messages",
            "POST",
            "anthropic-dangerous-direct-browser-access,anthropic-version,content-type,x-api-key",
        ),
        ("/v1/models", "GET", "authorization,x-stainless-os"),
        ("/api/delete", "DELETE", "content-type"),
        ("/nowhere", "POST", "content-type"),
    ],
)
async def test_a_page_is_told_without_a_key_that_it_may_send_what_sdks_send(
    path: str, method: str, headers: str
) -> None:
    asks = {
        **MINE,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
        "Access-Control-Request-Private-Network": "true",
    }
    async with opened(**FOR_PAGE) as house:
        answer = await house.ask("OPTIONS", path, headers=asks)
    assert (answer.status, answer.body) == (204, b"")
    assert is_readable(answer)
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert answer.headers["Access-Control-Allow-Headers"] == headers
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def no_key(house: House) -> Answer:
    return await house.chat(say("hi"), MINE)


async def no_such_url(house: House) -> Answer:
    return await house.get("/nowhere", BOTH)


async def not_done_here(house: House) -> Answer:
    return await house.post(b"{}", BOTH, path="/v1/images/generations")


async def wrong_method(house: House) -> Answer:
    return await house.get(CHAT, BOTH)


async def no_model(house: House) -> Answer:
    return await house.chat(say("hi", model="other"), BOTH)


async def no_json(house: House) -> Answer:
    return await house.post(b"{", BOTH)


async def busy(house: House) -> Answer:
    house.echo.script = EchoScript(fail=lambda: UpstreamBusy("Busy.", retry_after_s=2.0))
    return await house.chat(say("hi"), BOTH)


async def whole(house: House) -> Answer:
    return await house.chat(say("hi"), BOTH)


async def stream(house: House) -> Answer:
    return await house.chat(say("hi", stream=True), BOTH)


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (whole, 200),
        (stream, 200),
        (no_json, 400),
        (no_key, 401),
        (no_such_url, 404),
        (no_model, 404),
        (wrong_method, 405),
        (not_done_here, 501),
        (busy, 503),
    ],
)
async def test_a_page_may_read_every_answer(ask: Callable[[House], Any], status: int) -> None:
    async with opened(**FOR_PAGE) as house:
        answer = await ask(house)
    assert answer.status == status
    assert is_readable(answer)
    assert answer.headers["x-request-id"]
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_no_cache_shows_an_answer_to_another_origin() -> None:
    async with opened(**FOR_PAGE) as house:
        for headers in ({}, {"Origin": "https://evil.example"}):
            answer = await house.get("/health", headers)
            assert answer.headers.getall("Vary") == ["Origin"]
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_where_no_page_may_nothing_is_said_of_pages() -> None:
    async with opened() as house:
        answer = await house.get("/health", MINE)
        asked = await house.ask(
            "OPTIONS", CHAT, headers={**MINE, "Access-Control-Request-Method": "POST"}
        )
    assert "Vary" not in answer.headers
    assert asked.status == 403
