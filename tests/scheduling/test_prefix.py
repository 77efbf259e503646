from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.messages import (
    GenerateRequest,
    ImagePart,
    Message,
    Prompt,
    Role,
    TextPart,
    Tool,
    ToolCall,
)
from gateway.core.ticket import Chain
from gateway.scheduling.prefix import (
    FIRST_MARK_CHARS,
    IMAGE_CHARS,
    MARKED_INSIDE,
    TOKEN_CHARS,
    HeldPrompts,
    chain_of,
    shared_chars,
)

MODEL = "m"


def prompt(*texts: str, **rest: Any) -> Chain:
    """A conversation: a system prompt, then user and assistant in turns."""
    roles = [Role.SYSTEM, *[Role.USER, Role.ASSISTANT] * len(texts)]
    return of(*map(Message, roles, texts), **rest)


def of(*messages: Message, **rest: Any) -> Chain:
    return chain_of(GenerateRequest(model=MODEL, messages=messages, **rest))


def shared(one: Chain, other: Chain) -> int:
    return shared_chars({digest for _, digest in one}, other)


def shared_naively(one: Chain, other: Chain) -> int:
    marks = {digest for _, digest in one}
    return max((chars for chars, digest in other if digest in marks), default=0)


# --- Chains -----------------------------------------------------------------


def test_the_last_mark_covers_the_whole_prompt() -> None:
    assert prompt("abc", "de")[-1][0] == 5


def test_there_is_a_mark_after_each_message() -> None:
    assert [chars for chars, _ in prompt("abc", "de", "f")] == [3, 5, 6]


def test_the_same_prompt_has_the_same_chain_whatever_the_model() -> None:
    messages = (Message(Role.USER, "hello " * 100),)
    one = chain_of(GenerateRequest(model="a", messages=messages))
    assert one == chain_of(GenerateRequest(model="b", messages=messages))


def test_a_conversation_shares_all_of_what_was_sent_before() -> None:
    before = prompt("system", "question")
    assert shared(before, prompt("system", "question", "answer", "more")) == before[-1][0]


def test_two_conversations_share_the_system_prompt_alone() -> None:
    assert shared(prompt("system", "one"), prompt("system", "two")) == len("system")


def test_a_prompt_that_differs_from_the_start_shares_nothing() -> None:
    assert shared(prompt("a", "same", "same"), prompt("b", "same", "same")) == 0


def test_the_same_text_in_another_role_is_another_prompt() -> None:
    assert shared(of(Message(Role.SYSTEM, "text")), of(Message(Role.USER, "text"))) == 0


def test_where_one_message_ends_matters() -> None:
    assert shared(prompt("ab", "c"), prompt("a", "bc")) == 0


@pytest.mark.parametrize("length", [FIRST_MARK_CHARS, 300, 512, 1000, 5000, 100_000])
def test_of_two_long_messages_that_begin_alike_half_of_it_is_found(length: int) -> None:
    preamble = "p" * length
    found = shared(
        of(Message(Role.USER, preamble + "X" * 9)), of(Message(Role.USER, preamble + "Y"))
    )
    assert length / 2 <= found <= length


def test_a_whole_message_is_found_in_a_longer_one_that_goes_on() -> None:
    text = "p" * 2 * FIRST_MARK_CHARS
    assert shared(of(Message(Role.USER, text)), of(Message(Role.USER, text + "more"))) == len(text)


def test_only_the_first_messages_have_marks_inside() -> None:
    long = "p" * (2 * FIRST_MARK_CHARS + 1)
    assert len(prompt(*[long] * (MARKED_INSIDE + 3))) == MARKED_INSIDE * 3 + 3


def test_other_tools_share_nothing_and_the_same_ones_count() -> None:
    calc = Tool("calc", "Adds.", {"type": "object"})
    one = prompt("system", tools=(calc,))
    assert shared(one, prompt("system", tools=(calc,))) == one[-1][0]
    assert one[0][0] == len('calcAdds.{"type":"object"}')
    assert shared(one, prompt("system")) == 0
    assert shared(one, prompt("system", tools=(Tool("calc", "Adds.", {}),))) == 0
    assert shared(one, prompt("other", tools=(calc,))) == one[0][0]


