import json
from pathlib import Path

import attrs
import pytest

from gateway.config.diff import APPLIES_AT_ONCE, NEEDS_RESTART, Change, changes, kept, why_restart
from gateway.config.keys import NAME, SETTINGS, Key
from gateway.config.schema import (
    Auth,
    Backend,
    CallerSettings,
    Config,
    Embedded,
    Generation,
    Limits,
    ModelOptions,
    ModelSettings,
    Queue,
    Server,
)


def covers(table: Key, key: Key) -> bool:
    return key[: len(table)] == table


def changed(old: Config, new: Config) -> list[tuple[str, str, str]]:
    return [(".".join(change.key), change.was, change.now) for change in changes(old, new)]


# --- Which setting takes effect when ------------------------------------------


@pytest.mark.parametrize("key", [setting.key for setting in SETTINGS], ids=".".join)
def test_each_setting_takes_effect_at_once_or_at_a_restart_and_not_both(key: Key) -> None:
    rows = [table for table in (*APPLIES_AT_ONCE, *NEEDS_RESTART) if covers(table, key)]
    assert len(rows) == 1


@pytest.mark.parametrize("table", [*APPLIES_AT_ONCE, *NEEDS_RESTART], ids=".".join)
def test_each_row_is_of_a_setting_that_there_is(table: Key) -> None:
    assert any(covers(table, setting.key) for setting in SETTINGS)
    assert NAME not in table


def test_why_is_told_of_all_that_stands_below_a_table() -> None:
    assert why_restart(("embedded", "slots")) == NEEDS_RESTART["embedded",]
    assert why_restart(("server", "port"))
    assert why_restart(("server", "allowed_hosts")) == ""
    assert why_restart(("auth", "keys", "alice")) == ""


# --- What has changed -----------------------------------------------------------


def test_of_the_same_nothing_has_changed() -> None:
    assert changes(Config(), Config()) == []


def test_values_are_told_as_the_file_has_them() -> None:
    new = Config(
        server=Server(metrics_public=True, allowed_hosts=("a.example", "b.example")),
        queue=Queue(max_queue_size=7),
        generation=Generation(default_model='a"b'),
    )
    assert changed(Config(), new) == [
        ("server.allowed_hosts", "[]", '["a.example", "b.example"]'),
        ("server.metrics_public", "false", "true"),
        ("queue.max_queue_size", "50", "7"),
        ("generation.default_model", '"llama3.2"', '"a"b"'),
    ]


def test_what_was_unset_is_told_so() -> None:
    old = Config(models={"m": ModelSettings()})
    new = Config(models={"m": ModelSettings(options=ModelOptions(temperature=0.5))})
    assert changed(old, new) == [("models.m.options.temperature", "unset", "0.5")]


def test_entries_of_a_table_come_and_go_whole() -> None:
    old = Config(upstreams={"a": Backend(), "b": Backend(slots=1)})
    new = Config(upstreams={"b": Backend(slots=2), "c": Backend()})
    assert changed(old, new) == [
        ("upstreams.a", "there", ""),
        ("upstreams.b.slots", "1", "2"),
        ("upstreams.c", "", "there"),
    ]


def test_the_order_of_a_table_is_no_change() -> None:
    old = Config(callers={"a": CallerSettings(), "b": CallerSettings()})
    new = Config(callers={"b": CallerSettings(), "a": CallerSettings()})
    assert changes(old, new) == []


SECRETS = [
    (
        Config(auth=Auth(api_key="old-secret", keys={"a": "old-secret", "b": "old-secret"})),
        Config(auth=Auth(api_key="new-secret", keys={"a": "new-secret", "c": "new-secret"})),
    ),
    (Config(backend=Backend(api_key="old-secret")), Config(backend=Backend(api_key="new-secret"))),
    (
        Config(upstreams={"u": Backend(api_key="old-secret")}),
        Config(upstreams={"u": Backend(api_key="new-secret")}),
    ),
]


@pytest.mark.parametrize(("old", "new"), SECRETS)
def test_a_secret_is_never_told(old: Config, new: Config) -> None:
    found = changes(old, new)
    told = [json.dumps(attrs.asdict(change)) + change.words() for change in found]
    assert told
    assert "secret" not in "".join(told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(key=("queue", "max_queue_size"), was="1", now="2"), "queue.max_queue_size: 1 -> 2"),
        (Change(key=("auth", "api_key"), was="(hidden)", now="(hidden)"), "auth.api_key changed"),
        (Change(key=("upstreams", "a"), was="", now="there"), "upstreams.a added"),
        (Change(key=("upstreams", "a"), was="there", now=""), "upstreams.a removed"),
        (Change(key=("server", "host"), was='""', now='"::"'), 'server.host: "" -> "::"'),
    ],
)
def test_a_change_is_one_line(change: Change, words: str) -> None:
    assert change.words() == words


# --- What holds afterwards --------------------------------------------------------


def test_what_needs_a_restart_stays_and_all_else_is_new() -> None:
    running = Config(
        server=Server(host="127.0.0.1", port=1, state_directory="/a", metrics_public=False),
        limits=Limits(upstream_line_bytes_max=1, messages_max=1),
        embedded=Embedded(slots=1, model_name="a"),
    )
    new = Config(
        server=Server(host="0.0.0.0", port=2, state_directory="/b", metrics_public=True),
        auth=Auth(api_key="x" * 20),
        limits=Limits(upstream_line_bytes_max=2, messages_max=2),
        embedded=Embedded(slots=2, model_name="b"),
    )
    assert kept(running, new) == Config(
        server=Server(host="127.0.0.1", port=1, state_directory="/a", metrics_public=True),
        auth=Auth(api_key="x" * 20),
        limits=Limits(upstream_line_bytes_max=1, messages_max=2),
        embedded=Embedded(slots=1, model_name="a"),
    )


def test_what_is_kept_is_told_again_by_the_next_reload_and_what_is_applied_is_not() -> None:
    running = Config(server=Server(port=1), queue=Queue(max_queue_size=1))
    new = Config(server=Server(port=2), queue=Queue(max_queue_size=2))
    (again,) = changes(kept(running, new), new)
    assert again.key == ("server", "port")
    assert again.restart


def test_the_manual_tells_what_takes_effect_when() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    section = readme.partition("\n### Changing the configuration\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    told = {tuple(row[0].strip("`[]").split(".")): (row[1], row[2]) for row in rows}
    assert told == {
        **{key: ("at once", when) for key, when in APPLIES_AT_ONCE.items()},
        **{key: ("after a restart", why) for key, why in NEEDS_RESTART.items()},
    }
