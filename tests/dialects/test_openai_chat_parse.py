import base64
import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from gateway.config.schema import Generation, Limits
from gateway.core.errors import GatewayError, InvalidRequest, MalformedRequest, TooLarge
from gateway.core.messages import (
    GenerateRequest,
    ImagePart,
    JsonObject,
    JsonSchema,
    Message,
    NamedTool,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from gateway.dialects.base import Dialect
from gateway.dialects.draft import AND_MORE, IGNORED_MAX
from gateway.dialects.openai_chat import PARAMETERS, ChatParsed, OpenAIChat

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
JPEG = b"\xff\xd8\xff\xe0" + bytes(8)
WEBP = b"RIFF\x00\x00\x00\x00WEBP" + bytes(8)

LIMITS = Limits(messages_max=10, tools_max=4, tools_bytes_max=2000, image_bytes_max=100)
GENERATION = Generation(max_tokens_default=50, max_tokens_max=200, num_ctx_max=8192)
DIALECT: Dialect[ChatParsed] = OpenAIChat(LIMITS, GENERATION)

USER = {"role": "user", "content": "hi"}
BASE: dict[str, Any] = {"model": "llama3.2", "messages": [USER]}
WEATHER = {"type": "function", "function": {"name": "weather"}}


def body(**more: Any) -> bytes:
    return json.dumps(BASE | more).encode()


def parse(**more: Any) -> ChatParsed:
    return DIALECT.parse(body(**more))


def asked(**more: Any) -> GenerateRequest:
    return parse(**more).request


def refusal(**more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**more)
    return caught.value


def data_url(image: bytes = PNG, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(image).decode()}"


def with_image(url: Any, **more: Any) -> list[dict[str, Any]]:
    part = {"type": "image_url", "image_url": {"url": url, **more}}
    return [{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}]


# --- The body as JSON (J1–J6) ---------------------------------------------------------

NOT_JSON = {
    "empty": b"",
    "spaces": b"  \n ",
    "null": b"null",
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "cut": body()[:-1],
    "cut in a string": body()[:12],
    "trailing": body() + b"x",
    "two": body() + body(),
    "comment": b"/* */" + body(),
    "single quotes": b"{'model': 'x'}",
    "bom": b"\xef\xbb\xbf" + body(),
    "utf-16": body().decode().encode("utf-16"),
    "utf-32": body().decode().encode("utf-32"),
    "bad utf-8": body().replace(b"hi", b"\xff\xfe"),
    "overlong": body().replace(b"hi", b"\xc0\xaf"),
    "utf-8 surrogate": body().replace(b"hi", b"\xed\xa0\x80"),
    "raw control": body().replace(b"hi", b"a\x00b"),
    "raw newline": body().replace(b"hi", b"a\nb"),
    "NaN": body(temperature=float("nan")),
    "Infinity": body(temperature=float("inf")),
    "1e999": body(temperature=1).replace(b"1", b"1e999"),
    "5000 digits": body(seed=1).replace(b"1", b"1" * 5000),
    "a million digits": body(seed=1).replace(b"1", b"1" * (1 << 20)),
    "lone high surrogate": body().replace(b"hi", rb"\ud800"),
    "lone low surrogate": body().replace(b"hi", rb"\udc00 x"),
    "lone surrogate in a key": body().replace(b'"role"', rb'"\ud83d"'),
    "depth 100,000": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth 2,000": b'{"a":' + b'{"a":' * 2_000 + b"1" + b"}" * 2_001,
    "depth 65": b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_a_json_object_is_malformed(name: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        DIALECT.parse(NOT_JSON[name])
    assert caught.value.code == "invalid_json"


def test_json_as_deep_as_allowed_is_read() -> None:
    assert DIALECT.parse(body()[:-1] + b',"a":' + b"[" * 63 + b"]" * 63 + b"}").ignored == ("a",)


def test_of_duplicate_keys_the_last_is_checked_and_taken() -> None:
    assert DIALECT.parse(body()[:-1] + b',"model":"other"}').request.model == "other"
    with pytest.raises(InvalidRequest):
        DIALECT.parse(body()[:-1] + b',"model":7}')


def test_very_many_keys_and_escapes_are_read() -> None:
    parsed = parse(**{f"key{index}": index for index in range(20_000)})
    assert len(parsed.ignored) == IGNORED_MAX
    assert parsed.ignored[-1] == AND_MORE
    text = "\\u0041" * 50_000
    request = DIALECT.parse(body().replace(b"hi", text.encode())).request
    assert request.messages[0].text == "A" * 50_000


# --- Every documented parameter ---------------------------------------------------------

DOCUMENTED = {*get_type_hints(CompletionCreateParamsBase), "stream"}

HONOURED: dict[str, tuple[Any, Any]] = {
    "frequency_penalty": (0.5, lambda r: r.sampling.frequency_penalty == 0.5),
    "logit_bias": ({"50256": -100}, lambda r: r.sampling.logit_bias == {"50256": -100}),
    "logprobs": (True, lambda r: r.logprobs == 0),
    "max_completion_tokens": (7, lambda r: r.max_tokens == 7),
    "max_tokens": (7, lambda r: r.max_tokens == 7),
    "messages": ([USER, USER], lambda r: len(r.messages) == 2),
    "model": ("other", lambda r: r.model == "other"),
    "n": (3, lambda r: r.n == 3),
    "parallel_tool_calls": (False, lambda r: r.parallel_tool_calls is False),
    "presence_penalty": (-0.5, lambda r: r.sampling.presence_penalty == -0.5),
    "reasoning_effort": ("low", lambda r: r.reasoning_effort == "low"),
    "response_format": ({"type": "json_object"}, lambda r: r.output_format == JsonObject()),
    "seed": (7, lambda r: r.sampling.seed == 7),
    "service_tier": ("flex", lambda r: r.service_tier == "flex"),
    "stop": ("END", lambda r: r.sampling.stop == ("END",)),
    "stream": (True, lambda r: r.stream is True),
    "temperature": (0.5, lambda r: r.sampling.temperature == 0.5),
    "tool_choice": ("none", lambda r: r.tool_choice == "none"),
    "tools": ([WEATHER], lambda r: r.tools == (Tool("weather"),)),
    "top_p": (0.5, lambda r: r.sampling.top_p == 0.5),
}
WITHOUT_EFFECT: dict[str, Any] = {
    "audio": {"format": "mp3", "voice": "alloy"},
    "metadata": {"a": "b"},
    "modalities": ["text", "audio"],
    "moderation": {"model": "m"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "store": True,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {},
}
NO_OPS: dict[str, Any] = {
    "logit_bias": {},
    "logprobs": False,
    "metadata": {},
    "modalities": ["text"],
    "n": 1,
    "parallel_tool_calls": True,
    "prompt_cache_options": {},
    "response_format": {"type": "text"},
    "service_tier": "auto",
    "store": False,
    "stream": False,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "verbosity": "medium",
}
REFUSED: dict[str, Any] = {"functions": [{"name": "f"}], "function_call": "auto"}
WITH_OTHERS = {"top_logprobs", "stream_options"}  # have tests of their own


def test_the_table_knows_every_parameter_that_openai_documents() -> None:
    assert set(PARAMETERS) >= DOCUMENTED
    assert {*HONOURED, *WITHOUT_EFFECT, *REFUSED, *WITH_OTHERS} == DOCUMENTED


@pytest.mark.parametrize("name", HONOURED)
def test_an_honoured_parameter_is_in_the_request_and_in_its_params(name: str) -> None:
    value, is_there = HONOURED[name]
    parsed = parse(**{name: value})
    assert is_there(parsed.request)
    assert name in parsed.request.params
    assert parsed.ignored == ()


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_parameter_without_effect_is_named(name: str) -> None:
    parsed = parse(**{name: WITHOUT_EFFECT[name]})
    assert parsed.ignored == (name,)
    assert parsed.request == asked()


@pytest.mark.parametrize("name", NO_OPS)
def test_a_parameter_that_asks_for_what_happens_anyway_is_not_named(name: str) -> None:
    parsed = parse(**{name: NO_OPS[name]})
    assert parsed.ignored == ()
    assert parsed.request.params == {"model", "messages"}


@pytest.mark.parametrize(
    ("tier", "taken", "ignored"),
    [
        ("priority", "priority", ()),
        ("fast", "priority", ()),
        ("default", None, ()),
        ("scale", None, ("service_tier",)),
        ("", None, ("service_tier",)),
    ],
)
def test_a_service_tier_that_means_nothing_here_is_named(
    tier: str, taken: str | None, ignored: tuple[str, ...]
) -> None:
    parsed = parse(service_tier=tier)
    assert (parsed.request.service_tier, parsed.ignored) == (taken, ignored)


@pytest.mark.parametrize("name", REFUSED)
def test_a_legacy_parameter_is_refused_with_its_successor(name: str) -> None:
    error = refusal(**{name: REFUSED[name]})
    assert error.param == name
    assert "use 'tool" in error.message


@pytest.mark.parametrize("name", sorted({*PARAMETERS, "unheard_of"} - {"model", "messages"}))
def test_null_means_absent(name: str) -> None:
    assert parse(**{name: None}) == parse()


@pytest.mark.slow
@given(
    name=st.sampled_from(sorted(PARAMETERS)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)
@settings(deadline=None, max_examples=500)
def test_any_value_is_read_or_refused_by_its_name(name: str, value: Any) -> None:
    error = mistake({name: value})
    if error is not None:
        assert error.param is not None
        assert error.param.startswith(name)
        assert error.message.isascii()
        assert error.message.isprintable()


def mistake(more: dict[str, Any]) -> GatewayError | None:
    """What is wrong with a body of these values; None also for what is no JSON at all."""
    try:
        parse(**more)
    except MalformedRequest:
        return None
    except GatewayError as error:
        return error
    return None


# --- What is not known -------------------------------------------------------------------


def test_unknown_parameters_are_named_and_steer_nothing() -> None:
    unknown = {
        "api_base": "http://evil.example",
        "base_url": "http://evil.example",
        "template": "{{ x }}",
        "raw": True,
        "chat_template_kwargs": {"a": 1},
        "__proto__": {"model": "other"},
        "format": "json",
    }
    parsed = parse(**unknown)
    assert parsed.ignored == tuple(unknown)
    assert parsed.request == asked()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "(empty)"),
        ("a\r\nSet-Cookie: x", r"a\u000d\u000aSet-Cookie:\u0020x"),
        ("a,b", r"a\u002cb"),
        ("\x1b[31m", r"\u001b\u005b31m"),
        ("größe", r"gr\u00f6\u00dfe"),
        ("x" * 10_000, "x" * 64),
        ("\n" * 64, (r"\u000a" * 64)[:64]),
    ],
)
def test_a_made_up_name_is_escaped_and_cut(name: str, shown: str) -> None:
    assert parse(**{name: 1}).ignored == (shown,)


def test_unknown_keys_inside_messages_and_tools_are_named_once() -> None:
    turn: dict[str, Any] = USER | {"cache_control": {"type": "x"}, "annotations": [], "audio": None}
    tool = WEATHER | {"defer": True}
    parsed = parse(messages=[turn, turn], tools=[tool])
    assert parsed.ignored == ("messages.cache_control", "tools.defer")


# --- model (J7) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    ["llama3.2", "llama3.2:latest", "hf.co/org/Some-Model_GGUF:Q4_K_M", "a", "m@v1+x", "x" * 256],
)
def test_names_of_models_are_taken_as_they_are(model: str) -> None:
    assert asked(model=model).model == model


