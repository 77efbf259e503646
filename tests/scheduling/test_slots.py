import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.messages import Timings
from gateway.scheduling.slots import (
    BACKOFF_S,
    BACKOFF_S_MAX,
    MODELS_MAX,
    PAUSE_S,
    SAMPLES_MAX,
    SAMPLES_MIN,
    SLACK_TO_BEGIN,
    Occupancy,
    SlotLearner,
    ladder,
)
from tests.scheduling.simulated_engine import Engine, Job, arrivals, crowd, p95_s, run

GROWING = (1.0, 1.8, 2.4, 2.9, 3.2)
"""Together over alone: a processor that has some room beside one request."""

P95_GROWTH_MAX = 1.05
"""By how much the trials may lengthen the 95th percentile of an hour."""

PLENTY_S = 1e9


class Ward:
    """A learner that is told of one answer after the other, each of four seconds of work."""

    def __init__(self, slots_max: int = 8) -> None:
        self.learner = SlotLearner(slots_max=slots_max)
        self.now = 0.0

    def answers(
        self,
        count: int = SAMPLES_MIN,
        *,
        at: float,
        together: float = 1.0,
        hidden_s: float = 0.0,
        load_s: float = 0.0,
        model: str = "m",
    ) -> None:
        """So many answers, `at` at once, which together are so many times as fast as one."""
        seen_s = load_s + 4.0 + hidden_s
        for _ in range(count):
            self.now += seen_s
            self.learner.observe(
                model,
                concurrency=at,
                timings=Timings(
                    total_s=seen_s,
                    load_s=load_s,
                    prefill_s=1.0,
                    decode_s=3.0,
                ),
                tokens=round(1000 * together / at),
                seen_s=seen_s,
                now=self.now,
            )

    def review(self, *, waiting: int = 1, slack_s: float = PLENTY_S) -> int:
        return self.learner.review(waiting, slack_s, self.now)

    def climb(self, to: int) -> None:
        """Pass every level up to this one."""
        self.answers(at=1)
        for slots in range(2, to + 1):
            assert self.review() == slots
            self.answers(SAMPLES_MAX, at=slots, together=slots)
            assert not self.learner.on_trial


# --- Against a simulated engine -----------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("engine", "slots"),
    [
        (Engine(parallel=1), 1),
        (Engine(parallel=2, speeds=GROWING), 2),
        (Engine(parallel=4, speeds=GROWING), 4),
        (Engine(parallel=8), 1),
        (Engine(parallel=8, speeds=(1.0, 1.8)), 2),
    ],
    ids=["one", "two", "four", "no gain", "gain of one"],
)
def test_it_finds_what_an_engine_is_good_for(
    engine: Engine, slots: int, noise: float, seed: int
) -> None:
    engine.noise = noise
    learner = SlotLearner(slots_max=8)
    dice = random.Random(seed)
    jobs = [Job(0.0, dice.uniform(0.1, 1.0), dice.randint(8, 32)) for _ in range(2500)]
    run(jobs, engine, learner, seed=seed)
    assert learner.sure_slots == slots


@pytest.mark.parametrize("parallel", [1, 4])
def test_without_a_word_from_the_engine_the_speed_of_all_together_decides(parallel: int) -> None:
    learner = SlotLearner(slots_max=8)
    run(crowd(1500), Engine(parallel=parallel, speeds=GROWING, tells="nothing"), learner)
    assert learner.sure_slots == parallel


def test_one_slot_is_known_after_a_trial_of_a_few_answers_and_tried_ever_less() -> None:
    learner = SlotLearner(slots_max=8)
    seen: list[tuple[float, bool]] = []
    run(
        crowd(5000),
        Engine(parallel=1),
        learner,
        heard=lambda now: seen.append((now, learner.on_trial)),
    )
    begun = [now for (_, before), (now, on_trial) in pairwise(seen) if on_trial and not before]
    waits_s = [after - before for before, after in pairwise(begun)]
    assert waits_s[0] >= BACKOFF_S
    assert all(long > 1.9 * short for short, long in pairwise(waits_s))
    tried_s = sum(after - before for (before, on_trial), (after, _) in pairwise(seen) if on_trial)
    assert tried_s < 0.01 * seen[-1][0]


@pytest.mark.parametrize("per_s", [0.2, 0.3, 0.35])
@pytest.mark.parametrize("engine", [Engine(parallel=1), Engine(parallel=8)], ids=["one", "no gain"])
def test_trials_do_not_lengthen_the_tail(engine: Engine, per_s: float) -> None:
    for seed in range(3):
        fixed, learned = (arrivals(per_s, 3600.0, random.Random(seed)) for _ in range(2))
        run(fixed, engine, SlotLearner(slots_max=1), seed=seed)
        run(learned, engine, SlotLearner(slots_max=8), seed=seed)
        assert p95_s(learned) <= P95_GROWTH_MAX * p95_s(fixed)


