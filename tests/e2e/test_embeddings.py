"""Vectors over the wire, by the SDK that most callers use, against the whole gateway."""

import asyncio
import json
from typing import Any

import openai
import pytest

from gateway.backends.echo import EchoScript
from gateway.core.errors import BackendRefusedRequest, UpstreamFailed
from gateway.web import embedding
from tests.e2e.house import House, opened
from tests.e2e.test_openai_python import client_of

PATH = "/v1/embeddings"


async def post(house: House, path: str = PATH, **body: Any) -> Any:
    return await house.post(json.dumps({"model": "default", **body}).encode(), path=path)


async def test_equal_texts_have_equal_vectors_in_every_encoding_and_api() -> None:
    async with opened() as house, client_of(house) as client:
        texts = ["a cat", "a dog", "a cat"]
        packed = await client.embeddings.create(model="default", input=texts)
        plain = await client.embeddings.create(
            model="default", input=texts, encoding_format="float"
        )
        cat, dog, again = (entry.embedding for entry in packed.data)
        assert cat == again != dog
        assert [entry.index for entry in packed.data] == [0, 1, 2]
        assert cat == pytest.approx(plain.data[0].embedding, abs=1e-6)
        assert packed.usage.prompt_tokens == 6
        native = (await post(house, "/api/embed", input=texts)).document
        assert native["embeddings"][1] == pytest.approx(dog, abs=1e-6)
        old = (await post(house, "/api/embeddings", prompt="a dog")).document
        assert old["embedding"] == pytest.approx(dog, abs=1e-6)
        house.assert_at_rest()


async def test_many_at_once_each_get_their_own() -> None:
    async with opened() as house, client_of(house) as client:
        house.echo.script = EchoScript(first_s=0.01)

        async def ask(number: int) -> list[float]:
            reply = await client.embeddings.create(model="echo", input=f"text {number}")
            return list(reply.data[0].embedding)

        together = await asyncio.gather(*(ask(number) for number in range(24)))
        house.echo.script = EchoScript()
        assert together == [await ask(number) for number in range(24)]
        house.assert_at_rest()


async def test_a_large_answer_is_written_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as house:
        small = (await post(house, input=["a", "b"])).document
        monkeypatch.setattr(embedding, "WRITTEN_IN_A_THREAD_NUMBERS", 1)
        large = (await post(house, input=["a", "b"])).document
        assert small["data"] == large["data"]


async def test_what_can_not_be_honoured_is_named() -> None:
    async with opened() as house:
        reply = await post(house, input="a", user="me", colour="red")
        assert reply.status == 200
        assert reply.headers["x-gateway-ignored-params"].split(", ") == ["user", "colour"]


async def test_errors_are_told_in_the_words_of_each_api() -> None:
    async with opened() as house, client_of(house) as client:
        with pytest.raises(openai.UnprocessableEntityError) as wrong:
            await client.embeddings.create(model="default", input=["fine", ""])
        assert wrong.value.body["param"] == "input[1]"  # type: ignore[index]
        house.echo.script = EchoScript(fail=lambda: BackendRefusedRequest("no", param="input"))
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="default", input="a")
        house.echo.script = EchoScript(fail=lambda: UpstreamFailed("broke"))
        native = await post(house, "/api/embed", input="a")
        assert (native.status, native.document) == (502, {"error": "broke"})


async def test_a_dry_run_says_what_it_would_meet() -> None:
    async with opened() as house:
        reply = await post(house, f"{PATH}?dry_run=1", input="a")
        assert reply.document["object"] == "gateway.forecast"
        assert reply.document["accepted"] is True
