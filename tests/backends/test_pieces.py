import pytest

from gateway.backends.pieces import arguments_text, new_call_id


def test_arguments_become_text_whichever_way_they_come() -> None:
    assert arguments_text({"a": [1, "ü"]}) == '{"a":[1,"ü"]}'
    assert arguments_text('{"a": 1}') == '{"a": 1}'


def test_arguments_with_a_number_beyond_json_are_unreadable() -> None:
    with pytest.raises(ValueError, match="no word"):
        arguments_text({"a": 2**70})


def test_ids_are_not_repeated() -> None:
    assert len({new_call_id() for _ in range(1000)}) == 1000
