import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.manual import page
from gateway.core import exit_codes
from tests.cli.typing_in import Shell

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command that does something."""
    inner = [
        one
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for one in action.choices.values()
    ]
    if not inner:
        yield parser
    for one in inner:
        yield from leaves(one)


def test_every_command_and_every_option_is_in_it() -> None:
    plain = page(main.parser()).replace("\\-", "-")
    _, *parts = re.split(r"^\.SS (.*)$", plain, flags=re.MULTILINE)
    sections = {f"{title} ": text for title, text in zip(parts[::2], parts[1::2], strict=True)}
    for leaf in leaves(main.parser()):
        (section,) = (text for title, text in sections.items() if title.startswith(f"{leaf.prog} "))
        for action in leaf._actions:
            for option in action.option_strings:
                assert option in section or option in ("-h", "--help"), (leaf.prog, option)
            assert action.help, (leaf.prog, action.dest)


def test_every_exit_status_is_in_it_and_the_manual_says_the_same() -> None:
    codes = {value for value in vars(exit_codes).values() if isinstance(value, int)}
    assert set(exit_codes.MEANINGS) == codes
    for code, meaning in exit_codes.MEANINGS.items():
        assert code == exit_codes.INTERRUPTED or f"| {code} | {meaning} |" in README


def test_roff_has_nothing_to_say_about_it(shell: Shell) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed here")
    made = shell.type("manual")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww"],
        input=made.out,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    shown = re.sub(r".\x08", "", re.sub(r"\x1b\[[0-9;]*m", "", done.stdout))
    assert "gateway keys new NAME" in shown
    assert "--requests-per-minute N" in shown
