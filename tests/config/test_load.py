from pathlib import Path

import pytest

from gateway.config import load as load_module
from gateway.config.environment import override
from gateway.config.files import FILE_BYTES_MAX
from gateway.config.load import KEY_FILE_BYTES_MAX, find, load
from gateway.config.schema import Config
from gateway.core.errors import ConfigError
from tests.config.loading import Folder

KEY = "a-key-long-enough"


# --- Which file ---------------------------------------------------------------


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The two default places, both empty."""
    paths = (tmp_path / "etc.toml", tmp_path / "conf.toml")
    monkeypatch.setattr(load_module, "DEFAULT_PATHS", paths)
    return paths


def test_without_any_file_there_is_none(defaults: tuple[Path, Path]) -> None:
    assert find(None, {}) is None


def test_the_option_wins_over_the_variable_and_that_over_the_defaults(
    defaults: tuple[Path, Path], tmp_path: Path
) -> None:
    option, variable = tmp_path / "option.toml", tmp_path / "variable.toml"
    etc, conf = defaults
    for path in (option, variable, etc, conf):
        path.touch()
    environ = {"GATEWAY_CONFIG": str(variable)}
    assert find(str(option), environ) == option
    assert find(None, environ) == variable
    assert find(None, {"GATEWAY_CONFIG": ""}) == etc
    etc.unlink()
    assert find(None, {}) == conf


def test_a_file_that_was_asked_for_and_is_missing_is_a_mistake(
    defaults: tuple[Path, Path], tmp_path: Path
) -> None:
    defaults[0].touch()
    missing = str(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"^--config: .*missing.toml: there is no such file\.$"):
        find(missing, {})
    with pytest.raises(ConfigError, match=r"^environment variable GATEWAY_CONFIG: "):
        find(None, {"GATEWAY_CONFIG": missing})


def test_a_default_file_out_of_reach_is_found_and_not_passed_over(
    defaults: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A loop of links stands for a folder that may not be entered: root may enter all.
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    monkeypatch.setattr(load_module, "DEFAULT_PATHS", (loop / "gateway.toml", defaults[1]))
    assert find(None, {}) == loop / "gateway.toml"
    with pytest.raises(ConfigError, match="can't be read"):
        load(find(None, {}), {})


# --- What is read -------------------------------------------------------------


def test_nothing_given_is_the_defaults(folder: Folder) -> None:
    assert load(None, {}) == Config()
    assert folder.load("") == Config()


def test_the_environment_wins_over_the_file_and_options_over_both(folder: Folder) -> None:
    folder.path.write_text("[server]\nport = 1\n[queue]\nmax_queue_size = 1\nbatch_max_size = 1")
    config = load(
        folder.path,
        {"PORT": "2", "MAX_QUEUE_SIZE": "2"},
        [override("--port", ("server", "port"), "3")],
    )
    assert config.server.port == 3
    assert config.queue.max_queue_size == 2
    assert config.queue.batch_max_size == 1


def test_every_variable_of_the_predecessor_is_heard() -> None:
    config = load(
        None,
        {
            "MODEL_NAME": "qwen",
            "OLLAMA_URL": "http://ollama:11434",
            "MAX_QUEUE_SIZE": "1",
            "BATCH_WAIT_MS": "2",
            "BATCH_MAX_SIZE": "3",
            "REQUEST_TIMEOUT_SECONDS": "4.5",
            "SHUTDOWN_GRACE_SECONDS": "5",
            "API_KEY": KEY,
            "HOST": "0.0.0.0",
            "PORT": "7",
            "LOG_LEVEL": "WARNING",
        },
    )
    assert config.generation.default_model == "qwen"
    assert config.backend.url == "http://ollama:11434"
    assert config.queue.max_queue_size == 1
    assert config.queue.batch_wait_ms == 2.0
    assert config.queue.batch_max_size == 3
    assert config.timeouts.request_timeout_seconds == 4.5
    assert config.server.shutdown_grace_seconds == 5.0
    assert config.auth.api_key == KEY
    assert (config.server.host, config.server.port) == ("0.0.0.0", 7)
    assert config.logging.level == "warning"


def test_the_variables_beside_them_are_heard_too() -> None:
    environ = {"SLOTS": "3", "RETRY_AFTER_MAX_SECONDS": "9", "STATE_DIRECTORY": "/var/lib/gateway"}
    config = load(None, environ)
    assert config.backend.slots == 3
    assert config.queue.retry_after_max_seconds == 9.0
    assert config.server.state_directory == "/var/lib/gateway"


def test_a_slash_at_the_end_of_a_url_does_no_harm(folder: Folder) -> None:
    config = folder.load('backend.url = "http://a:1/"\nupstreams.b.url = "http://b:2/"')
    assert config.backend.url == "http://a:1"
    assert config.upstreams["b"].url == "http://b:2"


def test_a_file_with_a_byte_order_mark_and_windows_lines_is_read(folder: Folder) -> None:
    folder.path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    assert load(folder.path, {}).server.port == 1


# --- Every mistake at once ----------------------------------------------------


def test_mistakes_of_every_sort_come_together(folder: Folder) -> None:
    toml = """
        [queue]
        max_queue_siz = 5
        batch_max_size = 0
        [backend]
        url = "http://u:p@h"
        [upstreams.default]
    """
    environ = {"PORT": "http", "GATEWAY__QUEUE__BATCH_SIZE": "1"}
    places = [line.split(": ")[:2] for line in folder.mistakes(toml, environ)]
    assert places == [
        [
            "environment variable GATEWAY__QUEUE__BATCH_SIZE",
            "there is no such setting; did you mean GATEWAY__QUEUE__BATCH_MAX_SIZE?",
        ],
        ["environment variable PORT", 'server.port = "http"'],
        ["queue.batch_max_size = 0", "must be at least 1."],
        ["queue.max_queue_siz", "there is no such key; did you mean `max_queue_size`?"],
        [
            'backend.url = "…@h"',
            "must not have a user name or password in it; an engine's key goes into api_key.",
        ],
        ["upstreams.default", "this name is taken, [backend] is called so; pick another."],
    ]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("port", "line 1, column 5: not valid TOML: "),
        ("[server]\r\nport = \r\n", "line 2, column 8: not valid TOML: invalid value."),
        (
            "[server]\nport = 1\nport = 2",
            "line 3, column 9: not valid TOML: the key stands here a second",
        ),
        ("[server]\n[server]", "line 2, column 8: not valid TOML: "),
        ("a = " + "[" * 100_000, "is nested too deeply."),
        ("a = " + "9" * 5000, "a number in it has too many digits."),
        (f"#{'x' * FILE_BYTES_MAX}", f"is larger than {FILE_BYTES_MAX} bytes."),
    ],
)
def test_a_file_that_is_no_toml_says_where(folder: Folder, toml: str, said: str) -> None:
    assert said in folder.mistake(toml)


def test_a_file_that_is_no_text_says_where(folder: Folder) -> None:
    folder.path.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match="line 2: this is not UTF-8 text"):
        load(folder.path, {})


def test_a_folder_in_place_of_the_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(tmp_path, {})


def test_an_unreadable_file_hides_no_mistake_of_the_environment(folder: Folder) -> None:
    first, second = folder.mistakes("[", {"PORT": "x", "HOST": "0.0.0.0"})
    assert "not valid TOML" in first
    assert second.startswith("environment variable PORT: ")


def test_a_variable_for_a_table_that_is_none_hides_no_mistake(folder: Folder) -> None:
    assert folder.mistake("queue = 5", {"MAX_QUEUE_SIZE": "5"}) == "queue: must be a table."


def test_an_option_is_named_where_it_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"^--port: server\.port = 70000: must be at most 65535"):
        load(None, {}, [override("--port", ("server", "port"), "70000")])


def test_no_mistake_shows_a_secret(folder: Folder) -> None:
    canary = "canary-7f3a"
    documents = [
        f'auth = "{canary}"',
        f'auth.api_kye = "{canary}"',
        f'auth.api_key = ["{canary}"]',
        f'auth.api_key = {{x = "{canary}"}}',
        f'auth.api_key = "{canary} and more"',
        f'auth.keys = "{canary}"',
        f'auth.keys.alice = ["{canary}"]',
        f'auth.keys = {{alice = "{canary}", bob = "{canary}"}}',
        f'backend.api_key = "{canary} "',
        f'backend.api_keys = "{canary}"',
        f'upstreams.gpu = "{canary}"',
        f'upstreams.gpu.api_key = "{canary}\\n"',
        f'backend.url = "https://user:{canary}@h"',
        f'server.host = {{x = "{canary}"}}',
        f'API_KEY = "{canary}"',
    ]
    for toml in documents:
        assert canary not in "\n".join(folder.mistakes(toml))
    environments = [
        {"API_KEY": f"{canary} x"},
        {"GATEWAY__AUTH__KEY": canary},
        {"GATEWAY__AUTH__KEYS": canary},
        {"GATEWAY__AUTH__KEYS__ALICE": f"{canary} x"},
        {"OLLAMA_URL": f"http://{canary}@h"},
    ]
    for environ in environments:
        assert canary not in "\n".join(folder.mistakes("", environ))


def test_a_config_never_shows_a_key() -> None:
    shown = repr(load(None, {"API_KEY": KEY, "GATEWAY__AUTH__KEYS__ALICE": f"{KEY}-2"}))
    assert KEY not in shown


# --- A key in a file ----------------------------------------------------------


def with_key_file(folder: Folder, content: bytes) -> str:
    path = folder.root / "key"
    path.write_bytes(content)
    return f'auth.api_key_file = "{path}"\n'


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"{KEY}\r\n"])
def test_the_key_is_read_from_its_file(folder: Folder, content: str) -> None:
    toml = with_key_file(folder, content.encode())
    config = folder.load(f'{toml}server.host = "0.0.0.0"')
    assert config.auth.api_key == KEY


def test_a_missing_key_file_is_a_mistake_and_the_only_one(folder: Folder) -> None:
    line = folder.mistake('auth.api_key_file = "/nonexistent"\nserver.host = "0.0.0.0"')
    assert line == (
        'auth.api_key_file = "/nonexistent": this file can\'t be read: No such file or directory.'
    )


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_key_file_is_a_mistake(folder: Folder, content: bytes) -> None:
    assert "this file is empty" in folder.mistake(with_key_file(folder, content))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"k" * (KEY_FILE_BYTES_MAX + 1)])
def test_a_key_file_of_something_else_is_a_mistake(folder: Folder, content: bytes) -> None:
    assert "must hold one line, the key" in folder.mistake(with_key_file(folder, content))


@pytest.mark.parametrize("content", [b"short", b"two-lines-\n-of-a-key"])
def test_a_key_from_a_file_is_checked_as_any_other(folder: Folder, content: bytes) -> None:
    line = folder.mistake(with_key_file(folder, content))
    assert line.startswith("auth.api_key_file = ")
    assert "the key must " in line


def test_a_key_and_a_key_file_together_are_a_mistake(folder: Folder) -> None:
    toml = with_key_file(folder, KEY.encode())
    assert "together with auth.api_key" in folder.mistake(toml, {"API_KEY": KEY})
