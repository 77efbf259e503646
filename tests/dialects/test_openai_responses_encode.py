import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from gateway.config.schema import Generation, Limits
from gateway.core import errors
from gateway.core.messages import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    fold,
)
from gateway.dialects.base import ReplyHead
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.dialects.openai_responses_encode import ResponsesEncoder
from gateway.dialects.openai_responses_sealed import unseal

from .responses_agent_body import agent_body
from .responses_stream import decode, events, said

HEAD = ReplyHead(id="0123abcd", created=1_700_000_000, model="llama3.2:latest")
DIALECT = OpenAIResponses(Limits(), Generation())
TOOLS: Final[list[dict[str, Any]]] = [
    {"type": "function", "name": "weather", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch", "description": "Patches."},
    {"type": "local_shell"},
    {
        "type": "namespace",
        "name": "crm",
        "description": "",
        "tools": [{"type": "function", "name": "weather"}, {"type": "custom", "name": "note"}],
    },
]
NASTY: Final = ["\n\nevent: error\n", "\x00", "\u2028", "\u2029", "\x85", '"\\', "😀", "\r", ""]


def encoder(**asked: Any) -> ResponsesEncoder:
    body = {"model": "m", "input": "hi", "tools": TOOLS, **asked}
    return DIALECT.encoder(DIALECT.parse(json.dumps(body).encode()), HEAD)


def stop(usage: Usage | None = None) -> Finished:
    return Finished(FinishReason.STOP, usage or Usage())


def calls(name: str, arguments: str, index: int = 0) -> list[Event]:
    head, rest = arguments[:3], arguments[3:]
    return [
        ToolCallDelta(index, f"call_{index}", name, head),
        ToolCallDelta(index, None, None, rest),
    ]


# --- Any answer that an engine can give -----------------------------------------------

text = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
counts = st.integers(0, 2**40)
logprobs = st.builds(
    TokenLogprob, text, st.floats(-9999, 0), st.none() | st.binary(max_size=8), st.just(())
)
spoken: st.SearchStrategy[list[Event]] = st.lists(
    st.one_of(
        st.builds(TextDelta, text),
        st.builds(TextDelta, text, st.lists(logprobs, max_size=2).map(tuple)),
        st.builds(ReasoningDelta, text),
    ),
    max_size=6,
)
names = st.sampled_from(["weather", "patch", "local_shell", "crm__weather", "crm__note", "made_up"])
arguments = st.one_of(
    text,
    st.builds(lambda said: json.dumps({"input": said}), text),
    st.builds(lambda words: json.dumps({"command": words}), st.lists(text, max_size=2)),
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    said = draw(spoken)
    for index in range(draw(st.integers(0, 3))):
        said += calls(draw(names), draw(arguments), index) + draw(spoken)
    usage = draw(st.builds(Usage, counts, counts, st.none() | counts, st.none() | counts))
    return [*said, Finished(draw(st.sampled_from(FinishReason)), usage, Timings(total_s=1.5))]


options = st.fixed_dictionaries(
    {},
    optional={
        "reasoning": st.just({"summary": "auto"}),
        "include": st.just(["reasoning.encrypted_content"]),
    },
)


@pytest.mark.slow
@given(answers(), options, st.integers(1, 5))
@settings(deadline=None)
def test_a_stream_says_all_alike_however_its_events_come(
    events: list[Event], asked: Mapping[str, Any], batch: int
) -> None:
    whole, pieces = encoder(**asked), encoder(**asked)
    data = whole.feed(events)
    assert data == b"".join(
        pieces.feed(events[at : at + batch]) for at in range(0, len(events), batch)
    )
    seen = decode(data)
    (completion,) = fold(events)
    messages = [item for item in seen.output if item["type"] == "message"]
    assert "".join(map(said, messages)) == completion.text
    thoughts = [item for item in seen.output if item["type"] == "reasoning"]
    assert "".join(map(said, thoughts)) == completion.reasoning
    made = [item for item in seen.output if "call_id" in item]
    assert [call["call_id"] for call in made] == [call.id for call in completion.tool_calls]
    assert len({item["id"] for item in seen.output}) == len(seen.output)


@pytest.mark.slow
@given(answers(), options)
@settings(deadline=None)
def test_a_reply_is_the_last_response_of_a_stream(
    events: list[Event], asked: Mapping[str, Any]
) -> None:
    (completion,) = fold(events)
    body = encoder(**asked).reply([completion])
    Response.model_validate_json(body, strict=True)
    in_order: list[Event] = [
        *([ReasoningDelta(completion.reasoning)] if completion.reasoning else []),
        *(
            [TextDelta(completion.text, completion.logprobs)]
            if completion.text or completion.logprobs
            else []
        ),
        *[
            ToolCallDelta(index, call.id, call.name, call.arguments)
            for index, call in enumerate(completion.tool_calls)
        ],
        completion.finished,
    ]
    assert json.loads(body) == decode(encoder(**asked).feed(in_order)).response


# --- Streams ---------------------------------------------------------------------------


def test_a_stream_of_text_is_in_openais_order() -> None:
    data = encoder().feed([TextDelta("Hi"), TextDelta("!"), stop(Usage(3, 2, cached=1))])
    seen = decode(data)
    assert seen.kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert seen.response["status"] == "completed"
    assert seen.response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }
    assert b"[DONE]" not in data


def test_what_is_asked_in_parallel_is_one_item_after_the_other() -> None:
    told = [*calls("weather", '{"city":"Oslo"}'), *calls("weather", "{}", 1)]
    seen = decode(encoder().feed([*told, Finished(FinishReason.TOOL_CALLS)]))
    assert seen.kinds[2:-1] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    assert [item["arguments"] for item in seen.output] == ['{"city":"Oslo"}', "{}"]
    assert seen.response["status"] == "completed"


def test_a_custom_tool_gets_its_text() -> None:
    told = calls("patch", json.dumps({"input": "*** Begin\n+ü"}))
    seen = decode(encoder().feed([*told, stop()]))
    (item,) = seen.output
    assert (item["type"], item["name"], item["input"]) == (
        "custom_tool_call",
        "patch",
        "*** Begin\n+ü",
    )
    assert "response.custom_tool_call_input.done" in seen.kinds


def test_a_tool_in_a_namespace_gets_its_own_name_again() -> None:
    told = [*calls("crm__weather", "{}"), *calls("crm__note", '{"input":"x"}', 1)]
    seen = decode(encoder().feed([*told, stop()]))
    assert [(item["type"], item["name"], item["namespace"]) for item in seen.output] == [
        ("function_call", "weather", "crm"),
        ("custom_tool_call", "note", "crm"),
    ]


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ('{"command":["ls","-l"],"timeout_ms":5}', {"command": ["ls", "-l"], "timeout_ms": 5}),
        ('{"command":"ls"}', {"command": ["ls"]}),
        ('{"command":["a"],"working_directory":"/"}', {"command": ["a"], "working_directory": "/"}),
        ("no JSON", {"command": []}),
    ],
)
def test_a_shell_call_is_a_command(arguments: str, action: dict[str, Any]) -> None:
    seen = decode(encoder().feed([*calls("local_shell", arguments), stop()]))
    (item,) = seen.output
    assert item["type"] == "local_shell_call"
    assert item["action"] == {"type": "exec", "env": {}, **action}


