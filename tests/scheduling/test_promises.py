"""What must be true of the whole scheduler, in random histories on a virtual clock.

`play` looks after each event: nobody waits beside a free slot that could serve it, no
bound is exceeded. At the end: each request has ended once, no slot is taken, nothing is
left of anybody. And where each request takes no longer than its price said: of all that
was let in nothing was late. `python -m bench.simulate --histories 10000` plays more.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulation import outcomes
from bench.simulation.clients import ONCE, SDK
from bench.simulation.histories import play
from bench.simulation.ours import Setup
from bench.simulation.policies import End
from bench.simulation.runs import burst, closed_loop, learned, open_loop, service_s, together
from bench.simulation.traffic import Mix
from bench.simulation.world import World, run
from gateway.core.ticket import Caller, Priority


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_history_breaks_a_promise(seed: int) -> None:
    play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("clients", [1, 20, 60])
def test_nothing_that_was_let_in_times_out_and_the_slot_is_never_idle(clients: int) -> None:
    world = World(traffic=closed_loop(Mix(), clients, for_s=200.0))
    history = run(world, costs=learned(world), check=True)
    assert outcomes.missed(history.stories) == 0
    assert outcomes.goodput(history, until=200.0) > 0.95


@pytest.mark.parametrize("streams", [0.0, 1.0])
def test_nothing_of_a_burst_times_out(streams: float) -> None:
    world = World(traffic=burst(Mix(streams=streams), ONCE))
    history = run(world, costs=learned(world), check=True)
    assert set(outcomes.ends(history.stories)) == {End.WHOLE, End.REFUSED}
    assert outcomes.missed(history.stories) == 0


def test_refused_clients_are_told_moments_apart() -> None:
    world = World(traffic=burst(Mix(), ONCE))
    history = run(world, costs=learned(world))
    told = [round(moment, 3) for moment in outcomes.returns_told(history.stories)]
    assert len(told) > 50
    assert len(set(told)) == len(told)


@pytest.mark.slow
def test_a_cold_model_waits_no_longer_than_its_bound_beside_a_hot_one() -> None:
    cold = Caller("cold")
    world = World(
        setup=Setup(models=("A", "B"), newcomers=True),
        traffic=together(
            closed_loop(Mix(models=("A",), caller=Caller("hot")), 20, for_s=300.0),
            open_loop(Mix(models=("B",), caller=cold), per_s=1 / 45, for_s=300.0),
        ),
    )
    history = run(world, costs=learned(world), check=True)
    mine = [story for story in history.stories if story.ask.caller is cold]
    longest_s = max(service_s(world.hardware, story.ask) for story in history.stories)
    bound_s = world.setup.scheduling.affinity_wait_max_seconds
    assert mine
    assert max(outcomes.waits(outcomes.accepted(mine))) <= bound_s + longest_s


@pytest.mark.slow
def test_a_batch_request_that_was_let_in_is_served_beside_urgent_ones() -> None:
    batch = Caller("batch", priority=Priority.BATCH)
    urgent = Caller("urgent", priority=Priority.INTERACTIVE)
    world = World(
        setup=Setup(newcomers=True),
        traffic=together(
            closed_loop(Mix(caller=urgent), 10, for_s=300.0),
            open_loop(Mix(caller=batch), per_s=1 / 20, for_s=300.0, habits=SDK),
        ),
    )
    history = run(world, costs=learned(world), check=True)
    mine = outcomes.accepted(story for story in history.stories if story.ask.caller is batch)
    assert mine
    assert all(attempt.end is End.WHOLE for attempt in mine)
