from typing import Any

import pytest

from gateway.core.messages import JsonSchema, NamedTool, Tool

from .anthropic_request import asked, parse, refusal

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


def choice(**members: Any) -> dict[str, Any]:
    return {"tools": [WEATHER], "tool_choice": members}


# --- Tools ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"type": "custom"}, {"type": None}])
def test_a_tool_of_the_client_can_be_called(kind: dict[str, Any]) -> None:
    parsed = parse(tools=[WEATHER | kind | {"strict": True, "eager_input_streaming": True}])
    assert parsed.request.tools == (
        Tool("weather", "Of a city", WEATHER["input_schema"], strict=True),
    )
    assert parsed.ignored == ()


def test_a_tool_that_runs_at_anthropic_is_left_out_by_name() -> None:
    parsed = parse(tools=[SEARCH, WEATHER, {"type": "bash_20250124", "name": "bash"}])
    assert [tool.name for tool in parsed.request.tools] == ["weather"]
    assert parsed.ignored == ("tools.web_search_20250305", "tools.bash_20250124")


def test_a_typed_tool_with_a_schema_of_its_own_can_be_called() -> None:
    (tool,) = asked(tools=[WEATHER | {"type": "some_future_tool"}]).tools
    assert tool.name == "weather"


def test_what_a_tool_says_besides_is_named() -> None:
    more = {"defer_loading": True, "allowed_callers": ["direct"], "input_examples": []}
    assert parse(tools=[WEATHER | more]).ignored == ("tools.defer_loading", "tools.allowed_callers")


def test_names_are_as_long_as_those_of_mcp_tools() -> None:
    name = "mcp__" + "x" * 123
    assert asked(tools=[WEATHER | {"name": name}]).tools[0].name == name


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "tools"),
        ([1], "tools[0]"),
        ([{"name": "f"}], "tools[0].input_schema"),
        ([WEATHER | {"name": "a b"}], "tools[0].name"),
        ([WEATHER | {"name": "x" * 129}], "tools[0].name"),
        ([WEATHER | {"input_schema": []}], "tools[0].input_schema"),
        ([WEATHER | {"type": 1}], "tools[0].type"),
        ([WEATHER] * 5, "tools"),
        ([WEATHER | {"description": "x" * 2000}], "tools"),
    ],
)
def test_a_tool_that_does_not_fit_is_refused(tools: Any, param: str) -> None:
    assert refusal(tools=tools).param == param


# --- Which of them is called --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "weather"}, NamedTool("weather")),
    ],
)
def test_what_must_be_called(members: dict[str, Any], wanted: Any) -> None:
    request = asked(**choice(**members))
    assert request.tool_choice == wanted
    assert ("tool_choice" in request.params) == (wanted != "auto")
    assert request.parallel_tool_calls is None


@pytest.mark.parametrize(("disable", "parallel"), [(True, False), (False, None)])
def test_one_call_at_a_time_can_be_asked_for(disable: bool, parallel: bool | None) -> None:
    request = asked(**choice(type="any", disable_parallel_tool_use=disable))
    assert request.parallel_tool_calls is parallel
    # The name by which engines know it, so that one that can't can say so; and the caller's own.
    assert ("parallel_tool_calls" in request.params) == disable
    assert request.wire_names == (
        {"parallel_tool_calls": "tool_choice.disable_parallel_tool_use"} if disable else {}
    )


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (choice(), "tool_choice.type"),
        (choice(type="required"), "tool_choice.type"),
        (choice(type="tool"), "tool_choice.name"),
        (choice(type="tool", name="clock"), "tool_choice.name"),
        ({"tool_choice": "any", "tools": [WEATHER]}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}, "tools": [SEARCH]}, "tool_choice"),
        (
            {"tool_choice": {"type": "tool", "name": "web_search"}, "tools": [SEARCH]},
            "tool_choice.name",
        ),
    ],
)
def test_what_must_be_called_has_to_be_there(more: dict[str, Any], param: str) -> None:
    assert refusal(**more).param == param


