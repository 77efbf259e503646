"""No documented parameter is dropped: it is honoured, named, or refused in words."""

from typing import Any

import attrs
import pytest

from gateway.backends.echo import EchoBackend
from gateway.core import jsonio
from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import GenerateRequest
from tests.fakes import ManualClock
from tests.parameters import (
    APIS,
    Api,
    Body,
    Documented,
    Engine,
    Judged,
    cases,
    documentation,
    engines,
    ids,
    judge,
    judge_engine,
)

EACH = pytest.mark.parametrize(("api", "base", "parameter", "value"), list(cases()), ids=ids())


@EACH
def test_no_documented_parameter_is_dropped(
    api: Api, base: Body, parameter: Documented, value: Json
) -> None:
    judged = judge(api.parse, base, parameter, value)
    assert judged.verdict != "dropped"
    assert (judged.verdict == "no-op") == (value not in parameter.values)


@EACH
def test_no_engine_drops_what_its_dialect_honours(
    api: Api, base: Body, parameter: Documented, value: Json
) -> None:
    judged = judge(api.parse, base, parameter, value)
    if judged.verdict == "honoured":
        verdicts = {engine.name: judge_engine(engine, judged) for engine in engines()}
        assert "dropped" not in verdicts.values(), verdicts


@EACH
def test_what_an_engine_can_not_honour_is_named_as_the_caller_wrote_it(
    api: Api, base: Body, parameter: Documented, value: Json
) -> None:
    judged = judge(api.parse, base, parameter, value)
    if judged.told is None:
        return
    echo = EchoBackend(clock=ManualClock())
    written = {*base, *parameter.beside, *parameter.name.split(".")}
    if parameter.name == "options" and isinstance(value, dict):
        written |= value.keys()
    request = judged.told.request
    for unsupported in (echo.unsupported, *(engine.unsupported for engine in engines())):
        names = [request.wire_names.get(name, name) for name in unsupported(request)]
        assert {name.partition(".")[0] for name in names} <= written


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.data)
def test_every_documented_parameter_is_in_the_table(api: Api) -> None:
    names = {parameter.name for parameter in documentation(api).parameters}
    tops = {name for name in names if "." not in name}
    assert tops <= api.parameters.keys()


# --- The judge itself ----------------------------------------------------------------------


@attrs.frozen
class Heard:
    request: GenerateRequest
    ignored: tuple[str, ...] = ()


def parse(body: bytes) -> Heard:
    """A dialect of one virtue and all vices."""
    document: Any = jsonio.loads(body)
    if "refused" in document:
        raise InvalidRequest("'refused' is not served.", param="refused")
    if "mumbled" in document:
        raise InvalidRequest("Something is wrong.")
    noted = frozenset(document.keys() & {"noted"})
    request = GenerateRequest(model="m", n=document.get("heard", 1), params=noted)
    return Heard(request, tuple(document.keys() & {"named"}))


def parameter(name: str) -> Documented:
    return Documented(name, "int", [2])


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("heard", "honoured"),
        ("named", "ignored"),
        ("refused", "refused"),
        ("unheard", "dropped"),
        # To be noted is not to be honoured: nothing comes of it.
        ("noted", "dropped"),
        ("unheard.inside", "dropped"),
    ],
)
def test_a_parameter_without_effect_is_found(name: str, verdict: str) -> None:
    assert judge(parse, {}, parameter(name), 2).verdict == verdict


def test_only_the_data_make_a_dropped_parameter_a_no_op() -> None:
    explained = Documented("unheard", "int", [2], [(3, "for a reason")])
    assert judge(parse, {}, explained, 3).verdict == "no-op"
    assert judge(parse, {}, explained, 2).verdict == "dropped"


def test_a_refusal_that_names_nothing_is_none() -> None:
    with pytest.raises(AssertionError):
        judge(parse, {}, parameter("mumbled"), 2)


@pytest.mark.parametrize(
    ("unsupported", "sent", "verdict"),
    [((), b"seed", "yes"), ((), b"", "dropped"), (("seed",), b"", "no"), (("seed",), b"s", "no")],
)
def test_an_engine_that_is_sent_nothing_new_is_found(
    unsupported: tuple[str, ...], sent: bytes, verdict: str
) -> None:
    plain, told = Heard(GenerateRequest(model="m")), Heard(GenerateRequest(model="m", max_tokens=1))
    engine = Engine(
        "deaf",
        lambda request: unsupported if request.max_tokens else (),
        lambda request: sent if request.max_tokens else b"",
    )
    assert judge_engine(engine, Judged("honoured", plain, told)) == verdict