def test_tools_that_are_not_sent_are_not_part_of_the_prompt() -> None:
    calc = Tool("calc")
    assert prompt("system", tools=(calc,), tool_choice="none") == prompt("system")


def test_tool_calls_and_reasoning_are_part_of_their_turn() -> None:
    def turn(arguments: str, reasoning: str | None = None) -> Chain:
        call = ToolCall(id="1", name="f", arguments=arguments)
        asked = Message(Role.USER, "ask")
        return of(asked, Message(Role.ASSISTANT, tool_calls=(call,), reasoning=reasoning))

    assert shared(turn("{}"), turn("{}")) == len("ask" + "f" + "{}")
    assert shared(turn("{}"), turn('{"a":1}')) == len("ask")
    assert shared(turn("{}"), turn("{}", "hm")) == len("ask")


def picture(data: str, text: str = "what is it?") -> Chain:
    return of(Message(Role.USER, (ImagePart(data, "image/png"), TextPart(text))))


def test_an_image_counts_as_a_fixed_number_of_characters() -> None:
    assert picture("AAAA", "")[-1][0] == picture("A" * 40_000, "")[-1][0] == IMAGE_CHARS


def test_another_image_shares_nothing_of_its_message() -> None:
    long = "t" * 1000
    assert shared(picture("AAAA", long), picture("AAAA", long)) == IMAGE_CHARS + 1000
    assert shared(picture("AAAA", long), picture("BAAA", long)) == 0


def test_large_images_are_told_apart_by_length_and_ends() -> None:
    body = "A" * 100_000
    chains = {picture(data)[-1][1] for data in (body, body + "A", body + "B", "B" + body)}
    assert len(chains) == 4


def test_a_request_without_messages_has_an_empty_chain() -> None:
    assert of() == ()
    assert shared(of(), prompt("a")) == shared(prompt("a"), of()) == 0


texts = st.lists(st.sampled_from(["", "a", "b", "c" * 700, "c" * 600 + "d"]), max_size=8)


@given(texts, texts)
def test_halving_finds_what_looking_at_every_mark_finds(one: list[str], other: list[str]) -> None:
    left, right = prompt(*one), prompt(*other)
    assert shared(left, right) == shared_naively(left, right)
    assert shared(left, right) == shared(right, left)


# --- Held prompts -----------------------------------------------------------

SYSTEM = "s" * 1024
X1, X2 = prompt(SYSTEM, "x"), prompt(SYSTEM, "x", "answer", "more")
Y1 = prompt(SYSTEM, "y")
Z1 = prompt("z" * 1024, "z")


def held(*chains: Chain, slots: int = 1) -> HeldPrompts:
    prompts = HeldPrompts(slots=slots)
    for chain in chains:
        prompts.ran(MODEL, chain)
    return prompts


def test_at_first_nothing_is_held() -> None:
    assert held().cached_chars(MODEL, X1) == 0


def test_one_slot_holds_what_it_ran_last() -> None:
    prompts = held(X1, Z1)
    assert prompts.cached_chars(MODEL, Z1) == Z1[-1][0]
    assert prompts.cached_chars(MODEL, X1) == 0


def test_the_next_turn_of_a_conversation_finds_the_last_one() -> None:
    assert held(X1).cached_chars(MODEL, X2) == X1[-1][0]


def test_the_same_prompt_of_another_model_is_not_held() -> None:
    assert held(X1).cached_chars("other", X1) == 0


def test_with_more_slots_the_longest_of_any_counts() -> None:
    prompts = held(Z1, X2, slots=2)
    assert prompts.cached_chars(MODEL, X2) == X2[-1][0]
    assert prompts.cached_chars(MODEL, Z1) == Z1[-1][0]


def test_a_prompt_takes_over_the_slot_that_shares_a_worthwhile_part() -> None:
    prompts = held(Z1, X1, Y1, slots=2)
    assert prompts.cached_chars(MODEL, Z1) == Z1[-1][0]
    assert prompts.cached_chars(MODEL, X1) == len(SYSTEM)


