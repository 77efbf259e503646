import pytest

from gateway.config.env_file import parse


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=llama3.2", "llama3.2"),
        ("export NAME = llama3.2  ", "llama3.2"),
        ("NAME=a b", "a b"),
        ("NAME=a # comment", "a"),
        ("NAME=a#b", "a#b"),
        ("NAME=", ""),
        ("NAME= # comment", ""),
        ('NAME="a # b" # comment', "a # b"),
        (r'NAME="a \"b\" \\ \n"', 'a "b" \\ \n'),
        (r"NAME='a \n' ", r"a \n"),
        ("NAME=$OTHER", "$OTHER"),
        ("\ufeffNAME=a", "a"),
    ],
)
def test_a_value_is_read_as_it_is_meant(line: str, value: str) -> None:
    assert parse(line) == ({"NAME": value}, [])


def test_comments_and_empty_lines_are_passed_over_and_the_last_value_counts() -> None:
    assert parse("# a\n; b\n\r\n  \nA=1\r\nB=2\nA=3\n") == ({"A": "3", "B": "2"}, [])


def test_each_line_that_is_none_is_told_by_its_number_and_shows_no_value() -> None:
    variables, mistakes = parse(
        'A=1\nsecret-canary\n9A=canary\nB="canary\nC=\'canary\nD="a" canary'
    )
    assert variables == {"A": "1"}
    assert mistakes == [
        "line 2: must be NAME=value.",
        "line 3: must be NAME=value.",
        "line 4: the quotes of B do not close.",
        "line 5: the quotes of C do not close.",
        "line 6: the quotes of D do not close.",
    ]
