import pytest

from gateway.core.messages import (
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    ImagePart,
    Message,
    Prompt,
    ReasoningDelta,
    Request,
    Role,
    TextDelta,
    TextPart,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
    fold,
)

DONE = Finished(FinishReason.STOP, Usage(prompt=3, completion=2))


def test_deltas_become_one_text_and_one_reasoning() -> None:
    [answer] = fold(
        [ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("a"), TextDelta("b"), DONE]
    )
    assert (answer.text, answer.reasoning) == ("ab", "hm")
    assert answer.finished is DONE
    assert answer.logprobs is None


def test_pieces_of_several_tool_calls_are_put_together_by_their_index() -> None:
    events: list[Event] = [
        ToolCallDelta(0, "id0", "f", '{"a"'),
        ToolCallDelta(1, "id1", "g", "{}"),
        ToolCallDelta(0, None, None, ":1}"),
        DONE,
    ]
    [answer] = fold(events)
    assert answer.tool_calls == (ToolCall("id0", "f", '{"a":1}'), ToolCall("id1", "g", "{}"))


def test_each_finished_closes_an_answer() -> None:
    answers = fold([TextDelta("a"), DONE, TextDelta("b"), DONE])
    assert [answer.text for answer in answers] == ["a", "b"]


def test_logprobs_are_kept_in_order() -> None:
    one, two = TokenLogprob("a", -1.0), TokenLogprob("b", -2.0)
    [answer] = fold([TextDelta("a", (one,)), TextDelta("b", (two,)), DONE])
    assert answer.logprobs == (one, two)


def test_events_that_stop_early_are_no_answer() -> None:
    with pytest.raises(ValueError, match="finished"):
        fold([TextDelta("a")])


def test_usage_of_several_answers_counts_the_prompt_once() -> None:
    total = Usage(10, 2, cached=None, reasoning=1) + Usage(10, 3, cached=10)
    assert total == Usage(10, 5, cached=10, reasoning=1)


def test_timings_of_several_answers_add_up_where_they_are_known() -> None:
    assert Timings(total_s=1.0, decode_s=0.5) + Timings(total_s=2.0) == Timings(
        total_s=3.0, decode_s=0.5
    )


def test_a_message_has_its_text_and_its_images_apart() -> None:
    image = ImagePart("aGk=", "image/png")
    message = Message(Role.USER, (TextPart("a"), image, TextPart("b")))
    assert message.text == "a\nb"
    assert message.images == (image,)
    assert Message(Role.USER, "plain").images == ()


@pytest.mark.parametrize(
    ("request_", "operation"),
    [
        (GenerateRequest(model="m", messages=(Message(Role.USER, "hi"),)), "chat"),
        (GenerateRequest(model="m", prompts=(Prompt("Once"),)), "text_completion"),
        (GenerateRequest(model="m"), "load"),
        (EmbedRequest(model="m", inputs=("hi",)), "embeddings"),
    ],
)
def test_a_request_says_what_it_is_for(request_: Request, operation: str) -> None:
    assert request_.operation == operation
