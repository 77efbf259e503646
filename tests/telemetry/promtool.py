"""Prometheus' own opinion of a page.

`promtool` is in Debian's package `prometheus`; where it is not installed, the
reader in `exposition.py` has to do, and it always reads the page first.
"""

import shutil
import subprocess

from tests.telemetry.exposition import Page, read


def check(page: bytes) -> Page:
    """Read a page that must be without fault."""
    understood = read(page)
    promtool = shutil.which("promtool")
    if promtool is not None:
        ran = subprocess.run(
            [promtool, "check", "metrics"], input=page, capture_output=True, check=False, timeout=30
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    return understood