# --- What it must look like ----------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_schema_can_be_asked_for_by_its_new_name_and_its_old(where: str) -> None:
    form: dict[str, Any] = {"type": "json_schema", "schema": SCHEMA}
    parsed = parse(**{where: {"format": form} if where == "output_config" else form})
    assert parsed.request.output_format == JsonSchema(SCHEMA)
    assert parsed.ignored == ()


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "json_object"}, "type"),
        ({"type": "json_schema"}, "schema"),
        ({"type": "json_schema", "schema": {"x": "y" * 2000}}, ""),
    ],
)
def test_a_format_that_does_not_fit_is_refused(form: Any, param: str) -> None:
    path = "output_config.format"
    assert refusal(output_config={"format": form}).param == (f"{path}.{param}" if param else path)


def test_what_nobody_knows_of_an_output_is_named() -> None:
    config = {"task_budget": {"type": "tokens", "total": 9}, "format": None, "tone": "dry"}
    assert parse(output_config=config).ignored == (
        "output_config.task_budget",
        "output_config.tone",
    )


# --- How long to think about it ---------------------------------------------------------------


def enabled(budget: Any, **more: Any) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget, **more}


@pytest.mark.parametrize(
    ("thinking", "effort", "reasoning"),
    [
        (None, None, None),
        ({"type": "adaptive"}, None, None),
        ({"type": "adaptive"}, "low", "low"),
        (None, "xhigh", "max"),
        ({"type": "disabled"}, None, "none"),
        ({"type": "disabled"}, "high", "none"),
        (enabled(1024), None, "low"),
        (enabled(4096), None, "medium"),
        (enabled(31999), None, "high"),
        (enabled(31999), "low", "low"),
    ],
)
def test_a_budget_is_a_degree_and_what_is_said_of_effort_holds(
    thinking: Any, effort: str | None, reasoning: str | None
) -> None:
    config = None if effort is None else {"effort": effort}
    for order in (1, -1):
        parameters = [("thinking", thinking), ("output_config", config)][::order]
        request = asked(**dict(parameters))
        assert request.reasoning_effort == reasoning
        assert ("reasoning_effort" in request.params) == (reasoning is not None)
        # An agent that always asks for thoughts must work with a model that has none.
        assert request.reasoning_optional == (reasoning is not None)


@pytest.mark.parametrize(
    ("more", "written"),
    [
        ({"thinking": enabled(1024)}, "thinking"),
        ({"thinking": {"type": "disabled"}}, "thinking"),
        ({"output_config": {"effort": "low"}}, "output_config.effort"),
    ],
)
def test_an_engine_that_knows_no_effort_can_name_what_asked_for_it(
    more: dict[str, Any], written: str
) -> None:
    assert asked(**more).wire_names == {"reasoning_effort": written}


def test_thinking_between_tools_alone_is_nothing_that_engines_know() -> None:
    assert parse(thinking={"type": "between_tools"}).ignored == ("thinking",)


@pytest.mark.parametrize(
    ("display", "shown"), [("summarized", True), ("omitted", False), (None, True)]
)
def test_thoughts_are_shown_unless_the_client_wants_none(display: str | None, shown: bool) -> None:
    assert parse(thinking=enabled(1024, display=display)).show_thinking is shown
    assert parse().show_thinking


@pytest.mark.parametrize(
    ("thinking", "param"),
    [
        ("enabled", "thinking"),
        ({}, "thinking.type"),
        ({"type": "on"}, "thinking.type"),
        ({"type": "enabled"}, "thinking.budget_tokens"),
        (enabled(0), "thinking.budget_tokens"),
        (enabled(1024, display="full"), "thinking.display"),
    ],
)
def test_thinking_that_does_not_fit_is_refused(thinking: Any, param: str) -> None:
    assert refusal(thinking=thinking).param == param
