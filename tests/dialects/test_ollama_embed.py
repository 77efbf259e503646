import json
from array import array
from typing import Any

import pytest

from gateway.config.schema import Generation, Limits
from gateway.core.errors import GatewayError, InvalidRequest
from gateway.core.messages import Embeddings, EmbedRequest
from gateway.dialects.base import EmbedParsed, ReplyHead
from gateway.dialects.ollama_embed import INPUTS_MAX, OllamaEmbed, OllamaEmbeddings

EMBED = OllamaEmbed(Limits(), Generation())
EMBEDDINGS = OllamaEmbeddings(Limits(), Generation())
HEAD = ReplyHead(id="0", created=7, model="m:latest")


def parse(dialect: OllamaEmbed | OllamaEmbeddings = EMBED, **fields: Any) -> EmbedParsed:
    return dialect.parse(json.dumps({"model": "m", **fields}).encode())


def refused(**fields: Any) -> GatewayError:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("sent", "inputs"),
    [
        ({"input": "x"}, ("x",)),
        ({"input": ["x", "y"]}, ("x", "y")),
        ({"input": ""}, ()),
        ({"input": []}, ()),
        ({"input": None}, ()),
        ({}, ()),
    ],
)
def test_texts_are_taken_alone_and_in_lists_and_none_is_asked_to_load(
    sent: dict[str, Any], inputs: tuple[str]
) -> None:
    assert parse(**sent).request.inputs == inputs


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (["a", ""], "input[1]"),
        ([1, 2], "input[0]"),
        ([["a"]], "input[0]"),
        (7, "input"),
        ({"a": 1}, "input"),
        (["x"] * (INPUTS_MAX + 1), "input"),
    ],
)
def test_what_ollama_would_fail_at_is_refused_and_named(sent: Any, param: str) -> None:
    assert refused(input=sent).param == param


def test_what_is_too_long_is_cut_unless_the_caller_says_no() -> None:
    assert parse(input="x").request.truncate is True
    assert parse(input="x", truncate=True) == parse(input="x")
    refusing = parse(input="x", truncate=False).request
    assert (refusing.truncate, "truncate" in refusing.params) == (False, True)


def test_what_was_asked_for_is_in_the_request() -> None:
    parsed = parse(input="x", dimensions=8, keep_alive=300, options={"num_ctx": 512, "seed": 1})
    assert parsed == EmbedParsed(
        request=EmbedRequest(
            model="m",
            inputs=("x",),
            dimensions=8,
            truncate=True,
            extensions={"num_ctx": 512, "keep_alive": 300},
            params=frozenset({"model", "input", "dimensions", "num_ctx", "keep_alive"}),
        ),
        ignored=("options.seed",),
    )


def test_no_dimensions_are_as_many_as_the_model_has() -> None:
    assert parse(input="x", dimensions=0) == parse(input="x")
    assert refused(input="x", dimensions=-1).param == "dimensions"


def test_the_model_alone_is_required() -> None:
    with pytest.raises(InvalidRequest) as caught:
        EMBED.parse(b'{"input":"x"}')
    assert caught.value.param == "model"
    assert list(EMBED.required) == list(EMBEDDINGS.required) == ["model"]


def test_vectors_are_answered_with_what_is_known_of_the_work() -> None:
    embeddings = Embeddings(
        [[0.25, 0.1], array("f", [0.5, 1.0])], prompt_tokens=5, load_s=0.0250001
    )
    assert json.loads(EMBED.reply(parse(input="x"), HEAD, embeddings)) == {
        "model": "m:latest",
        "embeddings": [[0.25, 0.1], [0.5, 1.0]],
        "load_duration": 25_000_100,
        "prompt_eval_count": 5,
    }
    assert json.loads(EMBED.reply(parse(), HEAD, Embeddings([]))) == {
        "model": "m:latest",
        "embeddings": [],
    }


# --- One text at a time --------------------------------------------------------------------


def test_the_older_way_has_one_prompt_and_never_cuts_it() -> None:
    parsed = parse(EMBEDDINGS, prompt="x", options={"num_ctx": 512}, input="y")
    assert parsed.request == EmbedRequest(
        model="m",
        inputs=("x",),
        extensions={"num_ctx": 512},
        params=frozenset({"model", "prompt", "num_ctx"}),
    )
    assert parsed.ignored == ("input",)
    assert parse(EMBEDDINGS).request.inputs == parse(EMBEDDINGS, prompt="").request.inputs == ()


def test_the_older_way_has_one_vector() -> None:
    parsed = parse(EMBEDDINGS, prompt="x")
    told = EMBEDDINGS.reply(parsed, HEAD, Embeddings([[0.25, 0.1]], prompt_tokens=1))
    assert json.loads(told) == {"embedding": [0.25, 0.1]}
    assert json.loads(EMBEDDINGS.reply(parsed, HEAD, Embeddings([]))) == {"embedding": []}


def test_what_is_said_beside_no_text_at_all_is_named() -> None:
    assert parse(EMBED, input=[], keep_alive=0, dimensions=4).ignored == (
        "dimensions",
        "keep_alive",
    )
    assert parse(EMBEDDINGS, keep_alive="5m").ignored == ("keep_alive",)
