import json
import math
import random
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.jsonio import Json
from gateway.core.messages import Timings, Usage
from gateway.scheduling.estimate import (
    CONFIDENT_AFTER,
    KNOWN_MAX,
    CostModel,
    Priors,
    Work,
)

UPSTREAM: Final = "box"
MODEL: Final = "llama"


class Box:
    """An engine whose rates are known, and a cost model that watches it.

    Answers run to their caps, as with short caps they do.
    """

    def __init__(
        self,
        *,
        reads_per_s: float = 60.0,
        writes_per_s: float = 7.5,
        tells: bool = True,
        tells_cached: bool = False,
        seed: int = 1,
    ) -> None:
        self.costs = CostModel()
        self.rng = random.Random(seed)
        self._reads_per_s = reads_per_s
        self._writes_per_s = writes_per_s
        self._tells = tells
        self._tells_cached = tells_cached

    def work(self) -> Work:
        return Work(
            prompt_chars=self.rng.randint(100, 1500),
            messages=self.rng.randint(1, 4),
            cached_chars=0,
            max_tokens=self.rng.randint(8, 32),
        )

    def takes_s(self, work: Work) -> float:
        return self._read_s(work) + self._write_s(work) + 0.01

    def runs(self, work: Work, *, slower: float = 1.0, cached: int | None = None) -> None:
        """One request, and what the engine tells of it."""
        timings = Timings(
            load_s=0.03,
            prefill_s=self._read_s(work) * slower,
            decode_s=self._write_s(work) * slower,
        )
        self.costs.observe(
            UPSTREAM,
            MODEL,
            work,
            concurrency=1,
            usage=Usage(
                prompt=self._tokens(work), completion=work.max_tokens * work.answers, cached=cached
            ),
            timings=timings if self._tells else Timings(),
            capped=True,
            seen_s=self.takes_s(work) * slower,
        )

    def price_s(self, work: Work) -> float:
        return self.costs.price(UPSTREAM, MODEL, work, concurrency=1).service_s

    def errors(self, requests: int) -> Iterator[float]:
        """Price over truth of one request after the other, each learned from afterwards."""
        for _ in range(requests):
            work = self.work()
            yield self.price_s(work) / self.takes_s(work)
            self.runs(work)

    def _tokens(self, work: Work) -> int:
        return round(work.prompt_chars / 4 + 4 * work.messages)

    def _read_s(self, work: Work) -> float:
        fresh = 1.0 - work.cached_chars / work.prompt_chars
        return self._tokens(work) * fresh / self._reads_per_s

    def _write_s(self, work: Work) -> float:
        return work.max_tokens * work.answers / self._writes_per_s


def work(
    prompt_chars: int = 400, cached_chars: int = 0, max_tokens: int = 32, answers: int = 1
) -> Work:
    return Work(prompt_chars, 2, cached_chars, max_tokens, answers)


# --- Prices ---------------------------------------------------------------------


def test_before_anything_was_seen_the_stated_priors_hold() -> None:
    cost = CostModel().price(UPSTREAM, MODEL, work(), concurrency=1)
    assert cost.prompt_tokens == 108
    assert cost.prefill_s == pytest.approx(108 / 60 + 0.02)
    assert 0.7 * 32 / 7.5 < cost.decode_s < 32 / 7.5
    assert cost.spread_s > 0.2 * cost.service_s
    assert CostModel().load_s(UPSTREAM, MODEL) == 5.0


def test_what_a_slot_holds_already_is_not_paid_for() -> None:
    costs = CostModel()
    whole = costs.price(UPSTREAM, MODEL, work(1000), concurrency=1)
    half = costs.price(UPSTREAM, MODEL, work(1000, 500), concurrency=1)
    held = costs.price(UPSTREAM, MODEL, work(1000, 1000), concurrency=1)
    overhead_s = Priors().overhead_s
    assert half.prefill_s - overhead_s == pytest.approx((whole.prefill_s - overhead_s) / 2)
    assert held.prefill_s == pytest.approx(overhead_s)
    assert half.prompt_tokens == whole.prompt_tokens
    assert half.decode_s == whole.decode_s


