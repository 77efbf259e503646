"""The daemon as everybody else meets it: a process, its port, its log and its exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from tests.real.processes import PATIENCE_S, children_of, is_alive, wait_until

ROOT: Final = Path(__file__).parents[2]
KEY: Final = "sk-real-0123456789abcdefghijklmnop"
MODEL: Final = "smollm2:135m"

_LISTENING: Final = re.compile(r"listening on (http://[0-9.:]+)")


@attrs.frozen
class Answer:
    """Of a plain GET."""

    status: int
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@attrs.define(eq=False)
class GatewayProcess:
    """A running gateway.

    Attributes:
        url: Where it listens.
        said_before_ready: The reasons that /ready gave until it said yes, in order.
    """

    process: subprocess.Popen[bytes]
    log: Path
    url: str = ""
    said_before_ready: list[str] = attrs.field(factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def children(self) -> list[int]:
        return children_of(self.pid)

    def get(self, path: str) -> Answer:
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Bearer {KEY}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return Answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read())

    def metrics(self) -> dict[str, float]:
        """Each series of /metrics, labels as they are written, and its value."""
        page = self.get("/metrics").body.decode()
        return {
            name: float(value)
            for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", page, re.MULTILINE)
        }

    def metric(self, name: str) -> float:
        return self.metrics()[name]

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; each line must be JSON."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def wait_ready(self, patience_s: float = PATIENCE_S) -> None:
        def ready() -> bool:
            answer = self.get("/ready")
            if answer.status == 200:
                return True
            reason = answer.document["reason"]
            if self.said_before_ready[-1:] != [reason]:
                self.said_before_ready.append(reason)
            return False

        wait_until(ready, "the gateway to be ready", patience_s)

    def wait_for_metric(self, name: str, value: float, patience_s: float = PATIENCE_S) -> None:
        wait_until(lambda: self.metric(name) == value, f"{name} to be {value:g}", patience_s)

    def interrupt(self) -> None:
        """As Ctrl-C does it: a terminal sends it to every process of the foreground."""
        os.killpg(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        """As a service manager does it."""
        self.process.send_signal(signal.SIGTERM)

    def wait_drained(self) -> None:
        """It has been told to end: it does so in order, alone, and without an accident."""
        children = self.children
        assert self.process.wait(PATIENCE_S) == 0
        assert [child for child in children if is_alive(child)] == []
        assert [line for line in self.lines() if "exception" in line] == []

    def _wait_listening(self) -> None:
        def listening() -> bool:
            assert self.process.poll() is None, self.log.read_text("utf-8")
            found = _LISTENING.search(self.log.read_text("utf-8"))
            self.url = found[1] if found else ""
            return bool(found)

        wait_until(listening, "the gateway to listen")


class Serve(Protocol):
    """Starts a gateway in front of the engine that a test module is about."""

    def __call__(self, **environment: str) -> AbstractContextManager[GatewayProcess]: ...


@contextmanager
def serving(
    directory: Path, *, python: str = sys.executable, **environment: str
) -> Iterator[GatewayProcess]:
    """A gateway while the block lasts; then it drains, unless the test has made it end.

    Args:
        directory: An empty one, for its log and its configuration.
        python: Of an environment that the gateway is installed in.
        environment: Its settings. There are no others.
    """
    log = directory / "log"
    config = directory / "gateway.toml"
    config.touch()
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "PYTHONPATH": str(ROOT),
        "GATEWAY_CONFIG": str(config),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "MODEL_NAME": MODEL,
        "API_KEY": KEY,
        **environment,
    }
    with log.open("wb") as written:
        process = subprocess.Popen(
            [python, "-m", "gateway", "serve"],
            cwd=directory,
            env=settings,
            stdin=subprocess.DEVNULL,
            stderr=written,
            start_new_session=True,
        )
    gateway = GatewayProcess(process, log)
    try:
        gateway._wait_listening()
        gateway.wait_ready()
        yield gateway
        if process.poll() is None:
            gateway.terminate()
            gateway.wait_drained()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
