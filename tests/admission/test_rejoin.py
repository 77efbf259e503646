"""Who may have whose answer, and for how long; the whole stories are told with real tasks."""

from typing import Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.rejoin import ANSWERS_MAX, KEPT_S, RETURNS_S, Key, Rejoin
from gateway.backends.recording import Recording, State, size
from gateway.core.errors import UpstreamFailed
from gateway.core.messages import Finished, FinishReason, TextDelta
from tests.backends.tap import PATIENCE_S, Reader, Tap, again, first
from tests.engines import settle
from tests.fakes import ManualClock

KEY: Final = Key("ann", "ann", b"digest")
BIG: Final = 1_000_000

WORD: Final = TextDelta("word")
STOP: Final = Finished(FinishReason.STOP)
ANSWER: Final = (WORD, STOP)
ANSWER_BYTES: Final = size(WORD) + size(STOP)


@pytest.fixture
def rejoin() -> Rejoin:
    return Rejoin(bytes_max=BIG)


def runs(rejoin: Rejoin, key: Key = KEY, now: float = 0.0) -> Recording:
    """A first try whose answer runs, and whose client is there."""
    rejoin.met(key, now)
    return rejoin.begin(key, now)


def lost(rejoin: Rejoin, key: Key = KEY, now: float = 0.0) -> Recording:
    """A first try whose client has left."""
    recording = runs(rejoin, key, now)
    recording.attended = False
    return recording


def ended(
    rejoin: Rejoin, key: Key = KEY, now: float = 0.0, *, delivered: bool = False
) -> Recording:
    """A first try that was answered."""
    recording = lost(rejoin, key, now)
    recording.delivered = delivered
    recording.add(ANSWER)
    rejoin.ended(recording, now)
    return recording


def digest(number: int) -> Key:
    return attrs.evolve(KEY, fingerprint=b"%d" % number)


# --- Whose answer ---------------------------------------------------------------


def test_a_retry_finds_the_answer_that_its_client_left(rejoin: Rejoin) -> None:
    recording = lost(rejoin)
    assert rejoin.find(KEY, 1.0) is recording


def test_an_answer_whose_client_is_still_there_is_nobody_elses(rejoin: Rejoin) -> None:
    runs(rejoin)
    assert rejoin.find(KEY, 1.0) is None


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(KEY, caller="bob"),
        attrs.evolve(KEY, flow="ann/eve"),
        attrs.evolve(KEY, fingerprint=b"other"),
    ],
)
def test_nobody_else_and_nothing_else_finds_it(rejoin: Rejoin, other: Key) -> None:
    lost(rejoin)
    ended(rejoin)
    assert rejoin.find(other, 1.0) is None


def test_an_answer_that_is_replayed_is_nobody_elses(rejoin: Rejoin) -> None:
    recording = lost(rejoin)
    recording.join()
    assert rejoin.find(KEY, 1.0) is None
    recording.part(delivered=False)
    assert rejoin.find(KEY, 1.0) is recording


def test_each_lost_answer_is_given_to_one_client(rejoin: Rejoin) -> None:
    recordings = [lost(rejoin), lost(rejoin)]
    found = []
    while (recording := rejoin.find(KEY, 1.0)) is not None:
        recording.join()
        found.append(recording)
    assert found == recordings


def test_a_request_without_a_fingerprint_is_never_kept(rejoin: Rejoin) -> None:
    with pytest.raises(AssertionError):
        rejoin.begin(attrs.evolve(KEY, fingerprint=b""), 0.0)


def test_a_delivered_answer_is_given_again_to_the_only_one_who_asked(rejoin: Rejoin) -> None:
    recording = ended(rejoin, delivered=True)
    for _ in range(2):
        assert rejoin.find(KEY, 1.0) is recording
        recording.join()
        recording.part(delivered=True)


def test_a_delivered_answer_is_not_for_one_who_was_refused(rejoin: Rejoin) -> None:
    """A hundred workers with one prompt want a hundred answers."""
    rejoin.met(KEY, 0.0)  # refused, told to come back
    ended(rejoin, now=1.0, delivered=True)
    assert rejoin.find(KEY, 20.0) is None


