"""ollama-python, as it is, against the embedded model: the gateway speaks Ollama's own API."""

import pytest
from ollama import AsyncClient, Client, ResponseError
from pydantic import BaseModel

from tests.real.gateway_process import GatewayProcess

CLIENT = "ollama-python"
HELLO = [{"role": "user", "content": "Count to five."}]
COLD = {"temperature": 0, "num_predict": 24}


class City(BaseModel):
    name: str
    population: int


@pytest.fixture(scope="session")
def client(gateway: GatewayProcess, key: str) -> Client:
    return Client(host=gateway.url, headers={"Authorization": f"Bearer {key}"})


@pytest.mark.covers(CLIENT, "chat")
def test_a_stream_says_what_the_whole_answer_says(client: Client, model: str) -> None:
    whole = client.chat(model, HELLO, options=COLD)
    parts = list(client.chat(model, HELLO, options=COLD, stream=True))
    assert whole.message.content
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count
    assert 0 < whole.eval_count <= 24


@pytest.mark.covers(CLIENT, "generate")
def test_a_prompt_is_answered_and_a_raw_one_continued(client: Client, model: str) -> None:
    assert client.generate(model, "Say hello.", options=COLD).response
    raw = client.generate(
        model, "The capital of France is", raw=True, options={"temperature": 0, "num_predict": 4}
    )
    assert "Paris" in raw.response
    assert raw.done_reason == "length"


@pytest.mark.covers(CLIENT, "load")
def test_a_prompt_that_is_missing_loads_the_model(client: Client, model: str) -> None:
    assert client.generate(model).done_reason == "load"


@pytest.mark.covers(CLIENT, "format")
def test_an_answer_fits_its_schema(client: Client, model: str) -> None:
    answer = client.chat(
        model,
        [{"role": "user", "content": "Paris has 2 million people. Name and population?"}],
        format=City.model_json_schema(),
        options={"temperature": 0, "num_predict": 200},
    )
    assert City.model_validate_json(answer.message.content).name


@pytest.mark.covers(CLIENT, "embed")
def test_what_means_the_same_is_near(client: Client, model: str) -> None:
    cat, kitten, stocks = client.embed(
        model,
        [
            "The cat sleeps on the sofa.",
            "A kitten naps on the couch.",
            "Stock markets fell sharply today.",
        ],
    ).embeddings

    def near(one: list[float], other: list[float]) -> float:
        return sum(left * right for left, right in zip(one, other, strict=True))

    assert near(cat, kitten) > near(cat, stocks)
    old = client.embeddings(model, "The cat sleeps on the sofa.").embedding
    assert near(old, cat) == pytest.approx(1.0, abs=1e-2)


@pytest.mark.covers(CLIENT, "list, show, ps")
def test_the_models_can_be_looked_at(client: Client, model: str) -> None:
    assert model in [entry.model for entry in client.list().models]
    assert model in [entry.model for entry in client.ps().models]
    assert "completion" in client.show(model).capabilities


@pytest.mark.covers(CLIENT, "errors")
def test_an_error_says_what_is_wrong(client: Client, model: str) -> None:
    with pytest.raises(ResponseError) as missing:
        client.chat("nobody-has-this", HELLO)
    assert missing.value.status_code == 404
    with pytest.raises(ResponseError) as forbidden:
        client.delete(model)
    assert forbidden.value.status_code in (403, 501)


@pytest.mark.covers(CLIENT, "async")
async def test_the_asynchronous_client_streams(
    gateway: GatewayProcess, key: str, model: str
) -> None:
    client = AsyncClient(host=gateway.url, headers={"Authorization": f"Bearer {key}"})
    parts = [part async for part in await client.chat(model, HELLO, options=COLD, stream=True)]
    assert parts[-1].done_reason in ("stop", "length")
