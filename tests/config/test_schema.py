"""The schema and conf/gateway.toml hold the same keys, defaults and words."""

import ast
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from gateway.config import schema
from gateway.config.environment import SHORT_NAMES, long_name
from gateway.config.keys import Key
from gateway.config.load import load
from gateway.config.schema import Backend, Config
from gateway.config.structure import structure

CONF = Path(__file__).parents[2] / "conf" / "gateway.toml"
EXAMPLES = {"auth.keys", "upstreams.gpu"}


def tables() -> "list[attrs.Attribute[Any]]":
    """The tables with keys of their own."""
    return [table for table in attrs.fields(Config) if table.name != "upstreams"]


def class_of(table: "attrs.Attribute[Any]") -> Any:
    return type(table.default)


def fields() -> dict[Key, Any]:
    """Key → default, of every table's own fields."""
    return {
        (table.name, field.name): field.default
        for table in tables()
        for field in attrs.fields(class_of(table))
    }


def entries() -> dict[Key, tuple[str, list[str]]]:
    """Key → the text of its value, and the comment above it; commented settings too."""
    found: dict[Key, tuple[str, list[str]]] = {}
    table = ""
    comment: list[str] = []
    for line in CONF.read_text().splitlines():
        if header := re.fullmatch(r"#?\[(.*)\]", line):
            table = header[1]
            if table == "auth.keys":
                found["auth", "keys"] = ("", comment)
        elif setting := re.fullmatch(r"#?(\w+) = (.*)", line):
            if table not in EXAMPLES:
                found[table, setting[1]] = (setting[2], comment)
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
            continue
        comment = []
    return found


def docstrings() -> dict[tuple[str, str], str]:
    """Class and field → the line under the field."""
    return {
        (cls.name, field.target.id): line.value.value
        for cls in ast.parse(Path(schema.__file__).read_text()).body
        if isinstance(cls, ast.ClassDef)
        for field, line in zip(cls.body, cls.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    }


def test_the_file_is_exactly_the_defaults() -> None:
    assert load(CONF, {}) == Config()


def test_every_key_of_the_schema_stands_in_the_file_and_no_other() -> None:
    assert set(entries()) == set(fields())


def test_every_key_with_a_default_is_active() -> None:
    text = CONF.read_text()
    for (_, name), default in fields().items():
        if default is not None and not isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            assert re.search(rf"^{name} = ", text, re.MULTILINE)


def test_every_key_has_its_line_and_its_variable_beside_it() -> None:
    short = {key: variable for variable, key in SHORT_NAMES.items()}
    lines = docstrings()
    classes = {table.name: class_of(table).__name__ for table in tables()}
    for key, (_, comment) in entries().items():
        line = lines[classes[key[0]], key[1]]
        variable = short.get(key) or long_name(key)
        if key == ("auth", "keys"):
            variable = long_name((*key, "alice"))
        assert comment == [line, f"${variable}"]


def test_the_examples_are_right_once_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(re.sub(r"^#(?=[\w\[])", "", CONF.read_text(), flags=re.MULTILINE))
    config = load(path, {})
    assert list(config.auth.keys) == ["alice"]
    assert config.backend.slots is not None
    assert config.upstreams["gpu"].kind == "openai"


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
