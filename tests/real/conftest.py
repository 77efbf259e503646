"""A gateway and its clients for the test modules here; each says by `serve` in front of what."""

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.real.clients import TIMEOUT_S, async_sdk, sdk
from tests.real.gateway_process import GatewayProcess, Serve

pytest.register_assert_rewrite(
    "tests.real.completing", "tests.real.conversation", "tests.real.embedding", "tests.real.life"
)


@pytest.fixture(scope="module")
def gateway(serve: Serve) -> Iterator[GatewayProcess]:
    """The one that most tests of a module share."""
    with serve(REQUEST_TIMEOUT_SECONDS=str(TIMEOUT_S)) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[OpenAI]:
    with sdk(gateway) as client:
        yield client


@pytest.fixture
async def async_client(gateway: GatewayProcess) -> AsyncIterator[AsyncOpenAI]:
    async with async_sdk(gateway) as client:
        yield client
