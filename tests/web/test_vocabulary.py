from collections.abc import Sequence

import attrs
import pytest

from gateway.config.schema import ModelSettings
from gateway.core.errors import (
    ModelNotAllowed,
    NotSupported,
    UnsupportedParameter,
    UpstreamFailed,
)
from gateway.core.messages import GenerateRequest, Message, Prompt, Role
from gateway.core.ticket import ANONYMOUS, Caller
from gateway.core.tokens import Spelling, Tokens
from gateway.pool.asking import Asker
from gateway.pool.catalogue import Catalogue
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream
from gateway.web.vocabulary import Count, Vocabulary
from tests.engines import ScriptedEngine, upstream
from tests.fakes import ManualClock

CHAT = GenerateRequest(model="m", messages=(Message(Role.USER, "one two"),))
TEXT = GenerateRequest(model="m", prompts=(Prompt("one two"),))


class Words:
    """A tokenizer that remembers what it was asked."""

    def __init__(self, broken: bool = False) -> None:
        self.requests: list[GenerateRequest] = []
        self.broken = broken

    async def count(self, request: GenerateRequest) -> int:
        self.requests.append(request)
        if self.broken:
            raise UpstreamFailed("x")
        return sum(len(message.text.split()) for message in request.messages)

    async def tokenize(self, request: GenerateRequest, spelling: Spelling) -> Tokens:
        self.requests.append(request)
        return Tokens([7])

    async def detokenize(self, model: str, ids: Sequence[int]) -> str:
        return f"{model}: {list(ids)}"


def vocabulary(*tokenizers: Words | None, strict_params: bool = False) -> Vocabulary:
    """One upstream for each, and the alias `a` for their model."""
    upstreams = []
    for number, tokenizer in enumerate(tokenizers):
        engine = ScriptedEngine()
        engine.tokenizer = tokenizer
        upstreams.append(upstream(f"u{number}", engine=engine))
    settings = {"a": ModelSettings(target="m", system="You are brief.")}
    pool = Pool(upstreams=upstreams, catalogue=Catalogue(settings, default_model="m"))

    async def refresh() -> None: ...

    def estimate(request: GenerateRequest, upstream: Upstream) -> int:
        assert request.model == "m"
        return 1000 + len(request.messages)

    return Vocabulary(
        pool=pool,
        asker=Asker(pool=pool, clock=ManualClock(), refresh_models=refresh),
        estimate=estimate,
        strict_params=strict_params,
    )


async def test_an_engine_that_tells_is_asked() -> None:
    assert await vocabulary(Words()).count(CHAT) == Count(2)


async def test_where_no_engine_tells_it_is_an_estimate_and_says_so() -> None:
    assert await vocabulary(None).count(CHAT) == Count(1001, estimated=True)


async def test_one_of_several_engines_that_tells_will_do() -> None:
    assert await vocabulary(None, Words()).count(CHAT) == Count(2)


async def test_what_broke_is_not_glossed_over_by_an_estimate() -> None:
    with pytest.raises(UpstreamFailed):
        await vocabulary(None, Words(broken=True)).count(CHAT)


async def test_what_an_alias_adds_to_the_prompt_counts() -> None:
    words = Words()
    request = GenerateRequest(model="a", messages=CHAT.messages)
    assert await vocabulary(words).count(request) == Count(5)
    assert words.requests[0].model == "m"


async def test_the_default_model_has_a_vocabulary() -> None:
    words = Words()
    found = vocabulary(words)
    assert await found.tokenize(
        GenerateRequest(model="default", prompts=TEXT.prompts), Spelling()
    ) == (Tokens([7]), None)
    assert words.requests[0].model == "m"
    assert await found.detokenize("a", [1, 2]) == "m: [1, 2]"


async def test_where_no_engine_tells_nothing_is_made_up() -> None:
    found = vocabulary(None)
    with pytest.raises(NotSupported):
        await found.tokenize(TEXT, Spelling())
    with pytest.raises(NotSupported):
        await found.detokenize("m", [1])


@attrs.frozen
class Asks:
    """A body as its dialect has read it."""

    request: GenerateRequest = TEXT
    ignored: tuple[str, ...] = ()


def test_what_was_ignored_is_refused_in_strict_mode_alone() -> None:
    vocabulary(Words()).check(Asks(ignored=("foo",)), ANONYMOUS)
    strict = vocabulary(Words(), strict_params=True)
    strict.check(Asks(), ANONYMOUS)
    with pytest.raises(UnsupportedParameter) as caught:
        strict.check(Asks(ignored=("foo", "bar")), ANONYMOUS)
    assert caught.value.param == "foo"


def test_nobody_learns_the_vocabulary_of_a_model_that_is_not_for_them() -> None:
    caller = Caller(name="one", models=frozenset({"other"}))
    with pytest.raises(ModelNotAllowed):
        vocabulary(Words()).check(Asks(), caller)
