import pytest

from gateway.config.keys import (
    NAME,
    SETTINGS,
    Key,
    dotted,
    names_in,
    nearest,
    quoted,
    setting_at,
)
from gateway.config.schema import SlotCount


def test_every_leaf_of_the_schema_is_a_setting_once() -> None:
    keys = [setting.key for setting in SETTINGS]
    assert len(keys) == len(set(keys))
    assert ("queue", "max_queue_size") in keys
    assert ("auth", "keys", NAME) in keys
    assert ("upstreams", NAME, "url") in keys
    assert not any(key in keys for key in [("queue",), ("auth", "keys"), ("upstreams",)])


def test_what_the_schema_keeps_out_of_repr_is_a_secret() -> None:
    assert {setting.key for setting in SETTINGS if setting.secret} == {
        ("auth", "api_key"),
        ("auth", "keys", NAME),
        ("backend", "api_key"),
        ("upstreams", NAME, "api_key"),
        ("tracing", "headers", NAME),
    }


def test_a_name_of_the_operators_own_stands_for_any() -> None:
    setting = setting_at(("upstreams", "gpu", "slots"))
    assert setting is not None
    assert setting.type == SlotCount
    assert setting_at(("upstreams", "gpu")) is None
    assert names_in(("upstreams", "gpu"))[0] == "kind"
    assert names_in(("auth", "keys")) == [NAME]
    assert names_in(("nowhere",)) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (("queue", "max_queue_siz"), ("queue", "max_queue_size")),
        (("quue",), ("queue",)),
        (("QUEUE", "Batch_Wait_Ms"), ("queue", "batch_wait_ms")),
        (("quue", "max_queue_siz"), ("queue", "max_queue_size")),
        (("upstreams", "gpu", "ulr"), ("upstreams", "gpu", "url")),
        (("port",), ("server", "port")),
        (("queue", "request_timeout_seconds"), ("timeouts", "request_timeout_seconds")),
        (("xyzzy",), None),
        (("queue", "xyzzy"), None),
        (("",), None),
    ],
)
def test_the_nearest_key_is_what_was_meant(written: Key, meant: Key | None) -> None:
    assert nearest(written) == meant


def test_text_that_acts_on_a_terminal_is_shown_escaped_and_cut() -> None:
    assert quoted("a\x1b[2J\nb") == '"a\\x1b[2J\\nb"'
    assert quoted("\u202eabc") == '"\\u202eabc"'
    assert quoted("é" * 100) == f'"{"é" * 64}…"'


def test_a_name_that_may_be_an_api_key_is_shown_in_part_only() -> None:
    assert dotted(("auth", "keys", "alice")) == "auth.keys.alice"
    assert dotted(("auth", "keys", "alice.b")) == 'auth.keys."alice.b"'
    assert dotted(("auth", "keys", "sk-0123456789")) == 'auth.keys."sk-01234…"'
    assert dotted(("auth", "keys", "0123456789" * 4)) == 'auth.keys."01234567…"'


def test_a_models_name_is_shown_whole() -> None:
    key = ("models", "hf.co/someone/Some-Model-GGUF:Q4_K_M", "num_ctx")
    assert dotted(key) == 'models."hf.co/someone/Some-Model-GGUF:Q4_K_M".num_ctx'


def test_a_setting_that_may_be_unset_has_the_type_of_what_is_set() -> None:
    setting = setting_at(("models", "any", "options", "temperature"))
    assert setting is not None
    assert setting.type is float
