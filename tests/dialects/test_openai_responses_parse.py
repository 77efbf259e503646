import base64
import json
from itertools import pairwise
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from gateway.config.schema import Generation, Limits
from gateway.core.errors import GatewayError, InvalidRequest, TooLarge
from gateway.core.messages import (
    GenerateRequest,
    ImagePart,
    JsonObject,
    JsonSchema,
    Message,
    NamedTool,
    Role,
    TextPart,
    Tool,
    ToolCall,
)
from gateway.dialects.base import Dialect
from gateway.dialects.openai_responses import PARAMETERS, OpenAIResponses, ResponsesParsed
from gateway.dialects.openai_responses_sealed import seal
from gateway.dialects.openai_responses_tools import Callee

from .responses_agent_body import TURNS, agent_body

LIMITS = Limits(messages_max=20, tools_max=6, tools_bytes_max=4000, image_bytes_max=100)
GENERATION = Generation(max_tokens_default=50, max_tokens_max=200, num_ctx_max=8192)
DIALECT: Dialect[ResponsesParsed] = OpenAIResponses(LIMITS, GENERATION)

BASE: dict[str, Any] = {"model": "llama3.2", "input": "hi"}
USER = Message(Role.USER, "hi")
WEATHER: dict[str, Any] = {"type": "function", "name": "weather"}
PATCH: dict[str, Any] = {"type": "custom", "name": "patch"}
CRM: dict[str, Any] = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers",
    "tools": [{"type": "function", "name": "find"}, {"type": "custom", "name": "note"}],
}
SHELL: dict[str, Any] = {"type": "local_shell"}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()


def parse(**more: Any) -> ResponsesParsed:
    return DIALECT.parse(json.dumps(BASE | more).encode())


def asked(**more: Any) -> GenerateRequest:
    return parse(**more).request


def turns(*items: Any) -> tuple[Message, ...]:
    return asked(input=list(items)).messages


def refusal(**more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**more)
    return caught.value


# --- Every documented parameter -----------------------------------------------------------

DOCUMENTED = {*get_type_hints(ResponseCreateParamsBase), "stream"}

HONOURED: dict[str, tuple[Any, Any]] = {
    "include": (["message.output_text.logprobs"], lambda p: p.request.logprobs == 0),
    "input": ("x", lambda p: p.request.messages == (Message(Role.USER, "x"),)),
    "instructions": ("be", lambda p: p.request.messages == (Message(Role.SYSTEM, "be"), USER)),
    "max_output_tokens": (7, lambda p: p.request.max_tokens == 7),
    "max_tool_calls": (3, lambda p: p.shown["max_tool_calls"] == 3),
    "metadata": ({"a": "b"}, lambda p: p.shown["metadata"] == {"a": "b"}),
    "model": ("other", lambda p: p.request.model == "other"),
    "parallel_tool_calls": (False, lambda p: p.request.parallel_tool_calls is False),
    "reasoning": ({"effort": "low"}, lambda p: p.request.reasoning_effort == "low"),
    "service_tier": ("flex", lambda p: p.request.service_tier == "flex"),
    "stream": (True, lambda p: p.request.stream is True),
    "temperature": (0.5, lambda p: p.request.sampling.temperature == 0.5),
    "text": (
        {"format": {"type": "json_object"}},
        lambda p: p.request.output_format == JsonObject(),
    ),
    "tool_choice": ("none", lambda p: p.request.tool_choice == "none"),
    "tools": ([WEATHER], lambda p: p.request.tools == (Tool("weather"),)),
    "top_logprobs": (3, lambda p: p.request.logprobs == 3),
    "top_p": (0.5, lambda p: p.request.sampling.top_p == 0.5),
}

WITHOUT_EFFECT: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "background_options": {"completion_window": "2h"},
    "context_management": [{"type": "compaction"}],
    "image": {"context_compression": "auto"},
    "moderation": {"model": "m"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "store": True,
    "truncation": "auto",
    "user": "u",
}

REFUSED: dict[str, Any] = {
    "background": True,
    "conversation": "conv_1",
    "previous_response_id": "resp_1",
    "prompt": {"id": "pmpt_1"},
}

OF_ITS_PARTS = {"stream_options"}
"""Have no fate of their own."""


