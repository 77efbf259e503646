from typing import Any

import pytest

from gateway.config.environment import (
    SHORT_NAMES,
    Override,
    long_name,
    override,
    overrides,
    parse_text,
)
from gateway.config.keys import Key, setting_at
from gateway.config.mistakes import Document
from gateway.config.schema import LogLevel, SlotCount


def settings(environ: dict[str, str], document: Document | None = None) -> dict[Key, Any]:
    found, mistakes = overrides(environ, document or {})
    assert mistakes == []
    return {override.key: override.value for override in found}


def test_every_short_name_sets_a_key_of_the_schema() -> None:
    assert all(setting_at(key) is not None for key in SHORT_NAMES.values())


def test_the_long_name_of_a_key_sets_it() -> None:
    assert settings({long_name(("queue", "max_queue_size")): "7"}) == {
        ("queue", "max_queue_size"): 7
    }


def test_tables_and_keys_are_read_in_any_case() -> None:
    assert settings({"GATEWAY__Queue__MAX_queue_size": "7"}) == {("queue", "max_queue_size"): 7}


def test_names_of_the_operators_own_can_be_set() -> None:
    environ = {
        "GATEWAY__UPSTREAMS__GPU__URL": "http://h",
        "GATEWAY__AUTH__KEYS__ALICE": "k" * 8,
        "GATEWAY__MODELS__GPT-4O-MINI__OPTIONS__TEMPERATURE": "0.7",
        "GATEWAY__MODELS__LLAMA3.2__NUM_CTX": "8192",
    }
    assert settings(environ) == {
        ("upstreams", "gpu", "url"): "http://h",
        ("auth", "keys", "alice"): "k" * 8,
        ("models", "gpt-4o-mini", "options", "temperature"): 0.7,
        ("models", "llama3.2", "num_ctx"): 8192,
    }


def test_a_name_is_spelt_as_the_file_spells_it() -> None:
    document = {"auth": {"keys": {"Alice": "old-key-of-hers"}}}
    assert settings({"GATEWAY__AUTH__KEYS__ALICE": "new"}, document) == {
        ("auth", "keys", "Alice"): "new"
    }


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings({"PORT": "", "GATEWAY__QUEUE__MAX_QUEUE_SIZE": "", "GATEWAY__NONE": ""}) == {}


def test_the_long_name_wins_over_the_short_one() -> None:
    assert settings({"GATEWAY__SERVER__PORT": "1", "PORT": "2"}) == {("server", "port"): 1}


def test_variables_that_are_not_ours_are_left_alone() -> None:
    # What an orchestrator sets beside a service called "gateway".
    assert settings({"GATEWAY_PORT": "tcp://10.0.0.1:80", "GATEWAY_CONFIG": "x", "PATH": "/"}) == {}


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        (
            "GATEWAY__QUEUE__MAX_QUEUE_SIZ",
            "there is no such setting; did you mean GATEWAY__QUEUE__MAX_QUEUE_SIZE?",
        ),
        ("GATEWAY__PORT", "there is no such setting; did you mean GATEWAY__SERVER__PORT?"),
        ("GATEWAY__AUTH__KEY", "there is no such setting; did you mean GATEWAY__AUTH__KEYS__NAME?"),
        (
            "GATEWAY__QUEUE",
            "this is a table; set a key in it, such as GATEWAY__QUEUE__MAX_QUEUE_SIZE.",
        ),
        ("GATEWAY__XYZZY", "there is no such setting."),
    ],
)
def test_a_variable_that_sets_nothing_is_a_mistake(variable: str, said: str) -> None:
    assert overrides({variable: "sk-secret"}, {}) == (
        [],
        [f"environment variable {variable}: {said}"],
    )


def test_two_variables_for_one_key_are_a_mistake() -> None:
    environ = {"GATEWAY__SERVER__PORT": "1", "GATEWAY__server__port": "2"}
    _, mistakes = overrides(environ, {})
    assert mistakes == [
        "environment variable GATEWAY__server__port: server.port is also set by"
        " GATEWAY__SERVER__PORT."
    ]


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("50", int, 50),
        (" -3 ", int, -3),
        ("50.0", int, "50.0"),
        ("٣", int, "٣"),
        ("1_000", int, "1_000"),
        ("9" * 5000, int, "9" * 5000),
        ("4", SlotCount, 4),
        (" AUTO", SlotCount, "auto"),
        ("none", SlotCount, "none"),
        ("2", float, 2.0),
        (".5", float, 0.5),
        ("1e3", float, 1000.0),
        ("nan", float, "nan"),
        ("60s", float, "60s"),
        ("Yes", bool, True),
        ("0", bool, False),
        ("maybe", bool, "maybe"),
        ("INFO", LogLevel, "info"),
        ("a, b,,c ", tuple[str, ...], ["a", "b", "c"]),
        ('["a,b", "c"]', tuple[str, ...], ["a,b", "c"]),
        ('["a"', tuple[str, ...], '["a"'),
        ("123", str, "123"),
    ],
)
def test_text_is_read_as_the_keys_type_or_left_for_the_converter(
    text: str, type_: Any, value: Any
) -> None:
    parsed = parse_text(text, type_)
    assert parsed == value
    assert type(parsed) is type(value)


def test_an_override_never_shows_its_value() -> None:
    secret = override("--api-key", ("auth", "api_key"), "sk-secret-of-hers")
    assert secret == Override(
        source="--api-key", key=("auth", "api_key"), value="sk-secret-of-hers"
    )
    assert "secret" not in repr(secret)
