import json
from typing import Any

import pytest

from gateway.config.schema import Generation, Limits
from gateway.core.errors import InvalidRequest, MalformedRequest
from gateway.core.messages import Message, Prompt, Role
from gateway.core.tokens import Spelling, Tokens
from gateway.dialects.tokenizing import (
    CHARS_MAX,
    DETOKENIZE,
    TOKENIZE,
    Detokenize,
    DetokenizeParsed,
    Tokenize,
    TokenizeParsed,
)

CHAT = [{"role": "user", "content": "hi"}]


def tokenize(**body: Any) -> TokenizeParsed:
    return Tokenize(Limits(), Generation()).parse(json.dumps(body).encode())


def detokenize(**body: Any) -> DetokenizeParsed:
    return Detokenize(Limits(), Generation()).parse(json.dumps(body).encode())


def reply(parsed: TokenizeParsed, tokens: Tokens, context_length: int | None = None) -> Any:
    written = Tokenize(Limits(), Generation()).reply(parsed, tokens, context_length)
    return json.loads(written)


# --- What is asked ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "spelling"),
    [
        ({"prompt": "x"}, Spelling(add_special=True)),
        ({"prompt": "x", "add_special_tokens": False}, Spelling()),
        ({"prompt": "x", "return_token_strs": True}, Spelling(add_special=True, pieces=True)),
        ({"content": "x"}, Spelling()),
        ({"content": "x", "add_special": True}, Spelling(add_special=True)),
        ({"content": "x", "parse_special": False}, Spelling(parse_special=False)),
        ({"content": "x", "with_pieces": True}, Spelling(pieces=True)),
        ({"content": "x", "with_pieces": None}, Spelling()),
    ],
)
def test_a_text_is_asked_for_in_llama_cpps_words_and_in_vllms(
    body: dict[str, Any], spelling: Spelling
) -> None:
    parsed = tokenize(model="m", **body)
    assert parsed.request.model == "m"
    assert parsed.request.prompts == (Prompt("x"),)
    assert parsed.request.messages == ()
    assert parsed.spelling == spelling
    assert parsed.ignored == ()


def test_a_conversation_may_be_asked_for_with_its_tools() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    parsed = tokenize(messages=CHAT, tools=tools, model="m")
    assert parsed.request.messages == (Message(Role.USER, "hi"),)
    assert parsed.request.prompts == ()
    assert [tool.name for tool in parsed.request.tools] == ["f"]


def test_an_empty_text_is_one() -> None:
    assert tokenize(content="").request.prompts == (Prompt(""),)


def test_who_names_no_model_means_the_default() -> None:
    assert tokenize(content="x").request.model == "default"
    assert detokenize(tokens=[1]).request.model == "default"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "m"},
        {"prompt": None},
        {"prompt": "x", "content": "x"},
        {"prompt": "x", "messages": CHAT},
        {"prompt": ["x"]},
        {"content": 1},
        {"messages": []},
        {"content": "x", "add_special": "yes"},
        {"content": "x", "model": "../m"},
    ],
)
def test_what_is_no_single_text_is_told(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tokenize(**body)
    assert caught.value.param


@pytest.mark.parametrize("name", ["prompt", "content"])
def test_a_text_has_a_bound(name: str) -> None:
    assert tokenize(**{name: "x" * CHARS_MAX})
    with pytest.raises(InvalidRequest) as caught:
        tokenize(**{name: "x" * (CHARS_MAX + 1)})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("body", "ignored"),
    [
        ({"content": "x", "add_generation_prompt": True}, ()),
        ({"content": "x", "add_generation_prompt": False}, ("add_generation_prompt",)),
        ({"messages": CHAT, "continue_final_message": True}, ("continue_final_message",)),
        ({"messages": CHAT, "add_special_tokens": True}, ("add_special_tokens",)),
        ({"messages": CHAT, "parse_special": False}, ("parse_special",)),
        (
            {"prompt": "x", "tools": [{"type": "function", "function": {"name": "f"}}]},
            ("tools",),
        ),
        ({"prompt": "x", "chat_template": "{{ x }}", "foo": 1}, ("chat_template", "foo")),
    ],
)
def test_what_has_no_effect_is_named(body: dict[str, Any], ignored: tuple[str, ...]) -> None:
    assert tokenize(**body).ignored == ignored


def test_tokens_are_read() -> None:
    parsed = detokenize(model="m", tokens=[1, 0, 2**31 - 1], foo=1)
    assert parsed.ids == (1, 0, 2**31 - 1)
    assert parsed.ignored == ("foo",)
    assert detokenize(tokens=[]).ids == ()


@pytest.mark.parametrize("tokens", [None, "1", 1, [-1], [2**31], [1.0], [True], ["1"], [[1]]])
def test_what_are_no_tokens_is_told(tokens: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        detokenize(tokens=tokens)
    assert caught.value.param == "tokens"


@pytest.mark.parametrize("body", [b"[]", b"null", b"{"])
def test_a_body_is_an_object(body: bytes) -> None:
    for dialect in (Tokenize(Limits(), Generation()), Detokenize(Limits(), Generation())):
        with pytest.raises(MalformedRequest):
            dialect.parse(body)


def test_every_parameter_tells_what_it_takes() -> None:
    for table in (TOKENIZE, DETOKENIZE):
        assert all(parameter.schema for parameter in table.values())


# --- What is answered --------------------------------------------------------------------


def test_tokens_are_told_with_their_number() -> None:
    assert reply(tokenize(content="x"), Tokens([5, 6])) == {"count": 2, "tokens": [5, 6]}


def test_how_many_the_model_can_read_is_told_where_it_is_known() -> None:
    assert reply(tokenize(content="x"), Tokens([]), 4096)["max_model_len"] == 4096


def test_pieces_stand_with_the_tokens_for_clients_of_llama_cpp() -> None:
    parsed = tokenize(content="x", with_pieces=True)
    assert reply(parsed, Tokens([5, 6], ["hi", b" \xe6"])) == {
        "count": 2,
        "tokens": [{"id": 5, "piece": "hi"}, {"id": 6, "piece": [32, 230]}],
    }


def test_pieces_stand_beside_the_tokens_for_clients_of_vllm() -> None:
    parsed = tokenize(prompt="x", return_token_strs=True)
    assert reply(parsed, Tokens([5, 6], ["hi", b" \xe6"])) == {
        "count": 2,
        "tokens": [5, 6],
        "token_strs": ["hi", " \ufffd"],
    }


def test_a_text_is_told_by_both_names() -> None:
    written = Detokenize(Limits(), Generation()).reply('"hi"\n')
    assert json.loads(written) == {"content": '"hi"\n', "prompt": '"hi"\n'}
