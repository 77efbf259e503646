"""The page of compatibility is what the code does."""

import pytest

from tests.compatibility import ENGINES, PAGE, page
from tests.parameters import APIS, documentation
from tests.test_docs import section, table


@pytest.mark.embedded
def test_the_page_is_what_is_found_now() -> None:
    assert PAGE.read_text("utf-8") == page(), "make compatibility"


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.data)
def test_every_documented_parameter_has_a_row(api: object) -> None:
    assert isinstance(api, type(APIS[0]))
    rows = table(section(PAGE.read_text("utf-8"), api.title), "parameter", "here", *ENGINES, "note")
    told = {row[0].split("`")[1] for row in rows}
    assert told == {parameter.name for parameter in documentation(api).parameters}