def test_the_table_knows_every_parameter_that_openai_documents() -> None:
    assert PARAMETERS.keys() >= DOCUMENTED
    assert {*HONOURED, *WITHOUT_EFFECT, *REFUSED, *OF_ITS_PARTS} == DOCUMENTED


@pytest.mark.parametrize("name", HONOURED)
def test_an_honoured_parameter_has_its_effect_and_is_not_named(name: str) -> None:
    value, holds = HONOURED[name]
    parsed = parse(**{name: value})
    assert holds(parsed)
    assert parsed.ignored == ()


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_parameter_without_effect_is_named(name: str) -> None:
    assert parse(**{name: WITHOUT_EFFECT[name]}).ignored == (name,)


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_a_store_is_refused_with_what_to_do(name: str) -> None:
    error = refusal(**{name: REFUSED[name]})
    assert error.param == name
    assert PARAMETERS[name].how == "refused"
    assert PARAMETERS[name].note in error.message


@pytest.mark.parametrize(
    "wish",
    [
        {"background": False},
        {"store": False},
        {"truncation": "disabled"},
        {"text": {"verbosity": "medium", "format": {"type": "text"}}},
        {"reasoning": {"context": "auto", "mode": "standard", "summary": "auto"}},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"service_tier": "auto"},
        {"metadata": {}},
        {"tools": []},
        {"tool_choice": "auto"},
        {"include": ["reasoning.encrypted_content"]},
    ],
)
def test_what_asks_for_what_happens_anyway_is_not_named(wish: dict[str, Any]) -> None:
    assert parse(**wish).ignored == ()


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"text": {"unheard": 1}}, "text.unheard"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"include": ["file_search_call.results"]}, "include.file_search_call.results"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"client_metadata": {"a": "b"}}, "client_metadata"),
        ({"service_tier": "scale"}, "service_tier"),
    ],
)
def test_a_part_without_effect_is_named_by_its_path(wish: dict[str, Any], named: str) -> None:
    assert parse(**wish).ignored == (named,)


@pytest.mark.parametrize("name", sorted(PARAMETERS.keys() - {"model", "input"}))
def test_null_means_absent(name: str) -> None:
    parsed = parse(**{name: None})
    assert (parsed.request, parsed.ignored) == (asked(), ())


