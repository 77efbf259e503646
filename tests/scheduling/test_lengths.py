import math
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.scheduling.lengths import (
    EDGES,
    LENGTH_MAX,
    MOST,
    TAIL,
    AnswerLengths,
    Bin,
    LengthSums,
)

caps = st.integers(0, 2 * LENGTH_MAX)
answers = st.lists(st.tuples(st.integers(1, 2 * LENGTH_MAX), st.booleans()), max_size=40)


def taught(*seen: tuple[int, bool]) -> AnswerLengths:
    lengths = AnswerLengths(100.0)
    for length, capped in seen:
        lengths.observe(length, capped=capped)
    return lengths


def spread(lengths: AnswerLengths, cap: int) -> float:
    return math.sqrt(lengths.moments(cap)[1])


def test_bins_follow_each_other_without_a_gap_and_are_narrow() -> None:
    assert EDGES[0] == 0
    assert EDGES[-1] == LENGTH_MAX
    assert all(0 < end - start <= max(1, 0.2 * start) for start, end in pairwise(EDGES))


def test_before_anything_was_seen_the_prior_holds() -> None:
    lengths = AnswerLengths(100.0)
    assert lengths.moments(LENGTH_MAX)[0] == pytest.approx(100.0, rel=0.03)
    assert lengths.moments(10)[0] == pytest.approx(9.4, abs=0.2)
    assert lengths.moments(1) == (1.0, 0.0)
    assert lengths.moments(0) == (0.0, 0.0)


def test_when_all_run_to_their_caps_a_price_is_the_cap() -> None:
    rng = random.Random(1)
    lengths = AnswerLengths(100.0)
    for _ in range(10):
        lengths.observe(rng.randint(8, 32), capped=True)
    for cap in range(8, 33):
        assert lengths.moments(cap)[0] == pytest.approx(cap, rel=0.015)
        assert spread(lengths, cap) <= 0.1 * cap
    for _ in range(90):
        lengths.observe(rng.randint(8, 32), capped=True)
    for cap in range(8, 33):
        assert lengths.moments(cap)[0] == pytest.approx(cap, rel=0.003)
        assert spread(lengths, cap) <= 0.02 * cap


def test_beyond_the_caps_that_were_seen_the_prior_has_the_word() -> None:
    lengths = taught(*[(32, True)] * 20)
    prior = AnswerLengths(100.0)
    assert lengths.moments(32)[0] > 31.8
    assert lengths.moments(64)[0] < 60.0
    assert spread(lengths, 64) > 5.0
    gone_on = prior.moments(2048)[0] - prior.moments(32)[0]
    assert lengths.moments(2048)[0] - lengths.moments(32)[0] > gone_on


def test_a_cut_answer_says_more_than_its_length() -> None:
    assert taught(*[(32, True)] * 5).moments(2048)[0] > 100.0
    assert taught(*[(32, False)] * 5).moments(2048)[0] < 60.0


def test_the_last_seen_ends_alone_do_not_deny_a_longer_answer() -> None:
    lengths = taught(*[(length, False) for length in (20, 25, 30, 40, 60)])
    assert lengths.moments(2048)[0] > 40.0
    assert spread(lengths, 2048) > 20.0


def test_answers_of_one_length_are_expected_at_it() -> None:
    lengths = taught(*[(40, False)] * 60)
    assert lengths.moments(2048)[0] == pytest.approx(40.0, rel=0.1)
    assert spread(lengths, 2048) < 12.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cap", [100, 400, 2048])
