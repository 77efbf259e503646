"""The simulated box: what takes how long, who waits for whom, and what a leaver costs."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.answers import TOKEN_CHARS, answer_text
from bench.machine import Hardware, Job, Machine, shares_s

HARDWARE = Hardware(load_s=5.0, prefill_per_s=10.0, decode_per_s=2.0)
"""A token is read in 0.1 s and written in 0.5 s."""


def job(model: str = "a", *, read: int = 10, write: int = 4, says: str = "x") -> Job:
    return Job(
        model, prompt=(says * read * TOKEN_CHARS)[: read * TOKEN_CHARS], answer="word" * write
    )


def loaded(hardware: Hardware = HARDWARE, *models: str) -> Machine:
    """A machine at 0.0 s, its models just loaded and its totals untouched."""
    machine = Machine(hardware, now=-1000.0)
    for model in models or ("a",):
        machine.submit(Job(model), machine.due_at or -1000.0)
        machine.advance(-1000.0 + 10 * (len(machine.resident) + 1))
    machine.advance(0.0)
    machine.totals = type(machine.totals)()
    return machine


def submitted(machine: Machine, at: float, *jobs: Job) -> None:
    for one in jobs:
        machine.submit(one, at)


def run_out(machine: Machine) -> float:
    """Let everything end; when the last thing did."""
    last = 0.0
    while (due_at := machine.due_at) is not None:
        last = due_at
        machine.advance(due_at)
    return last


def ends(jobs: Sequence[Job]) -> list[float]:
    assert all(one.ended_at is not None for one in jobs)
    return [round(one.ended_at or math.nan, 9) for one in jobs]


def test_a_request_alone_takes_its_load_its_prompt_and_its_answer() -> None:
    machine, one = Machine(HARDWARE), job(read=10, write=4)
    machine.submit(one, 0.0)
    run_out(machine)
    assert (one.loaded_at, one.started_at, one.decoding_at) == (5.0, 5.0, 6.0)
    assert ends([one]) == [8.0]
    assert shares_s(one) == {"total": 8.0, "load": 5.0, "prefill": 1.0, "decode": 2.0}
    assert machine.totals.busy_s == pytest.approx(8.0)


def test_everything_goes_as_many_times_as_fast_as_the_scale_says() -> None:
    machine = Machine(Hardware(load_s=5.0, prefill_per_s=10.0, decode_per_s=2.0, scale=10.0))
    one = job(read=10, write=4)
    machine.submit(one, 0.0)
    run_out(machine)
    assert ends([one]) == [0.8]


def test_what_waits_is_served_first_come_first_served() -> None:
    machine, jobs = loaded(), [job(says=says) for says in "xyz"]
    submitted(machine, 0.0, *jobs)
    assert (machine.running, machine.waiting, machine.totals.waiting_max) == (1, 2, 2)
    run_out(machine)
    assert ends(jobs) == [3.0, 6.0, 9.0]
    waited = shares_s(jobs[2])
    assert waited["total"] - waited["load"] - waited["prefill"] - waited["decode"] == 6.0


def test_however_late_it_is_told_of_the_time_nothing_is_later() -> None:
    machine, jobs = loaded(), [job(says=says) for says in "xyz"]
    submitted(machine, 0.0, *jobs)
    machine.advance(1000.0)
    assert ends(jobs) == [3.0, 6.0, 9.0]
    assert machine.totals.busy_s == pytest.approx(9.0)
    assert machine.due_at is None


def test_a_token_is_written_at_its_moment_and_told() -> None:
    told: list[float] = []
    machine, one = loaded(), job(read=10, write=3)
    one.tell = lambda: told.append(one.written)
    machine.submit(one, 0.0)
    assert machine.due_at == pytest.approx(1.0)
    for at in (1.0, 1.49, 1.5, 2.01, 2.5):
        machine.advance(at)
    assert told == [0, 1, 2, 3]
    assert one.text == "wordwordword"


def test_a_prompt_that_the_slot_holds_is_not_read_again() -> None:
    machine, first, again = loaded(), job(read=100, write=4), job(read=100, write=4)
    submitted(machine, 0.0, first, again)
    run_out(machine)
    # All but the last token, of which the first word of the answer is made.
    assert (first.evaluated, again.evaluated) == (100, 1)
    assert machine.totals.prefill_tokens == 101


def test_the_next_turn_of_a_conversation_reads_only_what_is_new() -> None:
    machine, first = loaded(), job(read=100, write=4)
    machine.submit(first, 0.0)
    run_out(machine)
    turn = Job("a", first.prompt + first.answer + "new!" * 6, "word")
    machine.submit(turn, 100.0)
    assert turn.evaluated == 6


def test_conversations_that_take_turns_on_one_slot_read_everything_each_time() -> None:
    machine = loaded()
    jobs = [job(read=50, says=says) for says in "xyxy"]
    submitted(machine, 0.0, *jobs)
    run_out(machine)
    assert [one.evaluated for one in jobs] == [50, 50, 50, 50]


def test_a_free_slot_that_holds_the_prompt_is_taken_before_others() -> None:
    machine = loaded(Hardware(slots=2))
    first = [job(read=50, says=says) for says in "xy"]
    submitted(machine, 0.0, *first)
    run_out(machine)
    then = [job(read=50, says=says) for says in "yx"]
    submitted(machine, 1000.0, *then)
    assert [one.evaluated for one in then] == [1, 1]


@pytest.mark.parametrize(
    ("gains", "ended"),
    [
        # Half the speed while both work, and together no more than one alone.
        ((1.0,), [6.0, 6.0]),
        # No slower together.
        ((1.0, 2.0), [3.0, 3.0]),
        ((1.0, 1.5), [4.0, 4.0]),
    ],
)
def test_slots_at_work_share_the_processor(gains: tuple[float, ...], ended: list[float]) -> None:
    hardware = Hardware(slots=2, prefill_per_s=10.0, decode_per_s=2.0, gains=gains)
    machine = loaded(hardware)
    jobs = [job(read=10, write=4, says=says) for says in "xy"]
    submitted(machine, 0.0, *jobs)
    run_out(machine)
    assert ends(jobs) == ended


def test_who_comes_in_the_middle_slows_only_the_rest() -> None:
    machine = loaded(Hardware(slots=2, prefill_per_s=10.0, decode_per_s=2.0))
    first, second = job(read=10, write=4), job(read=10, write=4, says="y")
    machine.submit(first, 0.0)
    machine.submit(second, 2.0)
    run_out(machine)
    # 1 s of work is left when the second comes: 2 s at half the speed. The second has
    # then done 1 s of its 3 s, and is alone.
    assert ends([first, second]) == [4.0, 6.0]


def test_a_change_of_models_costs_a_load_each_time() -> None:
    machine = loaded(HARDWARE, "a")
    jobs = []
    at = 0.0
    for model in "abab":
        jobs.append(job(model))
        machine.submit(jobs[-1], at)
        at = run_out(machine) + 1.0
    assert machine.totals.loads == 3
    assert machine.resident == ("b",)


def test_as_many_models_stay_as_memory_has_room_for_and_the_oldest_goes() -> None:
    machine = loaded(Hardware(memory_models=2), "a", "b")
    at = 0.0
    for model in "ac":
        machine.submit(job(model), at)
        at = run_out(machine) + 1.0
    assert set(machine.resident) == {"a", "c"}


def test_requests_for_a_model_that_is_being_loaded_share_the_load() -> None:
    machine = Machine(HARDWARE)
    jobs = [job(says=says) for says in "xyz"]
    submitted(machine, 0.0, *jobs)
    run_out(machine)
    assert machine.totals.loads == 1
    assert {one.loaded_at for one in jobs} == {5.0}


def test_a_model_in_use_keeps_another_out_for_as_long_as_anyone_wants_it() -> None:
    """As Ollama does: who comes later but for the loaded model goes first."""
    machine = loaded()
    hot = [job(says=says) for says in "wxyz"]
    cold = job("b")
    machine.submit(hot[0], 0.0)
    machine.submit(cold, 0.0)
    submitted(machine, 1.0, *hot[1:])
    run_out(machine)
    assert ends(hot) == [3.0, 6.0, 9.0, 12.0]
    assert cold.loaded_at == pytest.approx(17.0)


def test_a_load_is_lost_with_the_request_that_began_it() -> None:
    machine, first, second = Machine(HARDWARE), job(), job(says="y")
    submitted(machine, 0.0, first, second)
    machine.leave(first, 4.0)
    run_out(machine)
    assert second.loaded_at == pytest.approx(9.0)
    assert (machine.totals.loads, machine.totals.loads_lost) == (1, 1)


def test_a_load_goes_on_when_another_who_wants_it_leaves() -> None:
    machine, first, second = Machine(HARDWARE), job(), job(says="y")
    submitted(machine, 0.0, first, second)
    machine.leave(second, 4.0)
    run_out(machine)
    assert first.loaded_at == pytest.approx(5.0)
    assert machine.totals.loads_lost == 0


def test_a_request_without_a_prompt_loads_and_no_more() -> None:
    machine, load, again = Machine(HARDWARE), Job("a"), Job("a")
    machine.submit(load, 0.0)
    run_out(machine)
    assert ends([load]) == [5.0]
    machine.submit(again, 7.0)
    assert ends([again]) == [7.0]
    assert (machine.totals.loads, machine.totals.requests) == (1, 0)


def test_an_idle_model_can_be_unloaded_and_one_in_use_can_not() -> None:
    machine, one = loaded(), job()
    machine.submit(one, 0.0)
    assert not machine.unload("a", 1.0)
    assert machine.unload("a", 10.0)
    assert machine.resident == ()
    assert machine.unload("a", 11.0)


def test_who_leaves_the_queue_costs_nothing() -> None:
    machine, jobs = loaded(), [job(says=says) for says in "xyz"]
    submitted(machine, 0.0, *jobs)
    machine.leave(jobs[1], 1.0)
    run_out(machine)
    assert ends(jobs) == [3.0, 1.0, 6.0]
    assert machine.totals.left == 1


def test_who_leaves_while_writing_frees_the_slot_at_once() -> None:
    machine, one, other = loaded(), job(), job(says="y")
    submitted(machine, 0.0, one, other)
    machine.leave(one, 2.1)
    assert (one.written, one.ended_at, other.started_at) == (2, 2.1, 2.1)
    assert machine.totals.answered == 0


def test_who_leaves_while_its_prompt_is_read_keeps_the_slot_till_it_is() -> None:
    """ollama#11889."""
    machine, one, other = loaded(), job(read=100), job(says="y")
    submitted(machine, 0.0, one, other)
    machine.leave(one, 2.0)
    machine.leave(one, 3.0)
    assert machine.running == 1
    run_out(machine)
    assert one.ended_at == pytest.approx(10.0)
    assert one.written == 0
    assert other.started_at == pytest.approx(10.0)
    assert machine.totals.left == 1


