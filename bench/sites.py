"""Where figures are taken: a scripted Ollama, and for each figure a gateway of its own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import attrs

from bench import processes
from bench.processes import Child, Cores


@attrs.frozen(kw_only=True)
class Site:
    """Where figures are taken, and how long."""

    directory: Path
    cores: Cores
    ollama: Child
    quick: bool
    soak_s: float

    def gateway(self, *, slots: int = 64, waiting_max: int = 64, more: str = "") -> Child:
        return processes.gateway(
            upstream_port=self.ollama.port,
            directory=self.directory,
            cores=self.cores.measured,
            slots=slots,
            waiting_max=waiting_max,
            more=more,
        )

    @contextlib.contextmanager
    def serving(self, *, slots: int = 64, waiting_max: int = 64, more: str = "") -> Iterator[Child]:
        """A gateway that is ready, until the block is left."""
        with self.gateway(slots=slots, waiting_max=waiting_max, more=more) as child:
            child.wait_ready()
            yield child