def test_where_more_at_once_pays_the_tail_is_shorter() -> None:
    fixed, learned = (arrivals(0.35, 3600.0, random.Random(1)) for _ in range(2))
    engine = Engine(parallel=4, speeds=GROWING)
    run(fixed, engine, SlotLearner(slots_max=1))
    run(learned, engine, SlotLearner(slots_max=8))
    assert p95_s(learned) < 0.7 * p95_s(fixed)


def test_where_the_engine_keeps_its_queue_to_itself_waiting_there_is_no_speed() -> None:
    learner = SlotLearner(slots_max=8)
    run(crowd(1500), Engine(parallel=1, tells="work"), learner)
    assert learner.sure_slots == 1


# --- A trial ---------------------------------------------------------------------


def test_it_begins_with_one_and_tries_another_once_that_one_is_known() -> None:
    ward = Ward()
    assert ward.review() == 1
    ward.answers(SAMPLES_MIN - 1, at=1)
    assert ward.review() == 1
    ward.answers(1, at=1)
    assert ward.review() == 2
    assert ward.learner.on_trial


def test_nothing_is_tried_while_nobody_waits_or_time_is_short() -> None:
    ward = Ward()
    ward.answers(at=1)
    assert ward.review(waiting=0) == 1
    assert ward.review(slack_s=SLACK_TO_BEGIN * 3.9) == 1
    assert not ward.learner.may_probe(1, SLACK_TO_BEGIN * 3.9, ward.now)
    assert ward.learner.may_probe(1, SLACK_TO_BEGIN * 4.0, ward.now)
    assert ward.review(slack_s=SLACK_TO_BEGIN * 4.0) == 2


def test_only_one_level_is_on_trial() -> None:
    ward = Ward()
    ward.answers(at=1)
    assert ward.review(waiting=50) == 2
    assert ward.review(waiting=50) == 2


def test_a_single_answer_that_waited_inside_ends_a_trial() -> None:
    ward = Ward()
    ward.answers(at=1)
    ward.review()
    ward.answers(1, at=2, hidden_s=31.0)
    assert ward.learner.slots == 1
    assert ward.review() == 1


def test_a_wait_for_others_that_the_engine_calls_a_load_ends_a_trial() -> None:
    ward = Ward()
    ward.answers(at=1)
    ward.review()
    ward.answers(1, at=2, load_s=2.0)
    assert ward.learner.slots == 1


def test_what_failed_is_tried_again_after_ten_minutes_then_twice_as_long_up_to_a_day() -> None:
    ward = Ward()
    ward.answers(at=1)
    backoff_s = BACKOFF_S
    for _ in range(10):
        assert ward.review() == 2
        ward.answers(1, at=2, hidden_s=31.0)
        ward.now += backoff_s - 1.0
        assert ward.review() == 1
        ward.now += 1.0
        backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
    assert backoff_s == BACKOFF_S_MAX


def test_once_passed_a_level_that_fails_begins_with_ten_minutes_again() -> None:
    ward = Ward()
    ward.answers(at=1)
    for _ in range(3):
        ward.now += BACKOFF_S_MAX
        ward.review()
        ward.answers(1, at=2, hidden_s=31.0)
    ward.now += BACKOFF_S_MAX
    ward.review()
    ward.answers(SAMPLES_MAX, at=2, together=2.0)
    ward.answers(2, at=2, hidden_s=31.0)
    ward.answers(at=1)
    ward.now += BACKOFF_S
    assert ward.review() == 2


def test_a_trial_that_leaves_too_little_time_is_broken_off_and_begins_anew_soon() -> None:
    ward = Ward()
    ward.answers(at=1)
    assert ward.review() == 2
    assert ward.review(slack_s=3.9) == 1
    ward.now += PAUSE_S - 1.0
    assert ward.review() == 1
    ward.now += 1.0
    assert ward.review() == 2


def test_a_trial_for_which_nobody_comes_is_broken_off() -> None:
    ward = Ward()
    ward.answers(at=1)
    ward.review()
    ward.now += 3600.0
    assert ward.review() == 1
    ward.now += PAUSE_S
    assert ward.review() == 2
    ward.now += 3600.0
    ward.answers(1, at=1)
    assert ward.learner.slots == 1


def test_a_gain_that_is_not_clear_after_many_answers_is_none() -> None:
    ward = Ward()
    ward.answers(at=1)
    ward.review()
    ward.answers(SAMPLES_MAX - 1, at=2, together=1.11)
    assert ward.learner.on_trial
    ward.answers(1, at=2, together=1.11)
    assert ward.learner.slots == 1


def test_a_faster_model_is_no_growth() -> None:
    ward = Ward()
    ward.answers(at=1, model="slow")
    ward.review()
    ward.answers(SAMPLES_MAX, at=2, together=10.0, model="fast")
    assert ward.learner.on_trial
    ward.answers(SAMPLES_MAX, at=2, together=1.0, model="slow")
    assert ward.learner.slots == 1


