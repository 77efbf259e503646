from datetime import UTC, datetime
from pathlib import Path

from gateway.config import key_file
from gateway.config.key_file_edit import text_of, with_key, with_other_key, without_key
from gateway.config.schema import CallerSettings, StoredKey

PATH = Path("keys.toml")
CREATED = datetime(2026, 11, 22, 10, tzinfo=UTC)
ALICE = StoredKey(digest=b"a" * 32, created=CREATED, expires=datetime(2027, 1, 1, tzinfo=UTC))
BOB = StoredKey(digest=b"b" * 32, created=CREATED)


def read(text: str) -> key_file.KeyFile:
    return key_file.parse(PATH, text.encode())


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    text = text_of(tmp_path / "missing")
    text = with_key(text, "alice", ALICE, {"weight": 2.0, "models": ["m"], "admin": True})
    text = with_key(text, "b.ob", BOB, {})
    found = read(text)
    assert found.keys == {"alice": ALICE, "b.ob": BOB}
    assert found.callers == {"alice": CallerSettings(weight=2.0, models=("m",), admin=True)}


def test_another_key_changes_nothing_else() -> None:
    text = (
        f'# first\n[alice] # who\ndigest = "{ALICE.digest.hex()}"\n'
        "expires = 2027-01-01T00:00:00Z\n\n# slow\nweight = 0.5\n\n# last\n"
    )
    changed = with_other_key(text, "alice", BOB)
    assert read(changed).keys == {"alice": BOB}
    kept = [line for line in text.splitlines() if not line.startswith(("digest", "expires"))]
    assert [line for line in changed.splitlines() if line in kept] == kept


def test_a_key_that_is_taken_out_leaves_the_others_and_the_comments() -> None:
    text = with_key(with_key("# kept\n", "alice", ALICE, {}), "bob", BOB, {"admin": True})
    assert read(without_key(text, "alice")).keys == {"bob": BOB}
    assert read(without_key(text, "bob")).keys == {"alice": ALICE}
    assert without_key(text, "alice").startswith("# kept\n")