def test_a_first_try_after_the_delivery_makes_it_nobodys_too(rejoin: Rejoin) -> None:
    ended(rejoin, delivered=True)
    rejoin.met(KEY, 1.0)
    assert rejoin.find(KEY, 2.0) is None


def test_a_client_whose_second_try_was_answered_is_one_client(rejoin: Rejoin) -> None:
    broken = runs(rejoin)
    broken.fail(UpstreamFailed("broke"))
    rejoin.ended(broken, 1.0)
    recording = rejoin.begin(KEY, 2.0)
    recording.attended = False
    recording.delivered = True
    recording.add(ANSWER)
    rejoin.ended(recording, 3.0)
    assert rejoin.find(KEY, 4.0) is recording


def test_a_lost_answer_goes_before_a_delivered_one(rejoin: Rejoin) -> None:
    delivered = ended(rejoin, delivered=True)
    second = rejoin.begin(KEY, 1.0)
    second.attended = False
    assert rejoin.find(KEY, 2.0) is second
    second.join()
    assert rejoin.find(KEY, 2.0) is delivered


# --- For how long ---------------------------------------------------------------


def test_an_answer_is_kept_for_a_while_after_its_end(rejoin: Rejoin) -> None:
    recording = ended(rejoin, now=10.0)
    assert rejoin.find(KEY, 10.0 + KEPT_S - 0.1) is recording
    assert rejoin.find(KEY, 10.0 + KEPT_S) is None
    assert rejoin.bytes == 0
    assert recording.state is State.SPILLED


def test_a_broken_answer_is_forgotten_at_once(rejoin: Rejoin) -> None:
    recording = lost(rejoin)
    recording.add([WORD])
    recording.fail(UpstreamFailed("broke"))
    assert rejoin.find(KEY, 0.0) is None
    rejoin.ended(recording, 0.0)
    assert rejoin.find(KEY, 0.0) is None
    assert rejoin.bytes == 0


def test_who_may_come_back_is_remembered_for_as_long_as_it_may(rejoin: Rejoin) -> None:
    rejoin.met(KEY, 0.0)
    for number in range(3):
        rejoin.met(digest(number), RETURNS_S - 1.0)
    recording = ended(rejoin, now=RETURNS_S - 1.0, delivered=True)
    assert rejoin.find(KEY, RETURNS_S) is None
    assert recording.free
    later = ended(rejoin, now=3 * RETURNS_S, delivered=True)
    assert rejoin.find(KEY, 3 * RETURNS_S) is later


def test_who_comes_back_again_and_again_is_remembered_from_the_last_time(rejoin: Rejoin) -> None:
    rejoin.met(KEY, 0.0)
    for step in (1, 2, 3):
        assert rejoin.find(KEY, step * (RETURNS_S - 1.0)) is None  # refused each time
    ended(rejoin, now=4 * (RETURNS_S - 1.0), delivered=True)
    assert rejoin.find(KEY, 4 * (RETURNS_S - 1.0)) is None


def test_what_is_asked_again_and_again_is_remembered_from_the_last_time(rejoin: Rejoin) -> None:
    for step in range(4):
        rejoin.met(KEY, step * (RETURNS_S - 1.0))
    rejoin.met(digest(0), 3 * RETURNS_S)
    ended(rejoin, now=3 * RETURNS_S, delivered=True)
    assert rejoin.find(KEY, 3 * RETURNS_S) is None


def test_whose_answer_takes_long_is_not_forgotten_meanwhile(rejoin: Rejoin) -> None:
    recording = runs(rejoin)
    for number in range(10):
        rejoin.met(digest(number), number * RETURNS_S)
    recording.attended = False
    recording.delivered = True
    recording.add(ANSWER)
    rejoin.ended(recording, 10 * RETURNS_S)
    assert rejoin.find(KEY, 10 * RETURNS_S) is recording


def test_where_clients_had_to_be_forgotten_nobody_counts_as_the_only_one() -> None:
    rejoin = Rejoin(bytes_max=BIG, clients_max=2)
    rejoin.met(KEY, 0.0)
    for number in range(2):
        rejoin.met(digest(number), 1.0)
    recording = ended(rejoin, now=2.0, delivered=True)
    assert rejoin.find(KEY, 3.0) is None, "the one who was forgotten may be who asks"
    recording.delivered = False
    assert rejoin.find(KEY, 3.0) is recording, "lost is lost"
    later = ended(rejoin, digest(2), now=2.0 + RETURNS_S, delivered=True)
    assert rejoin.find(digest(2), 2.0 + RETURNS_S) is later


