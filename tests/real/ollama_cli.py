"""The `ollama` command line, as people use it: in a pipe, and at a terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from tests.real.processes import PATIENCE_S

PROMPT: Final = ">>> "

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@attrs.frozen
class Done:
    """What a command has said."""

    status: int
    out: str
    err: str


class Cli:
    """The program, with OLLAMA_HOST set to an address."""

    def __init__(self, program: str, url: str, home: Path) -> None:
        self._program = program
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OLLAMA_HOST": url,
            "TERM": "dumb",
        }

    def __call__(self, *arguments: str) -> Done:
        """Run a command, its output into a pipe."""
        done = subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
        return Done(done.returncode, _plain(done.stdout), _plain(done.stderr))

    @contextmanager
    def at_a_terminal(self, *arguments: str) -> Iterator["Terminal"]:
        """A command that is talked to while the block lasts."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(
            [self._program, *arguments],
            env=self._environment,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


@attrs.define(eq=False)
class Terminal:
    """The other side of a command's terminal."""

    descriptor: int
    process: subprocess.Popen[bytes]

    def say(self, line: str) -> None:
        os.write(self.descriptor, line.encode() + b"\r")

    def wait_for(self, text: str) -> str:
        """What it says until that, escapes left out.

        Raises:
            TimeoutError: It never says so.
        """
        said = b""
        give_up_at = time.monotonic() + PATIENCE_S
        while text not in _plain(said):
            left_s = give_up_at - time.monotonic()
            if left_s <= 0 or not select.select([self.descriptor], [], [], left_s)[0]:
                raise TimeoutError(f"waited in vain for {text!r} after {_plain(said)!r}")
            said += os.read(self.descriptor, 65536)
        return _plain(said)


def _plain(output: bytes) -> str:
    return _ESCAPES.sub("", output.decode("utf-8", "replace"))