def test_answers_that_ran_alone_for_a_while_say_nothing_of_two_at_once() -> None:
    ward = Ward()
    ward.answers(at=1)
    ward.review()
    ward.answers(SAMPLES_MAX, at=1.5, together=3.0)
    assert ward.learner.on_trial


# --- A level that was passed ---------------------------------------------------------


def test_a_level_that_was_passed_stays() -> None:
    ward = Ward(slots_max=3)
    ward.climb(to=3)
    ward.answers(100, at=3, together=3)
    assert ward.review() == 3


def test_one_freak_does_not_lower_it_and_two_in_a_row_do() -> None:
    ward = Ward()
    ward.climb(to=3)
    ward.answers(1, at=3, hidden_s=31.0)
    ward.answers(1, at=3, together=3)
    ward.answers(1, at=3, hidden_s=31.0)
    assert ward.learner.slots == 3
    ward.answers(1, at=3, hidden_s=31.0)
    assert ward.learner.slots == 2


def test_answers_that_began_on_more_slots_lower_it_no_further() -> None:
    ward = Ward()
    ward.climb(to=3)
    ward.answers(2, at=3, hidden_s=31.0)
    for _ in range(4):
        ward.now -= 34.0
        ward.answers(1, at=3, hidden_s=31.0)
    assert ward.learner.slots == 2


def test_it_is_left_when_it_no_longer_pays_and_no_other_with_it() -> None:
    ward = Ward()
    ward.climb(to=3)
    ward.answers(SAMPLES_MAX, at=3, together=1.0)
    assert ward.learner.slots == 2
    # All is slower now than it was, on one slot too.
    ward.answers(3 * SAMPLES_MAX, at=2, together=0.6)
    assert ward.learner.slots == 2


def test_whoever_runs_alone_waits_for_what_is_not_our_doing() -> None:
    ward = Ward()
    ward.answers(20, at=1, hidden_s=31.0)
    assert ward.learner.slots == 1
    ward.climb(to=2)
    ward.answers(20, at=1, hidden_s=31.0)
    assert ward.learner.slots == 2


@pytest.mark.parametrize("hidden_s", [0.017, 0.09])
def test_a_few_milliseconds_are_no_queueing(hidden_s: float) -> None:
    ward = Ward()
    ward.climb(to=2)
    ward.answers(20, at=2, together=2, hidden_s=hidden_s)
    assert ward.learner.slots == 2


# --- At all times --------------------------------------------------------------------


def test_the_levels_are_so_far_apart_that_growth_can_be_seen() -> None:
    assert ladder(1) == [1]
    assert ladder(8) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ladder(32) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 27, 32]
    assert all(high >= 1.1 * low for low, high in pairwise(ladder(30)))


def test_models_are_remembered_up_to_a_bound() -> None:
    ward = Ward()
    for number in range(100):
        ward.answers(1, at=1, model=f"m{number}")
    assert len(ward.learner._levels[0].rates) == MODELS_MAX
    ward.answers(at=1, model="m99")
    assert ward.review() == 2


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 10.0),
            st.floats(0.5, 12.0),
            st.one_of(st.none(), st.floats(0.0, 60.0)),
            st.one_of(st.none(), st.floats(0.0, 60.0)),
            st.integers(0, 2000),
            st.integers(0, 3),
        ),
        max_size=200,
    )
)
def test_whatever_is_observed_it_moves_one_level_at_a_time_within_its_bounds(
    history: list[tuple[float, float, float | None, float | None, int, int]],
) -> None:
    learner = SlotLearner(slots_max=4)
    slots, now = 1, 0.0
    for step_s, concurrency, total_s, decode_s, tokens, waiting in history:
        now += step_s
        learner.observe(
            "m",
            concurrency=concurrency,
            timings=Timings(total_s=total_s, decode_s=decode_s),
            tokens=tokens,
            seen_s=step_s,
            now=now,
        )
        assert learner.slots in (slots, slots - 1)
        slots = learner.slots
        assert learner.review(waiting, PLENTY_S, now) in (slots - 1, slots, slots + 1)
        slots = learner.slots
        assert 1 <= slots <= 4


# --- How many run ---------------------------------------------------------------------


def test_concurrency_is_the_mean_over_the_life_of_a_request() -> None:
    occupancy = Occupancy()
    first = occupancy.started(10.0)
    second = occupancy.started(12.0)
    assert occupancy.mean_since(second, 2.0, 14.0) == 2.0
    occupancy.ended(14.0)
    assert occupancy.mean_since(first, 10.0, 20.0) == pytest.approx(1.2)
    occupancy.ended(20.0)
    with pytest.raises(AssertionError):
        occupancy.ended(20.0)


def test_a_request_that_took_no_time_ran_with_those_that_run() -> None:
    occupancy = Occupancy()
    slot_s = occupancy.started(1.0)
    assert occupancy.mean_since(slot_s, 0.0, 1.0) == 1.0