def test_each_further_answer_is_written_and_the_prompt_read_once() -> None:
    costs = CostModel()
    one = costs.price(UPSTREAM, MODEL, work(), concurrency=1)
    four = costs.price(UPSTREAM, MODEL, work(answers=4), concurrency=1)
    assert four.prefill_s == one.prefill_s
    assert four.decode_s == pytest.approx(4 * one.decode_s)


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("faster", [0.5, 1.0, 2.0])
def test_priors_wrong_by_two_are_corrected_by_five_requests(faster: float, tells: bool) -> None:
    box = Box(reads_per_s=60.0 * faster, writes_per_s=7.5 * faster, tells=tells)
    errors = list(box.errors(100))
    assert errors[5:10] == pytest.approx([1.0] * 5, abs=0.05)
    assert errors[10:] == pytest.approx([1.0] * 90, abs=0.02)


def test_reading_twice_as_slow_and_writing_twice_as_fast_is_told_apart() -> None:
    errors = list(Box(reads_per_s=30.0, writes_per_s=15.0).errors(100))
    assert errors[5:10] == pytest.approx([1.0] * 5, abs=0.05)
    assert errors[10:] == pytest.approx([1.0] * 90, abs=0.02)


def test_where_an_engine_tells_no_timings_reading_and_writing_come_apart_with_time() -> None:
    box = Box(reads_per_s=30.0, writes_per_s=15.0, tells=False)
    errors = list(box.errors(400))
    late = [abs(error - 1.0) for error in errors[300:]]
    assert sum(late) / len(late) < 0.05


def test_a_steady_box_is_soon_priced_exactly() -> None:
    box = Box()
    for _ in box.errors(60):
        pass
    cost = box.costs.price(UPSTREAM, MODEL, work(), concurrency=1)
    assert cost.spread_s < 0.02 * cost.service_s


@pytest.mark.parametrize("before", [1, 5, 50])
@pytest.mark.parametrize("slower", [0.01, 100.0])
def test_one_request_while_the_box_swapped_moves_no_price_by_more_than_two(
    before: int, slower: float
) -> None:
    box = Box()
    for _ in range(before):
        box.runs(work())
    was_s = box.price_s(work())
    box.runs(work(), slower=slower)
    assert 0.45 * was_s < box.price_s(work()) < 2.2 * was_s


def test_a_load_is_learned_and_what_was_loaded_before_is_none() -> None:
    box = Box()
    for _ in range(5):
        box.runs(work())
    assert box.costs.load_s(UPSTREAM, MODEL) == 5.0
    for _ in range(8):
        box.costs.loaded(UPSTREAM, MODEL, 9.0)
    assert box.costs.load_s(UPSTREAM, MODEL) == pytest.approx(9.0, rel=0.05)
    assert box.costs.load_s("other", MODEL) == 5.0


def test_a_load_inside_a_request_makes_nothing_else_dearer() -> None:
    box = Box()
    for _ in range(20):
        box.runs(work())
    was_s = box.price_s(work())
    for _ in range(5):
        box.costs.observe(
            UPSTREAM,
            MODEL,
            work(),
            concurrency=1,
            usage=Usage(prompt=108, completion=32),
            timings=Timings(load_s=3.0, prefill_s=108 / 60, decode_s=32 / 7.5),
            capped=True,
            seen_s=3.01 + 108 / 60 + 32 / 7.5,
        )
    assert box.price_s(work()) == pytest.approx(was_s, rel=0.01)
    assert box.costs.load_s(UPSTREAM, MODEL) == pytest.approx(3.0, rel=0.1)


def test_what_each_request_costs_besides_is_learned() -> None:
    box = Box()
    for _ in range(60):
        box.costs.observe(
            UPSTREAM,
            MODEL,
            work(),
            concurrency=1,
            usage=Usage(prompt=108, completion=32),
            timings=Timings(prefill_s=108 / 60, decode_s=32 / 7.5),
            capped=True,
            seen_s=0.3 + 108 / 60 + 32 / 7.5,
        )
    assert box.price_s(work()) == pytest.approx(0.3 + 108 / 60 + 32 / 7.5, rel=0.01)


