"""Exit codes, those of sysexits.h.

A service manager that sees 78 knows that starting again won't help.
"""

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 64
UNAVAILABLE: Final = 69
SOFTWARE: Final = 70
CONFIG: Final = 78
INTERRUPTED: Final = 130
"""128 + SIGINT, as a shell reports it."""