@pytest.mark.parametrize(
    "model",
    [
        None,
        7,
        True,
        ["llama3.2"],
        {"id": "llama3.2"},
        "",
        " ",
        " a",
        "x" * 257,
        "x" * 10_240,
        "a\r\nb",
        "a\n",
        "a\x00",
        "\x1b[31m",
        'a"b',
        "größe",
        "../../etc/passwd",
        "a/../../b",
        "/../etc/passwd",
        "http://evil.example/m",
        "//evil.example",
        "C:\\x",
        "a?b",
        "a%2fb",
    ],
)
def test_what_is_no_name_of_a_model_is_refused(model: Any) -> None:
    assert refusal(model=model).param == "model"


@pytest.mark.parametrize("name", ["model", "messages"])
def test_what_is_missing_is_said_to_be_required(name: str) -> None:
    left = {key: value for key, value in BASE.items() if key != name}
    with pytest.raises(InvalidRequest, match=f"'{name}' is required") as caught:
        DIALECT.parse(json.dumps(left).encode())
    assert caught.value.param == name


# --- messages (J9) ------------------------------------------------------------------------

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def test_a_conversation_with_everything_is_read() -> None:
    request = asked(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "Very."}]},
            {"role": "user", "content": "weather?", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "hm"},
            {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
            {"role": "assistant", "content": "Rain.", "reasoning_content": "so"},
        ]
    )
    assert request.messages == (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.SYSTEM, "Very."),
        Message(Role.USER, "weather?", name="ann"),
        Message(
            Role.ASSISTANT, "", reasoning="hm", tool_calls=(ToolCall("call_1", "weather", "{}"),)
        ),
        Message(Role.TOOL, "rain", tool_call_id="call_1"),
        Message(Role.ASSISTANT, "Rain.", reasoning="so"),
    )


