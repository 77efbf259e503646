import json
import re
import stat
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from gateway.admission.callers import Callers
from gateway.cli.keys import SETTINGS
from gateway.config import key_file
from gateway.config.effective import api_keys, callers
from gateway.config.load import load
from gateway.config.schema import CallerSettings
from gateway.core import exit_codes
from gateway.core.errors import Unauthorized
from gateway.core.ticket import Priority
from tests.cli.test_client import Daemon, daemon
from tests.cli.typing_in import Shell

__all__ = ["daemon"]

KEY = re.compile(r"sk-[A-Za-z0-9_-]{43}\n")
NOW_S = datetime.now(UTC).timestamp()


def who(shell: Shell, key: str, at_s: float = NOW_S) -> str:
    """The caller whom the daemon would see."""
    config = load(shell.config, {})
    known = Callers(api_keys(config), callers(config))
    return known.identify([f"Bearer {key}"], [], wall_s=at_s).name


# --- new --------------------------------------------------------------------------


def test_a_new_key_is_alone_on_standard_output_and_opens(shell: Shell) -> None:
    made = shell.type("keys", "new", "alice")
    assert made.code == 0
    assert KEY.fullmatch(made.out)
    assert who(shell, made.out.strip()) == "alice"


def test_what_is_stored_is_no_key_and_nobody_else_may_read_it(shell: Shell) -> None:
    key = shell.type("keys", "new", "alice").out.strip()
    stored = shell.keys.read_text()
    assert key.removeprefix("sk-") not in stored
    (digest,) = re.findall(r'digest = "(.*)"', stored)
    for sent in (digest, f"sk-{digest}"):
        with pytest.raises(Unauthorized):
            who(shell, sent)
    assert not stat.S_IMODE(shell.keys.stat().st_mode) & stat.S_IRWXO


def test_every_setting_of_a_caller_can_be_given(shell: Shell) -> None:
    given = {
        "--priority": "interactive",
        "--priority-max": "interactive",
        "--weight": "2.5",
        "--user-header": "X-User",
        "--models": "a, b:1",
        "--requests-per-minute": "1",
        "--tokens-per-minute": "2",
        "--tokens-per-day": "3",
        "--requests-at-once": "4",
        "--max-tokens": "5",
    }
    words = [word for pair in given.items() for word in pair]
    assert shell.type("keys", "new", "al.ice", "--admin", "--manage-models", *words).code == 0
    caller = callers(load(shell.config, {}))["al.ice"]
    assert (caller.priority, caller.weight, caller.admin) == (Priority.INTERACTIVE, 2.5, True)
    assert caller.manage_models
    assert caller.models == {"a", "b:1"}
    assert attrs.astuple(caller.limits) == (1, 2, 3, 4, 5)
    assert set(SETTINGS) == {field.name for field in attrs.fields(CallerSettings)}


def test_every_wrong_setting_is_named_by_its_option_and_nothing_is_written(shell: Shell) -> None:
    made = shell.type("keys", "new", "alice", "--priority", "urgent", "--weight", "0")
    assert made.code == exit_codes.USAGE
    assert made.said == [
        'gateway: --priority: callers.alice.priority = "urgent": must be one of interactive,'
        " normal, batch.",
        "gateway: --weight: callers.alice.weight = 0.0: must be above 0.",
    ]
    assert not shell.keys.exists()


@pytest.mark.parametrize("name", ["a b", "sk-0123456789", "anonymous", "", "a" * 33, "ä"])
def test_a_name_that_fits_no_log_is_refused(shell: Shell, name: str) -> None:
    made = shell.type("keys", "new", name)
    assert (made.code, made.out) == (exit_codes.USAGE, "")
    assert not shell.keys.exists()


def test_a_name_has_one_key(shell: Shell) -> None:
    shell.type("keys", "new", "alice")
    before = shell.keys.read_text()
    again = shell.type("keys", "new", "alice")
    assert again.code == exit_codes.USAGE
    assert "gateway keys rotate alice" in again.err
    assert shell.keys.read_text() == before


