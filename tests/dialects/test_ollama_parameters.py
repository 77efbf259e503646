from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import GatewayError, InvalidRequest, MalformedRequest
from gateway.core.messages import JsonObject, JsonSchema
from gateway.dialects.base import Parsed
from gateway.dialects.ollama_chat import OllamaChat
from gateway.dialects.ollama_generate import OllamaGenerate
from gateway.dialects.ollama_parameters import OPTIONS

from .ollama_bodies import GENERATION, LIMITS, chat, generate

Parse = Callable[..., Parsed]

both = pytest.mark.parametrize("parse", [chat, generate])


def refusal(parse: Parse, **fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        parse(**fields)
    return caught.value


# --- Beside the options -----------------------------------------------------------------


@both
def test_an_answer_is_streamed_unless_it_is_wanted_whole(parse: Parse) -> None:
    assert parse().request.stream
    assert parse(stream=None).request.stream
    assert not parse(stream=False).request.stream


@both
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"m"'])
def test_a_body_that_is_no_object_is_refused(parse: Parse, body: bytes) -> None:
    dialect = OllamaChat if parse is chat else OllamaGenerate
    with pytest.raises(MalformedRequest):
        dialect(LIMITS, GENERATION).parse(body)


@both
def test_without_a_model_it_says_what_is_missing(parse: Parse) -> None:
    assert refusal(parse, model=None).param == "model"


@both
def test_a_format_is_any_json_or_a_schema(parse: Parse) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert parse(format="json").request.output_format == JsonObject()
    assert parse(format=schema).request.output_format == JsonSchema(schema)
    assert parse(format="").request.output_format is None
    assert refusal(parse, format="yaml").param == "format"
    too_large = {"enum": ["x" * LIMITS.tools_bytes_max]}
    assert refusal(parse, format=too_large).param == "format"


@both
@pytest.mark.parametrize(
    ("think", "effort", "as_ollama_says"),
    [
        (True, "medium", {"think": True}),
        (False, "none", {}),
        ("low", "low", {}),
        ("max", "max", {}),
    ],
)
def test_thinking_is_switched_or_has_a_level(
    parse: Parse, think: object, effort: str, as_ollama_says: dict[str, object]
) -> None:
    parsed = parse(think=think)
    assert parsed.request.reasoning_effort == effort
    assert parsed.request.extensions == as_ollama_says
    assert "think" in parsed.request.params
    assert refusal(parse, think="hard").param == "think"


@both
@pytest.mark.parametrize("length", ["10m", "1h30m", 0.5, 300, "86400s"])
def test_a_model_may_be_kept_for_a_while(parse: Parse, length: object) -> None:
    parsed = parse(keep_alive=length)
    assert parsed.request.extensions == {"keep_alive": length}
    assert not parsed.ignored


@both
@pytest.mark.parametrize("length", [-1, "-1m", "-1ns", 1e9, "48h"])
def test_for_ever_is_named_and_not_refused(parse: Parse, length: object) -> None:
    parsed = parse(keep_alive=length)
    assert parsed.request.extensions == {}
    assert parsed.ignored == ("keep_alive",)


@both
@pytest.mark.parametrize("length", ["soon", True, [], "10"])
def test_what_is_no_length_is_refused(parse: Parse, length: object) -> None:
    assert refusal(parse, keep_alive=length).param == "keep_alive"


@both
def test_log_probabilities(parse: Parse) -> None:
    assert parse().request.logprobs is None
    assert parse(logprobs=False).request.logprobs is None
    assert parse(logprobs=True).request.logprobs == 0
    assert parse(logprobs=True, top_logprobs=3).request.logprobs == 3
    assert parse(top_logprobs=3, logprobs=True).request.logprobs == 3
    assert refusal(parse, logprobs=True, top_logprobs=21).param == "top_logprobs"


@both
def test_alternatives_to_tokens_that_nobody_asked_for_are_named(parse: Parse) -> None:
    parsed = parse(top_logprobs=3)
    assert parsed.request.logprobs is None
    assert parsed.ignored == ("top_logprobs",)


@both
@pytest.mark.parametrize("name", ["truncate", "shift"])
def test_who_wants_a_prompt_cut_is_told_that_none_is(parse: Parse, name: str) -> None:
    assert parse(**{name: True}).ignored == (name,)
    assert parse(**{name: False}).ignored == ()


@both
def test_a_prompt_is_never_shown(parse: Parse) -> None:
    assert refusal(parse, _debug_render_only=True).param == "_debug_render_only"
    assert parse(_debug_render_only=False).ignored == ()


@both
def test_what_nobody_knows_is_named(parse: Parse) -> None:
    assert set(parse(foo=1, temperature=1, options={"bar": 2}).ignored) == {
        "foo",
        "temperature",  # of no effect at the top, to Ollama as to us
        "options.bar",
    }


# --- Options ------------------------------------------------------------------------------


@both
def test_options_are_how_tokens_are_drawn(parse: Parse) -> None:
    parsed = parse(
        options={
            "temperature": 5,
            "top_p": 0,
            "top_k": 20,
            "min_p": 0.1,
            "seed": -1,
            "stop": ["a"] * 32,
            "repeat_penalty": 1.1,
            "presence_penalty": 1,
            "frequency_penalty": 1,
            "num_predict": 7,
            "num_ctx": 2048,
            "num_keep": 4,
            "repeat_last_n": 64,
            "typical_p": 0.7,
        }
    )
    sampling = parsed.request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (5.0, 0.0, 20)
    assert (sampling.min_p, sampling.seed, sampling.repeat_penalty) == (0.1, -1, 1.1)
    assert sampling.stop == ("a",) * 32
    assert parsed.request.max_tokens == 7
    assert parsed.request.extensions == {
        "num_ctx": 2048,
        "num_keep": 4,
        "repeat_last_n": 64,
        "typical_p": 0.7,
    }
    assert parsed.ignored == ()


@both
@pytest.mark.parametrize("count", [-2, -1, 0, 10**12])
def test_no_answer_is_longer_than_the_configured_cap(parse: Parse, count: int) -> None:
    assert parse(options={"num_predict": count}).request.max_tokens == GENERATION.max_tokens_max


@both
def test_without_a_wish_the_default_length_holds(parse: Parse) -> None:
    assert parse(options={}).request.max_tokens == GENERATION.max_tokens_default


@both
def test_a_context_is_bounded(parse: Parse) -> None:
    parsed = parse(options={"num_ctx": GENERATION.num_ctx_max + 1})
    assert parsed.request.extensions == {"num_ctx": GENERATION.num_ctx_max}
    assert parsed.ignored == ("options.num_ctx",)


@both
@pytest.mark.parametrize(
    "option",
    sorted(name for name, parameter in OPTIONS.items() if parameter.how == "ignored"),
)
def test_how_the_engine_runs_is_not_a_callers_affair(parse: Parse, option: str) -> None:
    value = 1 if OPTIONS[option].schema["type"] == "integer" else True
    assert parse(options={option: value}).ignored == (f"options.{option}",)
    assert parse(options={option: None}).ignored == ()


@both
@pytest.mark.parametrize(
    ("option", "value"),
    [("stop", ["a"] * 33), ("stop", [""]), ("temperature", -1), ("top_p", 2), ("num_predict", 1.5)],
)
def test_an_option_that_does_not_fit_is_refused_by_its_path(
    parse: Parse, option: str, value: object
) -> None:
    assert (refusal(parse, options={option: value}).param or "").startswith(f"options.{option}")


# --- Nothing is asked ----------------------------------------------------------------------


@both
def test_an_empty_request_loads(parse: Parse) -> None:
    for empty in ({}, {"keep_alive": "5m"}, {"stream": False}):
        parsed = parse("" if parse is generate else [], **empty)
        assert parsed.wants == "load"
        assert not parsed.request.asks
        assert not parsed.request.stream
        assert parsed.request.params == frozenset()


@both
def test_what_an_answer_would_need_is_named_where_there_is_none(parse: Parse) -> None:
    parsed = parse(None, keep_alive="5m", think=True, options={"num_ctx": 512, "seed": None})
    assert parsed.wants == "load"
    assert parsed.ignored == ("keep_alive", "num_ctx", "think")


@both
@pytest.mark.parametrize("now", [0, 0.0, "0", "0s", "0h0m"])
def test_an_empty_request_that_keeps_the_model_for_no_time_unloads_it(
    parse: Parse, now: object
) -> None:
    parsed = parse(None, keep_alive=now)
    assert (parsed.wants, parsed.ignored) == ("unload", ())


@both
def test_with_something_to_answer_it_is_answered_first(parse: Parse) -> None:
    parsed = parse(keep_alive=0)
    assert parsed.wants == "answer"
    assert parsed.request.extensions == {"keep_alive": 0}


@both
def test_what_is_wrong_is_refused_also_where_nothing_is_asked(parse: Parse) -> None:
    with pytest.raises(InvalidRequest):
        parse(None, options={"temperature": "hot"})
