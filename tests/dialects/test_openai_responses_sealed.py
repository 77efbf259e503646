import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.openai_responses_sealed import seal, unseal


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_can_be_unsealed(text: str) -> None:
    assert unseal(seal(text)) == text
    assert seal(text).isascii()


@pytest.mark.parametrize(
    "sealed", ["", "gAAAAABo", "gateway.a", "gateway./w==", "gateway.ü", "Z2F0ZXdheS4="]
)
def test_what_another_server_sealed_or_somebody_broke_is_nothing(sealed: str) -> None:
    assert unseal(sealed) is None
