"""A client of a load: asks as openai-python does, retries as it does, and notes what it saw."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Final

import aiohttp
import attrs

from bench.answers import Uniform
from bench.prompts import Prompts, Unique
from bench.replies import Dialect, OpenAI, Reply, error_code
from bench.results import BROKEN, TIMEOUT, UNFINISHED, UNREADABLE, Attempt, Result
from bench.retries import Retries, told_s

CONNECT_S: Final = 5.0
"""What openai-python gives a connection."""

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Client:
    """How the clients of a load are.

    Attributes:
        models: Request after request takes the next one of them.
        max_tokens: Drawn for each request; None sends no limit.
        deadline_s: An answer that comes later is late. The server is not told.
        timeout_s: How long it waits for the next bytes before it leaves. The server is
            told, in `x-stainless-read-timeout`, as the SDK does.
        seed: Of the limits and of the jitter of waits; prompts have their own.
    """

    dialect: Dialect = attrs.field(factory=OpenAI)
    models: tuple[str, ...] = attrs.field(
        default=("box:latest",), validator=attrs.validators.min_len(1)
    )
    prompts: Prompts = Unique()
    max_tokens: Uniform | None = Uniform(8, 32)
    stream: bool = False
    deadline_s: float = 60.0
    timeout_s: float = 600.0
    retries: Retries = Retries(count_max=0)
    key: str = ""
    seed: int = 1

    def model(self, number: int) -> str:
        return self.models[number % len(self.models)]

    def limit(self, number: int) -> int | None:
        if self.max_tokens is None:
            return None
        return self.max_tokens.draw(random.Random(f"{self.seed}/limit/{number}"))

    def pause_s(self, result: Result) -> float:
        """How long a client that got no answer in the end leaves before its next request."""
        last = result.last
        if last is not None and last.told_s is not None and last.told_s > 0.0:
            return last.told_s
        dice = random.Random(f"{self.seed}/pause/{result.number}")
        return self.retries.wait_s({}, taken=0, dice=dice)


class Asker:
    """Sends the requests of one load.

    Args:
        retry_until: No try begins later, by `time.perf_counter`.
        give_up_at: Nothing is waited for beyond this.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        client: Client,
        *,
        retry_until: float = math.inf,
        give_up_at: float,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/") + client.dialect.path
        self._client = client
        self._retry_until = retry_until
        self._give_up_at = give_up_at

    async def ask(self, number: int) -> Result:
        """Send the request of that number, and again where the SDK would."""
        client = self._client
        attempts: list[Attempt] = []
        model, limit = client.model(number), client.limit(number)
        messages = client.prompts.messages(number)
        body = client.dialect.body(model, messages, stream=client.stream, max_tokens=limit)
        dice = random.Random(f"{client.seed}/waits/{number}")
        abandoned = False
        try:
            async with asyncio.timeout(max(0.0, self._give_up_at - time.perf_counter())):
                for taken in range(client.retries.count_max + 1):
                    attempt, headers = await self._attempt(body, taken)
                    attempts.append(attempt)
                    if not self._again(attempt, headers, taken):
                        break
                    wait_s = client.retries.wait_s(
                        headers, taken=taken, dice=dice, wall_s=time.time()
                    )
                    if time.perf_counter() + wait_s > self._retry_until:
                        abandoned = True
                        break
                    await asyncio.sleep(wait_s)
        except TimeoutError:
            abandoned = True
        return Result(
            number=number,
            model=model,
            stream=client.stream,
            max_tokens=limit,
            attempts=tuple(attempts),
            abandoned=abandoned,
        )

    def _again(self, attempt: Attempt, headers: Mapping[str, str], taken: int) -> bool:
        retries = self._client.retries
        if taken >= retries.count_max:
            return False
        if attempt.status == 0:
            return True
        # Not after 200: the SDK hands an answer on as it comes, and can't take it back.
        return attempt.status != 200 and retries.again(attempt.status, headers, wall_s=time.time())

    async def _attempt(self, body: bytes, taken: int) -> tuple[Attempt, Mapping[str, str]]:
        """One try. Whatever goes wrong is noted, not raised; the headers are those of an answer."""
        headers = {
            "Content-Type": "application/json",
            "x-stainless-retry-count": str(taken),
            "x-stainless-read-timeout": f"{self._client.timeout_s:g}",
        }
        if self._client.key:
            headers["Authorization"] = f"Bearer {self._client.key}"
        reply = Reply()
        status = 0
        first_token_at: float | None = None
        answered: Mapping[str, str] = _NO_HEADERS
        sent_at = time.perf_counter()
        try:
            async with self._session.post(self._url, data=body, headers=headers) as response:
                # The status counts once there is an answer: of a broken one it is told too.
                status, answered = response.status, response.headers
                if status != 200:
                    reply.error = error_code(await response.read()) or f"status {status}"
                elif self._client.stream:
                    async for line in response.content:
                        has_text = self._client.dialect.read_line(line, reply)
                        if has_text and first_token_at is None:
                            first_token_at = time.perf_counter()
                else:
                    self._client.dialect.read_whole(await response.read(), reply)
        except TimeoutError:
            reply.error = TIMEOUT
        except (aiohttp.ClientError, OSError):
            reply.error = BROKEN
        except (ValueError, LookupError, TypeError, AttributeError):
            reply.error = UNREADABLE
        if status == 200 and not reply.error and reply.finish_reason is None:
            reply.error = UNFINISHED
        attempt = Attempt(
            sent_at=sent_at,
            ended_at=time.perf_counter(),
            status=status,
            code=reply.error,
            told_s=told_s(answered, wall_s=time.time()),
            first_token_at=first_token_at,
            tokens=reply.tokens,
            finish_reason=reply.finish_reason,
            truncated="x-gateway-truncated" in answered,
        )
        return attempt, answered


@contextlib.asynccontextmanager
async def session_for(client: Client) -> AsyncIterator[aiohttp.ClientSession]:
    """As many connections as are wanted, none shared with the environment's proxies."""
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=CONNECT_S,
        sock_read=client.timeout_s,
        # Above this aiohttp rounds up to whole seconds.
        ceil_threshold=3600,
    )
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, trust_env=False
    ) as session:
        yield session
