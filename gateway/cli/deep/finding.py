"""What a look at the machine has found, one thing at a time."""

from collections.abc import Sequence
from typing import Final, Literal

import attrs

from gateway.core.jsonio import Json

Verdict = Literal["ok", "warn", "fail", "skip"]

GIB: Final = 1024**3
MIB: Final = 1024**2


@attrs.frozen
class Finding:
    """One verdict.

    Attributes:
        about: What was looked at, in one or two words.
        verdict: `fail` where requests fail or will, `warn` where they could be served better
            or will not always be, `skip` where it could not be learned.
        what: What is so, as a sentence without its full stop.
        fix: What to do; "" where nothing has to be done.
    """

    about: str
    verdict: Verdict
    what: str
    fix: str = ""


def worst(findings: Sequence[Finding]) -> Verdict:
    """The verdict on all of them."""
    for verdict in ("fail", "warn"):
        if any(finding.verdict == verdict for finding in findings):
            return verdict
    return "ok"


def text(findings: Sequence[Finding]) -> str:
    """For people: a line for each, and under it what to do; then how many are not well."""
    width = max(len(finding.about) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<4}  {finding.about:<{width}}  {finding.what}.")
        if finding.fix:
            lines.append(f"{'':<{width + 8}}Fix: {finding.fix}")
    failed = sum(finding.verdict == "fail" for finding in findings)
    warned = sum(finding.verdict == "warn" for finding in findings)
    return "\n".join([*lines, "", f"{failed} failed, {warned} could be better."])


def document(findings: Sequence[Finding]) -> Json:
    """For programs."""
    return {
        "verdict": worst(findings),
        "findings": [attrs.asdict(finding) for finding in findings],
    }


def size_words(count: float) -> str:
    """Bytes for people."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
