"""The processes of a bench: each started on its core, watched through /proc, ended by its pid."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import attrs

from bench import figures
from bench.wire import HOST

ROOT: Final = Path(__file__).resolve().parent.parent
START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 10.0
LOG_SHOWN_MAX: Final = 2000
# Not more often: each look is a request that the one who starts has to answer.
_POLL_S: Final = 0.01

# A bench must not be steered by the settings of whoever runs it.
_ENVIRONMENT_KEPT: Final = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "VIRTUAL_ENV")


class DidNotStart(RuntimeError):
    """A process ended, or never answered; the message has the end of its log."""


@attrs.frozen
class Cores:
    """Which core what is measured has to itself, and which all others share."""

    measured: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Self:
        """The first core that we may use, and the rest; the same one twice if there is only one."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(frozenset(cores[:1]), frozenset(cores[1:] or cores))

    def __str__(self) -> str:
        if self.measured == self.others:
            return "Everything shares one core: compare nothing with other machines."
        measured, others = (",".join(map(str, sorted(one))) for one in attrs.astuple(self))
        return f"Measured on core {measured}, all others on {others}."


class Child:
    """A process of ours: one of the peers, or the scripted Ollama.

    Args:
        log_path: Takes stdout and stderr.
        ready_path: Answers 200 once it serves.
    """

    def __init__(
        self,
        command: list[str],
        *,
        port: int,
        ready_path: str,
        log_path: Path,
        cores: frozenset[int],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self._log_path = log_path
        self._ready_path = ready_path
        kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
        with log_path.open("ab") as log, running_on(cores):
            self._started_at = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=kept | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is the bench's; it ends its children itself.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> float:
        """Seconds from the start of the process to its first 200.

        Raises:
            DidNotStart: It ended, or did not answer 200 within START_S_MAX.
        """
        while (waited_s := time.perf_counter() - self._started_at) < START_S_MAX:
            if self._process.poll() is not None:
                raise DidNotStart(self._told(f"ended with exit code {self._process.returncode}"))
            if answers_200(self.port, self._ready_path):
                return time.perf_counter() - self._started_at
            time.sleep(_POLL_S)
        raise DidNotStart(self._told(f"was not ready after {waited_s:.0f} s"))

    def cpu_s(self) -> float:
        """CPU seconds of all its threads so far."""
        threads = Path(f"/proc/{self.pid}/task")
        try:
            texts = [(thread / "schedstat").read_text() for thread in threads.iterdir()]
        except FileNotFoundError:  # A kernel without schedstats.
            text = Path(f"/proc/{self.pid}/stat").read_text()
            return figures.cpu_s_in_stat(text, ticks_per_s=os.sysconf("SC_CLK_TCK"))
        return sum(map(figures.cpu_s_in_schedstat, texts))

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """Resident memory now (VmRSS) or at its highest (VmHWM)."""
        return figures.bytes_in_status(Path(f"/proc/{self.pid}/status").read_text(), field)

    def connections(self) -> int:
        """Client connections that it holds open."""
        text = Path("/proc/net/tcp").read_text()
        return figures.established_in_tcp(text, self.port)

    def log(self) -> str:
        """What it wrote so far."""
        return self._log_path.read_text(errors="replace")

    def _told(self, what: str) -> str:
        log = self.log()[-LOG_SHOWN_MAX:]
        return f"{self._log_path.stem} {what}; its log ends:\n{log}"

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), and don't wait."""
        self._process.terminate()

    def wait_ended(self, timeout_s: float) -> int | None:
        """Its exit code; None if it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End it, by force if it doesn't within STOP_S_MAX."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def scripted_ollama(*, directory: Path, cores: frozenset[int]) -> Child:
    port = free_port()
    return Child(
        [sys.executable, "-m", "bench.scripted_ollama", "--port", str(port)],
        port=port,
        ready_path="/api/version",
        log_path=directory / f"ollama-{port}.log",
        cores=cores,
    )


def raw_proxy(*, upstream_port: int, directory: Path, cores: frozenset[int]) -> Child:
    port = free_port()
    upstream = f"http://{HOST}:{upstream_port}"
    return Child(
        [sys.executable, "-m", "bench.raw_proxy", "--port", str(port), "--upstream", upstream],
        port=port,
        ready_path="/api/version",
        log_path=directory / f"raw-{port}.log",
        cores=cores,
    )


def gateway(
    *,
    upstream_port: int,
    directory: Path,
    cores: frozenset[int],
    slots: int = 64,
    waiting_max: int = 64,
    more: str = "",
    environment: Mapping[str, str] | None = None,
) -> Child:
    """The gateway as its user starts it, every feature on: queue, metrics, one JSON line a request.

    Args:
        more: TOML of further tables.
        environment: Variables besides those that every child gets.
    """
    port = free_port()
    path = directory / f"gateway-{port}.toml"
    path.write_text(
        gateway_settings(
            port=port, upstream_port=upstream_port, slots=slots, waiting_max=waiting_max, more=more
        )
    )
    return Child(
        [sys.executable, "-m", "gateway", "serve", "--config", str(path)],
        port=port,
        ready_path="/ready",
        log_path=directory / f"gateway-{port}.log",
        cores=cores,
        environment=environment,
    )


def gateway_settings(
    *, port: int, upstream_port: int, slots: int, waiting_max: int, more: str
) -> str:
    """The gateway's TOML file."""
    return f"""\
[server]
host = "{HOST}"
port = {port}

[backend]
kind = "ollama"
url = "http://{HOST}:{upstream_port}"
slots = {slots}

[queue]
max_queue_size = {waiting_max}

[generation]
default_model = "tokens:8"

[logging]
level = "info"
format = "json"

{more}"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers_200(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def running_on(cores: frozenset[int]) -> Iterator[None]:
    """Run the block, and so the processes that it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that children are ended too."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
