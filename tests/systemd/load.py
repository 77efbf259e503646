"""Clients, run inside the machine until standard input ends; then one JSON line of what they got.

    load.py URL CLIENTS

Half of them keep their connection, half connect anew for each request; every third request
is streamed. No client tries anything again: what fails has failed.
"""

import asyncio
import collections
import json
import os
import sys
import time

import aiohttp


class Clients:
    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._over = asyncio.Event()
        self._results: collections.Counter[str] = collections.Counter()
        self._slowest_s = 0.0
        self._answers = 0

    async def run(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), self._read)
        began = time.monotonic()
        await asyncio.gather(*(self._client(bool(number % 2)) for number in range(count)))
        report = {
            "results": self._results,
            "answers": self._answers,
            "slowest_s": round(self._slowest_s, 3),
            "seconds": round(time.monotonic() - began, 1),
        }
        print(json.dumps(report), flush=True)

    def _read(self) -> None:
        """A line asks how far they are; the end ends it."""
        if os.read(sys.stdin.fileno(), 4096):
            print(self._answers, flush=True)
        else:
            self._over.set()

    async def _client(self, keeps: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=not keeps, limit=1)
        timeout = aiohttp.ClientTimeout(total=60.0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            number = 0
            while not self._over.is_set():
                number += 1
                asked = time.monotonic()
                result = await self._ask(session, stream=number % 3 == 0)
                self._results[result] += 1
                self._answers += 1
                self._slowest_s = max(self._slowest_s, time.monotonic() - asked)
                await asyncio.sleep(0.02)

    async def _ask(self, session: aiohttp.ClientSession, *, stream: bool) -> str:
        body = {
            "model": "default",
            "stream": stream,
            "max_tokens": 4,
            "messages": [{"role": "user", "content": "3 0.003"}],
        }
        try:
            async with session.post(self._url, json=body) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__
        if response.status != 200:
            return f"{response.status} {text[:120]}"
        whole = text.endswith("data: [DONE]\n\n") if stream else "word2" in text
        return "ok" if whole else "cut off"


if __name__ == "__main__":
    asyncio.run(Clients(sys.argv[1]).run(int(sys.argv[2])))
