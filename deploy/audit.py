"""Known vulnerabilities of what is deployed, asked of a source that proves to know some.

    audit.py PIP_AUDIT LOCK…

A mirror of PyPI has packages and often no advisories, and pip-audit then finds nothing in
anything. So each source is first asked about a release that is known to be vulnerable; one
that does not know it is not believed.

Exit status: 0 nothing known, 1 something, 69 (EX_UNAVAILABLE) nothing was checked.
"""

import json
import os
import subprocess  # nosec B404 # runs pip-audit alone
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

SOURCES: Final = ("pypi", "osv")
CANARY: Final = "aiohttp==3.9.1"
"""CVE-2024-23334 and many more."""
TIMEOUT_S: Final = 120.0
_OPTIONS: Final = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")


def ask(pip_audit: str, source: str, requirements: Path) -> Mapping[str, Any] | None:
    """What the source says of each pinned requirement; None when it can't be asked."""
    try:
        done = subprocess.run(  # nosec B603 # no shell, nothing of a user in it
            [
                pip_audit,
                *_OPTIONS,
                "--vulnerability-service",
                source,
                "--requirement",
                requirements,
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        report = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return report if isinstance(report, dict) else None


def vulnerable(report: Mapping[str, Any]) -> list[str]:
    """One line for each vulnerability."""
    return [
        f"{package['name']} {package['version']}: {found['id']}"
        + (f", fixed in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "")
        for package in report["dependencies"]
        for found in package.get("vulns", ())
    ]


def unknown(report: Mapping[str, Any]) -> list[str]:
    """What the source had no answer for, and why."""
    return [
        f"{package['name']}: {package['skip_reason']}"
        for package in report["dependencies"]
        if "skip_reason" in package
    ]


def believable(pip_audit: str) -> str | None:
    """The first source that knows what everybody knows."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary.txt"
        canary.write_text(f"{CANARY}\n", "utf-8")
        for source in SOURCES:
            report = ask(pip_audit, source, canary)
            if report is not None and vulnerable(report):
                return source
    return None


def main(pip_audit: str, locks: Sequence[str]) -> int:
    source = believable(pip_audit)
    if source is None:
        print(
            "No advisory source reachable: nothing was checked."
            f" None of {', '.join(SOURCES)} knows that {CANARY} is vulnerable.",
            file=sys.stderr,
        )
        return os.EX_UNAVAILABLE
    lines = []
    for lock in locks:
        report = ask(pip_audit, source, Path(lock))
        if report is None:
            print(f"{source} did not answer for {lock}: nothing was checked.", file=sys.stderr)
            return os.EX_UNAVAILABLE
        lines += vulnerable(report)
        for line in unknown(report):
            print(f"Not checked: {line}")
    print("\n".join(lines) or f"No known vulnerability in {', '.join(locks)} (asked: {source}).")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
