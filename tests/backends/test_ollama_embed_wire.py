import json
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.ollama_embed_wire import embed_body, read_embeddings
from gateway.core.errors import BackendRefusedRequest, UpstreamBadResponse
from gateway.core.messages import EmbedRequest

RECORDED = (Path(__file__).parent.parent / "data" / "ollama_embed.json").read_bytes()


def request(*inputs: str | tuple[int, ...], **others: Any) -> EmbedRequest:
    return EmbedRequest(model="m", inputs=inputs or ("x",), **others)


def sent(asked: EmbedRequest) -> Any:
    return json.loads(embed_body(asked, "m:latest"))


def test_a_plain_request_is_never_cut_and_says_no_more_than_it_must() -> None:
    assert sent(request("a", "b")) == {
        "model": "m:latest",
        "input": ["a", "b"],
        "truncate": False,
    }


def test_all_that_was_asked_for_is_sent() -> None:
    asked = request(
        dimensions=8, truncate=True, extensions={"num_ctx": 512, "keep_alive": "5m", "top_k": 3}
    )
    assert sent(asked) == {
        "model": "m:latest",
        "input": ["x"],
        "truncate": True,
        "dimensions": 8,
        "options": {"num_ctx": 512},
        "keep_alive": "5m",
    }


def test_tokens_are_refused() -> None:
    with pytest.raises(BackendRefusedRequest) as caught:
        embed_body(request("a", (1, 2)), "m")
    assert caught.value.param == "input"


def test_a_recorded_answer_is_read() -> None:
    found = read_embeddings(RECORDED, request("a", "b", dimensions=8))
    assert [len(vector) for vector in found.vectors] == [8, 8]
    # As Ollama wrote them: the shortest decimals that are these float32 numbers.
    assert found.vectors[0][:2] == [-0.40128872, 0.48673558]
    assert found.prompt_tokens == 13
    assert found.load_s == pytest.approx(0.699, abs=0.001)


def test_more_dimensions_than_there_are_are_refused_though_ollama_does_not() -> None:
    with pytest.raises(BackendRefusedRequest, match="8 dimensions"):
        read_embeddings(RECORDED, request("a", "b", dimensions=9))


@pytest.mark.parametrize("more", [{}, {"prompt_eval_count": -1, "load_duration": "1s"}])
def test_what_is_not_told_or_odd_is_not_known(more: dict[str, Any]) -> None:
    answer = json.dumps({"embeddings": [[1, 0.5]], **more}).encode()
    found = read_embeddings(answer, request())
    assert (found.vectors, found.prompt_tokens, found.load_s) == ([[1.0, 0.5]], 0, None)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"embeddings":null}',
        b'{"embeddings":[]}',
        b'{"embeddings":[[]]}',
        b'{"embeddings":[[1,null]]}',
        b'{"embeddings":[["1"]]}',
        b'{"embeddings":[[NaN]]}',
        b'{"embeddings":[[1e999]]}',
        b'{"embeddings":[1,2]}',
        b'{"embeddings":[[1],[2]]}',
        b'{"embeddings":[[1]]',
    ],
)
def test_what_is_no_answer_is_a_bad_response(answer: bytes) -> None:
    with pytest.raises(UpstreamBadResponse):
        read_embeddings(answer, request())
