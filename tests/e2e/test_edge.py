"""Who may ask what, and how a refusal looks: over a real socket, with and without a key."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any, Final

import pytest

from gateway.config.schema import Auth, Limits, Server
from tests.e2e.house import CHAT, KEY, WITH_KEY, http_chat, http_post, opened, say
from tests.e2e.ollama import ScriptedOllama

LOCKED: Final[dict[str, Any]] = {"auth": Auth(api_key=KEY)}
CANARY: Final = "c4n4ry"

HI: Final = json.dumps(say("hi")).encode()


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode(
        "latin-1"
    )


# --- Keys (A1-A6, A11) ------------------------------------------------------------

WRONG: Final[dict[str, list[str]]] = {
    "none": [],
    "empty": ["Authorization: "],
    "scheme alone": ["Authorization: Bearer"],
    "scheme and space": ["Authorization: Bearer "],
    "wrong": ["Authorization: Bearer sk-wrong"],
    "prefix": [f"Authorization: Bearer {KEY[:-1]}"],
    "longer": [f"Authorization: Bearer {KEY}x"],
    "other case": [f"Authorization: Bearer {KEY.upper()}"],
    "basic": [f"Authorization: Basic {KEY}"],
    "bare": [f"Authorization: {KEY}"],
    "list": [f'Authorization: Bearer ["{KEY}"]'],
    "null": ["Authorization: Bearer null"],
    "None": ["Authorization: Bearer None"],
    "star": ["Authorization: Bearer *"],
    "sql": ["Authorization: Bearer ' OR 1=1 --"],
    "latin-1": ["Authorization: Bearer \xe9\xe8\xff"],
    "long": ["Authorization: Bearer " + "k" * 7000],
    "x-api-key wrong": ["x-api-key: sk-wrong"],
    "two that differ": [f"Authorization: Bearer {KEY}", "Authorization: Bearer sk-wrong"],
    "key and another": [f"Authorization: Bearer {KEY}", "x-api-key: sk-wrong"],
    "cookie": [f"Cookie: Authorization=Bearer {KEY}; api_key={KEY}"],
}


async def test_every_wrong_key_gets_the_same_answer() -> None:
    patient = Limits(wrong_keys_per_minute_max=len(WRONG))
    async with opened(**LOCKED, limits=patient) as house:
        bodies = set()
        for name, headers in WRONG.items():
            client = await house.send(get("/v1/models", *headers))
            reply = await client.some()
            assert reply.status == 401, name
            assert reply.error["code"] == "invalid_api_key", name
            assert reply.error["type"] == "authentication_error", name
            assert reply.headers["www-authenticate"] == "Bearer", name
            bodies.add(reply.body)
        assert len(bodies) == 1
        metrics = await house.metrics()
    assert metrics['gateway_rejected_total{reason="auth_failure"}'] == len(WRONG)
    assert metrics['inference_errors_total{type="auth_failure"}'] == len(WRONG)


@pytest.mark.parametrize(
    "headers",
    [
        WITH_KEY,
        {"Authorization": f"bearer {KEY}"},
        {"Authorization": f"BEARER {KEY}"},
        {"x-api-key": KEY},
        {"x-api-key": KEY, **WITH_KEY},
    ],
)
async def test_the_right_key_is_taken(headers: dict[str, str]) -> None:
    async with opened(**LOCKED) as house:
        assert (await house.get("/v1/models", headers)).status == 200
        assert (await house.chat(say("hi"), headers)).status == 200


async def test_a_caller_has_the_name_of_its_key_in_the_log() -> None:
    async with opened(auth=Auth(keys={"alice": KEY})) as house:
        await house.chat(say("hi"), WITH_KEY)
        (line,) = house.request_lines()
    assert line["caller"] == "alice"


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/nowhere"),
        get("/v1/models", method="DELETE"),
        get(CHAT),
        get("/v1/embeddings"),
        get("/v1/files"),
        get(f"/v1/models?api_key={KEY}&key={KEY}"),
        get("*", method="OPTIONS"),
        http_post(b"{", f"Content-Encoding: {CANARY}"),
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 999999999\r\n\r\n",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n",
    ],
)
async def test_without_a_key_nobody_learns_what_else_is_wrong(request_bytes: bytes) -> None:
    async with opened(**LOCKED) as house:
        reply = await (await house.send(request_bytes)).some()
    assert reply.status == 401
    assert reply.error["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("request_bytes", "said"),
    [
        (get("/api/tags"), "error"),
        (get("/api/delete", method="DELETE"), "error"),
        (get("/v1/messages"), "type"),
    ],
)
async def test_without_a_key_each_api_says_so_in_its_own_words(
    request_bytes: bytes, said: str
) -> None:
    async with opened(**LOCKED) as house:
        reply = await (await house.send(request_bytes)).some()
    assert reply.status == 401
    document = json.loads(reply.body)
    assert document[said] == "error" if said == "type" else isinstance(document[said], str)


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_the_description_is_for_this_machine_or_for_holders_of_a_key(path: str) -> None:
    async with opened(**LOCKED) as house:
        here = await (await house.send(get(path))).some()
        through_a_proxy = await (await house.send(get(path, "X-Forwarded-For: 192.0.2.1"))).some()
    assert (here.status, through_a_proxy.status) == (200, 401)


async def test_a_body_without_a_key_is_not_read_and_ends_the_connection() -> None:
    head = http_post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    async with opened(**LOCKED) as house:
        client = await house.send(head + b"5\r\nhello\r\n")
        reply = await client.some()
        assert reply.status == 401
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_health_is_for_everybody() -> None:
    async with opened(**LOCKED) as house:
        reply = await house.get("/health")
    assert (reply.status, reply.document) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/metrics", "/ready"])
async def test_this_machine_and_key_holders_may_look(path: str) -> None:
    proxied = {"X-Forwarded-For": "203.0.113.7"}
    async with opened(**LOCKED) as house:
        assert (await house.get(path)).status == 200
        assert (await house.get(path, proxied)).status == 401
        assert (await house.get(path, {"Forwarded": "for=203.0.113.7"})).status == 401
        assert (await house.get(path, {**proxied, **WITH_KEY})).status == 200
        assert (await house.get(path, {"Authorization": "Bearer sk-wrong"})).status == 200


async def test_metrics_may_be_made_public() -> None:
    proxied = {"X-Forwarded-For": "203.0.113.7"}
    async with opened(**LOCKED, server=Server(metrics_public=True)) as house:
        assert (await house.get("/metrics", proxied)).status == 200


async def test_a_callers_key_and_host_never_reach_the_engine(engine: ScriptedOllama) -> None:
    async with opened(engine, **LOCKED) as house:
        headers = {**WITH_KEY, "x-api-key": KEY, "Cookie": f"a={CANARY}", "X-Extra": CANARY}
        assert (await house.chat(say("hi"), headers)).status == 200
    (asked,) = engine.requests
    assert "authorization" not in asked.headers
    assert asked.headers["host"] == engine.url.removeprefix("http://")
    assert KEY not in str(asked)
    assert CANARY not in str(asked)


# --- Paths and methods (H13, H14, H19, H20) ----------------------------------------

TRICKS: Final = (
    "/health/../v1/models",
    "/health/%2e%2e/v1/models",
    "//v1/models",
    "/v1%2fmodels",
    "/V1/models",
    "/v1/models;x",
    "/v1/models%20",
    "/v1/models/",
    "/health;/v1/models",
    "/v1/./models",
    "/%00",
    "/v1/%zz",
)


@pytest.mark.parametrize("path", TRICKS)
async def test_a_twisted_path_opens_nothing(path: str) -> None:
    async with opened(**LOCKED) as house:
        without = await (await house.send(get(path))).some()
        having = await (await house.send(get(path, f"Authorization: Bearer {KEY}"))).some()
    assert without.status == 401
    assert having.status in (400, 404)
    assert having.error["code"] in ("unknown_url", "bad_http", "model_not_found")


async def test_headers_that_rewrite_requests_are_ignored() -> None:
    tricks = [
        f"X-Original-URL: {CHAT}",
        "X-Rewrite-URL: /health",
        "X-HTTP-Method-Override: GET",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: evil.example",
    ]
    async with opened(**LOCKED) as house:
        reply = await (await house.send(get("/v1/models", *tricks))).some()
        assert reply.status == 401
        reply = await (await house.send(get("/health", *tricks))).some()
        assert reply.status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
        ("OPTIONS", CHAT, "POST"),
        ("TRACE", "/ready", "GET, HEAD"),
        ("PROPFIND", "/v1/models", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str) -> None:
    async with opened() as house:
        reply = await (await house.send(get(path, method=method))).some()
    assert reply.status == 405
    assert reply.error["code"] == "method_not_allowed"
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/favicon.ico", "/doc"])
async def test_an_unknown_url_is_told_in_the_envelope(path: str) -> None:
    async with opened() as house:
        reply = await house.get(path + f"?{CANARY}")
    assert reply.status == 404
    assert reply.error["code"] == "unknown_url"
    assert CANARY not in reply.body.decode()


@pytest.mark.parametrize(
    ("path", "url"),
    [("/v1/v1/models", "/v1/models"), ("//v1/models", "/v1/models"), ("/models", "/v1/models")],
)
async def test_a_wrong_base_url_is_told_what_is_right(path: str, url: str) -> None:
    async with opened() as house:
        reply = await house.get(path)
    assert reply.status == 404
    assert reply.error["code"] == "unknown_url"
    assert f"there is {url}:" in reply.error["message"]


async def test_a_longer_answer_than_there_may_be_is_cut_and_says_so() -> None:
    async with opened() as house:
        longer = await house.chat(say("hi", max_tokens=10**6))
        unlimited = await house.chat(say("hi", max_tokens=-1))
        usual = await house.chat(say("hi", max_tokens=5))
        silent = await house.chat(say("hi"))
    told = [
        reply.headers.get("x-gateway-max-tokens") for reply in (longer, unlimited, usual, silent)
    ]
    assert told == ["8192", "8192", None, None]


async def test_head_answers_as_get_without_a_body() -> None:
    async with opened() as house:
        reply = await house.ask("HEAD", "/health")
    assert (reply.status, reply.body) == (200, b"")


# --- Bodies (H25, H28, J through HTTP) ----------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_body_that_a_browser_may_send_unasked_is_refused(content_type: str) -> None:
    async with opened() as house:
        reply = await house.post(HI, {"Content-Type": content_type})
    assert reply.status == 415
    assert reply.error["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"]
)
async def test_json_may_come_with_parameters(content_type: str) -> None:
    async with opened() as house:
        reply = await house.post(HI, {"Content-Type": content_type})
    assert reply.status == 200


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate, gzip", CANARY])
async def test_a_body_in_another_coding_is_refused_with_those_that_are_taken(encoding: str) -> None:
    async with opened() as house:
        client = await house.send(http_post(HI, f"Content-Encoding: {encoding}"))
        reply = await client.some()
    assert reply.status == 415
    assert reply.error["code"] == "unsupported_content_encoding"
    assert reply.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_compressed_body_is_read(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    async with opened() as house:
        reply = await house.post(compress(HI), {"Content-Encoding": encoding})
        broken = await house.post(compress(HI)[:-2], {"Content-Encoding": encoding})
    assert (reply.status, reply.text) == (200, "hi")
    assert (broken.status, broken.error["code"]) == (400, "invalid_content_encoding")


async def test_a_bomb_ends_at_the_bound_on_a_body() -> None:
    async with opened(limits=Limits(body_bytes_max=1000)) as house:
        bomb = gzip.compress(b'{"model": "' + b"m" * 100_000)
        reply = await house.post(bomb, {"Content-Encoding": "gzip"})
    assert len(bomb) < 1000
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


async def test_a_large_body_is_refused_before_it_is_sent() -> None:
    head = http_post(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 100000000")
    async with opened(limits=Limits(body_bytes_max=1000)) as house:
        client = await house.send(head)
        reply = await client.some()
        assert reply.status == 413
        assert reply.error["code"] == "request_too_large"
        assert reply.headers["connection"] == "close"
        assert (await house.post(b"x" * 1001)).status == 413
        assert (await house.post(HI)).status == 200


async def test_a_client_that_waits_for_100_gets_it_when_it_may_send() -> None:
    body = json.dumps(say("hi")).encode()
    head = http_post(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: %d" % len(body))
    async with opened() as house:
        client = await house.send(head)
        assert (await client.some()).status == 100
        client.send(body)
        assert (await client.some()).status == 200


MALFORMED: Final[dict[str, bytes]] = {
    "empty": b"",
    "spaces": b"  \n",
    "null": b"null",
    "array": b"[]",
    "number": b"1",
    "cut": b'{"model": "m", "mess',
    "trailing": HI + b"x",
    "comment": b"{/* hi */}",
    "NaN": b'{"model": NaN}',
    "Infinity": b'{"temperature": 1e999}',
    "bad utf-8": b'{"model": "\xff\xfe"}',
    "utf-16": '{"model": "m"}'.encode("utf-16"),
    "lone surrogate": b'{"model": "\\ud800"}',
    "raw control": b'{"model": "a\x01b"}',
    "deep": b'{"a":' * 100_000,
    "deep and closed": b"[" * 5000 + b"]" * 5000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_json_is_400_with_the_place(body: bytes) -> None:
    async with opened() as house:
        reply = await house.post(body)
        assert (await house.post(HI)).status == 200
    assert reply.status == 400
    assert reply.error["code"] == "invalid_json"
    if body.strip() and b"{" in body and body not in (b"null", b"[]", b"1"):
        assert "line" in reply.error["message"] or "nested" in reply.error["message"]


UNFIT: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no model": ({"messages": [{"role": "user", "content": "x"}]}, "model"),
    "model null": (say("x", model=None), "model"),
    "model a number": (say("x", model=1), "model"),
    "model a path": (say("x", model="../../etc/passwd"), "model"),
    "model with CRLF": (say("x", model=f"{CANARY}\r\nSet-Cookie: a"), "model"),
    "model long": (say("x", model="m" * 10_000), "model"),
    "no messages": ({"model": "m"}, "messages"),
    "messages empty": ({"model": "m", "messages": []}, "messages"),
    "messages a string": ({"model": "m", "messages": CANARY}, "messages"),
    "message null": ({"model": "m", "messages": [None]}, "messages[0]"),
    "role unknown": ({"model": "m", "messages": [{"role": CANARY}]}, "messages[0].role"),
    "content a number": (
        {"model": "m", "messages": [{"role": "user", "content": 1}]},
        "messages[0].content",
    ),
    "stream a word": (say("x", stream=CANARY), "stream"),
    "hot": (say("x", temperature="hot"), "temperature"),
    "cold": (say("x", temperature=-1), "temperature"),
    "top_p": (say("x", top_p=5), "top_p"),
    "max_tokens negative": (say("x", max_tokens=-2), "max_tokens"),
    "max_tokens true": (say("x", max_tokens=True), "max_tokens"),
    "n": (say("x", n=100_000), "n"),
    "stop": (say("x", stop=["s"] * 10_000), "stop"),
    "tools": (say("x", tools=CANARY), "tools"),
    "response_format": (say("x", response_format={"type": CANARY}), "response_format.type"),
    "metadata": (say("x", metadata=[1]), "metadata"),
    "tool_choice": (say("x", tool_choice="required"), "tool_choice"),
}


@pytest.mark.parametrize(("body", "param"), UNFIT.values(), ids=UNFIT.keys())
async def test_what_does_not_fit_is_422_with_the_parameter(
    body: dict[str, Any], param: str
) -> None:
    async with opened() as house:
        reply = await house.chat(body)
        assert (await house.post(HI)).status == 200
    assert reply.status == 422
    assert reply.error["code"] == "invalid_request"
    assert reply.error["param"] == param
    assert CANARY not in reply.body.decode()


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1/{CANARY}.png",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "//example.com/a.png",
        "http://2130706433/",
        "javascript:alert(1)",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:text/html;base64,PGI+",
        "data:image/png;base64,@@@",
    ],
)
async def test_an_image_is_data_or_nothing(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    async with opened() as house:
        reply = await house.chat({"model": "m", "messages": [{"role": "user", "content": [part]}]})
    assert reply.status in (400, 422)
    assert reply.error["param"] == "messages[0].content[0].image_url.url"
    assert CANARY not in reply.body.decode()


async def test_nothing_in_a_body_steers_where_it_goes(engine: ScriptedOllama) -> None:
    tricks = {
        "api_base": "http://127.0.0.1:1",
        "base_url": "http://127.0.0.1:1",
        "template": "{{ 7*7 }}",
        "raw": True,
        "__proto__": {"admin": True},
        "system": "x",
    }
    async with opened(engine) as house:
        reply = await house.chat(say("hi", **tricks))
    assert reply.status == 200
    sent = json.loads(engine.requests[0].body)
    assert set(sent) <= {"model", "messages", "stream", "truncate", "shift", "options"}
    named = reply.headers["x-gateway-ignored-params"]
    assert all(name in named for name in ("api_base", "base_url", "template", "raw"))


async def test_the_context_a_caller_asks_for_is_capped(engine: ScriptedOllama) -> None:
    async with opened(engine) as house:
        reply = await house.chat(say("hi", options={"num_ctx": 10**9}))
    if reply.status == 200:
        assert json.loads(engine.requests[0].body)["options"]["num_ctx"] <= 32_768
    else:
        assert reply.status == 422


# --- Origins (H10, H11) ----------------------------------------------------------

EVIL: Final = {"Origin": "https://evil.example"}


def cors_headers(reply: Any) -> list[str]:
    return [name for name in reply.headers if name.lower().startswith("access-control-")]


async def test_a_foreign_page_may_change_nothing_and_read_nothing() -> None:
    async with opened() as house:
        posted = await house.chat(say("hi"), EVIL)
        opaque = await house.chat(say("hi"), {"Origin": "null"})
        read = await house.get("/v1/models", EVIL)
        asked = await house.ask(
            "OPTIONS", CHAT, headers={**EVIL, "Access-Control-Request-Method": "POST"}
        )
    for reply in (posted, opaque, asked):
        assert reply.status == 403
        assert reply.error["code"] == "origin_not_allowed"
    assert read.status == 200
    assert not any(map(cors_headers, (posted, opaque, read, asked)))


async def test_an_allowed_page_may_ask_and_read_errors_too() -> None:
    mine = {"Origin": "https://chat.example"}
    server = Server(allowed_origins=("https://chat.example",))
    async with opened(**LOCKED, server=server) as house:
        asked = await house.ask(
            "OPTIONS",
            CHAT,
            headers={
                **mine,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )
        whole = await house.chat(say("hi"), {**mine, **WITH_KEY})
        streamed = await house.chat(say("hi", stream=True), {**mine, **WITH_KEY})
        refused = await house.chat(say("hi"), mine)
        foreign = await house.chat(say("hi"), {**EVIL, **WITH_KEY})
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert [whole.status, streamed.status, refused.status] == [200, 200, 401]
    for reply in (asked, whole, streamed, refused):
        assert reply.headers["Access-Control-Allow-Origin"] == "https://chat.example"
        assert reply.headers["Vary"] == "Origin"
    assert foreign.status == 403


async def test_a_page_of_the_gateways_own_needs_no_entry() -> None:
    async with opened() as house:
        reply = await house.chat(say("hi"), {"Origin": house.url})
    assert reply.status == 200


# --- Hosts (H6, H12) --------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost/health?", "localhost:4000/#@evil", "127.0.0.1.evil.example"]
)
async def test_a_foreign_host_is_refused_with_or_without_a_key(host: str) -> None:
    async with opened(**LOCKED) as house:
        for key in ("", f"Authorization: Bearer {KEY}\r\n"):
            text = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n{key}\r\n"
            reply = await (await house.send(text.encode())).some()
            assert reply.status in (400, 403)


# --- One line, one count -----------------------------------------------------------


async def test_every_refusal_is_one_line_and_one_count() -> None:
    async with opened(**LOCKED) as house:
        statuses = []
        for request_bytes, status in (
            (get("/v1/models"), 401),
            (get("/nowhere", f"Authorization: Bearer {KEY}"), 404),
            (get(CHAT, f"Authorization: Bearer {KEY}"), 405),
            (http_post(b"{", f"Authorization: Bearer {KEY}"), 400),
            (http_post(b"{}", f"Authorization: Bearer {KEY}"), 422),
            (http_chat(say("x", model="none"), f"Authorization: Bearer {KEY}"), 404),
        ):
            reply = await (await house.send(request_bytes)).some()
            assert reply.status == status
            statuses.append(status)
        lines = house.request_lines()
        metrics = await house.metrics()
    assert [line["status"] for line in lines] == statuses
    assert all(line["code"] and line["request_id"] for line in lines)
    counted = {
        name: value
        for name, value in metrics.items()
        if name.startswith("gateway_requests_total") and 'status="200"' not in name
    }
    assert sum(counted.values()) == len(lines)
    assert 'gateway_requests_total{method="GET",route="other",status="404"}' in counted
