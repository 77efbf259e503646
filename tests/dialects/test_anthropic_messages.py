import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.schema import Generation, Limits
from gateway.core.errors import InvalidRequest, MalformedRequest
from gateway.core.messages import Role, Sampling, TextDelta
from gateway.dialects.anthropic_messages import PARAMETERS, AnthropicMessages
from gateway.dialects.base import ReplyHead

from .agent_body import TURNS, agent_body
from .anthropic_request import BASE, DIALECT, asked, parse, refusal

HEAD = ReplyHead(id="1", created=0, model="llama3.2")

STABLE = (
    "max_tokens messages model cache_control container diagnostics inference_geo metadata"
    " output_config service_tier speed stop_sequences stream system thinking tool_choice tools"
    " user_profile_id workspace_id"
)
BETA = (
    "billing_policy betas compaction context_management fallback_credit_token fallbacks"
    " mcp_servers thread"
)
OLDER = "temperature top_p top_k output_format"


# --- The table -------------------------------------------------------------------------------


def test_the_table_knows_every_parameter_that_anthropic_documents() -> None:
    assert PARAMETERS.keys() == {*STABLE.split(), *BETA.split(), *OLDER.split()}


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_what_must_be_there_must_be_there(name: str) -> None:
    assert refusal(**{name: None}).param == name


@pytest.mark.parametrize("body", [b"", b"[]", b'"hi"', b"{", b"null", b"\xff"])
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        DIALECT.parse(body)


def test_the_least_request_asks_for_nothing_else() -> None:
    parsed = parse()
    request = parsed.request
    assert parsed.ignored == ()
    assert request.params == {"model", "messages", "max_tokens"}
    assert request.sampling == Sampling()
    assert request.max_tokens == 100
    assert not request.stream


def test_how_tokens_are_drawn() -> None:
    request = asked(temperature=1, top_p=0.9, top_k=40, stop_sequences=["\n\nHuman:", "END"])
    assert request.sampling == Sampling(
        temperature=1.0, top_p=0.9, top_k=40, stop=("\n\nHuman:", "END")
    )


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"model": "../etc/passwd"}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": 3}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"metadata": "me"}, "metadata"),
        ({"cache_control": "ephemeral"}, "cache_control"),
        ({"thread": {"type": "continue", "previous_message_id": "msg_1"}}, "thread"),
        ({"compaction": {"type": "summarize"}}, "compaction"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(more: dict[str, Any], param: str) -> None:
    assert refusal(**more).param == param


@pytest.mark.parametrize(
    ("more", "ignored"),
    [
        ({"metadata": {"user_id": "u-1"}}, "metadata.user_id"),
        ({"metadata": {"team": "red"}}, "metadata.team"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"speed": "fast"}, "speed"),
        ({"container": "container_1"}, "container"),
        ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, "mcp_servers"),
        ({"context_management": {"edits": [{"type": "compact"}]}}, "context_management"),
        ({"fallbacks": [{"model": "other"}]}, "fallbacks"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"anthropic_version": "bedrock-2023-05-31"}, "anthropic_version"),
    ],
)
def test_what_nobody_here_can_honour_is_named(more: dict[str, Any], ignored: str) -> None:
    assert parse(**more).ignored == (ignored,)


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {}},
        {"metadata": {"user_id": None}},
        {"service_tier": "auto"},
        {"service_tier": "standard_only"},
        {"speed": "standard"},
        {"mcp_servers": []},
        {"context_management": {"edits": []}},
        {"diagnostics": {"previous_message_id": None}},
        {"stop_sequences": []},
        {"stream": False},
        {"tools": []},
        {"container": None},
    ],
)
def test_what_asks_for_nothing_is_not_named(more: dict[str, Any]) -> None:
    assert parse(**more).ignored == ()


# --- A coding agent ----------------------------------------------------------------------------


def test_an_agents_request_is_read_to_the_end() -> None:
    body = json.dumps(agent_body()).encode()
    assert 40_000 < len(body) < 60_000
    parsed = AnthropicMessages(Limits(), Generation()).parse(body)
    request = parsed.request
    assert parsed.ignored == (
        "tools.web_search_20250305",
        "metadata.user_id",
        "context_management",
        "some_future_field",
    )
    assert [message.role for message in request.messages] == [
        Role.SYSTEM,
        Role.USER,
        *[Role.ASSISTANT, Role.TOOL, Role.TOOL] * TURNS,
    ]
    assert request.messages[0].text.startswith("You are an agent")
    calls = [call for message in request.messages for call in message.tool_calls]
    results = [message for message in request.messages if message.role is Role.TOOL]
    assert [call.id for call in calls] == [result.tool_call_id for result in results]
    assert json.loads(calls[0].arguments) == {"file_path": "/src/module_0.py", "limit": 200}
    assert all(message.reasoning for message in request.messages if message.tool_calls)
    assert len(request.tools) == 12
    assert request.reasoning_effort == "medium"
    assert request.stream


def test_two_turns_of_one_session_begin_alike() -> None:
    # Billing is another line with each request; no engine could keep the rest after it.
    def first(cch: str) -> str:
        body = agent_body()
        body["system"][0]["text"] = f"x-anthropic-billing-header: cch={cch};"
        dialect = AnthropicMessages(Limits(), Generation())
        return dialect.parse(json.dumps(body).encode()).request.messages[0].text

    assert first("00001") == first("fffff")


def test_a_stream_begins_with_a_guess_of_the_right_size() -> None:
    dialect = AnthropicMessages(Limits(), Generation())
    body = json.dumps(agent_body()).encode()
    parsed = dialect.parse(body)
    start = dialect.encoder(parsed, HEAD).feed([TextDelta("Hi")])
    (line,) = [line for line in start.split(b"\n") if b"message_start" in line and b"{" in line]
    usage = json.loads(line.removeprefix(b"data: "))["message"]["usage"]
    assert len(body) / 8 < usage["input_tokens"] < len(body) / 3


# --- Whatever comes ------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "text", "any", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "source", "name", "input", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*PARAMETERS, "x"]), values, max_size=4))
def test_whatever_comes_is_read_or_refused_as_the_callers_mistake(more: dict[str, Any]) -> None:
    try:
        said = DIALECT.parse(json.dumps(BASE | more).encode()).request.messages
    except InvalidRequest as error:
        said = ()
        blamed = error.param or ""
    else:
        blamed = "messages"
    assert said or blamed.partition(".")[0].partition("[")[0] in PARAMETERS
