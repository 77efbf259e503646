import functools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.answers import Uniform
from bench.machine import Hardware
from bench.simulate import main
from bench.simulation import oracle, outcomes
from bench.simulation.cases import CASES
from bench.simulation.clients import ONCE, SDK, Story
from bench.simulation.events import Events
from bench.simulation.policies import End, Predecessor
from bench.simulation.runs import burst, closed_loop, open_loop, service_s
from bench.simulation.traffic import Maker, Mix
from bench.simulation.world import History, PolicyName, World, run

ALIKE = Mix(lengths=Uniform(20, 20), prompt_tokens=20)
ALIKE_S = 3.0


def told(history: History) -> list[tuple[object, ...]]:
    return [
        (story.ask.name, one.sent_at, one.slot_at, one.ended_at, one.end)
        for story in history.stories
        for one in story.attempts
    ]


# --- The clock ----------------------------------------------------------------


def test_what_is_due_happens_in_its_order_and_equal_moments_in_the_order_of_asking() -> None:
    events = Events()
    seen: list[tuple[float, str]] = []

    def note(name: str) -> None:
        seen.append((events.now, name))

    for when, name in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")):
        events.at(when, functools.partial(note, name))
    events.at(1.5, lambda: seen.append((events.now, "never"))).cancel()
    events.run()
    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c"), (2.0, "d")]


def test_a_moment_that_has_passed_is_now() -> None:
    events = Events()
    seen: list[float] = []

    def late() -> None:
        events.at(1.0, lambda: seen.append(events.now))

    events.at(5.0, late)
    events.run()
    assert seen == [5.0]


# --- Runs ---------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["direct", "predecessor", "ours"])
def test_a_seed_is_one_history(policy: PolicyName) -> None:
    world = World(traffic=open_loop(Mix(noise=0.1), per_s=0.5, for_s=60.0), seed=3)
    assert told(run(world, policy)) == told(run(world, policy))


def test_all_policies_are_asked_the_same() -> None:
    world = World(traffic=burst(Mix(), SDK, count=30))
    asked = [
        [(story.ask.name, story.ask.length) for story in run(world, policy).stories]
        for policy in ("direct", "predecessor", "ours")
    ]
    assert asked[0] == asked[1] == asked[2]


def test_the_boxs_own_line_answers_as_many_as_fit_and_works_for_nobody_else() -> None:
    history = run(World(traffic=burst(ALIKE, ONCE)), "direct")
    # The twentieth would end at the very moment at which its client gives up.
    assert outcomes.ends(history.stories) == {End.WHOLE: 19, End.TIMED_OUT: 81}
    assert outcomes.in_time(history.stories) == 19


def test_the_predecessor_refuses_what_is_beyond_its_counter_and_lets_the_others_time_out() -> None:
    history = run(World(traffic=burst(ALIKE, ONCE)), "predecessor")
    ends = outcomes.ends(history.stories)
    assert ends[End.REFUSED] == 100 - Predecessor.HELD_MAX
    assert ends[End.WHOLE] == 19
    assert ends[End.TIMED_OUT] == Predecessor.HELD_MAX - 19


def test_a_client_comes_back_as_often_as_its_habits_say() -> None:
    world = World(traffic=burst(ALIKE, SDK))
    history = run(world, "predecessor")
    counts = {len(story.attempts) for story in history.stories}
    assert max(counts) == 3
    assert all(
        one.retries == number
        for story in history.stories
        for number, one in enumerate(story.attempts)
    )


def test_a_closed_loop_keeps_its_clients_busy_until_its_end() -> None:
    history = run(World(traffic=closed_loop(ALIKE, 2, for_s=60.0)), "direct")
    assert len(history.stories) == 21
    assert outcomes.goodput(history, until=60.0) == pytest.approx(1.0)


def test_ours_takes_a_minute_of_a_burst_as_the_real_thing_would() -> None:
    history = run(World(traffic=burst(ALIKE, ONCE, count=10)), check=True)
    let_in = [story for story in history.stories if story.last.accepted]
    assert let_in
    assert all(story.last.in_time for story in let_in)
    assert [story.last.slot_at for story in let_in] == pytest.approx(
        [ALIKE_S * number for number in range(len(let_in))]
    )


