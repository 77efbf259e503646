"""instructor, as it is: answers that are objects, by each way it has to ask for them."""

from collections.abc import Iterable
from typing import Final, Literal

import instructor
import pytest
from instructor import Mode
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

from tests.clients import scripted_engine as script
from tests.clients.conftest import TIMEOUT_S
from tests.clients.scripted_engine import ScriptedEngine
from tests.real.gateway_process import KEY, MODEL, GatewayProcess

CLIENT: Final = "instructor"

MODES: Final = (Mode.TOOLS, Mode.JSON_SCHEMA)
"""In which no model can give anything but what fits; they differ in what is sent."""


class Person(BaseModel):
    name: Literal["Ada", "Bob"]
    age: int = Field(ge=0, lt=150)


ASKED: Final = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Ada is 36 years old."}],
    "temperature": 0,
    "max_tokens": 64,
    # What does not fit is the gateway's fault, and not to be asked for again.
    "max_retries": 0,
}


def openai(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=KEY, timeout=TIMEOUT_S)


@pytest.mark.covers(CLIENT, "tools, JSON schema")
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_an_answer_is_an_object_that_fits(gateway: GatewayProcess, mode: Mode) -> None:
    client = instructor.from_openai(openai(gateway.url), mode=mode)
    person = client.chat.completions.create(response_model=Person, **ASKED)
    assert isinstance(person, Person)


@pytest.mark.covers(CLIENT, "JSON mode")
@pytest.mark.parametrize("mode", [Mode.JSON, Mode.MD_JSON], ids=lambda mode: mode.name)
def test_json_is_read_where_the_schema_is_only_in_the_prompt(
    scripted: GatewayProcess, engine: ScriptedEngine, mode: Mode
) -> None:
    said = '{"name": "Ada", "age": 36}'
    engine.answer(script.text(f"```json\n{said}\n```" if mode is Mode.MD_JSON else said))
    client = instructor.from_openai(openai(scripted.url), mode=mode)
    person = client.chat.completions.create(
        response_model=Person, **{**ASKED, "model": script.MODEL}
    )
    assert (person.name, person.age) == ("Ada", 36)
    wanted = engine.asked[-1].get("response_format")
    assert wanted == ({"type": "json_object"} if mode is Mode.JSON else None)


@pytest.mark.covers(CLIENT, "parallel tools")
def test_several_calls_are_several_objects(
    scripted: GatewayProcess, engine: ScriptedEngine
) -> None:
    engine.answer(
        script.call(0, "Person", '{"name": "Ada", "age": 36}'),
        script.call(1, "Person", '{"name": "Bob", "age": 7}'),
        reason="tool_calls",
    )
    client = instructor.from_openai(openai(scripted.url), mode=Mode.PARALLEL_TOOLS)
    people = client.chat.completions.create(
        response_model=Iterable[Person], **{**ASKED, "model": script.MODEL}
    )
    assert [person.name for person in people] == ["Ada", "Bob"]


@pytest.mark.covers(CLIENT, "partial stream")
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_a_stream_grows_into_the_object(gateway: GatewayProcess, mode: Mode) -> None:
    client = instructor.from_openai(openai(gateway.url), mode=mode)
    seen = list(client.chat.completions.create_partial(response_model=Person, **ASKED))
    assert len(seen) > 1
    *_, last = seen
    assert Person.model_validate(last.model_dump())


@pytest.mark.covers(CLIENT, "async")
async def test_async_works_alike(gateway: GatewayProcess) -> None:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=KEY, timeout=TIMEOUT_S
    ) as connected:
        client = instructor.from_openai(connected, mode=Mode.TOOLS)
        person, completion = await client.chat.completions.create_with_completion(
            response_model=Person, **ASKED
        )
    assert isinstance(person, Person)
    assert completion.usage.completion_tokens > 0
