import pytest

from gateway.config.effective import api_keys, bind_address, callers
from gateway.config.schema import Auth, CallerSettings, Config, Server
from gateway.core.ticket import ANONYMOUS, Caller, Priority


def test_the_single_key_is_named_default_among_the_others() -> None:
    config = Config(auth=Auth(api_key="one", keys={"alice": "two"}))
    assert api_keys(config) == {"default": "one", "alice": "two"}
    assert api_keys(Config()) == {}


def test_every_key_has_its_caller() -> None:
    config = Config(
        auth=Auth(api_key="one", keys={"ui": "two"}),
        callers={
            "ui": CallerSettings(
                priority="interactive",
                priority_max="batch",
                weight=2.0,
                user_header="X-OpenWebUI-User-Id",
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
        ),
    }


def test_without_a_key_there_is_one_caller() -> None:
    assert callers(Config()) == {"anonymous": ANONYMOUS}
    settings = {"anonymous": CallerSettings(priority="batch")}
    assert callers(Config(callers=settings))["anonymous"].priority is Priority.BATCH


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
