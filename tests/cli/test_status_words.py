import pytest

from gateway.cli.status_words import seconds, size


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 5 min"),
        (273_600.0, "3 d 4 h"),
    ],
)
def test_a_length_is_told_as_people_say_it(value: float | None, told: str) -> None:
    assert seconds(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")],
)
def test_a_size_is_told_in_the_unit_that_fits(value: int | None, told: str) -> None:
    assert size(value) == told
