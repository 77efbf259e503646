import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.misdirected import meant

KNOWN = {
    "/v1/chat/completions",
    "/v1/models",
    "/v1/messages",
    "/v1/embeddings",
    "/api/chat",
    "/api/tags",
    "/health",
}


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/v1/api/chat", "/api/chat"),
        ("/api/api/tags", "/api/tags"),
        ("/v1/health", "/health"),
    ],
)
def test_a_base_url_with_a_part_too_many_or_too_few_is_seen_through(path: str, url: str) -> None:
    assert meant(path, KNOWN) == url


@pytest.mark.parametrize(
    "path", ["/", "", "/v1", "/admin", "/v1/chats", "/v1/../health", "/v2/models"]
)
def test_what_is_near_nothing_is_left_alone(path: str) -> None:
    assert meant(path, KNOWN) == ""


@given(st.text())
def test_only_what_there_is_is_ever_named(path: str) -> None:
    assert meant("/" + path, KNOWN) in {"", *KNOWN}
