import itertools
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.schema import Scheduling
from gateway.core.messages import GenerateRequest, Message, Role
from gateway.core.ticket import Priority, Ticket
from gateway.scheduling.fairness import Accounts
from gateway.scheduling.order import LOOKED_AT_MAX, FirstComeFirstServed, Order
from gateway.scheduling.prefix import HeldPrompts, chain_of
from tests.scheduling.one_slot import OneSlot
from tests.scheduling.scenes import accounts_of, scene, waiting

DEFAULTS = Scheduling()
QUANTUM_S = DEFAULTS.fairness_quantum_seconds
TURN_S = DEFAULTS.affinity_wait_max_seconds
NO_RULES = Scheduling(priorities=False, fairness=False, model_affinity=False, prefix_affinity=False)


def new_accounts() -> Accounts:
    return Accounts(quantum_s=QUANTUM_S)


# --- The order of the rules -------------------------------------------------


def test_one_ticket_goes_whatever_the_rules_say() -> None:
    only = waiting(1, model="cold", priority=Priority.BATCH)
    assert Order(DEFAULTS).choose([only], scene()) is only


def test_urgency_is_before_fairness() -> None:
    accounts = accounts_of(behind=0.0, ahead=100.0)
    tickets = [waiting(1, flow="behind"), waiting(2, flow="ahead", priority=Priority.INTERACTIVE)]
    assert Order(DEFAULTS).choose(tickets, scene(accounts=accounts)).number == 2


def test_fairness_is_before_what_is_loaded() -> None:
    accounts = accounts_of(behind=0.0, ahead=100.0)
    tickets = [waiting(1, flow="ahead", model="hot"), waiting(2, flow="behind", model="cold")]
    now = scene(loaded=["hot"], cached={1: 5000}, accounts=accounts)
    assert Order(DEFAULTS).choose(tickets, now).number == 2


def test_the_model_is_before_the_prompt() -> None:
    tickets = [waiting(1, model="cold"), waiting(2, model="hot")]
    assert Order(DEFAULTS).choose(tickets, scene(loaded=["hot"], cached={1: 5000})).number == 2


def test_what_is_held_is_before_who_is_least_far_within_the_quantum() -> None:
    accounts = accounts_of(behind=0.0, ahead=4.0)
    tickets = [waiting(1, flow="behind"), waiting(2, flow="ahead")]
    assert Order(DEFAULTS).choose(tickets, scene(cached={2: 5000}, accounts=accounts)).number == 2
    assert Order(DEFAULTS).choose(tickets, scene(accounts=accounts)).number == 1


def test_among_equals_it_is_by_arrival() -> None:
    tickets = [waiting(1), waiting(2), waiting(3)]
    assert Order(DEFAULTS).choose(tickets, scene()).number == 1


@pytest.mark.parametrize(
    "only",
    [
        attrs.evolve(NO_RULES, priorities=True),
        attrs.evolve(NO_RULES, fairness=True),
        attrs.evolve(NO_RULES, model_affinity=True),
        attrs.evolve(NO_RULES, prefix_affinity=True),
    ],
)
def test_each_rule_can_be_switched_on_alone(only: Scheduling) -> None:
    """For each there is a reason to let the second go first; without any it is by arrival."""
    accounts = accounts_of(one=10.0, two=0.0)
    tickets = [
        waiting(1, flow="one", model="cold", priority=Priority.BATCH),
        waiting(2, flow="two", model="hot"),
    ]
    now = scene(loaded=["hot"], cached={2: 5000}, accounts=accounts)
    assert Order(only).choose(tickets, now).number == 2
    assert Order(NO_RULES).choose(tickets, now).number == 1


def test_first_come_first_served_is_just_that() -> None:
    policy = FirstComeFirstServed()
    tickets = [waiting(1, model="cold", priority=Priority.BATCH), waiting(2)]
    policy.granted(tickets[1], now=0.0, load_s=0.0, cached_chars=0)
    assert policy.choose(tickets, scene()).number == 1


# --- A long queue -----------------------------------------------------------


def test_of_one_flow_only_the_oldest_are_looked_at() -> None:
    tickets = [waiting(n) for n in range(LOOKED_AT_MAX + 2)]
    held = {LOOKED_AT_MAX - 1: 1000, LOOKED_AT_MAX: 5000}
    assert Order(DEFAULTS).choose(tickets, scene(now=10.0, cached=held)).number == LOOKED_AT_MAX - 1


