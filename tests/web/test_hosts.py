import pytest

from gateway.core.errors import ConfigError
from gateway.web.hosts import HostPolicy

LOCAL = [
    "localhost",
    "LocalHost",
    "localhost:8000",
    "127.0.0.1",
    "127.0.0.1:65535",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]",
]
ODD = [
    "",
    " ",
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost@evil",
    "evil@localhost",
    'a b<>"',
    "127.0.0.1:99999",
    "127.0.0.1:0",
    "127.0.0.1:",
    "127.0.0.1:80:80",
    "localhost.",
    "localhost/health?",
    "localhost:4000/#@evil",
    "localhost\n",
    "localhost,evil.example",
    "[::1",
    "::1",
    "[::1]evil",
    "[::1%eth0]",
    "[localhost]",
    "[1:2:3]",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "0.0.0.0",
    "[::]",
    "10.0.0.1",
    "[::ffff:127.0.0.1]",
    "loc\u212alhost",
    "ſlocalhost",
    "localhost:８０００",
    "a" * 100_000,
]


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_is_always_served(host: str) -> None:
    assert HostPolicy(bind_host="127.0.0.1").allows(host)
    assert HostPolicy(bind_host="192.168.1.2").allows(host)


@pytest.mark.parametrize("host", ODD)
def test_anything_odd_is_refused_each_time(host: str) -> None:
    hosts = HostPolicy(bind_host="127.0.0.1")
    assert [hosts.allows(host) for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    ("bind_host", "host"),
    [("192.168.1.2", "192.168.1.2:8000"), ("fd00::2", "[FD00:0::2]:8000"), ("Box.lan", "box.LAN")],
)
def test_the_bind_address_is_served(bind_host: str, host: str) -> None:
    assert HostPolicy(bind_host=bind_host).allows(host)
    assert not HostPolicy(bind_host="127.0.0.1").allows(host)


@pytest.mark.parametrize("wildcard", ["", "0.0.0.0", "::"])
def test_a_wildcard_serves_every_address_but_no_name(wildcard: str) -> None:
    hosts = HostPolicy(bind_host=wildcard)
    assert hosts.allows("192.168.1.2:8000")
    assert hosts.allows("[fd00::2]")
    assert not hosts.allows("evil.example")
    assert not hosts.allows("127.1")


def test_allowed_hosts_are_served_beside_the_others() -> None:
    hosts = HostPolicy(
        bind_host="127.0.0.1", allowed_hosts=["Llm.Example", "other.example:443", "fd00::7"]
    )
    assert hosts.allows("llm.example")
    assert hosts.allows("llm.example:8443")
    assert hosts.allows("other.example:443")
    assert hosts.allows("[fd00::7]:80")
    assert hosts.allows("localhost")
    assert not hosts.allows("other.example")
    assert not hosts.allows("other.example:80")
    assert not hosts.allows("sub.llm.example")


def test_all_impossible_allowed_hosts_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        HostPolicy(bind_host="", allowed_hosts=["*", "fine.example", "https://a.example"])
    assert len(caught.value.mistakes) == 2


def test_a_flood_of_spellings_is_not_remembered() -> None:
    hosts = HostPolicy(bind_host="127.0.0.1")
    for port in range(1, 2000):
        assert hosts.allows(f"localhost:{port}")
        assert not hosts.allows(f"evil{port}.example")
    assert len(hosts.known) <= 256
