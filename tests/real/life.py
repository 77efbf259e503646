"""What holds of the gateway's life, whichever engine is behind it: crowds, leavers, the end."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import ClassVar, Final

import pytest
from openai import APIStatusError, APITimeoutError, InternalServerError, OpenAI, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared_params import ResponseFormatJSONSchema

from tests.real.clients import TIMEOUT_S, async_sdk, sdk, user
from tests.real.conversation import COLORS, STORY, text_of
from tests.real.gateway_process import MODEL, GatewayProcess, Serve
from tests.real.processes import wait_until

QUEUE: Final = 50
CROWD: Final = 100

LONG: Final[ResponseFormatJSONSchema] = {
    "type": "json_schema",
    "json_schema": {"name": "counted", "schema": {"enum": [" ".join(map(str, range(500)))]}},
}
"""No story is long for certain; of these numbers each must be said."""

LEFT_STREAMING: Final = 'gateway_client_gone_total{phase="streaming"}'
LEFT_QUEUED: Final = 'gateway_client_gone_total{phase="queued"}'
BUSY: Final = 'gateway_slots_busy{upstream="default"}'


@contextmanager
def begun(client: OpenAI, max_tokens: int = 1000) -> Iterator[Stream[ChatCompletionChunk]]:
    """A long stream, of which the first text has come."""
    with client.chat.completions.create(
        model=MODEL, messages=STORY, max_tokens=max_tokens, stream=True, response_format=LONG
    ) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        yield stream


def answer(client: OpenAI, max_tokens: int, *, said_s: float | None = None) -> ChatCompletion:
    """A short answer; `said_s` is told as the time that the client has, instead of the true one."""
    headers = {} if said_s is None else {"x-stainless-read-timeout": f"{said_s:g}"}
    return client.chat.completions.create(
        model=MODEL, messages=COLORS, max_tokens=max_tokens, extra_headers=headers
    )


def is_served(client: OpenAI) -> bool:
    """Whether a request is answered; if not, the engine must be to blame."""
    try:
        return bool(text_of(answer(client, 4)))
    except InternalServerError as error:
        if error.code != "backend_error":
            raise
        return False


def assert_counters_add_up(gateway: GatewayProcess) -> None:
    metrics = gateway.metrics()
    ended = ("completed", "failed", "cancelled")
    assert metrics["gateway_requests_accepted_total"] == metrics["active_requests"] + sum(
        metrics[f"gateway_requests_{outcome}_total"] for outcome in ended
    )


class Life:
    """To be inherited by the tests of an engine.

    Attributes:
        slots: How many requests the engine runs at once.
    """

    slots: ClassVar[int]

    def test_it_is_ready_once_the_model_is_warm(self, gateway: GatewayProcess) -> None:
        assert gateway.said_before_ready
        assert set(gateway.said_before_ready) <= {"backend", "warming_up"}
        # An Ollama is asked what it has loaded every ten seconds.
        gateway.wait_for_metric("model_loaded", 1)
        assert gateway.get("/health").document == {"status": "ok"}

    def test_who_leaves_midway_leaves_a_free_slot(
        self, gateway: GatewayProcess, client: OpenAI
    ) -> None:
        left = gateway.metric(LEFT_STREAMING)
        with ExitStack() as streams:
            for _ in range(self.slots):
                streams.enter_context(begun(client))
            assert gateway.metric(BUSY) == self.slots
        gateway.wait_for_metric(BUSY, 0)
        assert gateway.metric(LEFT_STREAMING) == left + self.slots
        assert text_of(answer(client, 2))
        assert_counters_add_up(gateway)

    def test_who_leaves_the_queue_is_out_of_it(
        self, gateway: GatewayProcess, client: OpenAI
    ) -> None:
        left = gateway.metric(LEFT_QUEUED)
        with ExitStack() as streams, sdk(gateway, timeout_s=0.5) as impatient:
            for _ in range(self.slots):
                streams.enter_context(begun(client))
            with pytest.raises(APITimeoutError):
                answer(impatient, 2, said_s=TIMEOUT_S)
            gateway.wait_for_metric("request_queue_depth", 0)
            assert gateway.metric(LEFT_QUEUED) == left + 1
            assert gateway.metric(BUSY) == self.slots
        gateway.wait_for_metric("active_requests", 0)
        assert_counters_add_up(gateway)

    def test_who_says_that_it_can_not_wait_so_long_is_told_so_at_once(
        self, gateway: GatewayProcess, client: OpenAI
    ) -> None:
        accepted = gateway.metric("gateway_requests_accepted_total")
        with ExitStack() as streams:
            for _ in range(self.slots):
                streams.enter_context(begun(client))
            with pytest.raises(InternalServerError) as refused:
                answer(client, 2, said_s=0.2)
            assert gateway.metric("request_queue_depth") == 0
        assert (refused.value.status_code, refused.value.code) == (503, "deadline_unmeetable")
        gateway.wait_for_metric("active_requests", 0)
        assert gateway.metric("gateway_requests_accepted_total") == accepted + self.slots
        assert_counters_add_up(gateway)

    async def test_of_a_hundred_at_once_each_gets_its_answer_or_a_time_to_come_back(
        self, gateway: GatewayProcess
    ) -> None:
        accepted = gateway.metric("gateway_requests_accepted_total")
        gateway.wait_for_metric("active_requests", 0)
        health: list[int] = []

        async def watch() -> None:
            while True:
                health.append((await asyncio.to_thread(gateway.get, "/health")).status)
                await asyncio.sleep(0.05)

        async with async_sdk(gateway) as client, asyncio.TaskGroup() as group:
            watcher = group.create_task(watch())
            ends = await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model=MODEL, messages=user(f"Count to {number}."), max_tokens=4
                    )
                    for number in range(CROWD)
                ),
                return_exceptions=True,
            )
            watcher.cancel()

        answers = [end for end in ends if isinstance(end, ChatCompletion)]
        refusals = [end for end in ends if isinstance(end, InternalServerError)]
        assert len(answers) + len(refusals) == CROWD, Counter(map(repr, ends))
        assert len(answers) >= self.slots + QUEUE
        assert all(text_of(answer) for answer in answers)
        for refusal in refusals:
            assert (refusal.status_code, refusal.code) == (503, "queue_full")
            assert int(refusal.response.headers["retry-after"]) >= 1
        assert set(health) == {200}
        assert gateway.metric("gateway_requests_accepted_total") == accepted + len(answers)
        assert gateway.metric("active_requests") == 0
        assert_counters_add_up(gateway)

    def test_a_drain_loses_nobody_who_was_accepted(self, serve: Serve) -> None:
        with (
            serve(
                REQUEST_TIMEOUT_SECONDS=str(TIMEOUT_S), SHUTDOWN_GRACE_SECONDS=str(TIMEOUT_S)
            ) as gateway,
            sdk(gateway) as client,
            sdk(gateway) as latecomer,
            ThreadPoolExecutor(max_workers=20) as threads,
        ):
            crowd = self.slots + 12
            whole = [threads.submit(answer, client, 12) for _ in range(crowd // 2)]
            streams = [threads.submit(_streamed, client, 12) for _ in range(crowd - crowd // 2)]
            gateway.wait_for_metric("active_requests", crowd)
            gateway.terminate()
            wait_until(lambda: _is_draining(gateway), "the drain to begin")
            with pytest.raises(APIStatusError) as refused:
                answer(latecomer, 12)
            assert refused.value.code == "shutting_down"
            assert refused.value.response.headers["retry-after"]
            assert all(text_of(end.result()) for end in whole)
            assert {end.result() for end in streams} <= {"stop", "length"}
            gateway.wait_drained()
        (line,) = [line for line in gateway.lines() if line.get("code") == "shutting_down"]
        assert line["status"] == 503

    def test_ctrl_c_lets_the_stream_and_the_queue_come_to_their_end(self, serve: Serve) -> None:
        with (
            serve(SLOTS="1", SHUTDOWN_GRACE_SECONDS=str(TIMEOUT_S)) as gateway,
            sdk(gateway) as client,
            ThreadPoolExecutor(max_workers=1) as threads,
        ):
            with begun(client, max_tokens=60) as stream:
                queued = threads.submit(answer, client, 4)
                gateway.wait_for_metric("request_queue_depth", 1)
                gateway.interrupt()
                *_, last = stream
            assert last.choices[0].finish_reason in ("stop", "length")
            assert text_of(queued.result())
            gateway.wait_drained()


def _streamed(client: OpenAI, max_tokens: int) -> str | None:
    """How a stream ended that was read to its end."""
    with client.chat.completions.create(
        model=MODEL, messages=COLORS, max_tokens=max_tokens, stream=True
    ) as stream:
        *_, last = stream
    return last.choices[0].finish_reason


def _is_draining(gateway: GatewayProcess) -> bool:
    return '"draining"' in gateway.get("/ready").body.decode()