def test_no_flow_is_overlooked_behind_a_flood() -> None:
    accounts = accounts_of(light=0.0, flood=100.0)
    tickets = [*(waiting(n, flow="flood") for n in range(500)), waiting(500, flow="light")]
    assert Order(DEFAULTS).choose(tickets, scene(accounts=accounts)).number == 500


def test_no_class_is_overlooked_behind_a_flood_of_its_own_flow() -> None:
    flood = [waiting(n, priority=Priority.BATCH, arrived_at=0.0) for n in range(500)]
    urgent = waiting(500, arrived_at=9.0)
    assert Order(DEFAULTS).choose([*flood, urgent], scene()) is urgent


@pytest.mark.parametrize("flows", [2, 10, 100])
def test_of_several_flows_equal_parts_are_looked_at(flows: int) -> None:
    """The oldest of each flow in any case; what is held of later ones does not matter."""
    of_each = max(LOOKED_AT_MAX // flows, 1)
    tickets = [waiting(n, flow=str(n % flows), arrived_at=0.0) for n in range(1000)]
    last = flows * of_each - 1
    for held, chosen in ((last, last), (last + 1, 0)):
        assert Order(DEFAULTS).choose(tickets, scene(cached={held: 5000})).number == chosen


# --- Whatever comes ---------------------------------------------------------

tickets_of_any_kind = st.lists(
    st.builds(
        lambda flow, model, priority, session, age: (flow, model, priority, session, age),
        st.sampled_from("abc"),
        st.sampled_from(["hot", "cold", "colder"]),
        st.sampled_from(Priority),
        st.sampled_from(["", "s", "t"]),
        st.floats(0.0, 90.0),
    ),
    min_size=1,
    max_size=100,
)


@given(
    kinds=tickets_of_any_kind,
    switches=st.tuples(*[st.booleans()] * 4),
    held=st.dictionaries(st.integers(0, 99), st.integers(0, 5000)),
    loaded=st.sets(st.sampled_from(["hot", "cold"])),
)
@settings(deadline=None)
def test_the_choice_is_one_of_those_and_the_same_each_time(
    kinds: list[tuple[str, str, Priority, str, float]],
    switches: tuple[bool, bool, bool, bool],
    held: dict[int, int],
    loaded: set[str],
) -> None:
    priorities, fairness, model_affinity, prefix_affinity = switches
    chosen = []
    for _ in range(2):
        order = Order(
            Scheduling(
                priorities=priorities,
                fairness=fairness,
                model_affinity=model_affinity,
                prefix_affinity=prefix_affinity,
            )
        )
        accounts = new_accounts()
        left = []
        oldest_first = sorted(kinds, key=lambda kind: -kind[4])
        for number, (flow, model, priority, session, age) in enumerate(oldest_first):
            accounts.arrived(flow, 1.0, 0.0)
            left.append(
                waiting(
                    number,
                    flow=flow,
                    model=model,
                    arrived_at=100.0 - age,
                    priority=priority,
                    session=session,
                )
            )
        numbers: list[int] = []
        while left:
            now = 100.0 + len(numbers)
            moment = scene(now, loaded=loaded, cached=held, accounts=accounts)
            ticket = order.choose(left, moment)
            assert order.choose(left, moment) is ticket
            left.remove(ticket)
            order.granted(ticket, now=now, load_s=moment.swap_s(ticket), cached_chars=0)
            accounts.charge(ticket.flow, 3.0)
            accounts.settle(ticket.flow, 3.0, 2.0)
            accounts.left(ticket.flow, now)
            numbers.append(ticket.number)
        chosen.append(numbers)
    assert chosen[0] == chosen[1]
    assert sorted(chosen[0]) == list(range(len(kinds)))


# --- Served by simulated seconds --------------------------------------------

Flow = tuple[float, float, float]
"""Weight, seconds of a request, and what of that is expected (1.0: the truth)."""

flows_that_flood = st.lists(
    st.tuples(st.floats(1.0, 4.0), st.floats(0.5, 8.0), st.floats(0.5, 2.0)),
    min_size=2,
    max_size=4,
)


@given(flows=flows_that_flood, favourite=st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_floods_share_the_slot_by_their_weights(flows: list[Flow], favourite: int) -> None:
    """To within 5 % of ten minutes, even if the prompt of one of them is always in the slot."""
    weights = {str(n): weight for n, (weight, _, _) in enumerate(flows)}
    slot = OneSlot(
        Order(DEFAULTS),
        new_accounts(),
        service_s=lambda ticket: flows[int(ticket.flow)][1],
        expected_s=lambda ticket: flows[int(ticket.flow)][1] * flows[int(ticket.flow)][2],
        cached_chars=lambda ticket: 5000 if ticket.flow == str(favourite) else 0,
        weights=weights,
    )
    counter = itertools.count()

    def send(flow: str) -> None:
        slot.arrive(waiting(next(counter), flow=flow, arrived_at=slot.now))

    for flow in weights:
        for _ in range(3):
            send(flow)
    while slot.now < 600.0:
        send(slot.serve().flow)
    for flow, weight in weights.items():
        part = weight / sum(weights.values())
        assert slot.busy_s[flow] / slot.now == pytest.approx(part, abs=0.05)


@given(
    floods=st.integers(1, 4),
    flood_s=st.floats(0.5, 8.0),
    light_part=st.floats(0.05, 0.9),
    expected=st.floats(0.5, 2.0),
)
@settings(deadline=None, max_examples=40)
def test_a_light_flow_waits_for_one_running_request_and_no_more(
    floods: int, flood_s: float, light_part: float, expected: float
) -> None:
    """Its requests are smaller than those of others, and it sends one at a time: each is next."""
    service_s = {"light": light_part * flood_s}
    slot = OneSlot(
        Order(attrs.evolve(DEFAULTS, prefix_affinity=False)),
        new_accounts(),
        service_s=lambda ticket: service_s.get(ticket.flow, flood_s),
        expected_s=lambda ticket: expected * service_s.get(ticket.flow, flood_s),
    )
    counter = itertools.count()

    def send(flow: str) -> Ticket:
        ticket = waiting(next(counter), flow=flow, arrived_at=slot.now)
        slot.arrive(ticket)
        return ticket

    for n in range(floods):
        for _ in range(20):
            send(f"flood {n}")
    for _ in range(30):
        # It rests for a round of the others, so that it asks for less than its share.
        for _ in range(floods):
            send(slot.serve().flow)
        running = slot.grant()
        request = send("light")
        slot.end(running)
        send(running.flow)
        assert slot.serve() is request


def test_a_light_flow_is_next_although_the_prompt_of_a_flood_is_in_the_slot() -> None:
    slot = OneSlot(
        Order(DEFAULTS),
        new_accounts(),
        service_s=lambda ticket: 4.0,
        cached_chars=lambda ticket: 5000 if ticket.flow == "flood" else 0,
    )
    slot.arrive(*(waiting(n, flow="flood", arrived_at=0.0) for n in range(40)))
    for n in range(40, 50):
        slot.serve()
        running = slot.grant()
        request = waiting(n, flow="light", arrived_at=slot.now)
        slot.arrive(request)
        slot.end(running)
        assert slot.serve() is request


# --- Turns ------------------------------------------------------------------


def two_models(settings: Scheduling, *, load_s: float, flow_of: Callable[[str], str]) -> OneSlot:
    """Ten minutes in which ten requests of each of two models always wait, two seconds each."""
    slot = OneSlot(Order(settings), new_accounts(), service_s=lambda ticket: 2.0, load_s=load_s)
    counter = itertools.count()

    def send(model: str) -> None:
        flow = flow_of(model)
        slot.arrive(waiting(next(counter), flow=flow, model=model, arrived_at=slot.now))

    for _ in range(10):
        send("a")
        send("b")
    while slot.now < 600.0:
        send(slot.serve().model)
    return slot


@pytest.mark.parametrize("load_s", [5.0, 10.0])
@pytest.mark.parametrize("flow_of", [lambda model: "one", lambda model: model])
def test_two_models_take_turns_of_about_the_bound(
    load_s: float, flow_of: Callable[[str], str]
) -> None:
    """Whether one caller wants both or each wants another: fairness doesn't make it thrash."""
    slot = two_models(DEFAULTS, load_s=load_s, flow_of=flow_of)
    turn_s = max(TURN_S, 4 * load_s)
    turns = [later[0] - earlier[0] for earlier, later in itertools.pairwise(slot.loads)]
    assert min(turns) > turn_s
    # A turn ends with the request that runs when its time is over.
    assert max(turns) <= turn_s + 2.0
    assert all(one[1] != other[1] for one, other in itertools.pairwise(slot.loads))


def test_without_turns_each_request_is_a_load() -> None:
    by_arrival = attrs.evolve(DEFAULTS, model_affinity=False)
    thrashing = two_models(by_arrival, load_s=5.0, flow_of=lambda model: "one")
    grouped = two_models(DEFAULTS, load_s=5.0, flow_of=lambda model: "one")
    assert len(thrashing.loads) == len(thrashing.served)
    assert len(grouped.loads) < len(grouped.served) / 5
    assert len(grouped.served) > 2 * len(thrashing.served)


def test_a_cold_model_waits_for_its_bound_while_the_hot_one_is_saturated() -> None:
    slot = OneSlot(Order(DEFAULTS), new_accounts(), service_s=lambda ticket: 2.0, load_s=5.0)
    counter = itertools.count()

    def send(model: str) -> Ticket:
        ticket = waiting(next(counter), model=model, arrived_at=slot.now)
        slot.arrive(ticket)
        return ticket

    for _ in range(50):
        send("hot")
    asked: list[Ticket] = []
    while slot.now < 300.0:
        if len(asked) < slot.now // 60:
            asked.append(send("cold"))
        if slot.serve().model == "hot":
            send("hot")
    waits = [slot.granted_at[ticket] - ticket.arrived_at for ticket in asked]
    assert len(waits) == 4
    assert all(TURN_S < wait <= TURN_S + 2.0 for wait in waits)
    assert len(slot.loads) == 1 + 2 * len(asked)


def conversations(settings: Scheduling, count: int, each: int) -> OneSlot:
    """So many conversations with a common system prompt and a long one of their own, interleaved.

    All wait from the start. What a prompt takes is what of it has to be read, and a second.
    """
    held = HeldPrompts(slots=1)

    def cached(ticket: Ticket) -> int:
        return held.cached_chars("m", ticket.chain)

    def service_s(ticket: Ticket) -> float:
        return (ticket.chain[-1][0] - cached(ticket)) / 250.0 + 1.0

    prices: dict[Ticket, float] = {}
    slot = OneSlot(
        Order(settings),
        new_accounts(),
        service_s=lambda ticket: prices[ticket],
        cached_chars=cached,
    )
    numbers = itertools.count()
    for turn, who in itertools.product(range(each), range(count)):
        ticket = waiting(next(numbers), arrived_at=0.0)
        ticket.chain = chain_of(
            GenerateRequest(
                model="m",
                messages=(
                    Message(Role.SYSTEM, "You are helpful. " * 20),
                    Message(Role.USER, f"{who} " * 1000),
                    Message(Role.USER, f"question {turn}"),
                ),
            )
        )
        slot.arrive(ticket)
    while slot.waiting:
        for ticket in slot.waiting:
            prices[ticket] = service_s(ticket)
        ticket = slot.grant()
        held.ran("m", ticket.chain)
        slot.end(ticket)
    return slot


def test_interleaved_conversations_are_grouped() -> None:
    arrival = conversations(attrs.evolve(DEFAULTS, prefix_affinity=False), 2, 10)
    grouped = conversations(DEFAULTS, 2, 10)
    best_s = 20 * 1.0 + 2 * 2000 / 250.0
    assert grouped.now <= 1.4 * best_s
    assert arrival.now > 3 * best_s


@pytest.mark.parametrize("count", [2, 5, 10])
def test_a_group_ends_when_another_conversation_has_waited_for_its_bound(count: int) -> None:
    slot = conversations(DEFAULTS, count, 100 // count)
    longest_s = 2000 / 250.0 + 2.5
    first: dict[int, float] = {}
    for ticket in slot.served:
        first.setdefault(ticket.number % count, slot.granted_at[ticket])
    begins = sorted(first.values())
    assert all(
        later - earlier <= TURN_S + longest_s for earlier, later in itertools.pairwise(begins)
    )
