from collections.abc import Iterable

import pytest

from gateway.admission.models import listed_for, may_use, require_model, told_to
from gateway.backends.base import Probe
from gateway.config.schema import ModelSettings
from gateway.core.errors import ModelNotAllowed, ModelNotFound
from gateway.core.ticket import ANONYMOUS, Caller
from gateway.pool.catalogue import Catalogue
from gateway.pool.pool import Pool
from tests.engines import ScriptedEngine, upstream

ALIASES = {
    "small": ModelSettings(target="m"),
    "large": ModelSettings(target="n"),
    "usual": ModelSettings(target="default"),
}
CATALOGUE = Catalogue(ALIASES, default_model="m")


def of(*models: str) -> Caller:
    return Caller(name="one", models=frozenset(models))


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        ("m", "m"),
        ("m", "m:latest"),
        ("m:latest", "m"),
        ("m", "default"),
        ("default", "m"),
        ("default", "default"),
        ("small", "small"),
        ("small", "small:latest"),
    ],
)
def test_a_name_in_the_list_may_be_asked_for_however_it_is_spelled(listed: str, asked: str) -> None:
    require_model(of(listed), asked, CATALOGUE)


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        ("small", "m"),  # what an alias stands for, by its own name
        ("m", "small"),  # an alias of what is listed
        ("m", "large"),
        ("m", "usual"),
        ("usual", "default"),
        ("m", "n"),
        ("m", "M"),
        ("m", "m:1b"),
        ("m", ""),
    ],
)
def test_no_other_name_may_not_even_one_for_the_same_model(listed: str, asked: str) -> None:
    with pytest.raises(ModelNotAllowed) as caught:
        require_model(of(listed), asked, CATALOGUE)
    assert (caught.value.status, caught.value.code) == (403, "model_not_allowed")
    assert listed in caught.value.message


def test_who_has_no_list_may_ask_for_all() -> None:
    assert may_use(ANONYMOUS, "whatever", CATALOGUE)


def test_a_long_list_is_not_told_to_its_end() -> None:
    with pytest.raises(ModelNotAllowed, match=r"m0, m1, .*, …\.$"):
        require_model(of(*(f"m{number}" for number in range(9))), "x", CATALOGUE)


def names(caller: Caller, models: Iterable[str]) -> list[str]:
    engine = ScriptedEngine(models=tuple(models))
    one = upstream(engine=engine)
    one.found(Probe(models=engine.listing()))
    return [info.id for info in listed_for(caller, Pool([one], catalogue=CATALOGUE))]


def test_a_list_shows_what_may_be_asked_for() -> None:
    assert names(ANONYMOUS, ("m", "n")) == ["m", "n", "small", "large", "usual"]
    assert names(of("n", "small"), ("m", "n")) == ["n", "small"]
    assert names(of("gone"), ("m", "n")) == []


def test_that_a_model_is_missing_names_no_other_to_whom_they_are_not_for() -> None:
    error = ModelNotFound("There is no such model here. Models: m, n.", param="model")
    assert told_to(None, error) is error
    assert told_to(ANONYMOUS, error) is error
    told = told_to(of("gone"), error)
    assert (told.message, told.param) == ("There is no such model here.", "model")
