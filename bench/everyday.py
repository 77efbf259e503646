"""Callers as they come to a small box: chats, the side calls of a chat UI, embeddings,
and some who want too much.

What is answered does not matter here; that it is asked does.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs
from aiohttp import ClientError, ClientSession, ClientTimeout

Headers = Mapping[str, str]
NO_HEADERS: Final[Headers] = MappingProxyType({})

SYSTEM: Final = (
    "You are a patient assistant of a small bakery. Answer in few words, name no prices, and"
    " say so where you don't know. The shop opens at six and closes when all is sold. "
) * 4
"""Long enough that an engine that has read it once is glad not to read it again."""

TITLE: Final = "### Task:\nGenerate a concise title of three words for this chat."
"""What a chat UI sends by itself, see `scheduling.background_prompts`."""


@attrs.define(eq=False)
class Visitor:
    """One caller of a gateway.

    Attributes:
        seen: How often each status came; 0 for a connection that broke.
    """

    session: ClientSession
    url: str
    key: str = ""
    seen: Counter[int] = attrs.field(factory=Counter)

    async def chat(
        self, model: str, text: str, *, max_tokens: int = 24, headers: Headers = NO_HEADERS
    ) -> None:
        """A streamed answer, read to its end."""
        await self._post(
            "/v1/chat/completions",
            {**_chat(model, text, max_tokens), "stream": True},
            headers,
        )

    async def leave(self, model: str, text: str) -> None:
        """A stream whose reader has seen enough after its first piece."""
        body = {**_chat(model, text, 200), "stream": True}
        with contextlib.suppress(ClientError):
            async with self._posted("/v1/chat/completions", body, NO_HEADERS) as reply:
                self.seen[reply.status] += 1
                await reply.content.readany()
                # Closed and not read to its end: the gateway sees a caller who is gone.
                reply.close()

    async def ask(
        self, model: str, text: str = TITLE, *, max_tokens: int = 8, headers: Headers = NO_HEADERS
    ) -> None:
        """A whole answer; a chat UI's title by default."""
        await self._post("/v1/chat/completions", _chat(model, text, max_tokens), headers)

    async def embed(self, model: str, *texts: str) -> None:
        await self._post("/v1/embeddings", {"model": model, "input": list(texts)}, NO_HEADERS)

    async def burst(self, model: str, requests: int, *, timeout_s: float) -> None:
        """So many at once, and all of them impatient."""
        hurry = {"x-request-timeout-ms": f"{timeout_s * 1000:.0f}"}
        await asyncio.gather(
            *(
                self.chat(model, f"Question {number}: what is bread?", headers=hurry)
                for number in range(requests)
            )
        )

    async def _post(self, path: str, body: dict[str, Any], headers: Headers) -> None:
        try:
            async with self._posted(path, body, headers) as reply:
                await reply.read()
                self.seen[reply.status] += 1
        except ClientError:
            self.seen[0] += 1

    def _posted(self, path: str, body: dict[str, Any], headers: Headers) -> Any:
        if self.key:
            headers = {**headers, "Authorization": f"Bearer {self.key}"}
        return self.session.post(self.url + path, json=body, headers=headers)


def session() -> ClientSession:
    """For any number of visitors."""
    return ClientSession(timeout=ClientTimeout(total=120))


def _chat(model: str, text: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": max_tokens,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": text},
        ],
    }
