"""The box of the simulator and the one behind the real server are the same box."""

import functools
import itertools

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.answers import TOKEN_CHARS
from bench.machine import Hardware, Job, Machine
from bench.simulation.asks import Ask, part
from bench.simulation.box import Box, Run
from bench.simulation.events import Events
from gateway.core.messages import Role

BEGINNINGS = [part(Role.SYSTEM, f"s{number}", 40) for number in range(2)]


@attrs.frozen
class Coming:
    """One request of both."""

    at: float
    model: str
    beginning: int | None
    length: int
    leaves_after_s: float | None


COMING = st.builds(
    Coming,
    at=st.integers(0, 4000).map(lambda tick: tick / 97),
    model=st.sampled_from(["a", "b"]),
    beginning=st.sampled_from([None, 0, 1]),
    length=st.integers(1, 20),
    leaves_after_s=st.none() | st.integers(1, 3000).map(lambda tick: tick / 101),
)


def asked(number: int, coming: Coming) -> Ask:
    said = part(Role.USER, f"u{number}", 7)
    prompt = (said,) if coming.beginning is None else (BEGINNINGS[coming.beginning], said)
    return Ask(name=f"{number}", model=coming.model, prompt=prompt, natural=coming.length)


def in_the_machine(hardware: Hardware, comings: list[Coming]) -> tuple[Machine, list[Job]]:
    machine = Machine(hardware)
    jobs = []
    leaving: list[tuple[float, int, Job]] = []
    for number, coming in enumerate(comings):
        prompt = "".join(one.message.text for one in asked(number, coming).prompt)
        job = Job(coming.model, prompt, "abcd"[:TOKEN_CHARS] * coming.length)
        jobs.append(job)
        leaving.append((coming.at, number, job))
        if coming.leaves_after_s is not None:
            leaving.append((coming.at + coming.leaves_after_s, len(comings) + number, job))
    for at, number, job in sorted(leaving, key=lambda one: one[:2]):
        if number < len(comings):
            machine.submit(job, at)
        else:
            machine.leave(job, at)
    machine.advance(1e6)
    return machine, jobs


def in_the_box(hardware: Hardware, comings: list[Coming]) -> tuple[Box, list[Run]]:
    events = Events()
    box = Box(hardware, events)
    runs = []
    for number, coming in enumerate(comings):
        run = Run(coming.model, asked(number, coming))
        runs.append(run)
        events.at(coming.at, functools.partial(box.submit, run))
    for run, coming in zip(runs, comings, strict=True):
        if coming.leaves_after_s is not None:
            events.at(coming.at + coming.leaves_after_s, functools.partial(box.leave, run))
    events.run()
    assert box.idle
    return box, runs


def near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < 1e-6


@settings(max_examples=200, deadline=None)
@given(
    slots=st.integers(1, 3),
    memory=st.integers(1, 2),
    gains=st.sampled_from([(1.0,), (1.0, 1.5, 1.7)]),
    comings=st.lists(COMING, max_size=12, unique_by=lambda coming: coming.at),
)
def test_it_spends_its_time_as_the_machine_of_the_real_server_does(
    slots: int, memory: int, gains: tuple[float, ...], comings: list[Coming]
) -> None:
    hardware = Hardware(slots=slots, memory_models=memory, gains=gains)
    comings = sorted(comings, key=lambda coming: coming.at)
    machine, jobs = in_the_machine(hardware, comings)
    box, runs = in_the_box(hardware, comings)
    for job, run in itertools.zip_longest(jobs, runs):
        assert near(job.loaded_at, run.loaded_at)
        assert near(job.started_at, run.started_at)
        assert near(job.ended_at, run.ended_at)
        assert job.evaluated == run.evaluated
        assert job.written == run.written
    assert machine.totals.loads == box.totals.loads
    assert machine.totals.prefill_tokens == box.totals.prefill_tokens
    assert machine.totals.decode_tokens == box.totals.decode_tokens
    assert near(machine.totals.busy_s, box.totals.busy_s)


def test_a_load_and_nothing_more_makes_way_for_the_next_model() -> None:
    events = Events()
    box = Box(Hardware(load_s=5.0), events)
    ended: list[tuple[float, str]] = []
    for model in ("a", "b"):
        box.submit(Run(model, None, lambda run: ended.append((events.now, run.model))))
    events.run()
    assert ended == [(5.0, "a"), (10.0, "b")]
    assert box.resident == ("b",)
