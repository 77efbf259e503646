import shutil
import subprocess

import pytest

from gateway.cli.completion import SHELLS
from gateway.core import exit_codes
from tests.cli.typing_in import Shell


@pytest.mark.parametrize("name", SHELLS)
def test_every_shell_gets_a_script_with_every_command(shell: Shell, name: str) -> None:
    made = shell.type("completion", name)
    assert made.code == 0
    assert {"serve", "check", "config", "keys", "migrate", "rotate"} <= set(
        made.out.replace("(", " ").replace(")", " ").replace("'", " ").replace('"', " ").split()
    )


def test_a_shell_that_is_not_known_is_a_wrong_usage(shell: Shell) -> None:
    made = shell.type("completion", "cmd")
    assert made.code == exit_codes.USAGE
    assert len(made.said) == 1


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["gateway", "ke"], ["keys"]),
        (["gateway", "keys", "r"], ["revoke", "rotate"]),
        (["gateway", "keys", "new", "--prio"], ["--priority", "--priority-max"]),
        (["gateway", "check", "--config", "gate"], ["gateway.toml"]),
        (["gateway", "completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes_what_was_begun(shell: Shell, typed: list[str], offered: list[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed here")
    script = shell.type("completion", "bash").out
    words = " ".join(f"'{word}'" for word in typed)
    asked = (
        f"{script}\nCOMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}\n"
        "_shtab_gateway gateway; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        [bash, "--norc", "-c", asked],
        cwd=shell.folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert sorted(done.stdout.split()) == offered
