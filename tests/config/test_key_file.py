from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import key_file
from gateway.config.load import keys_path
from gateway.config.schema import CallerSettings, StoredKey
from gateway.core.api_key import digest_of
from gateway.core.errors import ConfigError
from tests.config.loading import Folder

KEY = "sk-a-key-that-is-long-enough"
DIGEST = digest_of(KEY).hex()
OTHER = digest_of("sk-another-key-that-is-long").hex()


class Keys:
    """A file of keys beside the configuration."""

    def __init__(self, folder: Folder) -> None:
        self.path = folder.root / "keys.toml"

    def write(self, text: str, mode: int = 0o640) -> None:
        self.path.write_text(text)
        self.path.chmod(mode)

    def mistakes(self, text: str) -> list[str]:
        """Of the file alone."""
        with pytest.raises(ConfigError) as caught:
            key_file.parse(self.path, text.encode())
        return [line.removeprefix(f"{self.path}: ") for line in caught.value.mistakes]


@pytest.fixture
def keys(folder: Folder) -> Keys:
    return Keys(folder)


# --- What it says -------------------------------------------------------------


def test_a_table_is_a_key_and_how_its_holder_is_treated(folder: Folder, keys: Keys) -> None:
    keys.write(
        f'[alice]\ndigest = "{DIGEST}"\ncreated = 2026-11-22T11:00:00+01:00\n'
        f'expires = 2027-01-01\npriority = "batch"\nmodels = ["m"]\n[bob]\ndigest = "{OTHER}"\n'
    )
    config = folder.load()
    assert config.stored_keys == {
        "alice": StoredKey(
            digest=bytes.fromhex(DIGEST),
            created=datetime(2026, 11, 22, 10, tzinfo=UTC),
            expires=datetime(2027, 1, 1, tzinfo=UTC),
        ),
        "bob": StoredKey(digest=bytes.fromhex(OTHER)),
    }
    assert config.callers == {"alice": CallerSettings(priority="batch", models=("m",))}


def test_stored_keys_are_no_setting(folder: Folder) -> None:
    assert folder.mistake("[stored_keys.alice]").startswith("stored_keys: there is no such key")


def test_every_mistake_is_told_and_nothing_that_may_be_a_key_is_shown(keys: Keys) -> None:
    canary = "sk-canary-7f3a-canary"
    lines = keys.mistakes(
        f'alice = "{canary}"\n[bob]\ndigest = "{canary}"\nexpires = "{canary}"\n'
        f"created = 2027-01-01T00:00:00\nweight = -1\npriorty = 1\n[{canary}]\n[anonymous]\n"
        f'digest = "{DIGEST}"\n'
    )
    said = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
    assert list(said) == [
        "alice",
        "bob.digest",
        "bob.created",
        "bob.expires",
        '"sk-canar…"',
        '"sk-canar…".digest',
        "anonymous",
        "bob.weight = -1",
        "bob.priorty",
    ]
    assert said["alice"].startswith("must be a table")
    assert "64 hexadecimal digits" in said["bob.digest"]
    assert "2027-01-01T00:00:00Z" in said["bob.created"]
    assert "callers without a key" in said["anonymous"]
    assert said["bob.weight = -1"] == "must be above 0."
    assert "did you mean `priority`" in said["bob.priorty"]
    assert "canary" not in "\n".join(lines)


@pytest.mark.parametrize("content", [b"[", b"\xff", b"x" * (1024 * 1024 + 1)])
def test_what_is_no_toml_says_so(folder: Folder, keys: Keys, content: bytes) -> None:
    keys.write("")
    keys.path.write_bytes(content)
    (line,) = folder.mistakes('server.host = "0.0.0.0"\ncallers.alice.weight = 2')
    assert line.startswith(f"{keys.path}: ")


# --- Which file, and who may read it ---------------------------------------------


def test_it_stands_beside_the_configuration_unless_another_is_named(
    folder: Folder, keys: Keys, tmp_path: Path
) -> None:
    folder.path.write_text("server.port = -1")
    assert keys_path(folder.path, {}) == keys.path
    assert keys_path(None, {}) is None
    elsewhere = {"GATEWAY__AUTH__KEYS_FILE": str(tmp_path / "elsewhere")}
    assert keys_path(folder.path, elsewhere) == tmp_path / "elsewhere"
    assert keys_path(None, elsewhere) == tmp_path / "elsewhere"


def test_a_missing_file_is_no_key_but_one_that_was_named_is_a_mistake(folder: Folder) -> None:
    assert folder.load().stored_keys == {}
    assert folder.mistakes('auth.keys_file = "/nonexistent"\nserver.host = "0.0.0.0"') == [
        "/nonexistent: there is no such file, and auth.keys_file names it."
    ]


