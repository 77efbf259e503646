import pytest

from gateway.config.effective import api_keys, bind_address
from gateway.config.schema import Auth, Config, Server


def test_the_single_key_is_named_default_among_the_others() -> None:
    config = Config(auth=Auth(api_key="one", keys={"alice": "two"}))
    assert api_keys(config) == {"default": "one", "alice": "two"}
    assert api_keys(Config()) == {}


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