def test_a_call_of_before_tools_and_its_answer_are_tied_by_the_name() -> None:
    request = asked(
        messages=[
            {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}},
            {"role": "function", "name": "weather", "content": "rain"},
        ]
    )
    assert request.messages == (
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("weather", "weather", "{}"),)),
        Message(Role.TOOL, "rain", tool_call_id="weather", name="weather"),
    )


def test_parts_of_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert asked(messages=[USER | {"content": parts}]).messages[0].content == "a\nb"


def test_a_refusal_is_the_content_of_its_turn() -> None:
    request = asked(
        messages=[
            {"role": "assistant", "content": None, "refusal": "I won't."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ]
    )
    assert [message.text for message in request.messages] == ["I won't.", "No."]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ({}, "messages"),
        ([], "messages"),
        ("hi", "messages"),
        ([USER] * 11, "messages"),
        ([None], "messages[0]"),
        (["hi"], "messages[0]"),
        ([USER, {"content": "hi"}], "messages[1].role"),
        ([{"role": "root", "content": "hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "hi"}], "messages[0].role"),
        ([{"role": None, "content": "hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": {}}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": [None]}], "messages[0].content[0]"),
        ([{"role": "user", "content": ["hi"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "file"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": []}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([USER | {"name": 7}], "messages[0].name"),
        ([{"role": "assistant"}], "messages[0].content"),
        ([{"role": "assistant", "content": None}], "messages[0].content"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "messages[0].content"),
        ([{"role": "assistant", "content": "", "reasoning": 7}], "messages[0].reasoning"),
        ([{"role": "assistant", "tool_calls": "x"}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [CALL] * 5}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [7]}], "messages[0].tool_calls[0]"),
        (
            [{"role": "assistant", "tool_calls": [CALL | {"type": "custom"}]}],
            "messages[0].tool_calls[0].type",
        ),
        (
            [{"role": "assistant", "tool_calls": [CALL | {"id": None}]}],
            "messages[0].tool_calls[0].id",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "x"}]}],
            "messages[0].tool_calls[0].function",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": 7}}]}],
            "messages[0].tool_calls[0].function.name",
        ),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {}}}],
                }
            ],
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([{"role": "tool", "content": "rain"}], "messages[0].tool_call_id"),
        ([{"role": "tool", "content": "rain", "tool_call_id": ""}], "messages[0].tool_call_id"),
        ([{"role": "function", "content": "rain"}], "messages[0].name"),
    ],
)
def test_a_message_that_does_not_fit_is_refused_with_its_path(messages: Any, param: str) -> None:
    assert refusal(messages=messages).param == param