def test_a_name_that_nobody_offered_is_a_function() -> None:
    seen = decode(encoder().feed([*calls("made_up", "{}"), stop()]))
    assert (seen.output[0]["type"], seen.output[0]["name"]) == ("function_call", "made_up")


def test_text_around_calls_is_kept_in_order() -> None:
    told = [TextDelta("a"), *calls("weather", "{}"), TextDelta("b"), TextDelta("c"), stop()]
    seen = decode(encoder().feed(told))
    assert [item["type"] for item in seen.output] == ["message", "function_call", "message"]
    assert [said(item) for item in seen.output] == ["a", "{}", "bc"]


def test_an_empty_piece_opens_nothing() -> None:
    seen = decode(encoder().feed([TextDelta(""), *calls("weather", "{}"), stop()]))
    assert [item["type"] for item in seen.output] == ["function_call"]


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    (item,) = decode(encoder().feed([stop()])).output
    assert (item["type"], said(item)) == ("message", "")


@pytest.mark.parametrize("token", NASTY)
def test_no_token_can_end_a_record(token: str) -> None:
    data = encoder().feed([TextDelta("a"), TextDelta(token), ReasoningDelta(token), stop()])
    assert all(
        line.startswith(("event: response.", "data: {")) or not line
        for line in data.decode().splitlines()
    )
    assert said(decode(data).output[0]) == f"a{token}"


