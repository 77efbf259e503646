from typing import Any

import pytest

from gateway.config.keys import SETTINGS
from gateway.config.mistakes import Document
from gateway.config.schema import (
    Backend,
    CallerSettings,
    Config,
    ModelOptions,
    ModelSettings,
    Queue,
    Server,
)
from gateway.config.structure import structure


def told(document: Document) -> dict[str, str]:
    _, mistakes = structure(document)
    return {".".join(mistake.key): mistake.text for mistake in mistakes}


def test_an_empty_document_is_the_defaults() -> None:
    assert structure({}) == (Config(), [])


def test_tables_of_names_become_values() -> None:
    config, mistakes = structure(
        {
            "upstreams": {"gpu": {"kind": "openai", "slots": 4, "models": ["a", "b"]}},
            "auth": {"keys": {"alice": "key-of-alice"}},
            "callers": {"alice": {"priority": "batch", "weight": 2}},
            "models": {"gpt-4o-mini": {"target": "m", "options": {"top_k": 5, "stop": ["a"]}}},
        }
    )
    assert mistakes == []
    assert config.upstreams == {"gpu": Backend(kind="openai", slots=4, models=("a", "b"))}
    assert config.auth.keys == {"alice": "key-of-alice"}
    assert config.callers == {"alice": CallerSettings(priority="batch", weight=2.0)}
    options = ModelOptions(top_k=5, stop=("a",))
    assert config.models == {"gpt-4o-mini": ModelSettings(target="m", options=options)}


def test_a_whole_number_is_fine_where_a_fraction_may_stand() -> None:
    config, _ = structure({"timeouts": {"stall_timeout_seconds": 5}})
    assert config.timeouts.stall_timeout_seconds == 5.0
    assert isinstance(config.timeouts.stall_timeout_seconds, float)


@pytest.mark.parametrize(
    ("table", "name", "value", "said"),
    [
        ("server", "port", "8000", "must be a whole number, such as 8000, without quotes."),
        ("server", "port", "http", "must be a whole number, such as 8000."),
        ("server", "port", True, "must be a whole number, such as 8000."),
        ("server", "port", 8000.0, "must be a whole number, such as 8000."),
        ("server", "port", 10**30, "must be a smaller whole number, such as 8000."),
        ("server", "port", -1, "must be at least 0."),
        ("server", "port", 70_000, "must be at most 65535."),
        ("server", "host", 127, "must be text, in quotes."),
        ("server", "host", "a" * 254, "must have at most 253 characters."),
        ("server", "host", "h\udcff", "must be valid UTF-8."),
        ("server", "metrics_public", 1, "must be true or false."),
        ("server", "metrics_public", "true", "must be true or false, without quotes."),
        ("server", "allowed_hosts", "a", 'must be a list of texts, such as ["one", "two"].'),
        ("server", "allowed_hosts", ["a", 5], 'must be a list of texts, such as ["one", "two"].'),
        ("server", "allowed_hosts", {}, 'must be a list of texts, such as ["one", "two"].'),
        ("queue", "batch_wait_ms", "60s", "must be a number of milliseconds, such as 100."),
        ("queue", "batch_wait_ms", True, "must be a number of milliseconds, such as 100."),
        ("queue", "batch_wait_ms", 60_001, "must be at most 60000."),
        (
            "timeouts",
            "stall_timeout_seconds",
            float("nan"),
            "must be a finite number of seconds, such as 60.",
        ),
        (
            "timeouts",
            "stall_timeout_seconds",
            10**400,
            "must be a finite number of seconds, such as 60.",
        ),
        ("timeouts", "stall_timeout_seconds", 0, "must be above 0."),
        ("limits", "image_bytes_max", "5MB", "must be a whole number of bytes, such as 5242880."),
        ("generation", "default_model", "", "must not be empty."),
        ("backend", "slots", 0, "must be at least 1."),
        ("backend", "slots", "2", 'must be a whole number, or "auto", without quotes.'),
        ("backend", "slots", "learn", 'must be a whole number, or "auto".'),
        ("backend", "slots", None, 'must be a whole number, or "auto".'),
        (
            "logging",
            "level",
            "INFO",
            "must be one of debug, info, warning, error; did you mean `info`?",
        ),
        ("logging", "level", [], "must be one of debug, info, warning, error."),
        ("auth", "keys", "sk-secret", "must be a table."),
    ],
)
def test_a_wrong_value_is_refused_in_plain_words(
    table: str, name: str, value: Any, said: str
) -> None:
    assert told({table: {name: value}}) == {f"{table}.{name}": said}