# --- Values out of range (J10, J11) -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream", "yes"),
        ("stream", 1),
        ("temperature", "hot"),
        ("temperature", -1),
        ("temperature", 2.1),
        ("temperature", 1e308),
        ("temperature", True),
        ("top_p", 5),
        ("top_p", -0.1),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("max_tokens", -2),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_tokens", 1.5),
        ("max_tokens", 10**30),
        ("max_completion_tokens", "7"),
        ("n", 0),
        ("n", 9),
        ("n", 100_000),
        ("n", True),
        ("seed", 2**63),
        ("seed", 1.0),
        ("logprobs", 1),
        ("stop", 7),
        ("stop", ""),
        ("stop", "x" * 257),
        ("stop", ["x"] * 33),
        ("stop", ["x"] * 10_000),
        ("logit_bias", []),
        ("logit_bias", {str(token): 1 for token in range(1025)}),
        ("logit_bias", {"hello": 1}),
        ("logit_bias", {"²": 1}),
        ("reasoning_effort", "extreme"),
        ("reasoning_effort", {}),
        ("tools", {}),
        ("tools", [WEATHER] * 5),
        ("tool_choice", "any"),
        ("tool_choice", {"type": "custom"}),
        ("response_format", "json"),
        ("parallel_tool_calls", "no"),
        ("stream_options", {"include_usage": True}),
        ("metadata", "x"),
        ("metadata", {str(key): "x" for key in range(17)}),
        ("metadata", {"x" * 65: "x"}),
        ("user", 7),
        ("store", "no"),
        ("modalities", "text"),
        ("top_k", -2),
        ("min_p", 1.1),
        ("repeat_penalty", 0),
        ("num_ctx", 0),
        ("num_ctx", 2**63),
        ("num_ctx", True),
        ("num_predict", -3),
        ("mirostat", 3),
        ("options", []),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: Any) -> None:
    error = refusal(**{name: value})
    assert error.param == name
    assert error.status == 422


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"stop": ["x", ""]}, "stop[1]"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7"),
        ({"logit_bias": {"7": "x"}}, "logit_bias.7"),
        ({"metadata": {"a\n": 7}}, r"metadata.a\u000a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"stream": True, "stream_options": True}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "x" * 65}}]},
            "tools[0].function.name",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": WEATHER}, "tool_choice.function.name"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"options": {"temperature": 3}}, "options.temperature"),
        ({"options": {"num_ctx": 0}}, "options.num_ctx"),
    ],
)
def test_a_nested_value_that_does_not_fit_is_refused_with_its_path(
    more: dict[str, Any], param: str
) -> None:
    assert refusal(**more).param == param


