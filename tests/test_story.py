"""What is told of a request when it has ended, beyond what the service's own tests see."""

import attrs
import pytest

from gateway.backends.recording import Recording
from gateway.core.errors import UpstreamDisconnected
from gateway.core.messages import Timings
from gateway.core.ticket import ANONYMOUS, Priority, RequestRecord
from gateway.story import Story, ended_progress
from tests.engines import HELLO, request, ticket


def left(*recordings: Recording) -> Story:
    """A request that had its slot from 101.0 to 103.0, when its caller left."""
    story = Story(request(), ANONYMOUS, "r", 100.0)
    story.accepted = True
    story.leased("one", 101.0)
    story.recordings += recordings
    story.leave()
    return story


def replayed(*, whole: bool = True, delivered: bool = False) -> Recording:
    """An answer whose caller has left, and which somebody reads again or has read."""
    recording = Recording()
    recording.attended = False
    recording.join()
    if whole:
        recording.add(HELLO)
    else:
        recording.fail(UpstreamDisconnected("It broke."))
    if delivered:
        recording.part(delivered=True)
    return recording


def test_a_record_tells_what_was_decided() -> None:
    story = left()
    story.ticket = ticket(1)
    story.ticket.priority = Priority.BATCH
    story.ticket.expected_wait_s = 0.5
    story.ticket.prompt_chars = 12
    story.gave_back(103.0)
    record = story.record(103.0)
    assert record.priority is Priority.BATCH
    assert record.prompt_chars == 12
    assert (record.expected_wait_s, record.queue_s, record.service_s) == (0.5, 1.0, 2.0)


def test_a_request_that_got_no_ticket_has_no_class() -> None:
    record = Story(request(), ANONYMOUS, "r", 100.0).record(100.0)
    assert record.outcome == "refused"
    assert record.priority is None
    assert record.prompt_chars == 0


@pytest.mark.parametrize("delivered", [True, False], ids=["read", "being read"])
def test_an_answer_that_a_retry_got_is_taken_over(delivered: bool) -> None:
    assert left(replayed(delivered=delivered)).record(103.0).taken_over


def test_an_answer_that_broke_or_that_nobody_came_for_is_not_taken_over() -> None:
    alone = Recording()
    alone.attended = False
    alone.add(HELLO)
    assert not left(alone).record(103.0).taken_over
    assert not left(replayed(whole=False)).record(103.0).taken_over
    assert not left().record(103.0).taken_over


def test_what_the_engine_says_of_its_own_times_counts_and_the_rest_is_as_seen() -> None:
    seen = RequestRecord(
        request_id="r",
        caller="anonymous",
        model="m",
        stream=False,
        outcome="completed",
        status=200,
        queue_s=1.0,
        first_token_s=4.0,
        total_s=10.0,
        load_s=2.0,
    )
    progress = ended_progress(seen)
    assert (progress.load_s, progress.prefill_s, progress.decode_s) == (2.0, 1.0, 6.0)
    told = attrs.evolve(seen, timings=Timings(load_s=2.5, prefill_s=0.25, decode_s=5.5))
    progress = ended_progress(told)
    assert (progress.load_s, progress.prefill_s, progress.decode_s) == (2.5, 0.25, 5.5)