def test_the_named_file_is_read_and_the_one_beside_is_not(
    folder: Folder, keys: Keys, tmp_path: Path
) -> None:
    keys.write("[")
    named = tmp_path / "named"
    named.write_text(f'[alice]\ndigest = "{DIGEST}"\n')
    named.chmod(0o600)
    assert list(folder.load(f'auth.keys_file = "{named}"').stored_keys) == ["alice"]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o642, 0o641])
def test_a_file_that_is_open_to_everybody_is_refused_and_the_cure_named(
    folder: Folder, keys: Keys, mode: int
) -> None:
    keys.write(f'[alice]\ndigest = "{DIGEST}"\n', mode)
    assert folder.mistakes() == [
        f"{keys.path}: is open to everybody on this machine (mode {mode:04o}); chmod o= {keys.path}"
    ]


def test_a_file_out_of_reach_is_not_passed_over(folder: Folder, keys: Keys) -> None:
    # A loop of links stands for a file that may not be read: root may read all.
    keys.path.symlink_to(keys.path)
    assert folder.mistake().startswith(f"{keys.path}: can't be read: ")


def test_a_folder_in_its_place_is_a_mistake(folder: Folder, keys: Keys) -> None:
    keys.path.mkdir(0o700)
    assert folder.mistake() == f"{keys.path}: can't be read: Is a directory."


def test_a_file_without_a_key_lets_nobody_in_by_mistake(folder: Folder, keys: Keys) -> None:
    keys.write("# cut short\n")
    assert "holds no key, and there is no other" in folder.mistake()
    assert folder.load(f'auth.api_key = "{KEY}"').stored_keys == {}


# --- Beside the configuration's own keys ---------------------------------------------


def test_a_stored_key_is_a_key_to_every_rule(folder: Folder, keys: Keys) -> None:
    keys.write(f'[alice]\ndigest = "{DIGEST}"\n')
    config = folder.load('server.host = "0.0.0.0"\ncallers.alice.weight = 2')
    assert config.callers["alice"].weight == 2.0
    assert "did you mean `alice`" in folder.mistake("callers.alcie.weight = 2")
    assert "nobody is anonymous" in folder.mistake("callers.anonymous.weight = 2")


def test_a_mistake_in_it_is_told_once_and_not_as_missing_keys_too(
    folder: Folder, keys: Keys
) -> None:
    keys.write('[alice]\ndigest = "x"\n')
    (line,) = folder.mistakes('server.host = "0.0.0.0"\ncallers.alice.weight = 2')
    assert line.startswith(f"{keys.path}: alice.digest: ")


def test_a_name_has_one_key(folder: Folder, keys: Keys) -> None:
    keys.write(f'[alice]\ndigest = "{DIGEST}"\n[default]\ndigest = "{OTHER}"\n')
    assert folder.mistakes(f'auth.keys.alice = "{KEY}-2"\nauth.api_key = "{KEY}-3"') == [
        "auth.keys.alice = (hidden): there is a stored key of this name too;"
        " `gateway keys revoke alice`, or pick another name here.",
        "auth.api_key = (hidden): a stored key has the name of this one;"
        " `gateway keys revoke default`, or leave this one out.",
    ]


def test_a_key_has_one_name(folder: Folder, keys: Keys) -> None:
    keys.write("".join(f'[{name}]\ndigest = "{DIGEST}"\n' for name in ("alice", "bob")))
    assert folder.mistakes(f'auth.keys.carol = "{KEY}"') == [
        "auth.keys.carol: the keys of alice and of auth.keys.carol are the same;"
        " `gateway keys rotate alice`.",
        "auth.keys.carol: the keys of bob and of auth.keys.carol are the same;"
        " `gateway keys rotate bob`.",
    ]
    assert folder.mistake() == (
        "auth.keys_file: the keys of bob and of alice are the same; `gateway keys rotate bob`."
    )


def test_how_a_caller_is_treated_is_said_in_one_place(folder: Folder, keys: Keys) -> None:
    keys.write(f'[alice]\ndigest = "{DIGEST}"\nweight = 2\n')
    assert folder.mistake("callers.alice.weight = 3") == (
        f"callers.alice: {keys.path} says how this caller is treated too; keep one of the two."
    )


def test_a_stored_digest_is_never_shown(folder: Folder, keys: Keys) -> None:
    keys.write(f'[alice]\ndigest = "{DIGEST}"\n')
    config = folder.load()
    assert DIGEST not in repr(config)
    assert "digest" not in repr(config.stored_keys)