def test_log_probabilities_are_told_with_each_piece_and_with_the_whole() -> None:
    token = TokenLogprob("Hi", float("-inf"), None, (TokenLogprob("Ho", -0.5, b"Ho"),))
    seen = decode(encoder().feed([TextDelta("Hi", (token,)), stop()]))
    told = {
        "token": "Hi",
        "logprob": -9999.0,
        "bytes": [72, 105],
        "top_logprobs": [{"token": "Ho", "logprob": -0.5, "bytes": [72, 111]}],
    }
    assert seen.logprobs == [told]
    assert seen.output[0]["content"][0]["logprobs"] == [told]


@pytest.mark.slow
def test_numbers_go_on_beyond_those_that_are_ready_made() -> None:
    data = encoder().feed([*[TextDelta("a")] * 5000, stop()])
    assert len(events(data)) == 5000 + 8


def test_no_events_are_no_bytes() -> None:
    assert encoder().feed([]) == b""


def test_an_event_after_the_end_is_our_own_fault() -> None:
    writer = encoder()
    writer.feed([stop()])
    with pytest.raises(AssertionError):
        writer.feed([TextDelta("late")])


# --- Thoughts ------------------------------------------------------------------------------

THOUGHT: Final[list[Event]] = [ReasoningDelta("hm"), ReasoningDelta("m"), TextDelta("Hi"), stop()]


def test_thoughts_are_an_item_of_their_own_before_the_message() -> None:
    seen = decode(encoder().feed(THOUGHT))
    assert seen.kinds[2:8] == [
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
    ]
    thought, message = seen.output
    assert thought["content"] == [{"type": "reasoning_text", "text": "hmm"}]
    assert (thought["summary"], thought["encrypted_content"]) == ([], None)
    assert said(message) == "Hi"


def test_thoughts_are_a_summary_where_one_is_asked_for() -> None:
    seen = decode(encoder(reasoning={"summary": "auto"}).feed(THOUGHT))
    assert seen.kinds[3:8] == [
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]
    assert seen.output[0]["summary"] == [{"type": "summary_text", "text": "hmm"}]
    assert "content" not in seen.output[0]


def test_thoughts_are_sealed_where_that_is_asked_for() -> None:
    seen = decode(encoder(include=["reasoning.encrypted_content"]).feed(THOUGHT))
    assert unseal(seen.output[0]["encrypted_content"]) == "hmm"


# --- Answers that were cut -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (FinishReason.LENGTH, "max_output_tokens"),
        (FinishReason.CONTENT_FILTER, "content_filter"),
    ],
)
def test_a_cut_answer_is_incomplete_and_so_is_its_last_item(
    reason: FinishReason, told: str
) -> None:
    seen = decode(encoder().feed([ReasoningDelta("hm"), TextDelta("Hal"), Finished(reason)]))
    assert seen.kinds[-1] == "response.incomplete"
    assert seen.response["incomplete_details"] == {"reason": told}
    assert [item["status"] for item in seen.output] == ["completed", "incomplete"]


def test_an_answer_that_was_cut_in_its_thoughts_has_no_message() -> None:
    seen = decode(encoder().feed([ReasoningDelta("hm"), Finished(FinishReason.LENGTH)]))
    assert [(item["type"], item["status"]) for item in seen.output] == [("reasoning", "incomplete")]


