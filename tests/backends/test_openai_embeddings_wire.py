import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.openai_embeddings_wire import embeddings_body, read_embeddings, unsupported
from gateway.core.errors import BackendRefusedRequest, UpstreamBadResponse
from gateway.core.messages import EmbedRequest

RECORDED = (Path(__file__).parent.parent / "data" / "llamacpp_embeddings.json").read_bytes()

ALL = frozenset({"input", "dimensions", "truncate", "num_ctx", "keep_alive"})


def request(*inputs: str | tuple[int, ...], **others: Any) -> EmbedRequest:
    return EmbedRequest(model="m", inputs=inputs or ("x",), **others)


def answer(*items: Any, **more: Any) -> bytes:
    return json.dumps({"data": items, **more}).encode()


@pytest.mark.parametrize("vllm", [False, True])
def test_vectors_are_asked_for_in_base64(vllm: bool) -> None:
    sent = json.loads(embeddings_body(request("a", "b"), vllm=vllm))
    assert sent == {"model": "m", "input": ["a", "b"], "encoding_format": "base64"}
    sent = json.loads(embeddings_body(request((1, 2), (3,)), vllm=vllm))
    assert sent["input"] == [[1, 2], [3]]


def test_an_engine_is_sent_what_it_knows_and_the_rest_is_named() -> None:
    asked = request(dimensions=8, truncate=True, extensions={"num_ctx": 9}, params=ALL)
    sent = json.loads(embeddings_body(asked, vllm=True))
    assert (sent["dimensions"], sent["truncate_prompt_tokens"]) == (8, -1)
    assert unsupported(asked, vllm=True) == ("keep_alive", "num_ctx")
    assert json.loads(embeddings_body(asked, vllm=False)).keys() == {
        "model",
        "input",
        "encoding_format",
    }
    assert unsupported(asked, vllm=False) == ("dimensions", "keep_alive", "num_ctx")
    assert unsupported(request(), vllm=False) == ()


def test_a_recorded_answer_is_read() -> None:
    found = read_embeddings(RECORDED, request("a", "b"), vllm=False)
    assert [len(vector) for vector in found.vectors] == [576, 576]
    for vector in found.vectors:
        assert sum(number * number for number in vector) == pytest.approx(1.0)
    assert found.prompt_tokens == 13
    assert found.load_s is None


def test_numbers_are_read_as_well() -> None:
    found = read_embeddings(
        answer({"embedding": [1, 0.5]}, {"embedding": b64encode(bytes(8)).decode()}),
        request("a", "b"),
        vllm=False,
    )
    assert [list(vector) for vector in found.vectors] == [[1.0, 0.5], [0.0, 0.0]]
    assert found.prompt_tokens == 0


def test_vectors_are_put_in_the_order_of_their_numbers() -> None:
    items = [{"embedding": [float(index)], "index": index} for index in (2, 0, 1)]
    found = read_embeddings(answer(*items), request("a", "b", "c"), vllm=False)
    assert found.vectors == [[0.0], [1.0], [2.0]]


def test_only_who_was_asked_for_dimensions_is_held_to_them() -> None:
    asked, told = request(dimensions=2), answer({"embedding": [1.0]})
    assert read_embeddings(told, asked, vllm=False).vectors == [[1.0]]
    with pytest.raises(BackendRefusedRequest):
        read_embeddings(told, asked, vllm=True)


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data":[null]}',
        b'{"data":[{"embedding":null}]}',
        b'{"data":[{"embedding":[1,null]}]}',
        b'{"data":[{"embedding":[1e999]}]}',
        # llama.cpp without pooling: a vector for each token.
        b'{"data":[{"embedding":[[1.0],[2.0]]}]}',
        answer(),
        answer({"embedding": []}),
        answer({"embedding": ""}),
        answer({"embedding": "AAAA"}),
        answer({"embedding": b64encode(b"\x00\x00\xc0\x7f").decode()}),
        answer({"embedding": [1.0], "index": 1}),
        answer({"embedding": [1.0], "index": -1}),
        answer({"embedding": [1.0]}, {"embedding": [1.0]}),
        answer({"embedding": [1.0]})[:-1],
    ],
)
def test_what_is_no_answer_is_a_bad_response(told: bytes) -> None:
    with pytest.raises(UpstreamBadResponse):
        read_embeddings(told, request(), vllm=False)


@pytest.mark.parametrize("numbers", [(0, 0), (0, None), (1, 2)])
def test_numbers_that_are_not_one_after_the_other_are_a_bad_response(numbers: Any) -> None:
    items = [{"embedding": [1.0], "index": number} for number in numbers]
    with pytest.raises(UpstreamBadResponse):
        read_embeddings(answer(*items), request("a", "b"), vllm=False)
