"""What is known of a load in advance, and how targets are told."""

import math
from typing import Any

import attrs
import orjson
import pytest

from bench import targets
from bench.answers import Uniform
from bench.asking import Client
from bench.box import Box, Settings
from bench.figures import Figure
from bench.load import Burst, run
from bench.machine import Hardware
from bench.prompts import Conversations, Messages, Unique
from bench.replies import Ollama
from bench.results import Attempt, Result
from bench.trials import box_targets
from bench.trials.known import Known, accepted_too_late, begun_at, makespan_s
from bench.trials.stand import ONCE

SETTINGS = Settings(hardware=Hardware(scale=2000.0), lengths=Uniform(2, 9))
CLIENT = Client(dialect=Ollama(), max_tokens=None, retries=ONCE)


async def test_who_knows_the_seed_knows_the_work_of_the_box() -> None:
    client = attrs.evolve(CLIENT, prompts=Unique(tokens=5))
    known = Known(SETTINGS, client)
    box = Box(SETTINGS)
    async with box.serve() as url:
        results = await run(url, Burst(10), client)
    for result in results:
        assert result.attempts[0].tokens == known.written(result.number)
    totals = box.machine.totals
    assert totals.decode_tokens == sum(map(known.written, range(10)))
    # All but the first find the word again with which they all begin.
    assert totals.prefill_tokens == sum(map(known.read, range(10))) - 9
    expected_s = sum(map(known.service_s, range(10))) + SETTINGS.hardware.real_load_s
    assert totals.busy_s == pytest.approx(expected_s, rel=0.02)


async def test_the_fewest_prompt_tokens_are_those_of_one_conversation_after_the_other() -> None:
    prompts = Conversations(count=2, prefix_tokens=200, tokens=5)
    known = Known(SETTINGS, attrs.evolve(CLIENT, prompts=prompts))
    box = Box(SETTINGS)
    async with box.serve() as url:
        for number in (0, 2, 1, 3):
            await run(url, Burst(1), attrs.evolve(known.client, prompts=Only(prompts, number)))
    assert box.machine.totals.prefill_tokens == known.fewest_read(4)
    assert known.fewest_read(4) < sum(map(known.read, range(4))) - 2 * 200


@attrs.frozen
class Only:
    """Says one thing over and over."""

    prompts: Conversations
    number: int

    def messages(self, _number: int) -> Messages:
        return self.prompts.messages(self.number)


def attempt(sent_at: float, ended_at: float, status: int = 200, **more: Any) -> Attempt:
    return Attempt(sent_at=sent_at, ended_at=ended_at, status=status, **more)


def result(number: int, *attempts: Attempt, stream: bool = False) -> Result:
    return Result(number=number, model="m", stream=stream, max_tokens=None, attempts=attempts)


SLOW = Known(Settings(hardware=Hardware(scale=1.0), lengths=Uniform(30, 30)), CLIENT)
OWN_S = SLOW.service_s(0)


def test_goodput_is_the_part_of_the_slots_time_that_was_of_use() -> None:
    results = [
        result(0, attempt(100.0, 110.0)),
        # Late, cut, refused: of no use.
        result(1, attempt(100.0, 170.0)),
        result(2, attempt(100.0, 120.0, truncated=True)),
        result(3, attempt(100.0, 100.1, status=503)),
    ]
    assert SLOW.goodput(results, since=100.0, for_s=20.0) == pytest.approx(OWN_S / 20.0)


def test_an_answer_counts_as_far_as_it_was_made_within_the_load() -> None:
    results = [result(0, attempt(100.0, 120.0 + OWN_S / 4))]
    assert SLOW.goodput(results, since=100.0, for_s=20.0) == pytest.approx(0.75 * OWN_S / 20.0)


def test_a_wait_begins_with_the_first_try_and_goes_on_for_as_long_as_was_told() -> None:
    refused = attempt(1.0, 1.1, status=503, told_s=5.0)
    waits_s = SLOW.waits_s(
        [
            result(0, attempt(0.0, OWN_S + 2.0)),
            result(0, refused, attempt(6.1, 7.0 + OWN_S)),
            result(0, refused),
            result(0),
        ]
    )
    assert waits_s == pytest.approx([2.0, 6.0, 5.1])


def test_what_was_let_in_and_came_too_late_is_counted_by_try() -> None:
    results = [
        result(0, attempt(0.0, 6.0, status=504), attempt(7.0, 13.0, status=504)),
        result(1, attempt(0.0, 6.1)),
        result(2, attempt(0.0, 6.0, status=0, code="client_timeout")),
        result(3, attempt(0.0, 0.1, status=503, code="deadline_unmeetable")),
        result(4, attempt(0.0, 5.0)),
        # A stream must have begun in time, and no more.
        result(5, attempt(0.0, 50.0, first_token_at=5.0), stream=True),
    ]
    assert accepted_too_late(results, deadline_s=6.0) == 4


def test_a_makespan_ends_with_the_last_answer_and_not_with_a_refusal() -> None:
    results = [result(0, attempt(1.0, 5.0)), result(1, attempt(2.0, 9.0, status=503))]
    assert (begun_at(results), makespan_s(results)) == (1.0, 4.0)
    assert math.isnan(begun_at([]))
    assert makespan_s(results[1:]) == 0.0


def test_the_fewest_loads_are_counted_with_the_wait_that_there_was() -> None:
    known = attrs.evolve(SLOW, client=attrs.evolve(CLIENT, models=box_targets.MODELS))

    def served(*numbers: int) -> list[Result]:
        """All sent at once, and answered in that order; each change takes a load."""
        found: list[Result] = []
        now, model = 0.0, 0
        for number in numbers:
            now += known.service_s(number) + known.settings.hardware.load_s * (number % 2 != model)
            model = number % 2
            one = result(number, attempt(0.0, now))
            found.append(attrs.evolve(one, model=box_targets.MODELS[model]))
        return found

    grouped_s, grouped = box_targets.fewest_loads(served(0, 2, 4, 1, 3, 5), known, scale=1.0)
    in_turn_s, in_turn = box_targets.fewest_loads(served(0, 1, 2, 3, 4, 5), known, scale=1.0)
    # Who changed each time made everybody wait longer, and needed not have.
    assert (grouped, in_turn) == (1, 1)
    assert in_turn_s > grouped_s


# --- How it is told --------------------------------------------------------------------

FOUND = {
    "one": [
        Figure(name="  kept", goal=">= 1", measured="2", passed=True, values={"x": math.nan}),
        Figure(name="missed", goal=">= 1", measured="0", passed=False),
        Figure(name="beside", goal="", measured="7", passed=None),
    ]
}


def test_the_table_has_a_row_for_each_target() -> None:
    assert targets.written(FOUND).splitlines()[2:] == [
        "| kept | >= 1 | 2 | PASS |",
        "| missed | >= 1 | 0 | MISS |",
        "| beside | - | 7 | - |",
    ]


def test_the_document_has_the_numbers_and_what_was_not_measured_is_null() -> None:
    (kept, *_) = orjson.loads(targets.as_json(FOUND, scale=10.0))["groups"]["one"]
    assert (kept["verdict"], kept["values"]) == ("PASS", {"x": None})


@pytest.mark.slow
def test_a_target_is_measured_on_real_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert targets.main(["--only", "burst", "--scale", "200"]) in (0, 1)
    ours, direct, _ = capsys.readouterr().out.splitlines()[1:]
    assert ours.startswith("burst of 100, no retries")
    assert direct.lstrip().startswith("the box's own line")
