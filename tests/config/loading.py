"""Load a configuration that a test wrote."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.schema import Config
from gateway.core.errors import ConfigError


class Folder:
    """A place for one gateway.toml."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "gateway.toml"

    def load(self, toml: str = "", environ: Mapping[str, str] | None = None) -> Config:
        self.path.write_text(toml, encoding="utf-8")
        return load(self.path, environ or {})

    def mistakes(self, toml: str = "", environ: Mapping[str, str] | None = None) -> list[str]:
        """What is said of it, without the file's own name."""
        with pytest.raises(ConfigError) as caught:
            self.load(toml, environ)
        return [line.removeprefix(f"{self.path}: ") for line in caught.value.mistakes]

    def mistake(self, toml: str = "", environ: Mapping[str, str] | None = None) -> str:
        """The only mistake in it."""
        (line,) = self.mistakes(toml, environ)
        return line