def test_a_queue_inside_the_engine_is_no_cost_of_a_request() -> None:
    box = Box()
    for _ in range(20):
        box.runs(work())
    was_s = box.price_s(work())
    for _ in range(10):
        box.costs.observe(
            UPSTREAM,
            MODEL,
            work(),
            concurrency=1,
            usage=Usage(prompt=108, completion=32),
            timings=Timings(prefill_s=108 / 60, decode_s=32 / 7.5),
            capped=True,
            seen_s=40.0,
        )
    assert box.price_s(work()) == pytest.approx(was_s, rel=0.01)


def test_an_engine_that_tells_more_time_than_there_was_is_not_believed() -> None:
    box = Box()
    for _ in range(20):
        box.costs.observe(
            UPSTREAM,
            MODEL,
            work(),
            concurrency=1,
            usage=Usage(prompt=108, completion=32),
            timings=Timings(prefill_s=1800.0, decode_s=4270.0),
            capped=True,
            seen_s=6.0,
        )
    assert box.price_s(work()) == pytest.approx(6.0, rel=0.05)


def test_what_the_engine_found_in_its_cache_was_not_read() -> None:
    told = Box()
    for _ in range(10):
        told.runs(work(2000, 1500), cached=381)
    told_each_s = told.price_s(work(2000)) - told.price_s(work(2000, 1999))
    assert told_each_s == pytest.approx(508 / 60, rel=0.02)


def test_where_the_engine_is_silent_our_idea_of_its_cache_may_be_wrong() -> None:
    box = Box()
    for _ in range(10):
        box.runs(work(2000))
    was_s = box.price_s(work(2000))
    for _ in range(10):
        # We take 90 % for cached, and all is read.
        box.costs.observe(
            UPSTREAM,
            MODEL,
            work(2000, 1800),
            concurrency=1,
            usage=Usage(prompt=508, completion=32),
            timings=Timings(prefill_s=508 / 60, decode_s=32 / 7.5),
            capped=True,
            seen_s=508 / 60 + 32 / 7.5,
        )
    assert box.price_s(work(2000)) == pytest.approx(was_s, rel=0.02)


def test_an_engine_that_leaves_out_zeros_read_all_where_it_says_nothing() -> None:
    box = Box()
    box.runs(work(2000, 1500), cached=381)
    for _ in range(10):
        box.costs.observe(
            UPSTREAM,
            MODEL,
            work(2000, 1800),
            concurrency=1,
            usage=Usage(prompt=508, completion=32),
            timings=Timings(prefill_s=508 / 20, decode_s=32 / 7.5),
            capped=True,
            seen_s=508 / 20 + 32 / 7.5,
        )
    fresh_s = box.price_s(work(2000)) - box.price_s(work(2000, 1999))
    assert fresh_s == pytest.approx(508 / 20, rel=0.05)


def test_several_answers_teach_the_rates_of_one() -> None:
    box = Box(writes_per_s=15.0)
    for _ in range(10):
        box.runs(work(answers=3))
    assert box.price_s(work()) == pytest.approx(box.takes_s(work()), rel=0.02)


def test_one_token_says_nothing_of_how_fast_many_are_written() -> None:
    box = Box()
    was_s = box.price_s(work())
    for _ in range(20):
        box.costs.observe(
            UPSTREAM,
            MODEL,
            work(max_tokens=1),
            concurrency=1,
            usage=Usage(prompt=108, completion=1),
            timings=Timings(prefill_s=108 / 60, decode_s=1e-5),
            capped=True,
            seen_s=108 / 60,
        )
    assert box.price_s(work()) == pytest.approx(was_s, rel=0.2)


def test_lengths_and_texts_are_a_models_wherever_it_runs_and_rates_are_not() -> None:
    box = Box(writes_per_s=15.0)
    for _ in range(30):
        box.runs(work(max_tokens=2000))
    there = box.costs.price("other", MODEL, work(max_tokens=2000), concurrency=1)
    assert there.decode_s == pytest.approx(2000 / 7.5, rel=0.02)
    unknown = box.costs.price(UPSTREAM, "other", work(max_tokens=2000), concurrency=1)
    assert unknown.decode_s < 20.0