def test_schemas_are_bounded_in_bytes() -> None:
    schema = {"description": "x" * 2000}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert refusal(tools=[tool]).param == "tools"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert refusal(response_format=form).param == "response_format.json_schema"


# --- Images (J12, J13) --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "media_type", "taken_as"),
    [
        (PNG, "image/png", "image/png"),
        (JPEG, "image/jpeg", "image/jpeg"),
        (JPEG, "image/jpg", "image/jpeg"),
        (WEBP, "image/webp", "image/webp"),
    ],
)
def test_an_image_in_the_request_is_taken(image: bytes, media_type: str, taken_as: str) -> None:
    request = asked(messages=with_image(data_url(image, media_type)))
    assert request.messages[0].content == (
        TextPart("what?"),
        ImagePart(base64.b64encode(image).decode(), taken_as),
    )
    assert "image_url" in request.params


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "https://example.com/a.png",
        "//example.com/a.png",
        "http://2130706433/a.png",
        "http://127.0.0.1.nip.io/a.png",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "gopher://example.com/",
        "javascript:alert(1)",
        "data:text/html;base64,PGI+",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/gif;base64,R0lGODlh",
        "data:image/png,abc",
        "data:,",
        "",
        "x" * 100_000,
        None,
        7,
        ["data:image/png;base64,"],
    ],
)
def test_nothing_but_an_image_in_the_request_is_an_image(url: Any) -> None:
    assert refusal(messages=with_image(url)).param == "messages[0].content[1].image_url.url"


