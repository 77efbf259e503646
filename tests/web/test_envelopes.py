import pytest

from gateway.core.errors import InvalidRequest
from gateway.web.envelopes import envelope_of


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/chat/completions", 422),
        ("/v1/embeddings", 422),
        ("/v1/responses", 400),
        ("/v1/messages", 400),
        ("/api/chat", 400),
        ("/nowhere", 422),
    ],
)
def test_a_body_that_does_not_fit_has_the_status_that_the_clients_of_an_api_know(
    path: str, status: int
) -> None:
    assert envelope_of(path).status(InvalidRequest("no", param="x")) == status
