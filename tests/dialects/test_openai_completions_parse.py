import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.completion_create_params import CompletionCreateParamsBase

from gateway.config.schema import Generation, Limits
from gateway.core.errors import GatewayError, InvalidRequest, MalformedRequest
from gateway.core.messages import GenerateRequest, Prompt, Sampling
from gateway.dialects.base import Dialect
from gateway.dialects.fields import TOKEN_MAX
from gateway.dialects.openai_completions import (
    ANSWERS_MAX,
    CHOICES_MAX,
    PARAMETERS,
    CompletionsParsed,
    OpenAICompletions,
)

GENERATION = Generation(max_tokens_default=50, max_tokens_max=200)
DIALECT: Dialect[CompletionsParsed] = OpenAICompletions(Limits(), GENERATION)
BASE: dict[str, Any] = {"model": "llama3.2", "prompt": "Once"}


def parse(**more: Any) -> CompletionsParsed:
    return DIALECT.parse(json.dumps(BASE | more).encode())


def asked(**more: Any) -> GenerateRequest:
    return parse(**more).request


def refusal(**more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**more)
    return caught.value


# --- Every documented parameter ---------------------------------------------------------

DOCUMENTED = {*get_type_hints(CompletionCreateParamsBase), "stream"}

HONOURED: dict[str, tuple[Any, Any]] = {
    "best_of": (3, lambda p: p.request.n == 3 and p.shape.drawn == 3 and p.shape.n == 1),
    "echo": (True, lambda p: p.shape.prompts == ("Once",)),
    "frequency_penalty": (0.5, lambda p: p.request.sampling.frequency_penalty == 0.5),
    "logit_bias": ({"50256": -100}, lambda p: p.request.sampling.logit_bias == {"50256": -100}),
    "logprobs": (2, lambda p: p.request.logprobs == p.shape.logprobs == 2),
    "max_tokens": (7, lambda p: p.request.max_tokens == 7),
    "model": ("other", lambda p: p.request.model == "other"),
    "n": (3, lambda p: p.request.n == p.shape.n == 3),
    "presence_penalty": (-0.5, lambda p: p.request.sampling.presence_penalty == -0.5),
    "prompt": ("Twice", lambda p: p.request.prompts == (Prompt("Twice"),)),
    "seed": (7, lambda p: p.request.sampling.seed == 7),
    "stop": ("END", lambda p: p.request.sampling.stop == ("END",)),
    "stream": (True, lambda p: p.request.stream is True),
    "suffix": ("end", lambda p: p.request.prompts == (Prompt("Once", suffix="end"),)),
    "temperature": (0.5, lambda p: p.request.sampling.temperature == 0.5),
    "top_p": (0.5, lambda p: p.request.sampling.top_p == 0.5),
}
WITHOUT_EFFECT: dict[str, Any] = {"user": "u"}
NO_OPS: dict[str, Any] = {
    "best_of": 1,
    "echo": False,
    "logit_bias": {},
    "n": 1,
    "stream": False,
    "suffix": "",
}
WITH_OTHERS = {"stream_options"}


def test_the_table_knows_every_parameter_that_openai_documents() -> None:
    assert set(PARAMETERS) >= DOCUMENTED
    assert {*HONOURED, *WITHOUT_EFFECT, *WITH_OTHERS} == DOCUMENTED


@pytest.mark.parametrize("name", HONOURED)
def test_an_honoured_parameter_is_in_the_request(name: str) -> None:
    value, is_there = HONOURED[name]
    parsed = parse(**{name: value})
    assert is_there(parsed)
    assert parsed.ignored == ()


@pytest.mark.parametrize("name", sorted(HONOURED.keys() - {"best_of", "echo"}))
def test_what_is_the_engines_to_honour_is_in_the_params(name: str) -> None:
    assert name in asked(**{name: HONOURED[name][0]}).params


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_parameter_without_effect_is_named(name: str) -> None:
    parsed = parse(**{name: WITHOUT_EFFECT[name]})
    assert parsed.ignored == (name,)
    assert parsed.request == asked()


@pytest.mark.parametrize("name", NO_OPS)
def test_a_parameter_that_asks_for_what_happens_anyway_is_not_named(name: str) -> None:
    parsed = parse(**{name: NO_OPS[name]})
    assert parsed.ignored == ()
    assert parsed.request.params == {"model", "prompt"}
    assert parsed.shape == parse().shape


@pytest.mark.parametrize("name", sorted({*PARAMETERS, "unheard_of"} - {"model", "prompt"}))
def test_null_means_absent(name: str) -> None:
    assert parse(**{name: None}) == parse()


def test_what_only_a_chat_takes_is_named() -> None:
    chat = {"messages": [], "tools": [], "response_format": {"type": "text"}}
    assert parse(**chat).ignored == tuple(chat)


def test_ollamas_own_parameters_are_taken_as_in_a_chat() -> None:
    request = asked(options={"top_k": 4, "num_ctx": 5}, keep_alive="1m")
    assert request.sampling == Sampling(top_k=4)
    assert request.extensions == {"num_ctx": 5, "keep_alive": "1m"}


def test_the_usage_at_the_end_of_a_stream_is_asked_for_as_in_a_chat() -> None:
    assert parse(stream=True, stream_options={"include_usage": True}).shape.include_usage
    assert refusal(stream_options={"include_usage": True}).param == "stream_options"


