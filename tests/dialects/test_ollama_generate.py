from typing import Any

import pytest

from gateway.core.errors import GatewayError
from gateway.core.messages import ImagePart, Message, Prompt, Role, TextPart

from .ollama_bodies import PIXEL, generate


def refusal(**fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        generate(**fields)
    return caught.value


def test_a_prompt_is_the_turn_of_a_user() -> None:
    request = generate("Why?", system="Be brief.").request
    assert request.messages == (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Why?"))
    assert request.prompts == ()
    assert generate("Why?", system="").request.messages == (Message(Role.USER, "Why?"),)


def test_images_come_with_the_prompt() -> None:
    (turn,) = generate("What?", images=[PIXEL]).request.messages
    assert turn.content == (TextPart("What?"), ImagePart(PIXEL, "image/png"))
    assert refusal(images=["x"]).param == "images[0]"
    assert refusal(images=[PIXEL] * 33).param == "images"


def test_a_raw_prompt_is_continued_as_it_stands() -> None:
    request = generate("<s>Once", raw=True).request
    assert (request.prompts, request.messages) == ((Prompt("<s>Once"),), ())
    assert generate("x", raw=False).request.prompts == ()


@pytest.mark.parametrize(
    "beside", [{"system": "x"}, {"template": "x"}, {"context": [1]}, {"images": [PIXEL]}]
)
def test_a_raw_prompt_stands_alone(beside: dict[str, Any]) -> None:
    assert refusal(raw=True, **beside).param == next(iter(beside))


def test_a_gap_is_filled() -> None:
    parsed = generate("def f(", suffix="return 1")
    assert parsed.request.prompts == (Prompt("def f(", suffix="return 1"),)
    assert generate("x", raw=True, suffix="").request.prompts == (Prompt("x"),)
    assert refusal(suffix="x", images=[PIXEL]).param == "images"


def test_who_speaks_is_of_no_effect_where_a_gap_is_filled() -> None:
    parsed = generate("a", suffix="b", system="Be brief.")
    assert parsed.ignored == ("system",)
    assert "system" not in parsed.request.params


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"template": "{{ .Prompt }}"}, ("template",)),
        ({"context": [1, 2]}, ("context",)),
        ({"width": 512, "height": 512, "steps": 4}, ("width", "height", "steps")),
        # What the CLI sends whether it means it or not.
        ({"template": "", "context": [], "suffix": "", "system": "", "raw": False}, ()),
        ({"width": 0, "options": None, "images": None}, ()),
    ],
)
def test_what_can_not_be_honoured_is_named(fields: dict[str, Any], named: tuple[str, ...]) -> None:
    assert generate(**fields).ignored == named


@pytest.mark.parametrize("prompt", [1, ["a"], {"a": 1}])
def test_a_prompt_is_a_text(prompt: object) -> None:
    with pytest.raises(GatewayError) as caught:
        generate(prompt)
    assert caught.value.param == "prompt"