# --- How much -------------------------------------------------------------------


def test_the_oldest_that_has_ended_gives_way_first() -> None:
    rejoin = Rejoin(bytes_max=3 * ANSWER_BYTES)
    recordings = [ended(rejoin, digest(number)) for number in range(4)]
    found = [rejoin.find(digest(number), 1.0) for number in range(4)]
    assert found == [None, *recordings[1:]]
    assert rejoin.bytes == 3 * ANSWER_BYTES


def test_less_room_makes_the_oldest_give_way_at_once() -> None:
    rejoin = Rejoin(bytes_max=2 * ANSWER_BYTES)
    ended(rejoin, digest(1))
    newer = ended(rejoin, digest(2))
    rejoin.resize(2 * ANSWER_BYTES - 1)
    assert rejoin.find(digest(1), 1.0) is None
    assert rejoin.find(digest(2), 1.0) is newer
    assert rejoin.bytes == ANSWER_BYTES


def test_what_runs_counts_too() -> None:
    rejoin = Rejoin(bytes_max=3 * ANSWER_BYTES)
    ended(rejoin, digest(0))
    running = runs(rejoin)
    running.add([WORD] * 4)
    assert rejoin.find(digest(0), 1.0) is None
    assert rejoin.bytes == 4 * size(WORD)


def test_of_what_runs_the_one_that_would_be_missed_least_gives_way_first() -> None:
    rejoin = Rejoin(bytes_max=4 * size(WORD))
    replayed, deserted, attended = lost(rejoin), lost(rejoin), runs(rejoin)
    replayed.join()
    for growing in (replayed, deserted, attended):
        growing.add([WORD])
    for least, others in (
        (attended, [replayed, deserted]),
        (deserted, [replayed]),
        (replayed, []),
    ):
        replayed.add([WORD] * (5 - len(replayed.events) - len(others)))
        while least.running:
            replayed.add([WORD])
        assert all(other.running for other in others)
    assert rejoin.bytes == 0


def test_one_answer_never_takes_more_than_there_is() -> None:
    rejoin = Rejoin(bytes_max=0)
    recording = runs(rejoin)
    recording.add([WORD])
    assert recording.state is State.SPILLED
    rejoin.ended(recording, 1.0)
    assert rejoin.find(KEY, 1.0) is None


def test_small_answers_are_bounded_in_number() -> None:
    rejoin = Rejoin(bytes_max=10 * ANSWERS_MAX * ANSWER_BYTES)
    recordings = [ended(rejoin) for _ in range(ANSWERS_MAX + 1)]
    assert [recording.state for recording in recordings[:2]] == [State.SPILLED, State.DONE]
    assert rejoin.bytes == ANSWERS_MAX * ANSWER_BYTES


MOVES: Final = ("begin", "add", "finish", "fail", "leave", "retry", "part", "later")


@given(
    st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 5)), max_size=60),
    st.integers(0, 12),
)
def test_no_history_keeps_too_much_or_gives_one_answer_to_two(
    moves: list[tuple[str, int]], room: int
) -> None:
    rejoin = Rejoin(bytes_max=room * size(WORD))
    now = 0.0
    running: list[Recording] = []
    replayed: list[Recording] = []
    every: list[Recording] = []

    def end(recording: Recording, now: float) -> None:
        running.remove(recording)
        recording.attended = False
        rejoin.ended(recording, now)

    for move, number in moves:
        recording = running[number % len(running)] if running else None
        match move:
            case "begin":
                running.append(rejoin.begin(digest(number % 2), now))
                every.append(running[-1])
            case "add" if recording is not None:
                recording.add([WORD] * (number + 1))
            case "finish" if recording is not None:
                recording.add([STOP])
                if recording.state is State.DONE or not recording.running:
                    end(recording, now)
            case "fail" if recording is not None:
                recording.fail(UpstreamFailed("broke"))
                end(recording, now)
            case "leave" if recording is not None:
                recording.attended = False
            case "retry":
                found = rejoin.find(digest(number % 2), now)
                if found is not None:
                    assert not found.attended
                    assert found not in replayed
                    found.join()
                    replayed.append(found)
            case "part" if replayed:
                replayed.pop(number % len(replayed)).part(delivered=bool(number % 2))
            case "later":
                now += 10.0 * number
        assert rejoin.bytes == sum(one.bytes for one in every) <= room * size(WORD)
    for recording in tuple(running):
        recording.fail(UpstreamFailed("broke"))
        end(recording, now)
    assert rejoin.find(digest(0), now + KEPT_S) is None
    assert rejoin.bytes == 0