# --- Streams that break ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [[], [TextDelta("half an ans")], calls("patch", '{"input":"ab'), [ReasoningDelta("h")]],
)
def test_a_broken_stream_ends_with_an_error_and_a_response_that_failed(
    events: list[Event],
) -> None:
    writer = encoder()
    data = writer.feed(events) + writer.fail(errors.UpstreamDisconnected("The engine went away."))
    seen = decode(data)
    assert seen.kinds[:2] == ["response.created", "response.in_progress"]
    assert seen.kinds[-2:] == ["error", "response.failed"]
    assert seen.error is not None
    assert (seen.error["code"], seen.error["message"]) == (
        "backend_error",
        "The engine went away.",
    )
    assert seen.response["status"] == "failed"
    assert seen.response["error"] == {"code": "server_error", "message": "The engine went away."}
    assert seen.response["usage"] is None


def test_what_was_closed_before_a_stream_broke_is_in_its_response() -> None:
    writer = encoder()
    data = writer.feed([ReasoningDelta("hm"), TextDelta("Hal")])
    seen = decode(data + writer.fail(errors.UpstreamStalled("It fell silent.")))
    assert [item["type"] for item in seen.response["output"]] == ["reasoning"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.QueueFull("no"), "server_error"),
        (errors.TooManyOfOneAddress("no"), "rate_limit_exceeded"),
        (errors.InvalidRequest("no"), "invalid_prompt"),
    ],
)
def test_a_failed_response_has_a_code_of_openais_types(
    error: errors.GatewayError, code: str
) -> None:
    assert decode(encoder().fail(error)).response["error"]["code"] == code


def test_a_prompt_that_is_too_long_has_the_code_that_agents_know() -> None:
    data = encoder().fail(errors.ContextLengthExceeded("Too long."))
    failed = json.loads(data.split(b"data: ")[-1])
    assert failed["response"]["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    "late", [[], [TextDelta("b")], calls("weather", "{}", 1), [ReasoningDelta("b")]]
)
def test_an_engine_that_goes_back_to_an_earlier_call_is_an_error(late: list[Event]) -> None:
    writer = encoder()
    data = writer.feed([*calls("weather", "{}"), *late])
    piece = ToolCallDelta(0, None, None, "more")
    with pytest.raises(errors.UpstreamBadResponse) as caught:
        writer.feed([TextDelta("c"), piece])
    # What came before it in the same batch is told; no number is missing.
    assert decode(data + writer.fail(caught.value)).kinds[-1] == "response.failed"


# --- The response ---------------------------------------------------------------------------


def test_a_response_repeats_what_holds() -> None:
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 12,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "concise"},
        "service_tier": "flex",
        "store": True,
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "tool_choice": {"type": "function", "name": "weather"},
        "truncation": "auto",
        "user": "me",
    }
    response = json.loads(encoder(**asked).reply(fold([TextDelta("x"), stop()])))
    assert {name: response[name] for name in asked} == {
        **asked,
        "store": False,
        "truncation": "disabled",
        "text": {
            "format": {
                "type": "json_schema",
                "name": "n",
                "schema": {"type": "object"},
                "strict": None,
            },
            "verbosity": "medium",
        },
    }
    assert response["id"] == "resp_0123abcd"
    assert response["created_at"] == HEAD.created
    assert [tool["type"] for tool in response["tools"]] == [tool["type"] for tool in TOOLS]


def test_what_an_agent_sends_comes_back_in_a_valid_response() -> None:
    body = agent_body()
    writer = DIALECT.encoder(DIALECT.parse(json.dumps(body).encode()), HEAD)
    seen = decode(writer.feed([*THOUGHT[:-1], *calls("apply_patch", '{"input":"p"}'), stop()]))
    assert seen.response["instructions"] == body["instructions"]
    assert [item["type"] for item in seen.output] == ["reasoning", "message", "custom_tool_call"]
