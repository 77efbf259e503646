import pytest

from gateway.config.lines import STATEMENT_LINES_MAX, line_of

TEXT = '''\
# [server]
plain = 1  # plain = 2
dotted.inside = 3
inline = { one = 1, two = { three = 3 } }

[server]
# port = 5
"quoted name" = 6
list = [
  "[queue]",
  # port = 9
]
text = """
port = 11
[queue]
"""
port = 12

  [queue.inner]  # not [queue]
  port = 13
[a."b.c"]
port = 14
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("plain",), 2),
        (("dotted", "inside"), 3),
        (("dotted",), 3),
        (("inline", "two", "three"), 4),
        (("server",), 6),
        (("server", "quoted name"), 8),
        (("server", "list"), 9),
        (("server", "text"), 13),
        (("server", "port"), 17),
        (("queue", "inner"), 19),
        (("queue", "inner", "port"), 20),
        (("a", "b.c", "port"), 22),
    ],
)
def test_a_key_is_found_where_its_statement_begins(key: tuple[str, ...], line: int) -> None:
    assert line_of(TEXT, key) == line


@pytest.mark.parametrize("key", [("queue", "port"), ("server", "host"), ("a", "b", "c", "port")])
def test_what_is_not_there_has_no_line(key: tuple[str, ...]) -> None:
    assert line_of(TEXT, key) is None


def test_windows_ends_of_lines_count_the_same() -> None:
    assert line_of(TEXT.replace("\n", "\r\n"), ("server", "port")) == 17


def test_what_stands_behind_an_endless_statement_is_given_up() -> None:
    text = f'a = """{chr(10) * (STATEMENT_LINES_MAX + 1)}"""\nb = 1'
    assert line_of(text, ("b",)) is None
