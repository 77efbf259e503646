from pathlib import Path

import pytest

from gateway.config.mistakes import Document, Mistake, Sources

PATH = Path("gateway.toml")


def tell(mistake: Mistake, document: Document, path: Path | None = PATH) -> str:
    return Sources(path=path, document=document, overrides={}).tell(mistake)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (5, "5"),
        (1.5, "1.5"),
        pytest.param(10**5000, "(huge)", id="huge"),
        ("x", '"x"'),
        ("x" * 500, f'"{"x" * 64}…"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        (["sk-secret"], "[…]"),
        ({"key": "sk-secret"}, "{…}"),
    ],
)
def test_the_value_is_shown_short_and_on_one_line(value: object, shown: str) -> None:
    line = tell(Mistake(("server", "port"), "must be so."), {"server": {"port": value}})
    assert line == f"gateway.toml: server.port = {shown}: must be so."


@pytest.mark.parametrize(
    "key",
    [
        ("auth", "api_key"),
        ("auth", "keys", "a"),
        ("backend", "api_key"),
        ("upstreams", "x", "api_key"),
    ],
)
def test_a_secret_is_hidden(key: tuple[str, ...]) -> None:
    document: Document = {key[-1]: "sk-secret"}
    for name in reversed(key[:-1]):
        document = {name: document}
    assert "(hidden)" in tell(Mistake(key, "must be so."), document)
    assert "sk-secret" not in tell(Mistake(key, "must be so."), document)


def test_where_a_value_came_from_is_named() -> None:
    sources = Sources(
        path=PATH,
        document={"server": {"port": 1, "host": "h"}},
        overrides={("server", "port"): "environment variable PORT"},
    )
    assert sources.tell(Mistake(("server", "port"), "x")).startswith("environment variable PORT: ")
    assert sources.tell(Mistake(("server", "host"), "x")).startswith("gateway.toml: ")


def test_a_key_is_told_although_its_table_is_none() -> None:
    line = tell(Mistake(("server", "port"), "must be so.", value_shown=False), {"server": 5})
    assert line == "gateway.toml: server.port: must be so."


def test_a_path_stays_on_its_line() -> None:
    line = tell(Mistake(("server",), "x", value_shown=False), {}, Path("a\nb.toml"))
    assert line == '"a\\nb.toml": server: x'


def test_a_judgement_falls_with_what_it_rests_on() -> None:
    mistake = Mistake(("server", "host"), "x", concerns=(("auth", "keys"),))
    assert mistake.rests_on(("server",))
    assert mistake.rests_on(("server", "host"))
    assert mistake.rests_on(("auth", "keys", "alice"))
    assert mistake.rests_on(("auth",))
    assert not mistake.rests_on(("server", "port"))
    assert not mistake.rests_on(("auth", "api_key"))


def test_an_upstreams_name_is_judged_although_a_key_of_it_is_wrong() -> None:
    assert not Mistake(("upstreams", "GPU"), "x").rests_on(("upstreams", "GPU", "slots"))