def test_a_refused_address_is_told_why() -> None:
    assert "nothing is fetched" in refusal(messages=with_image("https://example.com/a")).message


@pytest.mark.parametrize(
    "data", ["", "!!!!", "iVBO", "iVBORw0KGgo", "iVBO Rw0K", "größe===", "===="]
)
def test_broken_base64_or_a_broken_image_is_refused(data: str) -> None:
    error = refusal(messages=with_image(f"data:image/png;base64,{data}"))
    assert error.param == "messages[0].content[1].image_url.url"


def test_what_an_image_is_its_bytes_say() -> None:
    (message,) = asked(messages=with_image(data_url(JPEG, "image/png"))).messages
    (image,) = message.images
    assert image.media_type == "image/jpeg"
    assert "PNG, JPEG or WebP" in refusal(messages=with_image(data_url(b"GIF89a"))).message


def test_an_image_of_the_bound_passes_and_a_larger_one_does_not() -> None:
    asked(messages=with_image(data_url(PNG + bytes(100 - len(PNG)))))
    for size in (101, 102, 103, 5000):
        with pytest.raises(TooLarge) as caught:
            asked(messages=with_image(data_url(PNG + bytes(size - len(PNG)))))
        assert caught.value.param == "messages[0].content[1].image_url.url"


def test_images_of_all_messages_together_are_bounded() -> None:
    part = {"type": "image_url", "image_url": {"url": data_url()}}
    half = {"role": "user", "content": [part] * 16}
    assert len(asked(messages=[half, half]).messages) == 2
    error = refusal(messages=[half, half, {"role": "user", "content": [part]}])
    assert error.param == "messages[2].content[0].image_url"


def test_an_image_is_an_object_with_a_url() -> None:
    part = {"type": "image_url", "image_url": data_url()}
    error = refusal(messages=[{"role": "user", "content": [part]}])
    assert error.param == "messages[0].content[0].image_url"


def test_the_detail_of_an_image_is_named_unless_it_is_auto() -> None:
    assert parse(messages=with_image(data_url(), detail="auto")).ignored == ()
    ignored = parse(messages=with_image(data_url(), detail="low")).ignored
    assert ignored == ("messages.image_url.detail",)


# --- What is taken, in detail -----------------------------------------------------------


def test_a_plain_request_is_as_plain_as_it_can_be() -> None:
    assert parse() == ChatParsed(
        request=GenerateRequest(
            model="llama3.2",
            messages=(Message(Role.USER, "hi"),),
            max_tokens=50,
            params=frozenset({"model", "messages"}),
        )
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 50),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 7),
        ({"max_tokens": 10**9}, 200),
        ({"num_predict": 7}, 7),
        ({"options": {"num_predict": 7}, "max_tokens": 9}, 7),
    ],
)
def test_the_smallest_token_limit_holds(more: dict[str, Any], expected: int) -> None:
    assert asked(**more).max_tokens == expected


def test_a_default_above_the_maximum_is_cut_too() -> None:
    dialect = OpenAIChat(LIMITS, Generation(max_tokens_default=500, max_tokens_max=100))
    assert dialect.parse(body()).request.max_tokens == 100


@pytest.mark.parametrize("order", [["logprobs", "top_logprobs"], ["top_logprobs", "logprobs"]])
def test_logprobs_count_their_alternatives_in_either_order(order: list[str]) -> None:
    values = {"logprobs": True, "top_logprobs": 3}
    assert asked(**{name: values[name] for name in order}).logprobs == 3


def test_usage_in_the_stream_is_asked_for() -> None:
    assert parse(stream=True, stream_options={"include_usage": True}).include_usage
    assert not parse(stream=True, stream_options={"include_usage": False}).include_usage
    assert not parse(stream=True, stream_options={}).include_usage
    parsed = parse(stream=True, stream_options={"include_obfuscation": True, "x": 1})
    assert parsed.ignored == ("stream_options.include_obfuscation", "stream_options.x")
    assert parse(stream=True, stream_options={"include_obfuscation": False}).ignored == ()


