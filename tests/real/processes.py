"""What the tests know of processes that are not theirs to await."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 60.0
"""Nothing that a test waits for takes this long, on a busy machine either."""

_POLL_S: Final = 0.02


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Ask again and again: another process tells nobody when it is so.

    Raises:
        TimeoutError: It never was; `what` says what was waited for.
    """
    give_up_at = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(_POLL_S)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not asked about does not."""
    return _state_and_parent(pid)[0] not in ("", "Z")


def children_of(pid: int) -> list[int]:
    """The processes that it started and that still run."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [
        number for number in numbers if _state_and_parent(number)[1] == pid and is_alive(number)
    ]


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    state, parent, *_ = stat.rpartition(")")[2].split()
    return state, int(parent)
