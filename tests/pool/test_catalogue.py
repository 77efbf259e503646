from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.schema import Generation, Limits, ModelOptions, ModelSettings
from gateway.config.structure import structure
from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import (
    EmbedRequest,
    GenerateRequest,
    ImagePart,
    Message,
    Prompt,
    Role,
    Sampling,
    TextPart,
)
from gateway.core.models import ModelInfo
from gateway.dialects.draft import Draft, walk
from gateway.dialects.sampling import SAMPLING
from gateway.pool.catalogue import Catalogue

HI = Message(Role.USER, "hi")
REQUEST = GenerateRequest(model="m", messages=(HI,), max_tokens=100)

sampling_values = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_k=st.none() | st.integers(-1, 100),
    seed=st.none() | st.integers(0, 9),
    stop=st.sampled_from([(), ("a",)]),
)
option_values = st.builds(
    ModelOptions,
    temperature=st.none() | st.floats(0, 2),
    top_k=st.none() | st.integers(-1, 100),
    seed=st.none() | st.integers(0, 9),
    stop=st.sampled_from([(), ("b", "c")]),
    typical_p=st.none() | st.floats(0, 1),
)


def applied(request: GenerateRequest = REQUEST, /, **settings: Any) -> GenerateRequest:
    """To the model `m`, of which this is configured."""
    catalogue = Catalogue({"m": ModelSettings(**settings)})
    return catalogue.applied(request)


# --- Names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "runs", "shown"),
    [
        ("gpt-4o-mini", "llama3.2", "gpt-4o-mini"),
        ("gpt-4o-mini:latest", "llama3.2", "gpt-4o-mini:latest"),
        ("any", "usual", "any"),
        ("default", "usual", "usual"),
        ("llama3.2", "llama3.2", "llama3.2"),
        ("llama3.2:latest", "llama3.2:latest", "llama3.2:latest"),
        ("nobody-knows", "nobody-knows", "nobody-knows"),
    ],
)
def test_a_name_means_one_model_and_is_shown_as_it_was_asked_for(
    asked: str, runs: str, shown: str
) -> None:
    settings = {
        "gpt-4o-mini": ModelSettings(target="llama3.2"),
        "any": ModelSettings(target="default"),
        "llama3.2": ModelSettings(max_tokens=5),
    }
    catalogue = Catalogue(settings, default_model="usual")
    assert catalogue.named(asked) == runs
    assert catalogue.shown(asked) == shown
    assert catalogue.applied(attrs.evolve(REQUEST, model=asked)).model == runs
    assert catalogue.applied(EmbedRequest(model=asked, inputs=("a",))).model == runs


def test_a_request_of_which_nothing_is_configured_is_left_as_it_is() -> None:
    assert Catalogue().applied(REQUEST) is REQUEST
    assert applied() == REQUEST


@pytest.mark.parametrize("asked", ["m", "m:latest", "default"])
def test_a_models_settings_hold_by_whichever_of_its_own_names(asked: str) -> None:
    catalogue = Catalogue({"m": ModelSettings(max_tokens=5)}, default_model="m")
    assert catalogue.applied(attrs.evolve(REQUEST, model=asked)).max_tokens == 5


def test_an_alias_has_its_own_settings_and_not_those_of_its_model() -> None:
    catalogue = Catalogue(
        {"a": ModelSettings(target="m", system="Be brief."), "m": ModelSettings(max_tokens=5)}
    )
    request = catalogue.applied(attrs.evolve(REQUEST, model="a"))
    assert request.max_tokens == 100
    assert request.messages[0].content == "Be brief."


# --- What the caller does not say ---------------------------------------------------


@given(asked=sampling_values, configured=option_values)
def test_who_asks_wins_and_else_the_configuration_and_else_the_model(
    asked: Sampling, configured: ModelOptions
) -> None:
    result = applied(attrs.evolve(REQUEST, sampling=asked), options=configured).sampling
    for name in ("temperature", "top_k", "seed", "stop"):
        own, usual = getattr(asked, name), getattr(configured, name)
        assert getattr(result, name) == (usual if own in (None, ()) else own)
    assert result.logit_bias is None


def test_parameters_of_one_engine_have_defaults_too() -> None:
    settings = {"options": ModelOptions(mirostat=2, repeat_last_n=8), "keep_alive": "30m"}
    assert applied(**settings).extensions == {
        "mirostat": 2,
        "repeat_last_n": 8,
        "keep_alive": "30m",
    }
    request = attrs.evolve(REQUEST, extensions={"keep_alive": "5m", "num_ctx": 512})
    assert applied(request, **settings).extensions == {
        "mirostat": 2,
        "repeat_last_n": 8,
        "keep_alive": "5m",
        "num_ctx": 512,
    }


def test_what_the_configuration_sets_was_not_asked_by_the_caller() -> None:
    request = attrs.evolve(REQUEST, params=frozenset({"top_p"}))
    settings = {"options": ModelOptions(mirostat=1, temperature=0.0), "keep_alive": "30m"}
    assert applied(request, **settings).params == {"top_p"}


@given(asked=st.none() | st.integers(1, 100), cap=st.integers(0, 100))
def test_an_answer_is_never_longer_than_the_cap_nor_than_was_asked(
    asked: int | None, cap: int
) -> None:
    result = applied(attrs.evolve(REQUEST, max_tokens=asked), max_tokens=cap).max_tokens
    bounds = {asked, cap or None} - {None}
    assert result == (min(bound for bound in bounds if bound) if bounds else None)