@pytest.mark.parametrize(("effort", "taken"), [("none", "none"), ("xhigh", "max"), ("max", "max")])
def test_efforts_of_reasoning_are_ours(effort: str, taken: str) -> None:
    assert asked(reasoning_effort=effort).reasoning_effort == taken


def test_several_stops_are_taken_in_order() -> None:
    assert asked(stop=["a", "b"]).sampling.stop == ("a", "b")
    assert asked(stop=[]).sampling.stop == ()


def test_tools_and_a_choice_among_them_are_read_in_either_order() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Now",
            "parameters": parameters,
            "strict": True,
        },
    }
    for order in (("tools", "tool_choice"), ("tool_choice", "tools")):
        values = {"tools": [tool], "tool_choice": WEATHER}
        request = asked(**{name: values[name] for name in order})
        assert request.tools == (Tool("weather", "Now", parameters, True),)
        assert request.tool_choice == NamedTool("weather")
        assert {"tools", "tool_choice"} <= request.params
    assert asked(tools=[tool], tool_choice="required").tool_choice == "required"


def test_a_schema_for_the_answer_is_read() -> None:
    schema = {"type": "object"}
    form = {"name": "city", "schema": schema, "strict": True, "description": "d"}
    parsed = parse(response_format={"type": "json_schema", "json_schema": form})
    assert parsed.request.output_format == JsonSchema(schema, "city", True)
    assert parsed.ignored == ("response_format.json_schema.description",)
    nameless = {"type": "json_schema", "json_schema": {"schema": schema}}
    assert asked(response_format=nameless).output_format == JsonSchema(schema)


# --- Ollama's parameters (J14) -----------------------------------------------------------


def test_parameters_of_ollama_are_taken_at_the_top_and_in_options() -> None:
    sampling = {"top_k": 40, "min_p": 0.1, "repeat_penalty": 1.1}
    extensions = {
        "num_ctx": 4096,
        "num_keep": 4,
        "mirostat": 2,
        "mirostat_tau": 5.0,
        "mirostat_eta": 0.1,
        "tfs_z": 1.0,
        "typical_p": 0.9,
        "repeat_last_n": 64,
    }
    for request in (
        asked(**sampling, **extensions),
        asked(options={**sampling, **extensions}),
    ):
        assert request.sampling == Sampling(top_k=40, min_p=0.1, repeat_penalty=1.1)
        assert request.extensions == extensions
        assert {*sampling, *extensions, "model", "messages"} == request.params


def test_what_stands_at_the_top_wins_over_options_in_either_order() -> None:
    for order in (("options", "temperature"), ("temperature", "options")):
        values = {"options": {"temperature": 0.1, "top_p": 0.5}, "temperature": 0.9}
        parsed = parse(**{name: values[name] for name in order})
        assert parsed.request.sampling == Sampling(temperature=0.9, top_p=0.5)
        assert parsed.ignored == ("options.temperature",)


def test_options_that_would_reload_the_model_are_ignored_by_name() -> None:
    parsed = parse(options={"num_gpu": 99, "num_thread": 64, "use_mmap": None})
    assert parsed.ignored == ("options.num_gpu", "options.num_thread")
    assert parsed.request == asked()


@pytest.mark.parametrize("value", ["10m", "1h30m", "90s", "1.5h", "0", "500ms", 300, 0, 12.5])
def test_keep_alive_is_a_length(value: Any) -> None:
    request = asked(keep_alive=value)
    assert request.extensions == {"keep_alive": value}
    assert "keep_alive" in request.params


@pytest.mark.parametrize(
    "value",
    [
        *("-1", "10", "", "m", "10 m", "for ever", "1e9s", "١٠m", "1h" * 9),
        *("9" * 13 + "s", True, [], {}),
    ],
)
def test_what_is_no_length_is_refused(value: Any) -> None:
    assert refusal(keep_alive=value).param == "keep_alive"


