"""A burst by the real openai-python, as it comes: its own retries, its own waits."""

import asyncio
import time

import attrs
from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from bench.asking import Client

PLACEHOLDER_KEY = "not-needed"
"""The SDK does not begin without a key."""


@attrs.frozen(kw_only=True)
class Burst:
    """What became of it.

    Attributes:
        errors: The names of the exceptions in which the others ended.
        makespan_s: From the beginning to the last answer.
    """

    answered: int
    errors: tuple[str, ...]
    makespan_s: float


async def burst(url: str, client: Client, count: int) -> Burst:
    """So many requests at once; the client says which, and nothing of how."""
    errors: list[str] = []
    ended_at: list[float] = []

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=PLACEHOLDER_KEY) as sdk:

        async def ask(number: int) -> None:
            (message,) = client.prompts.messages(number)
            said = ChatCompletionUserMessageParam(role="user", content=message["content"])
            try:
                await sdk.chat.completions.create(model=client.model(number), messages=[said])
            except APIError as error:
                errors.append(type(error).__name__)
            else:
                ended_at.append(time.perf_counter())

        began_at = time.perf_counter()
        await asyncio.gather(*map(ask, range(count)))
    return Burst(
        answered=len(ended_at),
        errors=tuple(errors),
        makespan_s=max(ended_at, default=began_at) - began_at,
    )
