"""/openapi.json and /docs, over a real socket: what is told is what is there."""

import json
import re
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.config.schema import Auth
from tests.e2e.house import CHAT, KEY, WITH_KEY, House, opened, say

LOCKED: Final[dict[str, Any]] = {"auth": Auth(api_key=KEY)}

BOTH: Final = ("/openapi.json", "/docs")

PROXIED: Final = {"X-Forwarded-For": "192.0.2.1"}


async def described(house: House) -> Any:
    answer = await house.get("/openapi.json")
    assert answer.status == 200
    return answer.document


async def test_the_description_is_valid_and_of_every_route() -> None:
    async with opened() as house:
        found = await described(house)
        validate(found)
        told = {
            (method.upper(), path) for path, methods in found["paths"].items() for method in methods
        }
        real = {
            (route.method, route.resource.canonical)
            for route in house.daemon.app.router.routes()
            if route.resource is not None
        }
        # A GET answers to HEAD too, and that is said once for all.
        heads = {("HEAD", path) for method, path in told if method == "GET"}
        assert told | heads == real


async def test_what_was_not_changed_is_not_sent_again() -> None:
    async with opened() as house:
        for path in BOTH:
            first = await house.get(path)
            assert "no-cache" in first.headers["Cache-Control"]
            again = await house.get(path, {"If-None-Match": first.headers["ETag"]})
            assert (again.status, again.body) == (304, b"")
            assert again.headers["ETag"] == first.headers["ETag"]
            other = await house.get(path, {"If-None-Match": '"other"'})
            assert other.body == first.body


async def test_with_keys_they_are_for_this_machine_and_for_whoever_has_one() -> None:
    async with opened(**LOCKED) as house:
        for path in BOTH:
            assert (await house.get(path)).status == 200
            assert (await house.get(path, PROXIED)).status == 401
            assert (await house.get(path, {**PROXIED, **WITH_KEY})).status == 200


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, "http://127.0.0.1:{port}"),
        ({"Host": "localhost:1"}, "http://localhost:1"),
        (
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "llm.example.com"},
            "https://llm.example.com",
        ),
        # What is no name of a host is not shown.
        (
            {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "<b>x</b>"},
            "http://127.0.0.1:{port}",
        ),
    ],
)
async def test_settings_name_the_url_by_which_the_reader_came(
    headers: dict[str, str], base: str
) -> None:
    async with opened() as house:
        answer = await house.get("/docs", headers)
        page = answer.body.decode()
    assert f"OPENAI_BASE_URL={base.format(port=house.port)}/v1\n" in page
    assert "@base@" not in page
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


ASKED: Final = (
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/{model}", None),
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("POST", CHAT, say("hi")),
    ("POST", CHAT, say("hi", messages=[])),
    ("POST", CHAT, say("hi", model="nobody")),
    ("POST", "/v1/messages", say("hi", max_tokens=5)),
    ("POST", "/v1/messages", say("hi")),
    ("POST", "/api/chat", say("hi", stream=False)),
    ("POST", "/api/chat", say("hi", stream=False, messages=1)),
    ("POST", "/v1/responses", {"model": "default", "input": "hi"}),
    ("POST", "/v1/completions", {"model": "default", "prompt": "hi"}),
)


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
async def test_an_answer_is_what_is_described(method: str, path: str, body: Any) -> None:
    async with opened() as house:
        found = await described(house)
        url = path.replace("{model}", "echo")
        if body is None:
            answer = await house.ask(method, url)
        else:
            answer = await house.post(json.dumps(body).encode(), path=url)
    response = found["paths"][path][method.lower()]["responses"][str(answer.status)]
    if "$ref" in response:
        response = found["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][answer.headers["Content-Type"]]["schema"]
    Draft202012Validator({**schema, "components": found["components"]}).validate(answer.document)
    told = {name.lower() for name in response["headers"]}
    ours = {name.lower() for name in answer.headers if re.match(r"(?i)x-|retry|openai", name)}
    assert ours - {"x-content-type-options"} <= told