def test_a_conversation_that_grows_holds_its_answers() -> None:
    maker = Maker(Mix(conversations=1, grows=True, lengths=Uniform(5, 5)), random.Random(1))
    first, second = maker.make(), maker.make()
    assert second.prompt[: len(first.prompt)] == first.prompt
    assert second.prompt[len(first.prompt)] is first.reply
    history = run(World(traffic=lambda clients, _events, _dice: _in_turn(clients, [first, second])))
    assert [story.last.evaluated for story in history.stories] == [1020, 20]


def _in_turn(clients, asks) -> None:  # type: ignore[no-untyped-def]
    def next_one(_story: Story | None) -> None:
        if asks:
            clients.ask(asks.pop(0), ONCE, ended=next_one)

    next_one(None)


# --- Oracles ------------------------------------------------------------------

JOBS = st.lists(
    st.builds(
        oracle.Job,
        at=st.just(0.0),
        service_s=st.integers(1, 9).map(float),
        due_at=st.integers(1, 30).map(float),
    ),
    max_size=7,
)


def fits(jobs: list[oracle.Job]) -> bool:
    busy_s = 0.0
    for job in sorted(jobs, key=lambda job: job.due_at):
        busy_s += job.service_s
        if busy_s > job.due_at:
            return False
    return True


@given(JOBS)
def test_no_choice_does_more_in_time_than_the_oracle(jobs: list[oracle.Job]) -> None:
    best = max(
        chosen.bit_count()
        for chosen in range(1 << len(jobs))
        if fits([job for index, job in enumerate(jobs) if chosen >> index & 1])
    )
    found = oracle.most(jobs)
    assert len(found) == best
    assert fits(found)


def test_perfect_admission_leaves_out_what_would_be_late_and_no_more() -> None:
    jobs = [oracle.Job(0.0, 4.0, 10.0), oracle.Job(0.0, 7.0, 10.0), oracle.Job(1.0, 6.0, 10.0)]
    assert oracle.in_turn(jobs) == [jobs[0], jobs[2]]


def test_it_changes_as_seldom_as_the_wait_allows() -> None:
    ones = [oracle.Job(0.0, 1.0) for _ in range(4)]
    others = [oracle.Job(0.0, 1.0) for _ in range(4)]

    def fewest(wait_max_s: float) -> int | None:
        return oracle.fewest_changes(
            ones, others, change_s=1.0, wait_max_s=wait_max_s, begins_with=0
        )

    assert fewest(8.0) == 1
    assert fewest(2.0) is None


def test_it_is_never_idle_while_somebody_waits() -> None:
    # Waiting at 0 for the job of 1 would save two changes.
    ones, others = [oracle.Job(0.0, 3.0), oracle.Job(4.0, 3.0)], [oracle.Job(3.0, 3.0)]
    found = oracle.fewest_changes(ones, others, change_s=1.0, wait_max_s=60.0, begins_with=0)
    assert found == 2


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_policy_beats_perfect_admission_of_a_burst_that_is_served_in_turn(seed: int) -> None:
    world = World(traffic=burst(Mix(), ONCE, count=40), seed=seed)
    history = run(world, "direct")
    jobs = [oracle.Job(0.0, service_s(Hardware(), story.ask), 60.0) for story in history.stories]
    assert outcomes.in_time(history.stories) <= len(oracle.in_turn(jobs)) <= len(oracle.most(jobs))


# --- The command --------------------------------------------------------------


def test_the_command_prints_goal_beside_measured(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--seeds", "1", "--case", "burst"])
    printed = capsys.readouterr().out
    assert "perfect admission" in printed
    assert ">= 0.95" in printed
    assert (code == 0) == ("MISS" not in printed)


def test_the_command_plays_histories(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--histories", "5"]) == 0
    assert "5 histories in" in capsys.readouterr().out


def test_each_case_has_a_name_of_its_own() -> None:
    docs = [case.__doc__ for case in CASES.values()]
    assert None not in docs
    assert len(set(docs)) == len(CASES)