def test_a_name_of_the_configuration_is_taken_and_nothing_is_written(shell: Shell) -> None:
    shell.config.write_text('auth.keys.alice = "a-key-long-enough"')
    made = shell.type("keys", "new", "alice")
    assert (made.code, made.out) == (exit_codes.CONFIG, "")
    assert not shell.keys.exists()


def test_the_first_key_can_be_made_where_the_configuration_is_wrong_without_one(
    shell: Shell,
) -> None:
    shell.config.write_text('server.host = "0.0.0.0"\ncallers.alice.weight = 2')
    assert shell.type("check").code == exit_codes.CONFIG
    assert shell.type("keys", "new", "alice").code == 0
    assert shell.type("check").code == 0


def test_the_first_key_says_what_changes_with_it(shell: Shell) -> None:
    assert "nobody may call without one" in shell.type("keys", "new", "alice").err
    assert "nobody may call" not in shell.type("keys", "new", "bob").err


def test_a_key_expires_when_it_was_said(shell: Shell) -> None:
    key = shell.type("keys", "new", "alice", "--expires", "2h").out.strip()
    now = datetime.now(UTC)
    assert who(shell, key, (now + timedelta(minutes=119)).timestamp()) == "alice"
    with pytest.raises(Unauthorized, match="has expired"):
        who(shell, key, (now + timedelta(minutes=121)).timestamp())
    refused = shell.type("keys", "new", "bob", "--expires", "2020-01-01")
    assert (refused.code, refused.out) == (exit_codes.USAGE, "")


def test_without_a_configuration_file_there_is_no_place_unless_one_is_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATEWAY_CONFIG")
    made = shell.type("keys", "new", "alice")
    assert made.code == exit_codes.USAGE
    assert "GATEWAY__AUTH__KEYS_FILE" in made.err
    monkeypatch.setenv("GATEWAY__AUTH__KEYS_FILE", str(shell.folder / "mine.toml"))
    assert shell.type("keys", "new", "alice").code == 0
    assert "alice" in key_file.read(shell.folder / "mine.toml").keys