def test_texts_to_embed_have_what_has_a_meaning_for_them() -> None:
    settings = ModelSettings(
        keep_alive="1h", system="Be brief.", max_tokens=5, options=ModelOptions(typical_p=0.5)
    )
    catalogue = Catalogue({"m": settings})
    asked = EmbedRequest(model="m", inputs=("a",))
    assert catalogue.applied(asked) == attrs.evolve(asked, extensions={"keep_alive": "1h"})


# --- The system text ------------------------------------------------------------------


def test_the_system_text_is_said_first() -> None:
    first, second = applied(system="Be brief.").messages
    assert (first.role, first.content) == (Role.SYSTEM, "Be brief.")
    assert second is HI


def test_with_a_callers_own_it_is_one_message() -> None:
    own = Message(Role.SYSTEM, "Speak Latin.", name="x")
    request = attrs.evolve(REQUEST, messages=(own, HI))
    first, second = applied(request, system="Be brief.").messages
    assert first == attrs.evolve(own, content="Be brief.\n\nSpeak Latin.")
    assert second is HI


def test_a_callers_system_message_that_says_nothing_adds_nothing() -> None:
    request = attrs.evolve(REQUEST, messages=(Message(Role.SYSTEM, ""), HI))
    assert applied(request, system="Be brief.").messages[0].content == "Be brief."


def test_a_callers_system_message_of_parts_keeps_them() -> None:
    image = ImagePart("aGk=", "image/png")
    own = Message(Role.SYSTEM, (TextPart("Speak Latin."), image))
    request = attrs.evolve(REQUEST, messages=(own, HI))
    first, _ = applied(request, system="Be brief.").messages
    assert first.content == (TextPart("Be brief."), TextPart("Speak Latin."), image)


def test_a_system_message_in_the_middle_stays_there() -> None:
    later = Message(Role.SYSTEM, "Speak Latin.")
    request = attrs.evolve(REQUEST, messages=(HI, later))
    assert applied(request, system="Be brief.").messages[1:] == (HI, later)


def test_a_prompt_is_continued_as_it_stands() -> None:
    request = GenerateRequest(model="m", prompts=(Prompt("Once"),))
    assert applied(request, system="Be brief.") == request


# --- The list -------------------------------------------------------------------------

INSTALLED = (
    ModelInfo(id="llama3.2:latest", owned_by="library", context_length=8192),
    ModelInfo(id="qwen3:4b"),
)


def find(model: str) -> ModelInfo | None:
    """As Ollama does."""
    return next((info for info in INSTALLED if info.id in (model, f"{model}:latest")), None)


def test_an_alias_is_listed_after_the_models_as_the_model_that_it_means() -> None:
    catalogue = Catalogue(
        {"gpt-4o": ModelSettings(target="llama3.2"), "qwen3:4b": ModelSettings(max_tokens=5)}
    )
    assert catalogue.listed(INSTALLED, find) == [
        *INSTALLED,
        attrs.evolve(INSTALLED[0], id="gpt-4o", alias_of="llama3.2:latest"),
    ]


def test_an_alias_of_what_is_not_there_is_not_listed() -> None:
    catalogue = Catalogue({"gpt-4o": ModelSettings(target="llama4")})
    assert catalogue.listed(INSTALLED, find) == list(INSTALLED)


def test_a_model_whose_name_means_another_is_not_listed_beside_it() -> None:
    catalogue = Catalogue({"llama3.2": ModelSettings(target="qwen3:4b")})
    listed = {info.id: info.alias_of for info in catalogue.listed(INSTALLED, find)}
    assert listed == {"qwen3:4b": "", "llama3.2": "qwen3:4b"}


def test_a_model_is_described_by_the_name_that_was_asked_for() -> None:
    catalogue = Catalogue({"gpt-4o": ModelSettings(target="llama3.2")})
    by_alias = catalogue.described("gpt-4o", INSTALLED[0])
    assert by_alias == attrs.evolve(INSTALLED[0], id="gpt-4o", alias_of="llama3.2:latest")
    assert catalogue.described("llama3.2", INSTALLED[0]) is INSTALLED[0]


# --- What may be configured is what may be asked ----------------------------------------

ELSEWHERE = {"num_predict", "num_ctx"}
"""Have keys of their own, since they are no mere defaults."""
NOBODYS = {"tfs_z"}
"""No engine honours it any more: as a default it would be dropped without a word."""


def test_the_options_are_those_that_callers_have() -> None:
    options = {field.name for field in attrs.fields(ModelOptions)}
    assert options == set(SAMPLING) - ELSEWHERE - NOBODYS


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(ModelOptions)])
@pytest.mark.parametrize("value", [-3, -2, -1, 0, 0.5, 1, 1.5, 2, 2.5, 10, 11, 2**31, 2**63 - 1])
def test_an_option_has_the_bounds_that_it_has_for_callers(name: str, value: float) -> None:
    document: Json = {"models": {"m": {"options": {name: value}}}}
    assert isinstance(document, dict)
    _, mistakes = structure(document)
    draft = Draft(body={}, limits=Limits(), generation=Generation())
    try:
        walk(draft, SAMPLING, {name: value})
    except InvalidRequest:
        assert mistakes
    else:
        assert not mistakes
