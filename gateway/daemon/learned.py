"""Keeps what the cost model has learned over a restart, in one small file.

Nothing depends on it: without the file, or with one that can't be read, prices
start from their priors, and with a disk that takes nothing they are as good as
before until the next restart. Each is said once.
"""

import asyncio
import logging
import os
import threading
from pathlib import Path
from typing import Final

from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.scheduling.estimate import CostModel

log = logging.getLogger("gateway.learned")

SAVE_EVERY_S: Final = 300.0

FILE_NAME: Final = "estimates.json"

_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a file that is read; ours has a few kilobytes for each model."""


class Learned:
    """The state file of a cost model.

    Args:
        directory: Where it lies; empty: nothing is kept.
    """

    def __init__(self, *, costs: CostModel, directory: str, clock: Clock) -> None:
        self._costs = costs
        self._clock = clock
        self._path = Path(directory) / FILE_NAME if directory else None
        self._saved = b""
        self._failing = False
        # A save that is cancelled goes on in its thread, beside the next one.
        self._writing = threading.Lock()

    def load(self) -> None:
        """Go on from what an earlier life has learned, if it left something."""
        if self._path is None:
            return
        try:
            self._costs.restore(jsonio.loads(_read(self._path)))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("%s can't be used, estimates start from scratch: %s", self._path, error)

    async def run(self) -> None:
        """Save now and then, and at the end."""
        try:
            while True:
                await self._clock.sleep(SAVE_EVERY_S)
                await self.save()
        finally:
            await self.save()

    async def save(self) -> None:
        """Write the file, if there is something new; a failure is logged, not raised."""
        if self._path is None:
            return
        document = jsonio.dumps(self._costs.to_document())
        if document == self._saved:
            return
        try:
            await asyncio.to_thread(self._write, self._path, document)
        except (OSError, ValueError) as error:
            if not self._failing:
                log.warning("estimates can't be saved: %s", error)
            self._failing = True
        else:
            self._saved = document
            self._failing = False

    def _write(self, path: Path, document: bytes) -> None:
        """Replace the file whole: whoever reads it finds the old one or the new one."""
        beside = path.with_name(path.name + ".new")
        with self._writing:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(beside, "wb") as file:
                    file.write(document)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, path)
            except OSError:
                # Half a file on a full disk helps nobody.
                beside.unlink(missing_ok=True)
                raise


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_BYTES_MAX + 1)
    if len(data) > _BYTES_MAX:
        raise ValueError("it is too large")
    return data