def test_heavy_tails_are_learned_although_many_were_cut(seed: int, cap: int) -> None:
    rng = random.Random(seed)

    def draw() -> int:
        return max(1, round(rng.lognormvariate(math.log(90.0), 1.0)))

    lengths = AnswerLengths(100.0)
    for _ in range(200):
        length, own_cap = draw(), rng.choice((50, 200, 2048))
        lengths.observe(min(length, own_cap), capped=length >= own_cap)
    sample = [min(draw(), cap) for _ in range(20_000)]
    mean = sum(sample) / len(sample)
    deviation = math.sqrt(sum((length - mean) ** 2 for length in sample) / len(sample))
    # What can be known of a heavy tail from the last 64 or so.
    allowed = 2.5 * deviation / math.sqrt(64)
    assert lengths.moments(cap)[0] == pytest.approx(mean, abs=allowed)
    assert 0.5 * deviation < spread(lengths, cap) < 2.0 * deviation


def test_what_is_new_outweighs_what_is_old() -> None:
    lengths = taught(*[(400, False)] * 200, *[(20, False)] * 200)
    assert lengths.moments(2048)[0] < 40.0


def test_a_long_life_loses_no_precision() -> None:
    lengths = taught(*[(20, True)] * 3000)
    assert lengths.moments(20)[0] == pytest.approx(20.0, rel=1e-3)


def test_quantiles_are_those_of_the_answers() -> None:
    rng = random.Random(3)
    lengths = taught(*[(rng.randint(1, 200), False) for _ in range(400)])
    assert lengths.quantile(0.1, 2048) == pytest.approx(20, abs=15)
    assert lengths.quantile(0.5, 2048) == pytest.approx(100, abs=30)
    assert lengths.quantile(0.9, 2048) == pytest.approx(180, abs=25)
    assert lengths.quantile(0.5, 30) == 30
    assert lengths.quantile(1.0, 2048) == 2048


@given(answers, caps, caps)
def test_moments_are_those_of_lengths_up_to_the_cap(
    seen: list[tuple[int, bool]], cap: int, other: int
) -> None:
    lengths = taught(*seen)
    low, high = min(cap, other), max(cap, other)
    mean, variance = lengths.moments(high)
    assert 0.0 <= lengths.moments(low)[0] <= mean <= high
    assert 0.0 <= variance <= high * high / 4 + 1e-3
    assert low == 0 or lengths.moments(low)[0] >= min(low, 1) - 1e-9


@given(answers, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(1, LENGTH_MAX))
def test_quantiles_rise_and_end_at_the_cap(
    seen: list[tuple[int, bool]], share: float, other: float, cap: int
) -> None:
    lengths = taught(*seen)
    low, high = min(share, other), max(share, other)
    assert 1 <= lengths.quantile(low, cap) <= lengths.quantile(high, cap) <= cap


@given(answers, st.integers(1, 200))
@example([(1, False), (1, False)], 151)
def test_the_moments_are_the_sums_over_each_single_length(
    seen: list[tuple[int, bool]], cap: int
) -> None:
    lengths = taught(*seen)
    means = [lengths.moments(each)[0] for each in range(cap + 1)]
    alive = [after - before for before, after in pairwise(means)]
    assert all(after <= before + 1e-9 for before, after in pairwise(alive))
    # The variance leaves out what was hardly ever seen.
    usual = min(cap, TAIL * lengths.quantile(MOST, cap))
    square = sum((2 * length + 1) * part for length, part in enumerate(alive[:usual]))
    _, variance = lengths.moments(cap)
    assert variance == pytest.approx(square - means[usual] ** 2, abs=1e-6 * cap * cap)


@given(answers, caps)
def test_what_is_remembered_says_the_same(seen: list[tuple[int, bool]], cap: int) -> None:
    lengths, again = taught(*seen), AnswerLengths(100.0)
    document = msgspec.to_builtins(lengths.state())
    again.restore(msgspec.convert(document, LengthSums))
    assert again.moments(cap) == pytest.approx(lengths.moments(cap), rel=1e-9, abs=1e-6)
    assert again.count == lengths.count


def test_bins_of_another_make_are_refused() -> None:
    with pytest.raises(ValueError, match="11"):
        AnswerLengths(100.0).restore(LengthSums(count=1, bins=[Bin(start=11)]))
