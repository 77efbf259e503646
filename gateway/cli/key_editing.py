"""The file of keys while a command changes it: alone, and judged before it is written."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from gateway.cli.command import CommandError
from gateway.cli.settings import environment, read_all
from gateway.config import key_file, key_file_edit, private_file
from gateway.config.key_file import KeyFile
from gateway.config.keys import quoted
from gateway.config.load import find, keys_path
from gateway.config.mistakes import file_words
from gateway.config.schema import Config, StoredKey
from gateway.core import exit_codes


@attrs.frozen
class Editing:
    """A file that is ours alone for now.

    Attributes:
        text: What stands in it.
        now: What that means.
    """

    path: Path
    text: str
    now: KeyFile
    _arguments: argparse.Namespace

    def known(self, name: str) -> StoredKey:
        """The key of this name. Raises CommandError."""
        stored = self.now.keys.get(name)
        if stored is None:
            raise CommandError(
                f"{file_words(self.path)} has no key of the name {quoted(name)};"
                " `gateway keys list` shows which there are.",
                exit_code=exit_codes.USAGE,
            )
        return stored

    def write(self, text: str) -> Config:
        """Replace it, if the daemon will take it so.

        Returns:
            The configuration that holds from then on.

        Raises:
            ConfigError: It would refuse the whole configuration; nothing was changed.
            CommandError: It can't be written.
        """
        stored = key_file.parse(self.path, text.encode())
        config = read_all(self._arguments, stored=stored).config
        try:
            private_file.write(self.path, text)
        except OSError as error:
            raise _unwritten(self.path, error) from None
        return config


@contextmanager
def editing(arguments: argparse.Namespace) -> Iterator[Editing]:
    """The file of keys of the configuration that is meant; it may not be there yet.

    Raises:
        ConfigError: What stands in it is wrong.
        CommandError: There is no place for it, or it is out of reach.
    """
    environ = environment(arguments)
    path = keys_path(find(arguments.config, environ), environ)
    if path is None:
        raise CommandError(
            "there is no configuration file beside which keys could be stored: name one with"
            " --config, or the file of the keys with GATEWAY__AUTH__KEYS_FILE.",
            exit_code=exit_codes.USAGE,
        )
    try:
        with private_file.locked(path.resolve().parent):
            try:
                now = key_file.read(path)
            except FileNotFoundError:
                now = KeyFile(path, {}, {})
            yield Editing(path, key_file_edit.text_of(path), now, arguments)
    except OSError as error:
        raise _unwritten(path, error) from None


def _unwritten(path: Path, error: OSError) -> CommandError:
    return CommandError(
        f"{file_words(path)}: can't be written: {error.strerror}.",
        exit_code=exit_codes.CANT_CREATE,
    )
