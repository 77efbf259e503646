import json

import pytest

from gateway.core import errors
from gateway.dialects import openai_errors


@pytest.mark.parametrize(
    ("error", "type", "code"),
    [
        (errors.MalformedRequest("m"), "invalid_request_error", "invalid_json"),
        (errors.Unauthorized("m"), "authentication_error", "invalid_api_key"),
        (errors.Forbidden("m"), "invalid_request_error", "host_not_allowed"),
        (errors.ModelNotFound("m"), "invalid_request_error", "model_not_found"),
        (errors.InvalidRequest("m"), "invalid_request_error", "invalid_request"),
        (errors.QueueFull("m"), "api_error", "queue_full"),
        (errors.UpstreamFailed("m"), "api_error", "backend_error"),
        (errors.RequestTimeout("m"), "api_error", "request_timeout"),
    ],
)
def test_the_type_follows_the_status(error: errors.GatewayError, type: str, code: str) -> None:
    assert json.loads(openai_errors.body(error)) == {
        "error": {"message": "m", "type": type, "param": None, "code": code}
    }


def test_too_many_requests_is_a_rate_limit_error() -> None:
    class RateLimited(errors.GatewayError):
        status = 429
        code = "rate_limit_exceeded"

    assert openai_errors.envelope(RateLimited("m"))["error"]["type"] == "rate_limit_error"


def test_the_parameter_at_fault_is_named() -> None:
    error = errors.InvalidRequest("m", param="messages[2].content")
    assert openai_errors.envelope(error)["error"]["param"] == "messages[2].content"


def test_a_refusal_tells_when_its_turn_would_be() -> None:
    promise = errors.Promise(place="p", wait_s=12.0341, position=3)
    error = openai_errors.envelope(errors.QueueFull("m", promise=promise))["error"]
    assert (error["estimated_wait_ms"], error["queue_position"]) == (12_035, 3)
    assert error["code"] == "queue_full"
