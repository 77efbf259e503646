import base64
from typing import Any

import attrs
import pytest

from gateway.config.schema import Generation, Limits
from gateway.core import jsonio
from gateway.core.errors import GatewayError, TooLarge
from gateway.core.messages import ImagePart, Message, Role, TextPart, Tool, ToolCall
from gateway.dialects.ollama_chat import OllamaChat

from .ollama_bodies import LIMITS, PIXEL, chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def messages(*turns: dict[str, Any]) -> tuple[Message, ...]:
    return chat(turns).request.messages


def refusal(*turns: Any, **fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        chat(turns, **fields)
    return caught.value


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


def test_turns_are_read_in_order() -> None:
    assert messages(
        {"role": "system", "content": "Be brief."},
        {"role": "User", "content": "hi"},
        {"role": "assistant", "content": "hello", "thinking": "hm"},
        {"role": "user"},
    ) == (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "hi"),
        Message(Role.ASSISTANT, "hello", reasoning="hm"),
        Message(Role.USER, ""),
    )


@pytest.mark.parametrize("role", ["critic", "", None, 1])
def test_a_role_that_is_none_is_refused(role: object) -> None:
    assert refusal({"role": role, "content": "x"}).param == "messages[0].role"


def test_images_stand_after_the_text() -> None:
    picture = ImagePart(PIXEL, "image/png")
    with_text, alone = messages(
        {"role": "user", "content": "What is it?", "images": [PIXEL]},
        {"role": "user", "content": "", "images": [PIXEL]},
    )
    assert with_text.content == (TextPart("What is it?"), picture)
    assert alone.content == (picture,)


@pytest.mark.parametrize("image", ["no base64!", base64.b64encode(b"GIF89a").decode(), 1, ""])
def test_what_is_no_image_is_refused(image: object) -> None:
    error = refusal({"role": "user", "content": "", "images": [image]})
    assert error.param == "messages[0].images[0]"


def test_images_are_bounded_in_number_and_size() -> None:
    many = [{"role": "user", "images": [PIXEL] * 16}] * 3
    assert refusal(*many).param == "messages[2].images"
    dialect = OllamaChat(attrs.evolve(LIMITS, image_bytes_max=10), Generation())
    body = {"model": "m", "messages": [{"role": "user", "images": [PIXEL]}]}
    with pytest.raises(TooLarge):
        dialect.parse(jsonio.dumps(body))


def test_so_many_turns_are_not_read() -> None:
    dialect = OllamaChat(Limits(messages_max=2), Generation())
    with pytest.raises(GatewayError, match="0 to 2 items"):
        dialect.parse(jsonio.dumps({"model": "m", "messages": [{"role": "user"}] * 3}))


def test_a_tools_answer_belongs_to_the_call_that_it_names() -> None:
    _, asked, second, first = messages(
        {"role": "user", "content": "Rome and Oslo?"},
        {"role": "assistant", "tool_calls": [call("a", city="Rome"), call("b", city="Oslo")]},
        {"role": "tool", "tool_name": "b", "content": "cold"},
        {"role": "tool", "tool_name": "a", "content": "warm"},
    )
    assert asked.tool_calls == (
        ToolCall("call_1", "a", '{"city":"Rome"}'),
        ToolCall("call_2", "b", '{"city":"Oslo"}'),
    )
    assert (second.tool_call_id, second.name) == ("call_2", "b")
    assert (first.tool_call_id, first.name) == ("call_1", "a")


def test_answers_that_name_nothing_are_in_the_order_of_the_calls() -> None:
    turns = messages(
        {"role": "assistant", "tool_calls": [call("f", n=1), call("f", n=2)]},
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
    )
    assert [turn.tool_call_id for turn in turns[1:]] == ["call_1", "call_2"]


def test_the_ids_of_those_who_have_them_are_kept() -> None:
    turns = messages(
        {
            "role": "assistant",
            "tool_calls": [{"id": "x", **call("f")}, {"id": "y", **call("f")}],
        },
        {"role": "tool", "tool_call_id": "y", "content": "two"},
        {"role": "tool", "tool_call_id": "z", "content": "nobody's"},
    )
    assert [made.id for made in turns[0].tool_calls] == ["x", "y"]
    assert [turn.tool_call_id for turn in turns[1:]] == ["y", "z"]


@pytest.mark.parametrize("arguments", ['{"city": "Rome"}', [], 1])
def test_arguments_are_an_object(arguments: object) -> None:
    turn = {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "f", "arguments": arguments}}],
    }
    assert refusal(turn).param == "messages[0].tool_calls[0].function.arguments"


def test_tools_are_functions() -> None:
    function = WEATHER["function"]
    assert isinstance(function, dict)
    read = Tool("get_weather", "The weather", function["parameters"])
    # Ollama's own clients need not say that it is one.
    assert chat(tools=[WEATHER, {"function": function}]).request.tools == (read, read)
    parsed = chat(tools=[])
    assert (parsed.request.tools, parsed.request.params) == ((), frozenset({"model", "messages"}))
    assert refusal({"role": "user"}, tools=[{"type": "web_search"}]).param == "tools[0].type"


def test_what_a_turn_or_a_tool_has_besides_is_named() -> None:
    turn = {"role": "user", "content": "x", "mood": "good", "empty": None}
    assert chat([turn], tools=[{**WEATHER, "items": 1}]).ignored == ("messages.mood", "tools.items")
