import pytest

from gateway.admission.classes import class_of, flow_of
from gateway.core.messages import (
    GenerateRequest,
    ImagePart,
    Message,
    Prompt,
    Role,
    ServiceTier,
    TextPart,
)
from gateway.core.ticket import NO_HINTS, Caller, Hints, Priority

INTERACTIVE, NORMAL, BATCH = Priority

SIDE_CALLS = ("### Task:", "Summarise:")


def request(*texts: str, tier: ServiceTier | None = None) -> GenerateRequest:
    messages = tuple(Message(Role.USER, text) for text in texts or ("hi",))
    return GenerateRequest(model="m", messages=messages, service_tier=tier)


def class_for(
    caller: Caller,
    *,
    wish: Priority | None = None,
    tier: ServiceTier | None = None,
) -> Priority:
    return class_of(request(tier=tier), caller, Hints(priority=wish), SIDE_CALLS)


@pytest.mark.parametrize("own", Priority)
def test_who_asks_for_nothing_gets_its_own_class(own: Priority) -> None:
    assert class_for(Caller("c", priority=own)) is own


@pytest.mark.parametrize("own", Priority)
def test_its_own_class_may_always_be_asked_for(own: Priority) -> None:
    assert class_for(Caller("c", priority=own, priority_max=BATCH), wish=own) is own


@pytest.mark.parametrize("own", Priority)
@pytest.mark.parametrize("most", Priority)
@pytest.mark.parametrize("wish", Priority)
def test_a_wish_is_granted_as_far_as_the_caller_may(
    own: Priority, most: Priority, wish: Priority
) -> None:
    granted = class_for(Caller("c", priority=own, priority_max=most), wish=wish)
    assert granted is max(wish, min(own, most))


@pytest.mark.parametrize(
    ("tier", "wish", "granted"),
    [
        ("flex", None, BATCH),
        ("priority", None, INTERACTIVE),
        (None, NORMAL, NORMAL),
        ("flex", INTERACTIVE, BATCH),
        ("priority", BATCH, BATCH),
        ("priority", INTERACTIVE, INTERACTIVE),
    ],
)
def test_of_two_wishes_the_less_urgent_holds(
    tier: ServiceTier | None, wish: Priority | None, granted: Priority
) -> None:
    caller = Caller("c", priority_max=INTERACTIVE)
    assert class_for(caller, wish=wish, tier=tier) is granted


def test_what_a_chat_ui_asks_by_itself_is_batch_whatever_else_is_asked() -> None:
    caller = Caller("ui", priority=INTERACTIVE, priority_max=INTERACTIVE)
    for prompt in ("### Task:\nGenerate a title.", "Summarise: all of it"):
        asked = request("hi", prompt, tier="priority")
        assert class_of(asked, caller, Hints(priority=INTERACTIVE), SIDE_CALLS) is BATCH


def test_only_the_beginning_of_the_last_message_of_a_user_tells_a_side_call() -> None:
    caller = Caller("ui", priority=INTERACTIVE)
    asked = [
        request("### Task:\nGenerate a title.", "Thank you."),
        request("What does ### Task: mean?"),
        GenerateRequest(model="m", messages=(Message(Role.TOOL, "### Task: done"),)),
    ]
    for each in asked:
        assert class_of(each, caller, NO_HINTS, SIDE_CALLS) is INTERACTIVE


def test_a_side_call_may_have_images() -> None:
    parts = (TextPart("### Task:\nName this."), ImagePart("aGk=", "image/png"))
    asked = GenerateRequest(model="m", messages=(Message(Role.USER, parts),))
    assert class_of(asked, Caller("ui"), NO_HINTS, SIDE_CALLS) is BATCH


def test_without_prompts_there_are_no_side_calls() -> None:
    assert class_of(request("### Task:"), Caller("c"), NO_HINTS, ()) is NORMAL


def test_each_end_user_has_a_flow_of_its_own_and_no_other_callers() -> None:
    alice, bob = Caller("alice"), Caller("bob")
    flows = [
        flow_of(alice, NO_HINTS),
        flow_of(alice, Hints(user="bob")),
        flow_of(bob, NO_HINTS),
        flow_of(bob, Hints(user="bob")),
    ]
    assert flows == ["alice", "alice/bob", "bob", "bob/bob"]


@pytest.mark.parametrize("prompt", [Prompt("Once"), Prompt(tokens=(1, 2))])
def test_a_text_to_continue_has_a_class_like_any_other(prompt: Prompt) -> None:
    asked = GenerateRequest(model="m", prompts=(prompt,), service_tier="flex")
    assert class_of(asked, Caller("c"), NO_HINTS, SIDE_CALLS) is BATCH
    asked = GenerateRequest(model="m", prompts=(prompt,))
    assert class_of(asked, Caller("c"), NO_HINTS, SIDE_CALLS) is NORMAL
