"""Exit codes, those of sysexits.h.

A service manager that sees 78 knows that starting again won't help.
"""

from collections.abc import Mapping
from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 64
NO_INPUT: Final = 66
UNAVAILABLE: Final = 69
SOFTWARE: Final = 70
CANT_CREATE: Final = 73
NO_PERMISSION: Final = 77
CONFIG: Final = 78
INTERRUPTED: Final = 130
"""128 + SIGINT, as a shell reports it."""

MEANINGS: Final[Mapping[int, str]] = {
    OK: "done; of `serve`: drained",
    FAILED: "a command has failed, or found a fault; of `serve`: ended by a second signal",
    USAGE: "wrong command line",
    NO_INPUT: "a file that was named can't be read",
    UNAVAILABLE: "no gateway answers; of `serve`: the address can't be had, or another gateway"
    " works with the state directory",
    SOFTWARE: "a part of the daemon died; the log says which",
    CANT_CREATE: "a file can't be written, or the state directory can't be used",
    NO_PERMISSION: "a command may not do this: no key, the wrong one, or one without `admin`",
    CONFIG: "the configuration is wrong; starting again does not help",
    INTERRUPTED: "interrupted (Ctrl-C)",
}
"""For the manual."""