def test_a_small_common_part_is_no_reason_to_take_a_slot_over() -> None:
    greeting = "h" * 100
    one, other = prompt(greeting, "1" * 2000), prompt(greeting, "2" * 2000)
    prompts = held(one, other, slots=2)
    assert prompts.cached_chars(MODEL, one) == one[-1][0]


def test_else_the_least_recently_used_goes() -> None:
    prompts = held(X1, Z1, X1, prompt("w" * 500), slots=2)
    assert prompts.cached_chars(MODEL, X1) == X1[-1][0]
    assert prompts.cached_chars(MODEL, Z1) == 0


def test_fewer_slots_hold_less() -> None:
    prompts = held(X1, Z1, slots=2)
    prompts.slots = 1
    prompts.ran(MODEL, Z1)
    assert prompts.cached_chars(MODEL, X1) == 0


def test_what_is_forgotten_is_not_held_any_more() -> None:
    prompts = held(X1)
    prompts.ran("other", X1)
    prompts.forget(MODEL)
    prompts.forget("never seen")
    assert prompts.cached_chars(MODEL, X1) == 0
    assert prompts.cached_chars("other", X1) == X1[-1][0]
    prompts.forget_all()
    assert prompts.cached_chars("other", X1) == 0


def test_an_unknown_prompt_takes_a_slot_too() -> None:
    assert held(X1, ()).cached_chars(MODEL, X1) == 0


@given(st.lists(st.sampled_from([X1, X2, Y1, Z1]), min_size=1, max_size=20), st.integers(1, 4))
def test_what_ran_last_is_held_whole(chains: list[Chain], slots: int) -> None:
    assert held(*chains, slots=slots).cached_chars(MODEL, chains[-1]) == chains[-1][-1][0]


# --- Texts that are continued ------------------------------------------------------------


def continued(*prompts: Prompt) -> Chain:
    return chain_of(GenerateRequest(model=MODEL, prompts=prompts))


@pytest.mark.parametrize(
    ("continued_text", "chars"),
    [
        (Prompt("a" * 1000), 1000),
        (Prompt("a" * 1000, suffix="b" * 10), 1010),
        (Prompt(tokens=(7,) * 1000), 1000 * TOKEN_CHARS),
    ],
)
def test_the_last_mark_covers_a_text_and_its_suffix(continued_text: Prompt, chars: int) -> None:
    marks = [mark for mark, _ in continued(continued_text)]
    assert marks == sorted(marks)
    assert marks[0] == FIRST_MARK_CHARS
    assert marks[-1] == chars


def test_texts_that_begin_alike_share_at_least_half_of_that() -> None:
    for one, other in (
        (Prompt("a" * 999 + "b" * 500), Prompt("a" * 999 + "c" * 500)),
        (Prompt("a" * 999), Prompt("a" * 999, suffix="z")),
        (Prompt(tokens=(1,) * 250 + (2,)), Prompt(tokens=(1,) * 250 + (3,) * 99)),
    ):
        assert 500 <= shared(continued(one), continued(other)) < 1000


def test_a_token_counts_as_the_bytes_that_it_is_hashed_as() -> None:
    assert array("i").itemsize == TOKEN_CHARS


def test_the_same_text_is_all_there() -> None:
    for text in (Prompt("a" * 999), Prompt("a", suffix="b"), Prompt(tokens=(1,) * 999)):
        assert shared(continued(text), continued(text)) == continued(text)[-1][0]


def test_a_text_shares_nothing_with_a_message() -> None:
    assert shared(continued(Prompt("hello" * 100)), of(Message(Role.USER, "hello" * 100))) == 0


def test_of_several_texts_none_is_taken_to_be_in_a_slot() -> None:
    texts = (Prompt("a" * 999), Prompt(tokens=(1, 2)))
    one = GenerateRequest(model=MODEL, prompts=texts)
    other = GenerateRequest(model=MODEL, prompts=texts)
    assert [chars for chars, _ in chain_of(one)] == [999 + 2 * TOKEN_CHARS]
    assert shared(chain_of(one), chain_of(other)) == 0
    assert shared(chain_of(one), continued(texts[0])) == 0
