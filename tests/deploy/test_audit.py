import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
FOUND: Final = {"id": "CVE-2024-23334", "fix_versions": ["3.9.2"], "aliases": []}

FAKE: Final = """\
#!{python}
import json, sys
answers = json.load(open({answers!r}))
source = sys.argv[sys.argv.index("--vulnerability-service") + 1]
asked = open(sys.argv[sys.argv.index("--requirement") + 1]).read()
answer = answers[source]["canary" if asked.startswith("aiohttp==3.9.1") else "lock"]
if answer is None:
    sys.exit("cannot connect")
print(json.dumps({{"dependencies": answer, "fixes": []}}))
"""


def package(name: str, *vulnerabilities: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": list(vulnerabilities)}


KNOWS: Final = [package("aiohttp", FOUND)]
SKIPS: Final = [{"name": "aiohttp", "skip_reason": "not found"}]


def audit(folder: Path, **answers: Any) -> subprocess.CompletedProcess[str]:
    """What comes of it, where sources answer so."""
    told = folder / "answers.json"
    told.write_text(json.dumps(answers))
    fake = folder / "pip-audit"
    fake.write_text(FAKE.format(python=sys.executable, answers=str(told)))
    fake.chmod(0o755)
    lock = folder / "lock.txt"
    lock.write_text("orjson==3.13.0\n")
    return subprocess.run(
        [sys.executable, "deploy/audit.py", fake, lock],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("blind", [None, [package("aiohttp")], SKIPS, []])
def test_a_source_that_knows_nothing_is_not_believed(tmp_path: Path, blind: Any) -> None:
    nothing = {"canary": blind, "lock": [package("orjson")]}
    done = audit(tmp_path, pypi=nothing, osv=nothing)
    assert done.returncode == os.EX_UNAVAILABLE
    assert "No advisory source reachable: nothing was checked." in done.stderr
    assert done.stdout == ""


def test_the_first_source_that_knows_something_is_asked(tmp_path: Path) -> None:
    blind = {"canary": SKIPS, "lock": [package("orjson", FOUND)]}
    sees = {"canary": KNOWS, "lock": [package("orjson"), {"name": "x", "skip_reason": "no"}]}
    done = audit(tmp_path, pypi=blind, osv=sees)
    assert done.returncode == 0
    assert "No known vulnerability" in done.stdout
    assert "(asked: osv)" in done.stdout
    assert "Not checked: x: no" in done.stdout


def test_what_is_vulnerable_is_told_with_the_cure(tmp_path: Path) -> None:
    sees = {"canary": KNOWS, "lock": [package("orjson", FOUND)]}
    done = audit(tmp_path, pypi=sees)
    assert done.returncode == 1
    assert done.stdout == "orjson 1.0: CVE-2024-23334, fixed in 3.9.2\n"


def test_a_source_that_falls_silent_midway_has_checked_nothing(tmp_path: Path) -> None:
    done = audit(tmp_path, pypi={"canary": KNOWS, "lock": None})
    assert done.returncode == os.EX_UNAVAILABLE
    assert "nothing was checked" in done.stderr
