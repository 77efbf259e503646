"""The collector's process, as tests speak to it."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
HANG_S: Final = 20.0

Span = dict[str, Any]


class Collector:
    """One running collector. What it says is read all the time, so that it never waits for us."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._process = process
        self.url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        self._said: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> dict[str, Any]:
        """The next request that it was sent; waits for it."""
        said = self._said.get(timeout=HANG_S)
        assert said is not None, "the collector has died"
        return said

    def spans(self, name: str) -> list[Span]:
        """All spans of the first trace from now on that has one called so, the root's first.

        Those of one request come together, but others' may come before.
        """
        while True:
            spans: list[Span] = self.next()["spans"]
            for span in spans:
                if span["name"] == name:
                    same = [each for each in spans if each["trace_id"] == span["trace_id"]]
                    return sorted(same, key=lambda each: (each["start_ns"], each["kind"] != 2))

    def rest(self) -> list[Span]:
        """All spans that it was sent until now; it ends then."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        spans: list[Span] = []
        while (said := self._said.get(timeout=HANG_S)) is not None:
            spans += said["spans"]
        return spans

    def answer(self, **answers: Any) -> None:
        """What it answers from now on: status, headers, rejected; nothing: 200."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(answers) + "\n")
        self._process.stdin.flush()
        assert self.next() == {}

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens; ended with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.telemetry.collector"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Collector(process)
        finally:
            process.kill()
