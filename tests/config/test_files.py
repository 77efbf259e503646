from pathlib import Path

import pytest

from gateway.config.environment import override
from gateway.config.files import FILES_MAX, merged
from gateway.config.load import load, read
from gateway.config.mistakes import Origin
from gateway.config.schema import Config
from gateway.core.errors import ConfigError


class Etc:
    """A place for one gateway.toml, and a conf.d beside it."""

    def __init__(self, root: Path) -> None:
        self.path = root / "gateway.toml"
        self.folder = root / "conf.d"
        self.path.touch()

    def put(self, name: str, toml: str) -> Path:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / name
        path.write_text(toml, "utf-8")
        return path

    def mistakes(self) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(self.path, {})
        return caught.value.mistakes


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


def test_without_a_folder_the_file_stands_alone(etc: Etc) -> None:
    etc.path.write_text("queue.max_queue_size = 3")
    assert load(etc.path, {}).queue.max_queue_size == 3


def test_later_names_win_key_by_key(etc: Etc) -> None:
    etc.path.write_text("[queue]\nmax_queue_size = 1\nbatch_max_size = 1\nbatch_wait_ms = 1")
    etc.put("20-b.toml", "[queue]\nmax_queue_size = 20")
    etc.put("10-a.toml", "[queue]\nmax_queue_size = 10\nbatch_max_size = 10")
    queue = load(etc.path, {}).queue
    assert (queue.max_queue_size, queue.batch_max_size, queue.batch_wait_ms) == (20, 10, 1.0)


def test_tables_of_names_are_put_together_and_lists_replaced(etc: Etc) -> None:
    etc.path.write_text(
        'server.allowed_hosts = ["a.example", "b.example"]\n'
        "[upstreams.one]\nslots = 1\nmodels = ['m', 'n']"
    )
    etc.put("10.toml", 'server.allowed_hosts = ["c.example"]\n[upstreams.one]\nslots = 2')
    etc.put("20.toml", "[upstreams.two]\nslots = 3")
    config = load(etc.path, {})
    assert config.server.allowed_hosts == ("c.example",)
    assert {name: (one.slots, one.models) for name, one in config.upstreams.items()} == {
        "one": (2, ("m", "n")),
        "two": (3, ()),
    }


def test_merging_changes_none_of_the_documents() -> None:
    below, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merged((below, over)) == {"a": {"b": 1, "c": 2}}
    assert (below, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_the_environment_and_options_win_over_all_files(etc: Etc) -> None:
    etc.put("10.toml", "[server]\nport = 1\n[queue]\nmax_queue_size = 1\nbatch_max_size = 1")
    option = override("--port", ("server", "port"), "3")
    config = load(etc.path, {"PORT": "2", "MAX_QUEUE_SIZE": "2"}, [option])
    found = (config.server.port, config.queue.max_queue_size, config.queue.batch_max_size)
    assert found == (3, 2, 1)


def test_other_files_and_hidden_ones_are_passed_over(etc: Etc) -> None:
    etc.put("10.toml~", "nonsense")
    etc.put("10.conf", "nonsense")
    etc.put(".10.toml", "nonsense")
    # Emacs locks a file by a hidden link that leads nowhere.
    (etc.folder / ".#10.toml").symlink_to("nowhere")
    assert load(etc.path, {}) == Config()


def test_without_a_file_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch, etc: Etc) -> None:
    etc.put("10.toml", "nonsense")
    monkeypatch.chdir(etc.folder.parent)
    assert load(None, {}) == Config()


def test_each_mistake_names_the_file_it_stands_in(etc: Etc) -> None:
    etc.path.write_text("[queue]\nmax_queue_size = -1\nbatch_max_size = 0")
    first = etc.put("10.toml", "[queue]\nmax_queue_size = -2\n[serve]\nport = 1")
    second = etc.put("20.toml", "[timeouts]\nrequest_timeout_seconds = 0")
    assert {line.partition(": must")[0].partition(": there")[0] for line in etc.mistakes()} == {
        f"{etc.path}: queue.batch_max_size = 0",
        f"{first}: queue.max_queue_size = -2",
        f"{first}: serve",
        f"{second}: timeouts.request_timeout_seconds = 0",
    }


def test_a_rule_about_two_files_is_told_at_the_one_that_breaks_it(etc: Etc) -> None:
    etc.path.write_text("[generation]\nmax_tokens_max = 10\nmax_tokens_default = 5")
    over = etc.put("10.toml", "[generation]\nmax_tokens_default = 11")
    (line,) = etc.mistakes()
    assert line.startswith(f"{over}: generation.max_tokens_default = 11: ")


def test_a_broken_file_is_told_with_its_line_and_refuses_all(etc: Etc) -> None:
    etc.path.write_text("[queue]\nmax_queue_size = 1")
    broken = etc.put("10.toml", "[queue]\nmax_queue_size =")
    other = etc.put("20.toml", b"\xff".decode("latin-1"))
    other.write_bytes(b"# \xff")
    assert etc.mistakes() == [
        f"{broken}: line 2, column 17: not valid TOML: invalid value.",
        f"{other}: line 1: this is not UTF-8 text.",
    ]


def test_a_file_that_can_not_be_read_refuses_all(etc: Etc) -> None:
    etc.put("10.toml", "[queue]\nmax_queue_size = 1")
    # A folder in a file's place stands for one without permission: root may read all.
    (etc.folder / "20.toml").mkdir()
    (line,) = etc.mistakes()
    assert line == f"{etc.folder / '20.toml'}: can't be read: Is a directory."


def test_a_folder_that_is_none_refuses_all(etc: Etc) -> None:
    etc.folder.write_text("")
    (line,) = etc.mistakes()
    assert line == f"{etc.folder}: can't be read: Not a directory."


def test_no_more_files_are_read_than_anybody_needs(etc: Etc) -> None:
    for number in range(FILES_MAX + 1):
        etc.put(f"{number:03}.toml", "")
    (line,) = etc.mistakes()
    assert line == f"{etc.folder}: holds more than {FILES_MAX} files."


def test_where_a_value_came_from_is_told_with_its_line(etc: Etc) -> None:
    etc.path.write_text("# ours\n[queue]\nmax_queue_size = 1\nbatch_max_size = 2\n")
    over = etc.put("10.toml", "[server]\n\nhost = '127.0.0.1'\n[queue]\nmax_queue_size = 3\n")
    sources = read(etc.path, {"PORT": "1"}).sources
    assert sources.origin(("queue", "max_queue_size")) == Origin(str(over), 5)
    assert sources.origin(("queue", "batch_max_size")) == Origin(str(etc.path), 4)
    assert sources.origin(("server", "host")) == Origin(str(over), 3)
    assert sources.origin(("server", "port")) == Origin("environment variable PORT")
    assert sources.origin(("queue", "batch_wait_ms")) == Origin()
