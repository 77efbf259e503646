"""The schema and conf/gateway.toml hold the same keys, defaults and words."""

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from gateway.config.environment import SHORT_NAMES, long_name
from gateway.config.keys import Key
from gateway.config.load import load
from gateway.config.schema import (
    Backend,
    CallerSettings,
    Config,
    ModelOptions,
    ModelSettings,
    is_setting,
)
from gateway.config.structure import structure
from tests.config.manual import docstrings

CONF = Path(__file__).parents[2] / "conf" / "gateway.toml"
EXAMPLES = {"auth.keys", "upstreams.gpu", "logging.levels", "tracing.headers"}
PICKED: dict[Key, str] = {
    ("auth", "keys"): "alice",
    ("logging", "levels"): "gateway.engine",
    ("tracing", "headers"): "authorization",
}
"""Keys that hold names which the operator picks, and the one that the file shows."""
OPTIONS = ("models", "chat", "options")
NAMED: dict[Key, Any] = {
    ("callers", "alice"): CallerSettings,
    ("models", "chat"): ModelSettings,
    OPTIONS: ModelOptions,
}
"""Stands in the file for every table of its kind, with all the keys of one."""


def tables() -> "list[attrs.Attribute[Any]]":
    """The tables with keys of their own."""
    named = ("upstreams", *(table[0] for table in NAMED))
    settings = [field for field in attrs.fields(Config) if is_setting(field)]
    return [table for table in settings if table.name not in named]


def classes() -> dict[Key, Any]:
    """Table → class, of every table that the file shows key by key."""
    return {
        **NAMED,
        **{(table.name,): type(table.default) for table in tables()},
    }


def fields() -> dict[Key, Any]:
    """Key → default, of every table's own fields."""
    return {
        (*table, field.name): field.default
        for table, cls in classes().items()
        for field in attrs.fields(cls)
    }


def entries() -> dict[Key, tuple[str, list[str]]]:
    """Key → the text of its value, and the comment above it; commented settings too."""
    found: dict[Key, tuple[str, list[str]]] = {}
    table = ""
    comment: list[str] = []
    for line in CONF.read_text().splitlines():
        if header := re.fullmatch(r"#?\[(.*)\]", line):
            table = header[1]
            if tuple(table.split(".")) in (*PICKED, OPTIONS):
                found[tuple(table.split("."))] = ("", comment)
        elif setting := re.fullmatch(r"#?(\w+) = (.*)", line):
            if table not in EXAMPLES:
                found[*table.split("."), setting[1]] = (setting[2], comment)
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
            continue
        comment = []
    return found


def test_the_file_is_exactly_the_defaults() -> None:
    assert load(CONF, {}) == Config()


def test_every_key_of_the_schema_stands_in_the_file_and_no_other() -> None:
    assert set(entries()) == set(fields())


def test_every_key_with_a_default_is_active() -> None:
    text = CONF.read_text()
    for (*table, name), default in fields().items():
        if default is None or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            continue
        if tuple(table) not in NAMED:
            assert re.search(rf"^{name} = ", text, re.MULTILINE)


def test_every_key_has_its_line_and_its_variable_beside_it() -> None:
    short = {key: variable for variable, key in SHORT_NAMES.items()}
    for key, (_, comment) in entries().items():
        line = docstrings(classes()[key[:-1]])[key[-1]]
        variable = short.get(key) or long_name(key)
        if key in PICKED:
            variable = long_name((*key, PICKED[key]))
        if key == OPTIONS:
            variable = f"{long_name((*key, 'temperature'))}, and so on"
        assert comment == [line, f"${variable}"]


def test_the_examples_are_right_once_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(re.sub(r'^#(?=[\w\["])', "", CONF.read_text(), flags=re.MULTILINE))
    config = load(path, {})
    assert list(config.auth.keys) == ["alice"]
    assert config.callers == {"alice": CallerSettings()}
    chat = config.models["chat"]
    assert attrs.evolve(chat, options=ModelOptions()) == ModelSettings()
    assert None not in attrs.astuple(chat.options)
    assert config.backend.slots is not None
    assert config.upstreams["gpu"].kind == "openai"
    assert config.logging.levels == {"gateway.engine": "debug"}
    assert list(config.tracing.headers) == ["authorization"]


@pytest.mark.parametrize("table", tables())
def test_defaults_have_their_own_types(table: Any) -> None:
    document = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in attrs.asdict(table.default, recurse=False).items()
        if value is not None
    }
    assert structure({table.name: document}) == (Config(), [])


def test_an_upstream_has_the_keys_of_the_backend() -> None:
    config, _ = structure({"upstreams": {"gpu": {}}})
    assert config.upstreams == {"gpu": Backend()}