def test_what_a_leaver_had_read_is_held() -> None:
    machine, one, again = loaded(), job(read=100), job(read=100)
    machine.submit(one, 0.0)
    machine.leave(one, 11.0)
    machine.submit(again, 11.0)
    assert again.evaluated == 1


def test_leaving_after_the_end_changes_nothing() -> None:
    machine, one = loaded(), job()
    machine.submit(one, 0.0)
    machine.leave(one, 3.0)
    assert (machine.totals.answered, machine.totals.left) == (1, 0)


def test_rounding_does_not_add_up() -> None:
    """A hundred thousand tokens end when they would in exact arithmetic."""
    machine = loaded(Hardware(prefill_per_s=60.0, decode_per_s=7.5, scale=10.0))
    jobs = [job(read=6, write=1000, says=chr(97 + number % 26)) for number in range(100)]
    submitted(machine, 0.0, *jobs)
    run_out(machine)
    assert ends(jobs)[-1] == pytest.approx(100 * (6 / 600 + 1000 / 75), abs=1e-6)


histories = st.lists(
    st.tuples(
        st.floats(0.0, 4.0),
        st.sampled_from("abc"),
        st.integers(1, 30),
        st.integers(0, 8),
        st.one_of(st.none(), st.floats(0.0, 20.0)),
    ),
    max_size=25,
)


