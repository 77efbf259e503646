"""Tokens as the embedded engine counts them: exactly those that an answer tells of its prompt."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from openai import OpenAI, UnprocessableEntityError

from gateway.backends.llamacpp import available
from tests.real.clients import sdk
from tests.real.gateway_process import MODEL, serving
from tests.real.processes import free_port

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

TEXT: Final = "What is the weather in Malm\u00f6? \u65e5\u672c <|im_start|>"
USER: Final = [{"role": "user", "content": TEXT}]
CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Final = [
    {"type": "function", "function": {"name": name, "description": "Of a city", "parameters": CITY}}
    for name in ("get_weather", "get_time")
]
CALL: Final = {"name": "get_weather", "arguments": '{"city": "Malm\u00f6"}'}

BODIES: Final[dict[str, dict[str, Any]]] = {
    "plain": {"messages": USER},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *USER]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}] * 2}]},
    "begun": {"messages": [*USER, {"role": "assistant", "content": "It is"}]},
    "tools": {"messages": USER, "tools": TOOLS},
    "any tool": {"messages": USER, "tools": TOOLS, "tool_choice": "required"},
    "one tool": {
        "messages": USER,
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "get_time"}},
    },
    "called": {
        "messages": [
            *USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": CALL}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "18 C"},
        ],
        "tools": TOOLS,
    },
    "schema": {
        "messages": USER,
        "response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY}},
    },
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    if reason := available():
        pytest.skip(reason)
    # Where nobody listens, so that `auto` takes the embedded model.
    ollama = f"http://127.0.0.1:{free_port()}"
    with serving(tmp_path_factory.mktemp("gateway"), OLLAMA_URL=ollama) as gateway:
        yield sdk(gateway)


def ask(client: OpenAI, path: str, **body: Any) -> Any:
    return client.post(path, body={"model": MODEL, **body}, cast_to=object)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_chat_has_the_tokens_that_were_counted(client: OpenAI, body: dict[str, Any]) -> None:
    counted = ask(client, "/chat/completions/input_tokens", **body)
    run = ask(client, "/chat/completions", **body, max_tokens=80)
    assert counted["input_tokens"] == run["usage"]["prompt_tokens"] > 20


@pytest.mark.parametrize("name", ["plain", "system", "begun", "tools", "called"])
def test_a_conversation_that_is_taken_apart_has_as_many(client: OpenAI, name: str) -> None:
    body = BODIES[name]
    found = ask(client, "/tokenize", **body)
    counted = ask(client, "/chat/completions/input_tokens", **body)
    assert found["count"] == len(found["tokens"]) == counted["input_tokens"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": USER},
        {"messages": USER, "system": "Be brief."},
        {"messages": [*USER, {"role": "assistant", "content": "It is"}]},
        {
            "messages": USER,
            "tools": [{"name": "get_weather", "input_schema": CITY}],
            "tool_choice": {"type": "any"},
        },
    ],
    ids=["plain", "system", "begun", "any tool"],
)
def test_a_message_has_the_tokens_that_were_counted(client: OpenAI, body: dict[str, Any]) -> None:
    counted = ask(client, "/messages/count_tokens", **body)
    usage = ask(client, "/messages", **body, max_tokens=80)["usage"]
    # Anthropic tells those apart that were found in a cache.
    cached = usage.get("cache_read_input_tokens") or 0
    assert counted == {"input_tokens": usage["input_tokens"] + cached}


def test_a_response_has_the_tokens_that_were_counted(client: OpenAI) -> None:
    counted = client.responses.input_tokens.count(model=MODEL, input=TEXT, instructions="Be brief.")
    run = client.responses.create(
        model=MODEL, input=TEXT, instructions="Be brief.", max_output_tokens=16
    )
    assert run.usage is not None
    assert counted.input_tokens == run.usage.input_tokens
    assert counted.object == "response.input_tokens"


def test_a_text_is_the_same_when_it_comes_back(client: OpenAI) -> None:
    found = ask(client, "/tokenize", content=TEXT)
    assert ask(client, "/detokenize", tokens=found["tokens"])["content"] == TEXT
    literal = ask(client, "/tokenize", content=TEXT, parse_special=False)
    assert literal["count"] > found["count"], "the mark of the template, letter by letter"


def test_a_token_may_be_a_part_of_a_character(client: OpenAI) -> None:
    tokens = ask(client, "/tokenize", content="\u65e5", with_pieces=True)["tokens"]
    parts = [token["piece"] for token in tokens]
    assert any(isinstance(part, list) for part in parts)
    whole = b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts)
    assert whole.decode() == "\u65e5"


def test_what_is_no_token_is_the_callers_mistake(client: OpenAI) -> None:
    with pytest.raises(UnprocessableEntityError, match="vocabulary"):
        ask(client, "/detokenize", tokens=[10_000_000])
