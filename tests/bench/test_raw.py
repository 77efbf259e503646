"""A gateway that answers wrongly must be seen to: what the attack figures take for wrong."""

import orjson
import pytest

from bench import broken_engines, fuzz, hostile
from bench.raw import CANARY, Answer, Findings, answers, log_fault, refusal_fault

ENVELOPE = orjson.dumps({"error": {"message": "No.", "type": "t", "param": None, "code": "c"}})
HEADERS = {
    "content-type": "application/json",
    "x-content-type-options": "nosniff",
    "x-request-id": "req-1",
    "server": "gateway",
}


def sent(body: bytes, *lines: str, status: int = 400) -> bytes:
    top = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(top).encode() + body


def refusal(body: bytes = ENVELOPE, status: int = 400, **headers: str) -> Answer:
    return Answer(status, {**HEADERS, **{k.replace("_", "-"): v for k, v in headers.items()}}, body)


def test_all_answers_of_a_connection_are_found() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    empty = chunked.replace(b"2\r\nhi\r\n", b"")
    found = answers(b"HTTP/1.1 100 Continue\r\n\r\n" + chunked + empty + sent(b"no"))
    assert [(one.status, one.body) for one in found] == [
        (100, b""),
        (200, b"hi"),
        (200, b""),
        (400, b"no"),
    ]
    assert answers(b"") == []


def test_an_answer_to_head_has_no_body() -> None:
    (found,) = answers(sent(b"four")[:-4], method="HEAD")
    assert found.headers["content-length"] == "4"


@pytest.mark.parametrize(
    "received",
    [
        sent(b"four")[:-1],
        sent(b"four") + b"x",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        b"<html>\r\n\r\n",
    ],
)
def test_what_is_not_whole_answers_is_none(received: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        answers(received)


def test_a_refusal_in_every_respect_is_right() -> None:
    assert refusal_fault(refusal(), statuses=(400,), codes=("c",)) is None


@pytest.mark.parametrize(
    "answer",
    [
        refusal(status=500),
        refusal(b"400: Bad Request"),
        refusal(b"[]"),
        refusal(b'{"error":{"message":"No."}}'),
        refusal(ENVELOPE.replace(b'"c"', b'"d"')),
        refusal(ENVELOPE.replace(b"No.", CANARY.encode())),
        refusal(content_type="text/plain"),
        refusal(x_content_type_options=""),
        refusal(x_request_id=""),
        refusal(server="Python/3.11 aiohttp/3.14"),
    ],
)
def test_a_refusal_of_another_shape_is_wrong(answer: Answer) -> None:
    assert refusal_fault(answer, statuses=(400,), codes=("c",)) is not None


def test_a_log_may_have_no_traceback_and_no_word_of_a_client() -> None:
    assert log_fault('{"event":"http_refused"}\n') is None
    assert log_fault('"exception":"Traceback (most recent call last):\\n"') is not None
    assert log_fault(f"path=/{CANARY}") is not None


def test_findings_count_every_case_and_tell_some_faults() -> None:
    findings = Findings()
    findings.add("a", None)
    findings.add("b", "status 200")
    findings.also("log", "1 tracebacks")
    assert (findings.cases, findings.wrong) == (2, 2)
    assert findings.told() == "2 of 2; 1 × 'b: status 200'; 1 × 'log: 1 tracebacks'"


def test_every_row_about_http_has_its_cases() -> None:
    rows = {name.split(" ")[0] for name in hostile.CASES}
    assert rows >= {f"H{n}" for n in (*range(1, 14), *range(15, 29), 30)}


def test_a_mutation_is_always_the_same() -> None:
    assert fuzz.mutant(7) == fuzz.mutant(7)
    assert len({fuzz.mutant(number) for number in range(100)}) > 90


@pytest.mark.parametrize(
    "body", [b"data: [DONE]\n\n", b'data: {"choices":[{"finish_reason":"stop"}]}\n\n']
)
def test_a_cut_stream_that_looks_whole_is_seen(body: bytes) -> None:
    streamed = Answer(200, {"content-type": "text/event-stream"}, body)
    assert broken_engines.complete_fault(streamed) is not None
    assert broken_engines.complete_fault(Answer(200, HEADERS, b"{}")) is not None
    assert broken_engines.complete_fault(refusal(status=502)) is None
