import pytest

from gateway.config.addresses import is_host, is_host_header, is_loopback, is_origin, url_fault


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "::ffff:8.8.8.8", "localhost.evil.example", "127.1"]
)
def test_anything_else_counts_as_public(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["gateway", "a.b-c.example", "ollama_1", "10.0.0.1", "fe80::1%lo"])
def test_hosts_are_names_and_addresses(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize("host", ["", "*", "a b", "http://a", "a:80", "[::1]", "a/b", "é", "a\n"])
def test_a_host_has_nothing_around_it(host: str) -> None:
    assert not is_host(host)


@pytest.mark.parametrize("text", ["a.example", "a.example:8000", "::1", "[::1]", "[::1]:80"])
def test_a_host_header_may_have_a_port(text: str) -> None:
    assert is_host_header(text)


@pytest.mark.parametrize("text", ["*", "*.example", "http://a", "a:b", "a:0", "[::1", "[a]", "a/b"])
def test_a_host_header_has_no_scheme_and_no_wildcard(text: str) -> None:
    assert not is_host_header(text)


@pytest.mark.parametrize(
    "text", ["https://chat.example", "http://localhost:3000", "app://obsidian"]
)
def test_origins_are_scheme_and_host(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize(
    "text", ["*", "null", "chat.example", "https://a/", "https://A.b", "https://*.a", "https://a/b"]
)
def test_an_origin_that_no_browser_sends_is_none(text: str) -> None:
    assert not is_origin(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:11434",
        "http://localhost:11434/",
        "https://gpu.example",
        "HTTP://10.0.0.1:1",
        "http://[::1]:65535",
        "http://ollama_1",
    ],
)
def test_scheme_host_and_port_are_right(url: str) -> None:
    assert url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "http:// or https://"),
        ("localhost:11434", "http:// or https://"),
        ("ftp://h", "http:// or https://"),
        ("http://u:p@h", "user name or password"),
        ("http://u@h", "user name or password"),
        ("http://h/api", "must not have a path; write http://h."),
        ("http://h//", "must not have a path"),
        ("http://h/xv1", "must not have a path"),
        ("http://h:1/v1", "must not end in /v1, the gateway adds what the engine needs; write"),
        ("http://h/v1/", "must not end in /v1"),
        ("http://h?", "no query"),
        ("http://h/#a", "no query and no fragment"),
        ("http://", "must have a host"),
        ("http://:80", "must have a host"),
        ("http://h:", "must have a host"),
        ("http://h:0", "must have a host and maybe a port"),
        ("http://h:65536", "must have a host and maybe a port"),
        ("http://h:99999999", "must have a host and maybe a port"),
        ("http://h:http", "must have a host and maybe a port"),
        ("http://::1", "must have a host and maybe a port"),
        ("http://[::1", "must have a host"),
        ("http://[::1]x:1", "must have a host"),
        ("http://a,b", "must have a host"),
        ("http://h\\x", "plain ASCII"),
        ("http://h\n", "plain ASCII"),
        ("http:// h", "plain ASCII"),
        ("http://é", "plain ASCII"),
    ],
)
def test_any_other_url_is_refused_with_a_way_out(url: str, fault: str) -> None:
    assert fault in (url_fault(url) or "")