def test_a_folder_that_can_not_be_written_is_a_sentence(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY__AUTH__KEYS_FILE", str(shell.folder / "none" / "keys.toml"))
    made = shell.type("keys", "new", "alice")
    assert made.code == exit_codes.CANT_CREATE
    assert made.said == [
        f"gateway: {shell.folder}/none/keys.toml: can't be written: No such file or directory."
    ]


# --- list, revoke, rotate ----------------------------------------------------------


def test_the_list_tells_everybody_and_no_key(shell: Shell) -> None:
    shell.config.write_text('auth.keys.carol = "a-key-long-enough"\ncallers.carol.weight = 2')
    key = shell.type("keys", "new", "alice", "--admin", "--expires", "2099-01-01").out.strip()
    listed = shell.type("keys", "list")
    rows = [line.split() for line in listed.out.splitlines()]
    assert rows[0] == ["NAME", "KEPT", "CREATED", "EXPIRES", "SETTINGS"]
    assert rows[1] == ["carol", "configuration", "-", "never", "weight=2"]
    assert (*rows[2][:2], *rows[2][-2:]) == ("alice", "stored", "2099-01-01", "admin=true")
    told = json.loads(shell.type("keys", "list", "--json").out)["keys"]
    assert [(entry["name"], entry["stored"]) for entry in told] == [
        ("carol", False),
        ("alice", True),
    ]
    assert told[1]["expires"] == "2099-01-01T00:00:00Z"
    assert told[1]["settings"] == {"admin": True}
    assert key not in listed.out + str(told)
    assert "a-key-long" not in listed.out + str(told)


def test_an_expired_key_is_listed_as_such(shell: Shell) -> None:
    shell.type("keys", "new", "alice", "--expires", "2099-01-01")
    shell.keys.write_text(shell.keys.read_text().replace("2099", "2020"))
    assert "2020-01-01 (expired)" in shell.type("keys", "list").out
    assert "--expires" in shell.type("keys", "rotate", "alice").err
    assert shell.type("keys", "rotate", "alice", "--expires", "30d").code == 0


def test_a_revoked_key_opens_nothing_and_the_others_do(shell: Shell) -> None:
    alice = shell.type("keys", "new", "alice").out.strip()
    bob = shell.type("keys", "new", "bob").out.strip()
    assert shell.type("keys", "revoke", "alice").code == 0
    assert who(shell, bob) == "bob"
    with pytest.raises(Unauthorized):
        who(shell, alice)


def test_the_last_key_is_not_revoked_since_that_would_let_everybody_in(shell: Shell) -> None:
    key = shell.type("keys", "new", "alice").out.strip()
    revoked = shell.type("keys", "revoke", "alice")
    assert revoked.code == exit_codes.CONFIG
    assert "remove the file and let everybody in" in revoked.err
    assert who(shell, key) == "alice"
    shell.config.write_text('auth.api_key = "a-key-long-enough"')
    assert shell.type("keys", "revoke", "alice").code == 0


def test_a_rotated_key_has_the_settings_and_the_end_of_the_old_one(shell: Shell) -> None:
    old = shell.type("keys", "new", "alice", "--admin", "--expires", "2099-01-01").out.strip()
    new = shell.type("keys", "rotate", "alice").out.strip()
    assert new != old
    assert who(shell, new) == "alice"
    with pytest.raises(Unauthorized):
        who(shell, old)
    config = load(shell.config, {})
    assert config.callers["alice"].admin
    assert config.stored_keys["alice"].expires == datetime(2099, 1, 1, tzinfo=UTC)
    shell.type("keys", "rotate", "alice", "--expires", "never")
    assert load(shell.config, {}).stored_keys["alice"].expires is None


@pytest.mark.parametrize("action", ["revoke", "rotate"])
def test_who_has_no_key_is_named(shell: Shell, action: str) -> None:
    done = shell.type("keys", action, "nobody")
    assert done.code == exit_codes.USAGE
    assert '"nobody"' in done.err


def test_a_file_that_others_may_read_is_not_added_to(shell: Shell) -> None:
    shell.type("keys", "new", "alice")
    shell.keys.chmod(0o644)
    assert "chmod o=" in shell.type("keys", "new", "bob").err
    assert "bob" not in shell.keys.read_text()


# --- Live --------------------------------------------------------------------------


def test_the_running_gateway_is_told_if_that_is_wanted(shell: Shell, daemon: Daemon) -> None:
    made = shell.type("keys", "new", "alice")
    assert "gateway reload" in made.err
    assert daemon.asked == []
    made = shell.type("keys", "new", "bob", "--reload", "--json", "--url", daemon.url)
    assert daemon.asked[0][:2] == ("POST", "/gateway/reload")
    told = json.loads(made.out)
    assert told["live"] is True
    assert who(shell, told["key"]) == "bob"


def test_a_gateway_that_does_not_run_reads_it_later(shell: Shell, daemon: Daemon) -> None:
    url = daemon.url
    daemon.server_close()
    made = shell.type("keys", "new", "alice", "--reload", "--url", url)
    assert made.code == 0
    assert KEY.fullmatch(made.out)
    assert "read at the next start" in made.err


def test_a_gateway_that_refuses_says_why_and_the_key_is_still_shown(
    shell: Shell, daemon: Daemon
) -> None:
    daemon.says({"error": {"message": "Not now.", "code": "config_refused"}}, 409)
    made = shell.type("keys", "new", "alice", "--reload", "--url", daemon.url)
    assert made.code == exit_codes.FAILED
    assert KEY.fullmatch(made.out)
    assert made.said[-1] == "gateway: Not now."