@pytest.mark.parametrize("value", ["sk-secret", 5, [], True])
def test_what_stands_in_a_tables_place_is_refused_unseen(value: Any) -> None:
    for name in ("auth", "callers", "models", "queue", "upstreams"):
        _, (mistake,) = structure({name: value})
        assert mistake.text == "must be a table."
        assert not mistake.value_shown


def test_a_callers_settings_are_bounded() -> None:
    assert told({"callers": {"a": {"priority": "urgent", "weight": 0}, "b": {"wait": 1}}}) == {
        "callers.a.priority": "must be one of interactive, normal, batch.",
        "callers.a.weight": "must be above 0.",
        "callers.b.wait": "there is no such key; did you mean `weight`?",
    }


def test_a_models_settings_are_bounded_and_so_are_its_options() -> None:
    options = {
        "temperature": "0.7",
        "top_k": 0.5,
        "top_p": -0.1,
        "seed": True,
        "num_keep": -2,
        "tempreature": 1,
    }
    settings = {"num_ctx": -1, "target": "a" * 257, "options": options}
    assert told({"models": {"a": settings, "b": {"num_ctxx": 1, "options": 5}}}) == {
        "models.a.num_ctx": "must be at least 0.",
        "models.a.target": "must have at most 256 characters.",
        "models.a.options.temperature": "must be a number, without quotes.",
        "models.a.options.top_k": "must be a whole number.",
        "models.a.options.top_p": "must be at least 0.",
        "models.a.options.seed": "must be a whole number.",
        "models.a.options.num_keep": "must be at least -1.",
        "models.a.options.tempreature": "there is no such key; did you mean `temperature`?",
        "models.b.num_ctxx": "there is no such key; did you mean `num_ctx`?",
        "models.b.options": "must be a table.",
    }


def test_unknown_keys_and_tables_are_refused_with_what_was_meant() -> None:
    assert told({"quue": {}, "queue": {"max_queue_siz": 1, "xyzzy": 2, "port": 3}}) == {
        "quue": "there is no such key; did you mean `queue`?",
        "queue.max_queue_siz": "there is no such key; did you mean `max_queue_size`?",
        "queue.xyzzy": "there is no such key.",
        "queue.port": "there is no such key; did you mean `server.port`?",
    }


def test_what_is_right_is_kept_beside_what_is_wrong() -> None:
    config, mistakes = structure(
        {
            "server": {"port": 9000, "host": 5},
            "queue": {"max_queue_size": -1, "batch_max_size": 0, "batch_wait_ms": 7},
            "upstreams": {"gpu": {"slots": True, "url": "http://gpu:1"}, "cpu": 5},
            "nothing": 1,
        }
    )
    assert config == Config(
        server=Server(port=9000),
        queue=Queue(batch_wait_ms=7.0),
        upstreams={"gpu": Backend(url="http://gpu:1")},
    )
    assert len(mistakes) == 6


@pytest.mark.parametrize("value", [object(), -1.5, [], {}, [[]], {"a": {}}, "\x00", 2**70, True])
def test_whatever_stands_there_the_answer_is_a_mistake_or_a_value(value: Any) -> None:
    for setting in SETTINGS:
        document: Any = value
        for name in reversed(setting.key):
            document = {name: document}
        structure(document)
