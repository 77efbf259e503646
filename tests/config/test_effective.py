from datetime import UTC, datetime

import pytest

from gateway.config.effective import (
    api_keys,
    bind_address,
    callers,
    contexts,
    model_behind,
    untagged,
)
from gateway.config.schema import (
    Auth,
    CallerSettings,
    Config,
    Generation,
    ModelSettings,
    Server,
    StoredKey,
)
from gateway.core.api_key import ApiKey, digest_of
from gateway.core.ticket import ANONYMOUS, Caller, Priority


def test_the_single_key_is_named_default_among_the_others() -> None:
    config = Config(auth=Auth(api_key="one", keys={"alice": "two"}))
    assert api_keys(config) == {
        "default": ApiKey(digest=digest_of("one")),
        "alice": ApiKey(digest=digest_of("two")),
    }
    assert api_keys(Config()) == {}


def test_who_has_a_stored_key_may_call_until_it_expires() -> None:
    stored = {
        "alice": StoredKey(digest=digest_of("one")),
        "bob": StoredKey(digest=digest_of("two"), expires=datetime(2027, 1, 1, tzinfo=UTC)),
    }
    config = Config(stored_keys=stored, callers={"bob": CallerSettings(admin=True)})
    assert api_keys(config) == {
        "alice": ApiKey(digest=digest_of("one")),
        "bob": ApiKey(digest=digest_of("two"), expires_at=1_798_761_600.0),
    }
    assert callers(config) == {"alice": Caller("alice"), "bob": Caller("bob", admin=True)}
    assert bind_address(config)[0] == "0.0.0.0"


def test_every_key_has_its_caller() -> None:
    config = Config(
        auth=Auth(api_key="one", keys={"ui": "two"}),
        callers={
            "ui": CallerSettings(
                priority="interactive",
                priority_max="batch",
                weight=2.0,
                user_header="X-OpenWebUI-User-Id",
                manage_models=True,
            )
        },
    )
    assert callers(config) == {
        "default": Caller("default"),
        "ui": Caller(
            "ui",
            priority=Priority.INTERACTIVE,
            priority_max=Priority.BATCH,
            weight=2.0,
            user_header="X-OpenWebUI-User-Id",
            manage_models=True,
        ),
    }


def test_without_a_key_there_is_one_caller() -> None:
    assert callers(Config()) == {"anonymous": ANONYMOUS}
    settings = {"anonymous": CallerSettings(priority="batch")}
    assert callers(Config(callers=settings))["anonymous"].priority is Priority.BATCH


def test_a_context_belongs_to_the_model_that_runs() -> None:
    models = {
        "a": ModelSettings(target="m", num_ctx=1024),
        "b": ModelSettings(target="default", num_ctx=2048),
        "c": ModelSettings(num_ctx=4096),
        "d": ModelSettings(target="n"),
    }
    config = Config(generation=Generation(default_model="usual"), models=models)
    assert contexts(config) == {"m": 1024, "usual": 2048, "c": 4096}


def test_a_name_means_its_target_or_itself() -> None:
    assert model_behind("a", ModelSettings(), "usual") == "a"
    assert model_behind("a", ModelSettings(target="m"), "usual") == "m"
    assert model_behind("a", ModelSettings(target="default"), "usual") == "usual"


@pytest.mark.parametrize(
    ("name", "same"),
    [("m:latest", "m"), ("m", "m"), ("m:7b", "m:7b"), ("latest", "latest"), ("a/m:latest", "a/m")],
)
def test_the_tag_that_is_meant_anyway_makes_no_other_name(name: str, same: str) -> None:
    assert untagged(name) == same


@pytest.mark.parametrize(
    ("config", "host"),
    [
        (Config(), "127.0.0.1"),
        (Config(server=Server(allow_anonymous=True)), "127.0.0.1"),
        (Config(auth=Auth(api_key="key")), "0.0.0.0"),
        (Config(auth=Auth(keys={"alice": "key"})), "0.0.0.0"),
        (Config(server=Server(host="::1"), auth=Auth(api_key="key")), "::1"),
    ],
)
def test_an_unset_host_is_public_only_behind_a_key(config: Config, host: str) -> None:
    assert bind_address(config) == (host, 8000)
