import pytest

from gateway.backends.values import natural, seconds

ODD: list[object] = ["12", None, -1, True, [], {}, float("inf"), float("nan"), 1e308, 2**60]


def test_numbers_are_taken() -> None:
    assert natural(0) == 0
    assert natural(7) == 7
    assert seconds(1500, 1e-3) == 1.5
    assert seconds(2.5, 1.0) == 2.5


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_what_is_no_number_of_anything_is_none(value: object) -> None:
    assert natural(value) is None
    assert seconds(value, 1e-9) is None
