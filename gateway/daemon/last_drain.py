"""How the last drain ended, kept over the restart: nobody scrapes a process that ends.

A file in the state directory says how many requests were cut off. It is read once and
removed, so that a life that ends without a drain leaves nothing behind.
"""

import logging
from pathlib import Path
from typing import Final

from gateway.core import jsonio

log = logging.getLogger("gateway")

FILE_NAME: Final = "last_drain.json"

_BYTES_MAX: Final = 1024


class LastDrain:
    """The memory of it.

    Args:
        directory: Where it lies; empty: nothing is kept.

    Attributes:
        cut_off: Requests that the drain of the life before had to cut off; None where
            nothing is known of it.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / FILE_NAME if directory else None
        self.cut_off = self._taken()

    def save(self, cut_off: int) -> None:
        """This life's drain has ended. A failure is logged, not raised."""
        if self._path is None:
            return
        try:
            self._path.write_bytes(jsonio.dumps({"cut_off": cut_off}))
        except OSError as error:
            log.warning("how the drain ended can't be kept: %s", error)

    def _taken(self) -> int | None:
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                document = jsonio.loads(file.read(_BYTES_MAX))
            self._path.unlink()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s can't be used: %s", self._path, error)
            return None
        cut_off = document.get("cut_off") if isinstance(document, dict) else None
        return cut_off if isinstance(cut_off, int) and cut_off >= 0 else None