@pytest.mark.parametrize("name", ["model", "input"])
def test_what_is_missing_is_said_to_be_required(name: str) -> None:
    error = refusal(**{name: None})
    assert error.param == name
    assert "required" in error.message


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "name", "tools", "format", "id", "text"]),
            inner | st.sampled_from(["function", "message", "namespace", "custom", "user"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.sampled_from(sorted(PARAMETERS)), values)
@settings(deadline=None, max_examples=300)
def test_any_value_is_read_or_refused_by_its_name(name: str, value: Any) -> None:
    body = json.dumps(BASE | {name: value}).encode()
    told: GatewayError | None = None
    try:
        DIALECT.parse(body)
    except GatewayError as error:
        told = error
    if isinstance(told, InvalidRequest):
        assert told.param is not None
        assert told.param.split(".")[0].split("[")[0] in (name, "tool_choice")
    elif told is not None:
        assert told.status in (400, 413)  # NaN is no JSON.


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"reasoning": {"effort": "very"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"include": "x"}, "include"),
        ({"instructions": 5}, "instructions"),
        ({"instructions": ["x"], "input": "y"}, "instructions"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [{**PATCH, "format": {"type": "xml"}}]}, "tools[0].format.type"),
        (
            {"tools": [{**PATCH, "format": {"type": "grammar", "syntax": "ebnf"}}]},
            "tools[0].format.syntax",
        ),
        ({"tools": [{**CRM, "tools": [{}]}]}, "tools[0].tools[0].type"),
        ({"tools": [WEATHER] * 7}, "tools"),
        ({"tools": [{**CRM, "tools": [WEATHER] * 4}, {**CRM, "tools": [WEATHER] * 4}]}, "tools"),
        ({"tools": [{**WEATHER, "description": "x" * 5000}]}, "tools"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tools": [{"type": "web_search"}]}, "tool_choice"),
        (
            {"tool_choice": {"type": "function", "name": "x"}, "tools": [WEATHER]},
            "tool_choice.name",
        ),
        ({"tool_choice": {"type": "allowed_tools", "tools": "all"}}, "tool_choice.tools"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_path(
    more: dict[str, Any], param: str
) -> None:
    assert refusal(**more).param == param


# --- Input --------------------------------------------------------------------------------------


def test_a_text_is_a_users_message() -> None:
    assert asked(input="hi").messages == (USER,)


def test_messages_of_every_role_and_part_are_read() -> None:
    assert turns(
        {"role": "developer", "content": "be"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": []}]},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "id": "msg_1"},
        {"role": "system", "content": "be kind"},
    ) == (
        Message(Role.SYSTEM, "be"),
        USER,
        Message(Role.ASSISTANT, "a"),
        Message(Role.USER, "more"),
        Message(Role.ASSISTANT, "no"),
        # Where a system message comes late, many a template would refuse it.
        Message(Role.USER, "<system>\nbe kind\n</system>"),
    )


def test_instructions_and_what_the_developer_says_first_are_one_turn() -> None:
    said = [{"role": "developer", "content": "be kind"}, {"role": "user", "content": "hi"}]
    assert asked(instructions="be brief", input=said).messages == (
        Message(Role.SYSTEM, "be brief\n\nbe kind"),
        USER,
    )


def test_what_an_assistant_did_in_several_items_is_one_turn() -> None:
    assert turns(
        {"role": "user", "content": "hi"},
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": 'x"'},
        {"type": "function_call_output", "call_id": "a", "output": "sun"},
        {
            "type": "custom_tool_call_output",
            "call_id": "b",
            "output": [{"type": "input_text", "text": "done"}],
        },
    ) == (
        USER,
        Message(
            Role.ASSISTANT,
            "I look.",
            reasoning="hm",
            tool_calls=(
                ToolCall("a", "weather", "{}"),
                ToolCall("b", "patch", '{"input":"x\\""}'),
            ),
        ),
        Message(Role.TOOL, "sun", tool_call_id="a"),
        Message(Role.TOOL, "done", tool_call_id="b"),
    )


def test_calls_alone_are_a_turn_and_so_are_two_messages() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "f", "namespace": "crm"}
    assert turns(
        {**call, "arguments": "{}"},
        {"role": "assistant", "content": "one"},
        {"role": "assistant", "content": "two"},
    ) == (
        Message(Role.ASSISTANT, tool_calls=(ToolCall("a", "crm__f", "{}"),)),
        Message(Role.ASSISTANT, "one"),
        Message(Role.ASSISTANT, "two"),
    )


def test_a_command_and_what_came_of_it_are_read() -> None:
    action = {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": 5, "user": None}
    assert turns(
        {"type": "local_shell_call", "id": "lsh", "call_id": "a", "action": action},
        {"type": "local_shell_call_output", "id": "a", "output": "file"},
    ) == (
        Message(
            Role.ASSISTANT,
            tool_calls=(ToolCall("a", "local_shell", '{"command":["ls"],"timeout_ms":5}'),),
        ),
        Message(Role.TOOL, "file", tool_call_id="a"),
    )


@pytest.mark.parametrize(
    ("item", "thought", "named"),
    [
        ({"content": [{"type": "reasoning_text", "text": "hm"}]}, "hm", ()),
        ({"encrypted_content": seal("hm"), "summary": [{"text": "short"}]}, "hm", ()),
        ({"summary": [{"type": "summary_text", "text": "a"}, {"text": "b"}]}, "a\n\nb", ()),
        (
            {"encrypted_content": "gAAAA", "summary": [{"text": "short"}]},
            "short",
            ("input.reasoning.encrypted_content",),
        ),
    ],
)
def test_thoughts_are_taken_from_where_they_are(
    item: dict[str, Any], thought: str, named: tuple[str, ...]
) -> None:
    said = [{"type": "reasoning", "id": "rs", **item}, {"role": "assistant", "content": "a"}]
    parsed = parse(input=said)
    assert parsed.request.messages == (Message(Role.ASSISTANT, "a", reasoning=thought),)
    assert parsed.ignored == named


def test_thoughts_that_led_to_nothing_are_a_turn_of_their_own() -> None:
    thought = {"type": "reasoning", "summary": [{"text": "hm"}]}
    assert turns(thought, {"role": "user", "content": "hi"}) == (
        Message(Role.ASSISTANT, reasoning="hm"),
        USER,
    )


def test_an_image_in_the_request_is_taken() -> None:
    part = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    said = [{"role": "user", "content": [{"type": "input_text", "text": "see"}, part]}]
    assert asked(input=said).messages[0].content == (
        TextPart("see"),
        ImagePart(PNG, "image/png"),
    )


def test_the_detail_of_an_image_is_named() -> None:
    part = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "high"}
    parsed = parse(input=[{"role": "user", "content": [part]}])
    assert parsed.ignored == ("input.input_image.detail",)


def test_an_image_beyond_the_bound_is_too_large() -> None:
    url = "data:image/png;base64," + base64.b64encode(bytes(200)).decode()
    with pytest.raises(TooLarge):
        parse(input=[{"role": "user", "content": [{"type": "input_image", "image_url": url}]}])


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([], "input"),
        ({}, "input"),
        ([{}], "input[0].role"),
        (["hi"], "input[0]"),
        ([{"role": "critic", "content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "https://x/a.png"}],
                }
            ],
            "input[0].content[0].image_url",
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
                    ],
                }
            ],
            "input[0].content",
        ),
        ([{"type": "item_reference", "id": "msg_1"}], "input[0]"),
        ([{"id": "msg_1"}], "input[0]"),
        ([{"type": "function_call", "call_id": "a", "name": "f"}], "input[0].arguments"),
        ([{"type": "function_call", "name": "f", "arguments": "{}"}], "input[0].call_id"),
        ([{"type": "function_call_output", "output": "x"}], "input[0].call_id"),
        ([{"type": "function_call_output", "call_id": "a"}], "input[0].output"),
        ([{"type": "local_shell_call", "call_id": "a"}], "input[0].action"),
        ([{"type": "reasoning", "content": "x"}], "input[0].content"),
        ([{"type": 5}], "input[0].type"),
        ([{"role": "user", "content": "x"}] * 21, "input"),
    ],
)
def test_an_item_that_does_not_fit_is_refused_with_its_path(items: Any, param: str) -> None:
    assert refusal(input=items).param == param


