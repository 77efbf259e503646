import json

import pytest

from gateway.core import errors
from gateway.dialects.anthropic_errors import ENVELOPE


def envelope(error: errors.GatewayError, request_id: str = "req-1") -> dict[str, object]:
    document: dict[str, object] = json.loads(ENVELOPE.body(error, request_id))
    return document


@pytest.mark.parametrize(
    ("error", "status", "type"),
    [
        (errors.MalformedRequest("m"), 400, "invalid_request_error"),
        (errors.InvalidRequest("m"), 400, "invalid_request_error"),
        (errors.UnsupportedParameter("m"), 400, "invalid_request_error"),
        (errors.UnsupportedMediaType("m"), 415, "invalid_request_error"),
        (errors.Unauthorized("m"), 401, "authentication_error"),
        (errors.Forbidden("m"), 403, "permission_error"),
        (errors.ModelNotFound("m"), 404, "not_found_error"),
        (errors.BodyTimeout("m"), 408, "timeout_error"),
        (errors.TooLarge("m"), 413, "request_too_large"),
        (errors.TooManyOfOneAddress("m"), 429, "rate_limit_error"),
        (errors.InternalError("m"), 500, "api_error"),
        (errors.UpstreamFailed("m"), 502, "api_error"),
        (errors.QueueFull("m"), 503, "overloaded_error"),
        (errors.RequestTimeout("m"), 504, "timeout_error"),
    ],
)
def test_the_type_follows_the_status(error: errors.GatewayError, status: int, type: str) -> None:
    assert ENVELOPE.status(error) == status
    assert envelope(error) == {
        "type": "error",
        "error": {"type": type, "message": "m", "details": {"error_code": error.code}},
        "request_id": "req-1",
    }


def test_the_parameter_at_fault_is_in_the_details() -> None:
    error = envelope(errors.InvalidRequest("m", param="messages[0].role"))["error"]
    assert error == {
        "type": "invalid_request_error",
        "message": "m",
        "details": {"error_code": "invalid_request", "param": "messages[0].role"},
    }


def test_a_refusal_that_knows_its_turn_says_so() -> None:
    promise = errors.Promise(place="p", wait_s=1.2341, position=3)
    error = envelope(errors.QueueFull("m", promise=promise))["error"]
    assert error == {
        "type": "overloaded_error",
        "message": "m",
        "details": {"error_code": "queue_full", "estimated_wait_ms": 1235, "queue_position": 3},
    }


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_agents_wait_for() -> None:
    error = envelope(errors.ContextLengthExceeded("It has 9 tokens."))["error"]
    assert isinstance(error, dict)
    assert error["message"] == "prompt is too long: It has 9 tokens."


@pytest.mark.parametrize(
    ("prompt", "told"),
    [(205, "205 tokens > 100"), (None, "101 tokens > 100"), (100, "101 tokens > 100")],
)
def test_agents_read_off_by_how_much_it_is_too_long(prompt: int | None, told: str) -> None:
    tried = errors.ContextLengthExceeded("It is.", prompt=prompt, context=100)
    error = envelope(tried)["error"]
    assert isinstance(error, dict)
    assert error["message"] == f"prompt is too long: {told} maximum"


def test_what_has_no_id_says_none() -> None:
    assert envelope(errors.InternalError("m"), "")["request_id"] is None
