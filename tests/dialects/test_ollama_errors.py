import json

from gateway.core.errors import InvalidRequest, ModelNotFound, QueueFull, UpstreamFailed
from gateway.dialects.ollama_errors import ENVELOPE


def test_an_error_is_a_sentence() -> None:
    error = UpstreamFailed("It broke.")
    assert json.loads(ENVELOPE.body(error, "r1")) == {"error": "It broke."}
    assert ENVELOPE.status(error) == 502
    assert ENVELOPE.status(QueueFull("Full.", retry_after_s=1.0)) == 503


def test_what_does_not_fit_is_a_400_as_ollama_has_it() -> None:
    assert ENVELOPE.status(InvalidRequest("'x' must be y.", param="x")) == 400


def test_that_there_is_no_such_model_is_said_in_the_words_that_the_cli_looks_for() -> None:
    error = ModelNotFound("Models: a, b.")
    assert json.loads(ENVELOPE.body(error, "")) == {"error": "model not found: Models: a, b."}
    assert ENVELOPE.status(error) == 404