def test_a_reference_is_told_that_nothing_is_stored() -> None:
    error = refusal(input=[{"type": "item_reference", "id": "msg_1"}])
    assert "nothing is stored" in error.message
    assert "'store'" in error.message


def test_items_of_tools_that_nobody_runs_are_named_and_left_out() -> None:
    call = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    parsed = parse(input=[call, {"role": "user", "content": "hi"}, {"type": "compaction"}])
    assert parsed.request.messages == (USER,)
    assert parsed.ignored == ("input.web_search_call", "input.compaction")


def test_unknown_keys_of_items_are_named() -> None:
    parsed = parse(input=[{"role": "user", "content": "hi", "mood": "good", "id": "x"}])
    assert parsed.ignored == ("input.message.mood",)


# --- Tools ----------------------------------------------------------------------------------------


def test_each_kind_of_tool_is_a_function_to_the_model() -> None:
    schema = {"type": "object", "properties": {}}
    full = {**WEATHER, "description": "Tells.", "parameters": schema, "strict": True}
    parsed = parse(tools=[full, PATCH, CRM, SHELL])
    assert [tool.name for tool in parsed.request.tools] == [
        "weather",
        "patch",
        "crm__find",
        "crm__note",
        "local_shell",
    ]
    assert parsed.request.tools[0] == Tool("weather", "Tells.", schema, True)
    assert parsed.request.tools[1].parameters is not None
    assert parsed.request.tools[1].parameters["required"] == ["input"]
    assert parsed.callees == {
        "weather": Callee("function", "weather"),
        "patch": Callee("custom", "patch"),
        "crm__find": Callee("function", "find", "crm"),
        "crm__note": Callee("custom", "note", "crm"),
        "local_shell": Callee("local_shell", "local_shell"),
    }
    assert parsed.ignored == ("tools.namespace.description",)


def test_a_grammar_is_told_to_the_model_and_named_because_nobody_enforces_it() -> None:
    form = {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}
    parsed = parse(tools=[{**PATCH, "description": "Patches.", "format": form}])
    assert parsed.ignored == ("tools.custom.format",)
    (tool,) = parsed.request.tools
    assert tool.description is not None
    assert tool.description.startswith("Patches.")
    assert "start: /x/" in tool.description
    assert parsed.shown["tools"][0]["format"] == form


