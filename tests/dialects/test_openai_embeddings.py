import json
import struct
from array import array
from base64 import b64decode
from typing import Any

import pytest

from gateway.config.schema import Generation, Limits
from gateway.core.errors import GatewayError, InvalidRequest, MalformedRequest
from gateway.core.messages import Embeddings, EmbedRequest
from gateway.dialects.base import ReplyHead
from gateway.dialects.openai_embeddings import INPUTS_MAX, EmbeddingsParsed, OpenAIEmbeddings

DIALECT = OpenAIEmbeddings(Limits(), Generation())
HEAD = ReplyHead(id="0", created=7, model='said "so"')


def parse(**fields: Any) -> EmbeddingsParsed:
    return DIALECT.parse(json.dumps({"model": "m", "input": "x", **fields}).encode())


def refused(**fields: Any) -> GatewayError:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    return caught.value


# --- Requests ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "inputs"),
    [
        ("a text", ("a text",)),
        (["a", "b"], ("a", "b")),
        ([7, 0, 2**31 - 1], ((7, 0, 2**31 - 1),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["x"] * INPUTS_MAX, ("x",) * INPUTS_MAX),
        ([1] * (INPUTS_MAX + 1), ((1,) * (INPUTS_MAX + 1),)),
    ],
)
def test_texts_and_tokens_are_taken_alone_and_in_lists(sent: Any, inputs: tuple[Any]) -> None:
    assert parse(input=sent).request.inputs == inputs


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ("", "input"),
        ([], "input"),
        (["a", ""], "input[1]"),
        ([[1], []], "input[1]"),
        (["a", 1], "input[1]"),
        (["a", None], "input[1]"),
        (["a", [1]], "input"),
        ([1, "a"], "input"),
        ([1, -1], "input"),
        ([1, 1.0], "input"),
        ([[True]], "input[0]"),
        ([2**31], "input"),
        ([[[1]]], "input[0]"),
        (["x"] * (INPUTS_MAX + 1), "input"),
        (7, "input"),
        ({"text": "x"}, "input"),
        (None, "input"),
    ],
)
def test_what_has_no_vector_is_refused_and_named(sent: Any, param: str) -> None:
    assert refused(input=sent).param == param


def test_what_was_asked_for_is_in_the_request() -> None:
    parsed = parse(
        dimensions=256,
        truncate=True,
        keep_alive="5m",
        options={"num_ctx": 512},
        encoding_format="base64",
    )
    assert parsed == EmbeddingsParsed(
        request=EmbedRequest(
            model="m",
            inputs=("x",),
            dimensions=256,
            truncate=True,
            extensions={"num_ctx": 512, "keep_alive": "5m"},
            params=frozenset({"model", "input", "dimensions", "truncate", "num_ctx", "keep_alive"}),
        ),
        base64=True,
    )


def test_what_asks_for_nothing_changes_nothing() -> None:
    plain = parse()
    assert plain.request == EmbedRequest(
        model="m", inputs=("x",), params=frozenset({"model", "input"})
    )
    assert (plain.base64, plain.ignored) == (False, ())
    assert parse(encoding_format="float", truncate=False, user=None, dimensions=None) == plain


def test_what_means_nothing_to_a_vector_is_named() -> None:
    parsed = parse(user="u", options={"temperature": 0, "num_ctx": 9, "odd": 1}, stream=True)
    assert parsed.ignored == ("user", "options.temperature", "options.odd", "stream")
    assert parsed.request.extensions == {"num_ctx": 9}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"user": 7}, "user"),
        ({"truncate": "END"}, "truncate"),
        ({"options": []}, "options"),
        ({"options": {"num_ctx": 0}}, "options.num_ctx"),
        ({"model": "../m"}, "model"),
        ({"model": None}, "model"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_a_body_that_is_no_object_is_malformed() -> None:
    with pytest.raises(MalformedRequest):
        DIALECT.parse(b'["x"]')


def test_it_says_what_it_takes() -> None:
    assert list(DIALECT.required) == ["model", "input"]
    assert {"model", "input", "dimensions", "encoding_format", "user"} <= DIALECT.parameters.keys()


# --- Answers ---------------------------------------------------------------------------------

TWO = Embeddings([array("f", [0.5, -0.25]), [0.1, 3.0]], prompt_tokens=9)


def reply(parsed: EmbeddingsParsed, embeddings: Embeddings) -> Any:
    return json.loads(DIALECT.reply(parsed, HEAD, embeddings))


def test_vectors_are_answered_in_order_with_their_usage() -> None:
    assert reply(parse(), TWO) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
            {"object": "embedding", "index": 1, "embedding": [0.1, 3.0]},
        ],
        "model": 'said "so"',
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


def test_base64_is_what_openais_own_clients_decode() -> None:
    data = reply(parse(encoding_format="base64"), TWO)["data"]
    found = [struct.unpack("<2f", b64decode(item["embedding"])) for item in data]
    assert found == [(0.5, -0.25), (pytest.approx(0.1), 3.0)]