@pytest.mark.parametrize("value", [-1, -1.5, "-10m", 86_401, "25h", "999999h"])
def test_keep_alive_never_lasts_for_ever(value: Any) -> None:
    parsed = parse(keep_alive=value)
    assert parsed.ignored == ("keep_alive",)
    assert parsed.request == asked()


@pytest.mark.parametrize(
    ("more", "path"),
    [({"num_ctx": 8193}, "num_ctx"), ({"options": {"num_ctx": 10**9}}, "options.num_ctx")],
)
def test_a_larger_context_than_there_may_be_is_cut_by_name(more: dict[str, Any], path: str) -> None:
    parsed = parse(**more)
    assert parsed.request.extensions == {"num_ctx": 8192}
    assert parsed.ignored == (path,)


@pytest.mark.parametrize(
    "more",
    [{"max_tokens": -1}, {"max_completion_tokens": -1}, {"num_predict": -1}, {"num_predict": -2}],
)
def test_no_limit_is_ours(more: dict[str, Any]) -> None:
    request = asked(**more)
    assert request.max_tokens == request.cut_to == GENERATION.max_tokens_max


def test_a_caller_is_told_only_where_its_own_wish_is_cut() -> None:
    assert asked().cut_to is None
    assert asked(max_tokens=7).cut_to is None
    assert asked(max_tokens=GENERATION.max_tokens_max).cut_to is None
    assert asked(max_tokens=201).cut_to == 200
    assert asked(max_tokens=201, max_completion_tokens=7).cut_to is None


@pytest.mark.parametrize("name", ["/models/llama", "my model", "a b/c d:e f"])
def test_a_model_may_be_named_as_its_engine_lists_it(name: str) -> None:
    assert asked(model=name).model == name


def test_what_nobody_reads_within_a_message_is_named() -> None:
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": "{}", "output": 1},
        "extra": 1,
    }
    url = data_url(PNG)
    parsed = parse(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a", "cache_control": {}, "weight": 2},
                    {"type": "image_url", "image_url": {"url": url, "size": 3}, "alt": "b"},
                ],
            },
            {"role": "assistant", "tool_calls": [call]},
        ]
    )
    assert parsed.ignored == (
        "messages.text.weight",
        "messages.image_url.alt",
        "messages.image_url.size",
        "messages.tool_calls.extra",
        "messages.tool_calls.function.output",
    )


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
@pytest.mark.parametrize("content", ["", "hi", "\u2028\n", "é" * 10])
def test_a_plain_turn_is_read_as_any_other(role: str, content: str) -> None:
    plain = {"role": role, "content": content}
    # A key that is null is absent, but takes the long way.
    [short, long] = parse(messages=[plain, plain | {"name": None}]).request.messages
    assert short == long


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "tool", "content": "x"},
        {"role": "wizard", "content": "x"},
        {"role": ["user"], "content": "x"},
        {"role": "user", "contents": "x"},
        {"role": "user", "content": 1},
        {"role": None, "content": "x"},
    ],
)
def test_a_turn_that_only_looks_plain_is_refused_as_any_other(turn: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(messages=[{"role": "user", "content": "x"}, turn])
    assert caught.value.param is not None
    assert caught.value.param.startswith("messages[1]")


def test_what_a_model_made_up_may_be_said_again() -> None:
    """A client repeats the call with the error that it got; refusing it would end the talk."""
    call = {"id": "x", "type": "function", "function": {"name": "web:search <x>", "arguments": ""}}
    (turn,) = asked(messages=[{"role": "assistant", "tool_calls": [call]}]).messages
    assert turn.tool_calls[0].name == "web:search <x>"


def test_a_json_object_may_come_with_its_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = asked(response_format={"type": "json_object", "schema": schema}).output_format
    assert wanted == JsonSchema(schema)
    assert refusal(response_format={"type": "json_object", "schema": 7}).param == (
        "response_format.schema"
    )
