from typing import Any, Final

import pytest

from gateway.core.messages import Timings, Usage
from gateway.telemetry.families import gen_ai
from gateway.telemetry.families.gen_ai import BEGUN_MAX, GenAiFamilies
from gateway.telemetry.families.labels import MODELS_MAX
from gateway.telemetry.families.registry import Families
from gateway.telemetry.series import Budget
from tests.telemetry.exposition import Page, read
from tests.telemetry.records import record

DURATION: Final = "gen_ai_server_request_duration_seconds"
FIRST_TOKEN: Final = "gen_ai_server_time_to_first_token_seconds"
TOKEN: Final = "gen_ai_server_time_per_output_token_seconds"
TOKENS: Final = "gen_ai_client_token_usage"
CHAT: Final = {"gen_ai_request_model": "llama3.2", "gen_ai_operation_name": "chat"}


class Shelf:
    """These families on a page of their own."""

    def __init__(self, *, series_max: int = 1000) -> None:
        self.budget = Budget(series_max)
        self.names = {"llama3.2": None}
        self._families = Families(Budget(0))
        self.gen_ai = GenAiFamilies(self._families, models=self.names.keys(), budget=self.budget)

    def told(self, **changes: Any) -> Page:
        self.gen_ai.told(record(**changes))
        return self.page()

    def page(self) -> Page:
        return read(self._families.page())


def test_a_stream_is_timed_from_its_arrival_to_its_last_token() -> None:
    page = Shelf().told()
    assert page.value(f"{DURATION}_sum", error_type="", **CHAT) == 2.0
    assert page.value(f"{FIRST_TOKEN}_sum", **CHAT) == 0.5
    assert page.value(f"{TOKEN}_sum", **CHAT) == 2.0 / 20
    assert page.value(f"{TOKENS}_sum", gen_ai_token_type="input", **CHAT) == 10
    assert page.value(f"{TOKENS}_sum", gen_ai_token_type="output", **CHAT) == 20


@pytest.mark.parametrize(
    ("changes", "error_type"),
    [
        ({"outcome": "failed", "status": 504, "reason": "timeout"}, "timeout"),
        ({"outcome": "failed", "status": 504, "reason": "stall"}, "timeout"),
        ({"outcome": "failed", "status": 502, "reason": "backend_error"}, "backend_error"),
        ({"outcome": "cancelled", "status": 499, "reason": "client_gone"}, "client_gone"),
        ({"outcome": "failed", "status": 500, "reason": "internal_error"}, "_OTHER"),
    ],
)
def test_what_broke_is_told_coarsely_and_has_no_speed(
    changes: dict[str, Any], error_type: str
) -> None:
    page = Shelf().told(**changes)
    assert page.value(f"{DURATION}_count", error_type=error_type, **CHAT) == 1
    assert (f"{FIRST_TOKEN}_count", tuple(sorted(CHAT.items()))) not in page.series
    assert (f"{TOKEN}_count", tuple(sorted(CHAT.items()))) not in page.series


def test_a_refusal_takes_no_time_of_a_model() -> None:
    assert Shelf().told(outcome="refused", status=503, reason="queue_full").series == {}


def test_each_operation_is_told_apart() -> None:
    shelf = Shelf()
    shelf.told(operation="embeddings", stream=False, usage=Usage(prompt=7), first_token_s=None)
    page = shelf.told(operation="text_completion")
    for operation in ("embeddings", "text_completion"):
        labels = {**CHAT, "gen_ai_operation_name": operation}
        assert page.value(f"{DURATION}_count", error_type="", **labels) == 1
    labels = {**CHAT, "gen_ai_operation_name": "embeddings"}
    assert page.value(f"{TOKENS}_sum", gen_ai_token_type="input", **labels) == 7


def test_the_answer_of_an_earlier_try_counts_its_tokens_there() -> None:
    page = Shelf().told(rejoined=True)
    assert page.value(f"{DURATION}_count", error_type="", **CHAT) == 1
    assert page.labels(f"{TOKENS}_count") == set()


def test_an_engine_that_tells_nonsense_harms_nothing() -> None:
    page = Shelf().told(timings=Timings(decode_s=float("inf")), total_s=float("nan"))
    assert page.value(f"{DURATION}_count", error_type="", **CHAT) == 0
    assert page.labels(f"{TOKEN}_count") == set()


def test_models_are_there_at_zero_before_their_first_chat() -> None:
    shelf = Shelf()
    shelf.gen_ai.begin_model("llama3.2")
    page = shelf.page()
    assert page.value(f"{DURATION}_count", error_type="", **CHAT) == 0
    assert page.value(f"{FIRST_TOKEN}_count", **CHAT) == 0
    assert page.value(f"{TOKEN}_count", **CHAT) == 0
    assert page.value(f"{TOKENS}_count", gen_ai_token_type="output", **CHAT) == 0


def test_the_models_that_are_shown_from_the_start_leave_room_for_what_comes() -> None:
    shelf = Shelf()
    shelf.names |= {f"model-{number}": None for number in range(MODELS_MAX)}
    for name in shelf.names:
        shelf.gen_ai.begin_model(name)
    assert len(shelf.page().values("gen_ai_request_model")) == BEGUN_MAX
    assert shelf.budget.refused == 0
    assert shelf.budget.left > 0


def test_without_room_all_is_counted_as_others() -> None:
    shelf = Shelf(series_max=200)
    for number in range(5):
        name = f"model-{number}"
        shelf.names[name] = None
        shelf.gen_ai.told(record(model=name))
    page = shelf.page()
    others = {"gen_ai_request_model": "other", "gen_ai_operation_name": "other"}
    assert page.value(f"{DURATION}_count", error_type="other", **others) > 0
    counts = [v for (name, _), v in page.series.items() if name == f"{DURATION}_count"]
    assert sum(counts) == 5


def test_a_model_that_is_forgotten_gives_its_room_back() -> None:
    shelf = Shelf()
    before = shelf.budget.left
    shelf.told()
    shelf.gen_ai.forget_model("llama3.2")
    assert shelf.budget.left == before
    assert shelf.page().series == {}


@pytest.mark.parametrize(
    ("edges", "standard", "highest"),
    [
        (gen_ai.DURATION_S, (0.01, 0.64, 10.24, 81.92), 655.36),
        (gen_ai.FIRST_TOKEN_S, (0.001, 0.06, 0.75, 10.0), 160.0),
        (gen_ai.TOKEN_S, (0.01, 0.075, 0.4, 2.5), 2.5),
        (gen_ai.TOKENS, (1, 64, 65536, 67108864), 67108864),
    ],
)
def test_the_edges_are_the_standard_ones_and_reach_what_a_cpu_takes(
    edges: tuple[float, ...], standard: tuple[float, ...], highest: float
) -> None:
    assert set(standard) <= set(edges)
    assert edges[-1] == highest
    assert list(edges) == sorted(edges)
