"""The spans of a request that a real model has answered."""

import itertools
from pathlib import Path

import pytest

from gateway.backends.llamacpp import available
from tests.real.clients import sdk, user
from tests.real.gateway_process import MODEL, serving
from tests.telemetry.collecting import collecting

pytestmark = [pytest.mark.embedded, pytest.mark.slow]


def test_queue_prefill_and_decode_fill_the_time_of_an_answer(tmp_path: Path) -> None:
    if reason := available():
        pytest.skip(reason)
    settings = {"GATEWAY__BACKEND__KIND": "llamacpp"}
    with collecting() as collector:
        settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        with serving(tmp_path, **settings) as gateway, sdk(gateway) as client:
            raw = client.chat.completions.with_raw_response.create(
                model=MODEL, messages=user("Name a colour."), max_tokens=16
            )
            usage = raw.parse().usage
        server, *phases = collector.spans("POST /v1/chat/completions")
    assert usage is not None
    _, trace_id, span_id, _ = raw.headers["traceresponse"].split("-")
    assert (server["trace_id"], server["span_id"]) == (trace_id, span_id)
    told = server["attributes"]
    assert told["gen_ai.provider.name"] == "llamacpp"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == MODEL
    assert told["gen_ai.usage.input_tokens"] == usage.prompt_tokens
    assert told["gen_ai.usage.output_tokens"] == usage.completion_tokens
    assert [span["name"] for span in phases] == ["queue", "prefill", "decode"]
    assert all(span["parent_id"] == span_id for span in phases)
    for earlier, later in itertools.pairwise(phases):
        assert earlier["end_ns"] == later["start_ns"]
    # The rest is reading the request and writing the answer.
    queue, prefill, decode = (span["end_ns"] - span["start_ns"] for span in phases)
    whole = server["end_ns"] - server["start_ns"]
    assert min(prefill, decode) > queue
    assert 0.8 * whole < queue + prefill + decode <= whole
