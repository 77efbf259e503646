"""A real Ollama of the tests' own: its own port, home and models, nobody else's touched."""

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.real.processes import PATIENCE_S, children_of, free_port, wait_until

CONTEXT: Final = 2048


class OllamaProcess:
    """`ollama serve`; may be killed and started again at the same address.

    Attributes:
        url: Where it listens, or would.
    """

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._address = f"127.0.0.1:{free_port()}"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "OLLAMA_HOST": self._address,
            "OLLAMA_MODELS": str(directory / "models"),
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NUM_PARALLEL": "1",
            "OLLAMA_MAX_LOADED_MODELS": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://{self._address}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as written:
            self._process = process = subprocess.Popen(
                [self._program, "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )

        def answers() -> bool:
            assert process.poll() is None, self.log.read_text("utf-8", "replace")
            try:
                with urllib.request.urlopen(f"{self.url}/api/version", timeout=PATIENCE_S):
                    return True
            except urllib.error.URLError:
                return False

        wait_until(answers, "Ollama to answer")

    def create(self, model: str, modelfile: str) -> None:
        """Make a model from the text of a Modelfile."""
        path = self._directory / "Modelfile"
        path.write_text(modelfile, "utf-8")
        subprocess.run(
            [self._program, "create", model, "-f", path],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=PATIENCE_S,
        )

    @property
    def runners(self) -> list[int]:
        """The processes that run its models; another one after every load."""
        assert self._process is not None
        return children_of(self._process.pid)

    def loaded(self) -> Any:
        """The models in memory, as it tells of them."""
        with urllib.request.urlopen(f"{self.url}/api/ps", timeout=PATIENCE_S) as response:
            return json.load(response)["models"]

    def kill(self) -> None:
        """End it as `kill -9` does, and what it leaves behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            # It can't take the processes along that run its models.
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process = None

    @property
    def log(self) -> Path:
        return self._directory / "log"


def ollama_program() -> str:
    """Where it is: server and command line are one program.

    Raises:
        FileNotFoundError: There is none on this machine.
    """
    program = os.environ.get("OLLAMA_BIN") or shutil.which("ollama")
    if program is None or shutil.which(program) is None:
        raise FileNotFoundError(
            "These tests need a real Ollama: put `ollama` on PATH, or name it by OLLAMA_BIN."
        )
    return program


@contextmanager
def running_ollama() -> Iterator[OllamaProcess]:
    """An Ollama without models while the block lasts.

    Raises:
        FileNotFoundError: There is none on this machine.
    """
    program = ollama_program()
    # Not pytest's directories, which are kept: a model is a hundred megabytes.
    with TemporaryDirectory(prefix="ollama-") as directory:
        ollama = OllamaProcess(program, Path(directory))
        try:
            ollama.start()
            yield ollama
        finally:
            ollama.kill()
