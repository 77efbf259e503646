import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.messages import Message, Role, TextPart, ToolCall

from .anthropic_request import (
    USER,
    assistant,
    conversation,
    parse,
    refusal,
    text,
    tool_result,
    tool_use,
    user,
)

BILLING = "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=a1b2c;"

HI = Message(Role.USER, "hi")

plain = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
turns = st.lists(
    st.one_of(
        st.builds(lambda said: user(text(said)), plain),
        st.builds(lambda said: assistant(text(said)), plain),
        st.builds(lambda said: {"role": "system", "content": said}, plain),
        st.just(assistant(tool_use("t"))),
        st.just(user(tool_result("t"), text("and?"))),
    ),
    max_size=9,
)


# --- The system prompt ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ("Be terse.", "Be terse."),
        (
            [text("Be terse.", cache_control={"type": "ephemeral"}), text("Be kind.")],
            "Be terse.\n\nBe kind.",
        ),
        ([text(BILLING), text("Be terse.")], "Be terse."),
        (f"{BILLING}\nBe terse.", "Be terse."),
    ],
)
def test_the_system_prompt_stands_first(system: Any, said: str) -> None:
    assert conversation(USER, system=system) == (Message(Role.SYSTEM, said), HI)


def test_only_what_stands_first_in_a_text_is_billing() -> None:
    (system, _) = conversation(USER, system=f"Never write {BILLING}")
    assert system.content == f"Never write {BILLING}"


@pytest.mark.parametrize("system", ["", [], [text("")], [text(BILLING)]])
def test_an_empty_system_prompt_is_none(system: Any) -> None:
    assert conversation(USER, system=system) == (HI,)


@pytest.mark.parametrize("system", [1, {}, [{"type": "image"}], ["Be terse."]])
def test_a_system_prompt_is_text(system: Any) -> None:
    assert (refusal(system=system).param or "").startswith("system")


# --- System messages of the conversation ----------------------------------------------


def test_a_system_message_before_anybody_spoke_belongs_to_the_system_prompt() -> None:
    first = {"role": "system", "content": [text("Be kind.")]}
    assert conversation(first, USER, system="Be terse.") == (
        Message(Role.SYSTEM, "Be terse.\n\nBe kind."),
        HI,
    )


def test_a_later_system_message_stays_where_it_is_and_is_told_within_the_users_turn() -> None:
    late = {"role": "system", "content": "Agents: reviewer."}
    assert conversation(USER, late, assistant(text("ok")), USER, system="Be terse.") == (
        Message(Role.SYSTEM, "Be terse."),
        Message(Role.USER, "hi\n<system>\nAgents: reviewer.\n</system>"),
        Message(Role.ASSISTANT, "ok"),
        HI,
    )


def test_a_system_message_that_clears_itself_is_gone_once_the_user_has_spoken_again() -> None:
    reminder = {"role": "system", "content": "Now!", "clear_at": "next_user_message"}
    assert conversation(USER, reminder, USER) == (Message(Role.USER, "hi\nhi"),)
    assert conversation(USER, reminder) == (Message(Role.USER, "hi\n<system>\nNow!\n</system>"),)


@given(turns)
def test_no_template_can_stumble_over_the_roles(said: list[Any]) -> None:
    messages = conversation(USER, *said, system="Be terse.")
    roles = [message.role for message in messages]
    assert roles[:2] == [Role.SYSTEM, Role.USER]
    assert Role.SYSTEM not in roles[1:]
    assert all(left is not right or left is Role.TOOL for left, right in itertools.pairwise(roles))


# --- Turns -------------------------------------------------------------------------------


def test_turns_of_one_role_in_a_row_are_one_turn() -> None:
    assert conversation(
        USER,
        user(text("are"), text("you there?")),
        assistant(text("Let me see."), tool_use("t1")),
        assistant(tool_use("t2", city="Oslo")),
    ) == (
        Message(Role.USER, "hi\nare\nyou there?"),
        Message(
            Role.ASSISTANT,
            "Let me see.",
            tool_calls=(
                ToolCall("t1", "weather", "{}"),
                ToolCall("t2", "weather", '{"city":"Oslo"}'),
            ),
        ),
    )


def test_results_answer_their_calls_before_anything_else_is_said() -> None:
    messages = conversation(
        USER,
        assistant(tool_use("t1"), tool_use("t2")),
        user(text("Well?"), tool_result("t2", "rain"), tool_result("t1")),
    )
    assert messages[2:] == (
        Message(Role.TOOL, "rain", tool_call_id="t2"),
        Message(Role.TOOL, "sunny", tool_call_id="t1"),
        Message(Role.USER, "Well?"),
    )


def test_a_prefilled_answer_stays_the_last_message() -> None:
    assert conversation(USER, {"role": "assistant", "content": "The answer is ("})[-1] == Message(
        Role.ASSISTANT, "The answer is ("
    )


def test_a_turn_of_which_nothing_is_left_is_no_turn() -> None:
    parsed = parse(messages=[USER, assistant({"type": "server_tool_use"}), USER])
    assert parsed.request.messages == (Message(Role.USER, "hi\nhi"),)
    assert parsed.ignored == ("messages.server_tool_use",)


def test_what_a_message_holds_besides_is_named() -> None:
    whole_reply = {"id": "msg_1", "type": "message", **assistant(text("ok")), "usage": {"a": 1}}
    parsed = parse(messages=[USER, whole_reply, USER])
    assert set(parsed.ignored) == {"messages.id", "messages.type", "messages.usage"}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("hi", "messages"),
        (["hi"], "messages[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": {"type": "text"}}], "messages[0].content"),
        ([{"role": "system", "content": "alone"}], "messages"),
        ([user()], "messages"),
        ([user(tool_use("t"))], "messages[0].content"),
        ([USER] * 11, "messages"),
        ([USER, {"role": "system", "content": "x", "clear_at": "later"}], "messages[1].clear_at"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, param: str) -> None:
    assert refusal(messages=messages).param == param


def test_thoughts_are_kept_apart_from_what_is_said() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
    (_, answer) = conversation(USER, assistant(thought, text("Yes.")))
    assert answer == Message(Role.ASSISTANT, "Yes.", reasoning="Hm.")


def test_text_parts_come_in_order_where_there_are_images() -> None:
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAAA"},
    }
    (message,) = conversation(USER, user(text("see"), image))
    assert [isinstance(part, TextPart) and part.text for part in message.content] == [
        "hi",
        "see",
        False,
    ]
