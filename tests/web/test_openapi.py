"""The description says of a route what the route is."""

from typing import Any, Final

import attrs
import pytest
from aiohttp import web
from openapi_spec_validator import validate

from gateway.core.errors import ModelNotFound, Overloaded, QueueFull
from gateway.dialects import anthropic_errors, openai_errors
from gateway.web.answers.words import TEXT, fields
from gateway.web.openapi import document, errors_of
from gateway.web.route import JSON, Answer, Route

THING: Final = fields({"name": TEXT}, title="Thing")
PAIR: Final = fields({"left": THING, "right": THING}, title="Pair")


async def handler(web_request: web.Request) -> web.Response:
    return web.Response()


PLAIN: Final = Route(
    "GET",
    "/things/{name:.+}",
    handler,
    "One thing",
    tag="Gateway",
    answers=[Answer(content={JSON: PAIR})],
    errors=[ModelNotFound],
)
TAKES: Final = Route(
    "POST",
    "/v1/messages",
    handler,
    "A thing to be kept",
    tag="Anthropic",
    takes={JSON: PAIR},
    answers=[
        Answer(content=dict.fromkeys((JSON, "text/event-stream", "application/x-ndjson"), THING))
    ],
    errors=[Overloaded],
    query={"dry_run": TEXT},
    heeds={"x-wish": "what is wished"},
)


def described(*routes: Route, keyed: bool = True) -> Any:
    found = document(routes, keyed=keyed)
    validate(found)
    return found


def test_what_is_made_of_any_routes_is_valid() -> None:
    described(PLAIN, TAKES)
    described()


def test_a_parameter_of_the_path_the_query_and_the_head_is_told() -> None:
    paths = described(PLAIN, TAKES)["paths"]
    (name,) = paths["/things/{name}"]["get"]["parameters"]
    assert (name["name"], name["in"], name["required"]) == ("name", "path", True)
    told = [(item["name"], item["in"]) for item in paths["/v1/messages"]["post"]["parameters"]]
    assert told == [("dry_run", "query"), ("x-wish", "header")]


def test_a_schema_with_a_title_stands_once() -> None:
    found = described(PLAIN, TAKES)
    schemas = found["components"]["schemas"]
    reference = {"$ref": "#/components/schemas/Thing"}
    assert schemas["Pair"]["properties"] == {"left": reference, "right": reference}
    assert schemas["Thing"]["properties"] == {"name": TEXT}
    answer = found["paths"]["/things/{name}"]["get"]["responses"]["200"]
    assert answer["content"][JSON]["schema"] == {"$ref": "#/components/schemas/Pair"}


def test_two_routes_that_take_the_same_refer_to_the_same() -> None:
    other = attrs.evolve(TAKES, template="/v1/other")
    found = described(TAKES, other)
    bodies = [
        found["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]
        for path in ("/v1/messages", "/v1/other")
    ]
    assert bodies[0] == bodies[1] == {"$ref": "#/components/schemas/post_v1_messages_body"}


def test_of_a_stream_each_record_is_told() -> None:
    content = described(TAKES)["paths"]["/v1/messages"]["post"]["responses"]["200"]["content"]
    thing = {"$ref": "#/components/schemas/Thing"}
    assert content["application/x-ndjson"]["schema"] == thing
    _, data = content["text/event-stream"]["schema"]["properties"]["data"]["anyOf"]
    assert (data["contentMediaType"], data["contentSchema"]) == (JSON, thing)


def test_a_class_of_errors_stands_for_all_below_it() -> None:
    kinds = {kind for kind, _ in errors_of(TAKES, keyed=False)}
    assert {Overloaded, QueueFull} <= kinds
    assert ModelNotFound not in kinds


def test_an_error_has_the_status_of_its_envelope_and_its_headers() -> None:
    found = described(TAKES)
    responses = found["paths"]["/v1/messages"]["post"]["responses"]
    status = str(anthropic_errors.ENVELOPE.status(QueueFull("")))
    name = responses[status]["$ref"].rpartition("/")[2]
    refusal = found["components"]["responses"][name]
    assert f"`{QueueFull.code}`" in refusal["description"]
    assert "Retry-After" in refusal["headers"] or status != "503"


def test_what_is_refused_before_the_url_is_known_has_openais_envelope_too() -> None:
    envelopes = [envelope for _, envelope in errors_of(TAKES, keyed=False)]
    assert openai_errors.ENVELOPE in envelopes
    assert anthropic_errors.ENVELOPE in envelopes
    assert {id(envelope) for _, envelope in errors_of(PLAIN, keyed=False)} == {
        id(openai_errors.ENVELOPE)
    }


@pytest.mark.parametrize(
    ("access", "ways"),
    [
        ("key", [{"bearer": []}, {"x-api-key": []}]),
        ("local", [{"bearer": []}, {"x-api-key": []}, {}]),
        ("public", None),
    ],
)
def test_a_key_is_asked_for_where_there_are_keys(access: Any, ways: Any) -> None:
    route = attrs.evolve(PLAIN, access=access)
    locked = described(route)["paths"]["/things/{name}"]["get"]
    assert locked.get("security") == ways
    assert ("401" in locked["responses"]) == (access != "public")
    unlocked = described(route, keyed=False)["paths"]["/things/{name}"]["get"]
    assert "security" not in unlocked
    assert "401" not in unlocked["responses"]