@pytest.mark.parametrize("name", ["model", "prompt"])
def test_what_is_required_must_be_there(name: str) -> None:
    assert refusal(**{name: None}).param == name


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"'])
def test_what_is_not_a_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        DIALECT.parse(body)


def test_an_answer_has_the_configured_length_unless_another_is_asked_for() -> None:
    assert asked().max_tokens == 50
    assert asked(max_tokens=16).max_tokens == 16
    assert asked(max_tokens=10**6).max_tokens == 200


@pytest.mark.slow
@given(
    name=st.sampled_from(sorted(PARAMETERS)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)
@settings(deadline=None, max_examples=500)
def test_any_value_is_read_or_refused_by_its_name(name: str, value: Any) -> None:
    error = mistake({name: value})
    if error is not None:
        assert error.param is not None
        assert error.param.startswith(name)
        assert error.message.isascii()


def mistake(more: dict[str, Any]) -> GatewayError | None:
    """What is wrong with a body of these values; None also for what is no JSON at all."""
    try:
        parse(**more)
    except MalformedRequest:
        return None
    except GatewayError as error:
        return error
    return None


# --- Prompts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", (Prompt("a"),)),
        (["a"], (Prompt("a"),)),
        (["a", "b"], (Prompt("a"), Prompt("b"))),
        ([0, TOKEN_MAX], (Prompt(tokens=(0, TOKEN_MAX)),)),
        ([[1], [2, 3]], (Prompt(tokens=(1,)), Prompt(tokens=(2, 3)))),
        (["x"] * ANSWERS_MAX, (Prompt("x"),) * ANSWERS_MAX),
        (list(range(10_000)), (Prompt(tokens=tuple(range(10_000))),)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_prompt_is_text_or_tokens_or_a_list_of_these(
    prompt: Any, prompts: tuple[Prompt, ...]
) -> None:
    request = asked(prompt=prompt)
    assert request.prompts == prompts
    assert request.messages == ()


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ("", "prompt"),
        ([], "prompt"),
        ({}, "prompt"),
        (7, "prompt"),
        (True, "prompt"),
        ([""], "prompt[0]"),
        (["a", ""], "prompt[1]"),
        (["a", 1], "prompt[1]"),
        (["a", [1]], "prompt"),
        ([1, "a"], "prompt"),
        ([1, -1], "prompt"),
        ([1, True], "prompt"),
        ([True, 1], "prompt"),
        ([1, 2.0], "prompt"),
        ([TOKEN_MAX + 1], "prompt"),
        ([[1], []], "prompt[1]"),
        ([[1], [[1]]], "prompt[1]"),
        ([[1], [-1]], "prompt[1]"),
        (["x"] * (ANSWERS_MAX + 1), "prompt"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_prompt_that_is_none_is_refused_by_its_place(prompt: Any, param: str) -> None:
    assert refusal(prompt=prompt).param == param


def test_a_suffix_stands_after_each_prompt() -> None:
    for order in (("prompt", "suffix"), ("suffix", "prompt")):
        values = {"prompt": ["a", "b"], "suffix": "z"}
        document = {"model": "m"} | {name: values[name] for name in order}
        request = DIALECT.parse(json.dumps(document).encode()).request
        assert request.prompts == (Prompt("a", suffix="z"), Prompt("b", suffix="z"))


# --- What depends on several parameters -----------------------------------------------------


def test_the_best_are_known_by_logprobs_that_the_caller_need_not_see() -> None:
    parsed = parse(n=2, best_of=5)
    assert (parsed.request.n, parsed.request.logprobs) == (5, 0)
    assert (parsed.shape.n, parsed.shape.drawn, parsed.shape.logprobs) == (2, 5, None)
    assert parse(n=2, best_of=5, logprobs=3).request.logprobs == 3


def test_nothing_is_drawn_beyond_what_is_wanted_without_best_of() -> None:
    for more in ({"n": 2}, {"n": 2, "best_of": 2}):
        parsed = parse(**more)
        assert (parsed.request.n, parsed.request.logprobs) == (2, None)
        assert (parsed.shape.n, parsed.shape.drawn) == (2, 2)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": CHOICES_MAX + 1}, "best_of"),
        ({"best_of": 0}, "best_of"),
        ({"n": CHOICES_MAX + 1}, "n"),
        ({"n": 0}, "n"),
        ({"prompt": ["a"] * 33, "n": 2}, "n"),
        ({"prompt": ["a"] * 33, "best_of": 2}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": 1}, "echo"),
        ({"echo": True, "logprobs": 0}, "echo"),
        ({"echo": True, "prompt": [1, 2]}, "echo"),
        ({"echo": True, "prompt": [[1], [2]]}, "echo"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_can_not_be_is_refused_by_its_name(more: dict[str, Any], param: str) -> None:
    assert refusal(**more).param == param


def test_as_many_as_are_wanted_may_be_streamed() -> None:
    assert asked(n=2, best_of=2, stream=True).n == 2


def test_all_answers_together_are_bounded() -> None:
    assert asked(prompt=["a"] * 32, n=2).answers == ANSWERS_MAX


def test_what_is_echoed_stands_before_the_answers_to_its_own_prompt() -> None:
    assert parse(prompt=["a", "b"], echo=True).shape.prompts == ("a", "b")
    assert parse(prompt=[[1], [2]]).shape.prompts == ("", "")