@given(histories, st.integers(1, 3), st.integers(1, 3), st.sampled_from([(1.0,), (1.0, 1.4)]))
def test_no_history_loses_a_job_or_a_token(
    history: list[tuple[float, str, int, int, float | None]],
    slots: int,
    memory_models: int,
    gains: tuple[float, ...],
) -> None:
    machine = Machine(
        Hardware(
            slots=slots,
            memory_models=memory_models,
            load_s=5.0,
            prefill_per_s=10.0,
            decode_per_s=2.0,
            gains=gains,
        )
    )
    events: list[tuple[float, int, Job, bool]] = []
    at = 0.0
    jobs: list[Job] = []
    for number, (pause_s, model, read, write, patience_s) in enumerate(history):
        at += pause_s
        one = job(model, read=read, write=write, says=random.Random(number % 4).choice("xy"))
        one.answer = answer_text(write, seed=1, model=model, prompt=one.prompt)
        jobs.append(one)
        events.append((at, number, one, True))
        if patience_s is not None:
            events.append((at + patience_s, number, one, False))
    for moment, _, one, comes in sorted(events, key=lambda event: event[:2]):
        (machine.submit if comes else machine.leave)(one, moment)
        assert machine.running <= slots * memory_models
        assert len(machine.resident) <= memory_models
    run_out(machine)
    assert (machine.waiting, machine.running) == (0, 0)
    assert all(one.ended() for one in jobs)
    assert machine.totals.decode_tokens == sum(one.written for one in jobs)
    assert machine.totals.answered + machine.totals.left >= machine.totals.requests
    if slots == memory_models == 1:
        totals = machine.totals
        work_s = HARDWARE.work_s(read=totals.prefill_tokens, written=totals.decode_tokens)
        # A load or a token that a leaver has broken off was work too.
        assert totals.busy_s >= totals.loads * 5.0 + work_s - 1e-6
        if not totals.left:
            assert totals.busy_s == pytest.approx(totals.loads * 5.0 + work_s)
