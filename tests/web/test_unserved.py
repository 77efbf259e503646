import pytest

from gateway.web.unserved import UNSERVED, why


@pytest.mark.parametrize("path", UNSERVED)
def test_a_sentence_is_told_of_the_path_and_of_what_stands_below(path: str) -> None:
    assert why(path) == UNSERVED[path]
    assert why(f"{path}/speech") == UNSERVED[path]
    assert why(f"{path}/a/b/c") == UNSERVED[path]
    assert UNSERVED[path].endswith(".")


@pytest.mark.parametrize(
    "path", ["/", "", "/v1", "/v1/", "/v1/models", "/v1/messages", "/v1/filesystem", "/audio", "//"]
)
def test_of_any_other_nothing_is_known(path: str) -> None:
    assert why(path) == ""