def test_tools_that_nobody_runs_are_named_and_left_out() -> None:
    parsed = parse(tools=[{"type": "web_search"}, WEATHER, {"type": "mcp", "server_label": "x"}])
    assert parsed.request.tools == (Tool("weather"),)
    assert parsed.ignored == ("tools.web_search", "tools.mcp")
    assert [tool["type"] for tool in parsed.shown["tools"]] == ["function"]


def test_tools_may_come_with_the_conversation() -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [PATCH]}
    said = [item, {"role": "user", "content": "hi"}]
    assert [tool.name for tool in asked(input=said, tools=[WEATHER]).tools] == ["patch", "weather"]


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "name": "weather"}, NamedTool("weather")),
        ({"type": "custom", "name": "patch"}, NamedTool("patch")),
        ({"type": "function", "name": "find"}, NamedTool("crm__find")),
        ({"type": "local_shell"}, NamedTool("local_shell")),
    ],
)
@pytest.mark.parametrize("first", ["tools", "tool_choice"])
def test_a_choice_among_the_tools_is_read_in_either_order(
    choice: Any, taken: Any, first: str
) -> None:
    more = {"tools": [WEATHER, PATCH, CRM, SHELL], "tool_choice": choice}
    ordered = {first: more.pop(first), **more}
    assert asked(**ordered).tool_choice == taken


def test_only_the_allowed_tools_are_offered() -> None:
    allowed = [{"type": "function", "name": "find"}, {"type": "mcp"}, SHELL]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    parsed = parse(tools=[WEATHER, CRM, SHELL], tool_choice=choice)
    assert [tool.name for tool in parsed.request.tools] == ["crm__find", "local_shell"]
    assert parsed.request.tool_choice == "required"
    assert "tool_choice.mcp" in parsed.ignored
    assert [tool["type"] for tool in parsed.shown["tools"]] == [
        "function",
        "namespace",
        "local_shell",
    ]


# --- The rest ----------------------------------------------------------------------


def test_a_schema_for_the_text_is_read() -> None:
    schema = {"type": "object"}
    form = {"type": "json_schema", "name": "person", "schema": schema, "strict": True}
    assert asked(text={"format": form}).output_format == JsonSchema(schema, "person", True)


def test_parameters_of_ollama_are_taken_as_everywhere() -> None:
    request = asked(seed=7, top_k=5, stop="END", options={"num_ctx": 1024}, keep_alive="5m")
    assert (request.sampling.seed, request.sampling.top_k) == (7, 5)
    assert request.sampling.stop == ("END",)
    assert request.extensions == {"num_ctx": 1024, "keep_alive": "5m"}


def test_the_cap_is_told_as_it_holds() -> None:
    assert parse(max_output_tokens=100_000).shown["max_output_tokens"] == 200
    # Agents set none, and take an answer that was cut for a broken one.
    assert parse().shown["max_output_tokens"] == 200


def test_an_engine_that_knows_no_effort_can_tell_so() -> None:
    assert "reasoning_effort" in asked(reasoning={"effort": "high"}).params


def test_what_an_agent_sends_is_read_whole() -> None:
    body = json.dumps(agent_body()).encode()
    assert 40_000 < len(body) < 80_000
    parsed = OpenAIResponses(Limits(), Generation()).parse(body)
    messages = parsed.request.messages
    # Its surroundings and its task, which it sends one after the other, are one turn.
    roles = [message.role for message in messages]
    assert roles[:3] == [Role.SYSTEM, Role.USER, Role.ASSISTANT]
    assert (Role.USER, Role.USER) not in pairwise(roles)
    calling = [message for message in messages if message.tool_calls]
    assert [len(message.tool_calls) for message in calling] == [2] * TURNS
    assert all(message.reasoning for message in calling)
    results = [message.tool_call_id for message in messages if message.role is Role.TOOL]
    assert results == [call.id for message in calling for call in message.tool_calls]
    assert len(parsed.request.tools) == 22
    assert (parsed.summary, parsed.sealed) == (True, True)
    assert parsed.ignored == (
        "input.reasoning.encrypted_content",
        "tools.custom.format",
        "tools.web_search",
        "tools.namespace.description",
        "prompt_cache_key",
        "text.verbosity",
        "client_metadata",
    )
