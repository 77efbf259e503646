from collections.abc import AsyncIterator

import pytest

from tests.e2e.ollama import ScriptedOllama


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as engine:
        yield engine
