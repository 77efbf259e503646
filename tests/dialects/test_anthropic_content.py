import base64
from typing import Any

import pytest

from gateway.core.errors import TooLarge
from gateway.core.messages import ImagePart, Message, Role, TextPart
from gateway.dialects.anthropic_content import LEFT_OUT

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

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()


def image(data: str = PNG, media_type: str = "image/png") -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "source": source}


def said_in(*blocks: Any) -> str:
    (message,) = conversation(user(*blocks))
    assert isinstance(message.content, str)
    return message.content


# --- What is said and shown -----------------------------------------------------------------


def test_cache_control_asks_for_what_happens_anyway() -> None:
    cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    parsed = parse(
        messages=[
            user(text("hi", **cached)),
            assistant({**tool_use("t"), **cached}),
            user(tool_result("t", [text("ok", **cached)], **cached)),
        ],
        system=[text("s", **cached)],
        tools=[{"name": "weather", "input_schema": {"type": "object"}, **cached}],
        **cached,
    )
    assert parsed.ignored == ()


def test_an_image_is_a_part() -> None:
    (message,) = conversation(user(text("what is it?"), image()))
    assert message.content == (TextPart("what is it?"), ImagePart(PNG, "image/png"))


@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": "http://169.254.169.254/secret.png"},
        {"type": "file", "file_id": "file_1"},
        {"type": "base64", "media_type": "image/png", "data": "no base64"},
        {"type": "base64", "media_type": "image/gif", "data": "R0lGODlhAQABAAAAACw="},
        {},
        None,
    ],
)
def test_an_image_comes_with_the_request_or_not_at_all(source: Any) -> None:
    error = refusal(messages=[user({"type": "image", "source": source})])
    assert (error.param or "").startswith("messages[0].content[0].source")
    assert "169.254" not in error.message


def test_images_are_bounded_in_size_and_number() -> None:
    with pytest.raises(TooLarge):
        parse(messages=[user(image(base64.b64encode(bytes(200)).decode()))])
    assert refusal(messages=[user(*[image()] * 33)]).param == "messages[0].content[32].source"


def test_a_document_of_text_is_read_with_its_title() -> None:
    of_text = document(type="text", media_type="text/plain", data="Grass is green.")
    assert said_in({**of_text, "title": "Facts", "context": "of nature"}, text("So?")) == (
        "Facts\nof nature\nGrass is green.\nSo?"
    )
    of_blocks = document(type="content", content=[text("Grass"), text("is green.")])
    assert said_in(of_blocks) == "Grass\nis green."
    assert said_in(document(type="content", content="Grass.")) == "Grass."


@pytest.mark.parametrize("kind", ["base64", "url", "file"])
def test_a_document_that_is_no_text_is_refused_and_why(kind: str) -> None:
    error = refusal(messages=[user(document(type=kind, data="JVBERi0="))])
    assert error.param == "messages[0].content[0].source.type"
    assert "documents as text" in error.message


def test_a_search_result_is_read_with_its_source() -> None:
    found = {
        "type": "search_result",
        "title": "Oslo",
        "source": "https://example.com/oslo",
        "content": [text("Capital of Norway.")],
    }
    assert said_in(found) == "Oslo\nhttps://example.com/oslo\nCapital of Norway."


@pytest.mark.parametrize(
    ("enabled", "ignored"), [(True, ("messages.document.citations",)), (False, ())]
)
def test_only_citations_that_are_asked_for_are_missed(enabled: bool, ignored: Any) -> None:
    of_text = document(type="text", data="Grass.") | {"citations": {"enabled": enabled}}
    assert parse(messages=[user(of_text)]).ignored == ignored


def test_a_compacted_conversation_is_its_summary() -> None:
    summary = {"type": "compaction", "content": "They spoke of Oslo.", "signature": "s"}
    assert conversation(USER, assistant(summary), USER)[1].content == "They spoke of Oslo."


# --- Calls and their results ---------------------------------------------------------------


def result_of(block: Any) -> tuple[Message, ...]:
    return conversation(USER, assistant(tool_use("t")), user(block))[2:]


def answer(said: str) -> Message:
    return Message(Role.TOOL, said, tool_call_id="t")


def test_a_result_is_the_text_that_it_holds() -> None:
    assert result_of(tool_result("t", "rain")) == (answer("rain"),)
    assert result_of(tool_result("t", [text("rain"), text("wind")])) == (answer("rain\nwind"),)
    assert result_of({"type": "tool_result", "tool_use_id": "t"}) == (answer(""),)
    assert result_of(tool_result("t", [])) == (answer(""),)


def test_a_result_that_is_an_error_says_so() -> None:
    assert result_of(tool_result("t", "no such city", is_error=True)) == (
        answer("Error: no such city"),
    )
    assert result_of(tool_result("t", "fine", is_error=False)) == (answer("fine"),)


def test_images_of_a_result_are_shown_after_it() -> None:
    block = tool_result("t", [text("a screenshot"), image()])
    messages = conversation(USER, assistant(tool_use("t")), user(block, text("See?")))
    assert messages[2:] == (
        answer("a screenshot"),
        Message(Role.USER, (ImagePart(PNG, "image/png"), TextPart("See?"))),
    )


def test_arguments_are_written_as_the_model_would() -> None:
    (_, called) = conversation(USER, assistant(tool_use("t", city="Malmö", days=[1, 2])))
    assert called.tool_calls[0].arguments == '{"city":"Malmö","days":[1,2]}'


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "tool_use", "name": "f", "input": {}}, "id"),
        ({"type": "tool_use", "id": "t", "input": {}}, "name"),
        ({"type": "tool_use", "id": "t", "name": "f" * 257, "input": {}}, "name"),
        ({"type": "tool_use", "id": "t", "name": "f", "input": "{}"}, "input"),
        ({"type": "tool_result", "content": "x"}, "tool_use_id"),
        (tool_result("t", 1), "content"),
        (tool_result("t", [tool_use("u")]), "content[0].type"),
        (tool_result("t", "x", is_error="yes"), "is_error"),
        ({"type": "thinking"}, "thinking"),
        ({"type": "text"}, "text"),
        ({"type": "audio"}, "type"),
        ({}, "type"),
        ({"type": ["text"]}, "type"),
    ],
)
def test_a_block_that_does_not_fit_is_refused_by_its_place(block: Any, param: str) -> None:
    error = refusal(messages=[USER, assistant(block)])
    assert error.param == f"messages[1].content[0].{param}"


def test_what_only_anthropic_can_read_is_left_out_by_name() -> None:
    for kind in LEFT_OUT:
        parsed = parse(messages=[user(text("hi"), {"type": kind, "data": "…", "content": []})])
        assert parsed.request.messages == (Message(Role.USER, "hi"),)
        assert parsed.ignored == (f"messages.{kind}",)


def test_a_member_that_nobody_reads_is_named() -> None:
    parsed = parse(messages=[user(text("hi", mood="cheerful", citations=[{"type": "x"}]))])
    assert parsed.ignored == ("messages.text.mood",)