def test_a_refusal_may_rest_on_what_was_seen_often_enough() -> None:
    box = Box()
    for _ in range(CONFIDENT_AFTER):
        assert not box.costs.confident(UPSTREAM, MODEL)
        box.runs(work())
    assert box.costs.confident(UPSTREAM, MODEL)
    assert not box.costs.confident("other", MODEL)


def test_what_answered_longest_ago_is_forgotten_for_what_is_new() -> None:
    costs = CostModel()

    def runs(model: str) -> None:
        costs.observe(
            UPSTREAM,
            model,
            work(),
            concurrency=1,
            usage=Usage(prompt=108, completion=32),
            timings=Timings(prefill_s=1.0, decode_s=1.0),
            capped=True,
            seen_s=2.0,
        )

    for number in range(2 * KNOWN_MAX):
        runs("kept")
        runs(f"model-{number}")
    document = costs.to_document()
    assert len(document["models"]) == len(document["pairs"]) == KNOWN_MAX
    known = {each["model"] for each in document["models"]}
    assert {"kept", f"model-{2 * KNOWN_MAX - 1}"} <= known
    assert "model-0" not in known


# --- Whatever comes -----------------------------------------------------------------

counts = st.integers(0, 2**53)
told_s = st.none() | st.floats(0.0, 1e9)
works = st.builds(
    Work,
    prompt_chars=st.integers(0, 10**7),
    messages=st.integers(0, 2048),
    cached_chars=st.integers(0, 10**7),
    max_tokens=st.integers(1, 10**6),
    answers=st.integers(1, 128),
)
observations = st.lists(
    st.fixed_dictionaries(
        {
            "work": works,
            "concurrency": st.integers(1, 200),
            "usage": st.builds(Usage, counts, counts, st.none() | counts),
            "timings": st.builds(Timings, told_s, told_s, told_s, told_s),
            "capped": st.booleans(),
            "seen_s": st.floats(0.0, 1e6),
        }
    ),
    max_size=12,
)


def taught(seen: list[dict[str, Json]]) -> CostModel:
    costs = CostModel()
    for each in seen:
        costs.observe(UPSTREAM, MODEL, **each)
    return costs


@pytest.mark.slow
@given(observations, works, st.integers(1, 200))
def test_whatever_an_engine_tells_prices_are_finite_and_no_less_than_nothing(
    seen: list[dict[str, Json]], wanted: Work, concurrency: int
) -> None:
    costs = taught(seen)
    cost = costs.price(UPSTREAM, MODEL, wanted, concurrency=concurrency)
    for seconds in (cost.prefill_s, cost.decode_s, cost.spread_s):
        assert 0.0 <= seconds < math.inf
    assert cost.prompt_tokens >= 0
    assert 0.0 < costs.load_s(UPSTREAM, MODEL) < math.inf


@pytest.mark.slow
@given(observations, works, st.integers(0, 10**6), st.integers(0, 10**5))
def test_a_longer_prompt_and_a_higher_cap_are_never_cheaper(
    seen: list[dict[str, Json]], wanted: Work, more_chars: int, more_tokens: int
) -> None:
    costs = taught(seen)
    more = Work(
        wanted.prompt_chars + more_chars,
        wanted.messages,
        wanted.cached_chars,
        wanted.max_tokens + more_tokens,
        wanted.answers,
    )
    less_cost = costs.price(UPSTREAM, MODEL, wanted, concurrency=1)
    more_cost = costs.price(UPSTREAM, MODEL, more, concurrency=1)
    assert more_cost.prefill_s >= less_cost.prefill_s * (1 - 1e-12)
    assert more_cost.decode_s >= less_cost.decode_s * (1 - 1e-12)
    assert more_cost.prompt_tokens >= less_cost.prompt_tokens


# --- Over a restart -----------------------------------------------------------------


