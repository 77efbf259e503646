"""In which order a real Ollama is asked: what it has loaded is used."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from gateway.backends.llamacpp import model_path
from gateway.config.schema import Embedded
from tests.real.clients import async_sdk, sdk
from tests.real.gateway_process import MODEL, GatewayProcess, serving
from tests.real.life import begun
from tests.real.ollama_process import running_ollama

pytestmark = [pytest.mark.ollama, pytest.mark.slow]

OTHER = "smollm2-other:135m"
SWAPS = "gateway_model_swaps_total"
WAITING = "request_queue_depth"

Ask = tuple[str, list[ChatCompletionMessageParam]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_ollama() as ollama:
        gguf = model_path(Embedded())
        ollama.create(MODEL, f"FROM {gguf}\nPARAMETER num_ctx 2048\n")
        # Other options are another model to Ollama: it has to be loaded anew.
        ollama.create(OTHER, f"FROM {gguf}\nPARAMETER num_ctx 1024\n")
        directory: Path = tmp_path_factory.mktemp("gateway")
        settings = {"OLLAMA_URL": ollama.url, "SLOTS": "1", "REQUEST_TIMEOUT_SECONDS": "600"}
        with serving(directory, **settings) as gateway:
            yield gateway


async def order_of(gateway: GatewayProcess, asks: Sequence[Ask]) -> list[int]:
    """Numbers of these requests as they were answered; all of them waited at once."""
    answered: list[int] = []
    waiting = gateway.metric(WAITING)

    async def ask(client: AsyncOpenAI, number: int, what: Ask) -> None:
        model, messages = what
        await client.chat.completions.create(
            model=model, messages=messages, max_tokens=4, temperature=0
        )
        answered.append(number)

    async with async_sdk(gateway) as client:
        with begun(sdk(gateway)):  # whoever comes now has to wait
            tasks = []
            for number, what in enumerate(asks):
                tasks.append(asyncio.create_task(ask(client, number, what)))
                await asyncio.to_thread(gateway.wait_for_metric, WAITING, waiting + number + 1)
        await asyncio.gather(*tasks)
    return answered


def question(text: str, system: str = "") -> list[ChatCompletionMessageParam]:
    asked: ChatCompletionMessageParam = {"role": "user", "content": text}
    return [{"role": "system", "content": system}, asked] if system else [asked]


async def test_two_models_in_turn_are_loaded_once_each(gateway: GatewayProcess) -> None:
    swaps = gateway.metric(SWAPS)
    asks = [((MODEL, OTHER)[number % 2], question(f"Say {number}.")) for number in range(8)]
    answered = await order_of(gateway, asks)
    assert sorted(answered) == list(range(8))
    assert answered == [0, 2, 4, 6, 1, 3, 5, 7]
    # As they came it would have been seven.
    assert gateway.metric(SWAPS) == swaps + 1


async def test_two_conversations_in_turn_are_read_once_each(gateway: GatewayProcess) -> None:
    beginnings = [" ".join(f"{name}{word}" for word in range(120)) for name in ("x", "y")]
    asks = [(MODEL, question(f"Say {n}.", beginnings[n % 2])) for n in range(6)]
    assert await order_of(gateway, asks) == [0, 2, 4, 1, 3, 5]
