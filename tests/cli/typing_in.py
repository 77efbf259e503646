"""A command as an operator types it, in a folder with one configuration."""

from pathlib import Path

import attrs
import pytest

from gateway.cli.main import main
from gateway.config import load as load_module
from gateway.config.environment import SHORT_NAMES


@attrs.frozen
class Typed:
    """What came of it."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """Lines on standard error."""
        return self.err.splitlines()


class Shell:
    """Runs commands on a machine without any other file or variable of ours.

    Attributes:
        config: The configuration file, empty at first.
        keys: Where stored keys will be.
    """

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder = folder
        self.config = folder / "gateway.toml"
        self.keys = folder / "keys.toml"
        self.config.touch()
        self._capsys = capsys
        monkeypatch.setattr(load_module, "DEFAULT_PATHS", ())
        for variable in SHORT_NAMES:
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("GATEWAY_CONFIG", str(self.config))

    def type(self, *words: str) -> Typed:
        self._capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as ended:  # by argparse, always with a number
            code = int(ended.code or 0)
        told = self._capsys.readouterr()
        return Typed(code, told.out, told.err)