@pytest.mark.slow
@given(observations, works, st.integers(1, 64))
def test_what_is_remembered_prices_the_same(
    seen: list[dict[str, Json]], wanted: Work, concurrency: int
) -> None:
    costs, again = taught(seen), CostModel()
    again.restore(json.loads(json.dumps(costs.to_document())))
    before = costs.price(UPSTREAM, MODEL, wanted, concurrency=concurrency)
    after = again.price(UPSTREAM, MODEL, wanted, concurrency=concurrency)
    assert after.prefill_s == pytest.approx(before.prefill_s, rel=1e-9)
    assert after.decode_s == pytest.approx(before.decode_s, rel=1e-9)
    assert after.spread_s == pytest.approx(before.spread_s, rel=1e-3, abs=1e-3)
    assert again.load_s(UPSTREAM, MODEL) == costs.load_s(UPSTREAM, MODEL)
    assert again.confident(UPSTREAM, MODEL) == costs.confident(UPSTREAM, MODEL)


documents = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def assert_sane(costs: CostModel) -> None:
    for _ in range(3):
        cost = costs.price(UPSTREAM, MODEL, work(), concurrency=2)
        assert all(0.0 <= each < 1e12 for each in (cost.service_s, cost.spread_s))
        assert costs.load_s(UPSTREAM, MODEL) >= 0.0
        costs.observe(
            UPSTREAM,
            MODEL,
            work(),
            concurrency=2,
            usage=Usage(prompt=108, completion=32),
            timings=Timings(prefill_s=1.0, decode_s=1.0),
            capped=False,
            seen_s=2.0,
        )


@pytest.mark.slow
@given(documents)
def test_a_document_of_any_shape_is_refused_and_changes_nothing(document: Json) -> None:
    costs = taught([])
    with pytest.raises(ValueError, match=r"."):
        costs.restore(document)
    assert costs.price(UPSTREAM, MODEL, work(), concurrency=1) == CostModel().price(
        UPSTREAM, MODEL, work(), concurrency=1
    )


def _places(document: Json, path: tuple[Json, ...] = ()) -> Iterator[tuple[Json, ...]]:
    """Where a document could be different: the path to every value in it."""
    if path:
        yield path
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _places(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _places(value, (*path, index))


def _good_document() -> Json:
    costs = taught([])
    for concurrency in (1, 4):
        for capped in (True, False):
            costs.observe(
                UPSTREAM,
                MODEL,
                work(),
                concurrency=concurrency,
                usage=Usage(prompt=108, completion=32),
                timings=Timings(load_s=1.0, prefill_s=1.0, decode_s=1.0),
                capped=capped,
                seen_s=3.1,
            )
    return costs.to_document()


PLACES: Final = sorted(_places(_good_document()), key=repr)


@given(
    st.sampled_from(PLACES),
    st.sampled_from([math.nan, math.inf, -1, 1e12, 1e300, 10**400, -0.0, 1e-300, "1", None, True])
    | documents,
)
def test_one_wrong_value_is_refused_or_does_no_harm(path: tuple[Json, ...], value: Json) -> None:
    document = parent = _good_document()
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    costs = CostModel()
    try:
        costs.restore(document)
    except ValueError:
        return
    assert_sane(costs)


def test_more_than_can_be_known_is_refused() -> None:
    document = _good_document()
    document["pairs"] *= KNOWN_MAX + 1
    with pytest.raises(ValueError, match="64"):
        CostModel().restore(document)


def test_a_prompt_is_as_long_as_others_of_its_kind_were() -> None:
    costs = CostModel()
    assert costs.prompt_tokens(MODEL, chars=4000, messages=1) == pytest.approx(1000, rel=0.1)
    for chars in (400, 900, 1600, 2500):
        work = Work(prompt_chars=chars, messages=1, cached_chars=0, max_tokens=1)
        usage = Usage(prompt=chars // 2 + 10, completion=1)
        costs.observe(
            UPSTREAM,
            MODEL,
            work,
            concurrency=1,
            usage=usage,
            timings=Timings(),
            capped=True,
            seen_s=1.0,
        )
    assert costs.prompt_tokens(MODEL, chars=4000, messages=1) == pytest.approx(2010, rel=0.1)
    assert costs.prompt_tokens("other", chars=4000, messages=1) < 1200


def test_no_prompt_is_without_tokens() -> None:
    assert CostModel().prompt_tokens(MODEL, chars=0, messages=0) == 1