# --- Whole stories --------------------------------------------------------------


@attrs.define(eq=False)
class Story:
    """One caller who asks one thing, as the service would have it."""

    rejoin: Rejoin
    clock: ManualClock
    taps: list[Tap] = attrs.field(factory=list)

    async def ask(self) -> Reader:
        """A first try."""
        self.rejoin.met(KEY, self.clock.now())
        return await self.generate()

    async def ask_again(self) -> Reader:
        """A retry: what was found, or an answer of its own."""
        found = self.rejoin.find(KEY, self.clock.now())
        return await self.generate() if found is None else await again(found)

    async def generate(self) -> Reader:
        self.taps.append(Tap())
        recording = self.rejoin.begin(KEY, self.clock.now())
        reader = await first(self.taps[-1], recording, self.clock)
        reader.task.add_done_callback(
            lambda _: self.rejoin.ended(recording, self.clock.now()),
        )
        return reader


@pytest.fixture
def story(rejoin: Rejoin) -> Story:
    return Story(rejoin, ManualClock())


async def test_a_client_that_drops_and_retries_costs_one_generation(story: Story) -> None:
    client = await story.ask()
    (tap,) = story.taps
    tap.say(WORD)
    await settle()
    await client.leave()
    await story.clock.advance(0.5)
    retry = await story.ask_again()
    tap.say(STOP)
    await retry.task
    assert retry.got == [WORD, STOP]
    assert story.taps == [tap]


async def test_a_client_that_comes_back_too_late_begins_again(story: Story) -> None:
    client = await story.ask()
    story.taps[0].say(WORD)
    await client.leave()
    await story.clock.advance(PATIENCE_S + 1.0)
    assert story.rejoin.bytes == 0
    retry = await story.ask_again()
    assert retry.got == []
    story.taps[1].say(*ANSWER)
    await retry.task
    assert len(story.taps) == 2


async def test_a_client_that_comes_back_after_the_end_gets_it_at_once(story: Story) -> None:
    client = await story.ask()
    await client.leave()
    story.taps[0].say(*ANSWER)
    await settle()
    await story.clock.advance(KEPT_S - 1.0)
    retry = await story.ask_again()
    assert retry.got == [WORD, STOP]
    assert len(story.taps) == 1


async def test_two_workers_with_one_prompt_get_an_answer_each(story: Story) -> None:
    one, two = await story.ask(), await story.ask()
    for tap in story.taps:
        tap.say(WORD)
    await settle()
    await one.leave()
    retry = await story.ask_again()
    other = await story.ask_again()
    assert len(story.taps) == 3, "the second one's client is still there"
    for tap in story.taps:
        tap.say(STOP)
    for reader in (two, retry, other):
        await reader.task


async def test_after_an_answer_that_broke_the_retry_begins_again(story: Story) -> None:
    client = await story.ask()
    story.taps[0].say(WORD)
    await client.leave()
    retry = await story.ask_again()
    story.taps[0].fail(UpstreamFailed("broke"))
    with pytest.raises(UpstreamFailed):
        await retry.task
    with pytest.raises(UpstreamFailed):
        await client.task
    third = await story.ask_again()
    assert len(story.taps) == 2
    story.taps[1].say(*ANSWER)
    await third.task


async def test_a_retry_that_leaves_too_is_waited_for_again(story: Story) -> None:
    client = await story.ask()
    await client.leave()
    retry = await story.ask_again()
    await story.clock.advance(10.0)
    await retry.leave()
    await story.clock.advance(PATIENCE_S - 0.1)
    third = await story.ask_again()
    story.taps[0].say(*ANSWER)
    await third.task
    assert len(story.taps) == 1
