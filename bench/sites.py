"""Where figures are taken: a scripted Ollama, and for each figure a gateway of its own."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from bench import processes
from bench.processes import Child, Cores

PARSERS: Final[Mapping[str, Mapping[str, str]]] = {
    "C parser": {},
    "pure-Python parser": {"AIOHTTP_NO_EXTENSIONS": "1"},
}
"""Both HTTP parsers that aiohttp may run with, and what chooses them when it is imported."""


@attrs.frozen(kw_only=True)
class Site:
    """Where figures are taken, and how long."""

    directory: Path
    cores: Cores
    ollama: Child
    quick: bool
    soak_s: float

    def gateway(
        self,
        *,
        slots: int = 64,
        waiting_max: int = 64,
        more: str = "",
        upstream_port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """A gateway of one's own; see `processes.gateway`.

        Args:
            upstream_port: Another engine than the scripted Ollama.
        """
        return processes.gateway(
            upstream_port=self.ollama.port if upstream_port is None else upstream_port,
            directory=self.directory,
            cores=self.cores.measured,
            slots=slots,
            waiting_max=waiting_max,
            more=more,
            environment=environment,
        )

    @contextlib.contextmanager
    def serving(
        self,
        *,
        slots: int = 64,
        waiting_max: int = 64,
        more: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Child]:
        """A gateway that is ready, until the block is left."""
        with self.gateway(
            slots=slots, waiting_max=waiting_max, more=more, environment=environment
        ) as child:
            child.wait_ready()
            yield child
