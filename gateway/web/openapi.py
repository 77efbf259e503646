"""The description of the API (OpenAPI 3.1.1), made of the rows that are routed.

What a body may hold is its dialect's own table; which refusals there are, the tree of
errors; what they look like, the envelope of the URL. A schema that has a `title` stands
once among the components and is referred to by it.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from gateway import __version__
from gateway.core.errors import (
    AuthThrottled,
    BadHttp,
    ExpectationFailed,
    Forbidden,
    GatewayError,
    HeadTimeout,
    HeadTooLarge,
    InternalError,
    NotPermitted,
    TooManyConnections,
    Unauthorized,
)
from gateway.dialects import openai_errors
from gateway.dialects.base import Envelope
from gateway.web.answers.words import Schema
from gateway.web.envelopes import envelope_of
from gateway.web.route import JSON, Route

Document = dict[str, Any]

EVENT_STREAM: Final = "text/event-stream"

ANY_REQUEST: Final = (
    BadHttp,
    ExpectationFailed,
    Forbidden,
    HeadTimeout,
    HeadTooLarge,
    InternalError,
    TooManyConnections,
)
"""What any request may be refused with, mostly before its URL is known."""

EVERY_ANSWER: Final = {
    "x-request-id": "yours if it is sane, else ours; the same as in the log",
    "request-id": "the same, by the name that Anthropic's SDKs look for",
    "x-gateway-queue-ms": "how long the request waited for a slot",
    "openai-processing-ms": "from arrival to this header",
    "Server-Timing": "both, for a browser's developer tools",
}
"""Headers by name, and what they say."""

_OF_REFUSALS: Final[Mapping[str, tuple[Collection[int], str]]] = {
    "WWW-Authenticate": ((401,), "how a key is sent"),
    "Retry-After": ((429, 502, 503), "whole seconds, when coming back can help"),
    "retry-after-ms": ((429, 502, 503), "the same to the millisecond"),
    "x-should-retry": ((429, 502, 503, 504), "whether coming back can help"),
    "x-gateway-place": ((503,), "the place that is held for whoever was refused"),
}
"""Headers by name: with which statuses they may come, and what they say."""

_DESCRIPTION: Final = """\
A queue before models that run on one machine: a request is refused at once, with the time to \
come back, or taken and answered in time.

A parameter that nobody here honours is named in the header `x-gateway-ignored-params`; so is \
one that is not described. `null` stands for a parameter that is absent. A request may say in \
`x-request-timeout-ms` how long its client waits; what would not be there in time is refused at \
once. A GET answers to HEAD, too."""


def document(table: Sequence[Route], *, keyed: bool) -> Document:
    """The whole description.

    Args:
        keyed: Whether this gateway has keys; else nobody needs one.
    """
    parts = _Components()
    paths: Document = {}
    for route in table:
        operation = _operation(route, parts, keyed=keyed)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "gateway",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in table)],
        "paths": paths,
        "components": parts.document(),
    }


def errors_of(route: Route, *, keyed: bool) -> Iterator[tuple[type[GatewayError], Envelope]]:
    """Each error that a request for it may meet, and how it is told."""
    own = envelope_of(route.path)
    guarded: tuple[type[GatewayError], ...] = ()
    if keyed and route.access != "public":
        guarded = (Unauthorized, AuthThrottled)
    if route.access == "admin":
        guarded = (*guarded, NotPermitted)
    for kind in _family((*guarded, *route.errors)):
        yield kind, own
    for kind in _family(ANY_REQUEST):
        yield kind, own
        if own is not openai_errors.ENVELOPE:
            yield kind, openai_errors.ENVELOPE  # Told before the URL was known.


def _family(roots: Sequence[type[GatewayError]]) -> Iterator[type[GatewayError]]:
    """These classes and all below them, each once."""
    seen: set[type[GatewayError]] = set()
    waiting = list(reversed(roots))
    while waiting:
        kind = waiting.pop()
        if kind not in seen:
            seen.add(kind)
            yield kind
            waiting += reversed(kind.__subclasses__())


@attrs.define
class _Components:
    """What stands once and is referred to: schemas, headers, refusals."""

    schemas: Document = attrs.field(factory=dict)
    bodies: dict[str, Schema] = attrs.field(factory=dict)
    headers: Document = attrs.field(factory=dict)
    refusals: dict[int, list[Document]] = attrs.field(factory=dict)

    def schema(self, value: Any) -> Any:
        """A schema or a part of one, with references in place of those that have a title."""
        match value:
            case {"title": str(title), "type": _}:
                if title not in self.schemas:
                    self.schemas[title] = {}  # Holds its place, in order of appearance.
                    self.schemas[title] = self._inside(value)
                return {"$ref": f"#/components/schemas/{title}"}
            case _:
                return self._inside(value)

    def _inside(self, value: Any) -> Any:
        match value:
            case Mapping():
                return {name: self.schema(item) for name, item in value.items()}
            case list() | tuple():
                return [self.schema(item) for item in value]
            case _:
                return value

    def body(self, schema: Schema, operation_id: str) -> Document:
        """What several routes take stands once, named after the first of them."""
        alike = (title for title, known in self.bodies.items() if known == schema)
        title = next(alike, f"{operation_id}_body")
        if title not in self.bodies:
            self.bodies[title] = schema
            self.schemas[title] = self.schema(schema)
        return {"$ref": f"#/components/schemas/{title}"}

    def header(self, name: str, meaning: str) -> Document:
        self.headers[name] = {"description": meaning, "schema": {"type": "string"}}
        return {"$ref": f"#/components/headers/{name}"}

    def refusal(self, status: int, response: Document) -> Document:
        """Many routes refuse alike: what is the same stands once, numbered from 1."""
        alike = self.refusals.setdefault(status, [])
        if response not in alike:
            alike.append(response)
        return {"$ref": f"#/components/responses/{_refusal(status, alike.index(response))}"}

    def document(self) -> Document:
        return {
            "schemas": self.schemas,
            "headers": self.headers,
            "responses": {
                _refusal(status, index): response
                for status, responses in sorted(self.refusals.items())
                for index, response in enumerate(responses)
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        }


def _refusal(status: int, index: int) -> str:
    return f"refused-{status}-{index + 1}"


# --- One operation -------------------------------------------------------------------


def _operation(route: Route, parts: _Components, *, keyed: bool) -> Document:
    operation_id = "_".join((route.method.lower(), *re.findall(r"\w+", route.path)))
    operation: Document = {
        "operationId": operation_id,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": list(_parameters(route)),
        "responses": _responses(route, parts, keyed=keyed),
    }
    if route.takes:
        content = {
            media: {"schema": parts.body(schema, operation_id)}
            for media, schema in route.takes.items()
        }
        operation["requestBody"] = {"required": True, "content": content}
    if keyed and route.access != "public":
        without: list[Document] = [{}] if route.access in ("local", "admin") else []
        operation["security"] = [{"bearer": []}, {"x-api-key": []}, *without]
    return operation


def _parameters(route: Route) -> Iterator[Document]:
    for name in re.findall(r"\{(\w+)\}", route.path):
        schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for name, said in route.query.items():
        yield {"name": name, "in": "query", "schema": said}
    for name, meaning in route.heeds.items():
        told = {"name": name, "in": "header", "description": meaning}
        yield told | {"schema": {"type": "string"}}


def _content(schemas: Mapping[str, Schema], parts: _Components) -> Document:
    return {
        media: {"schema": _body(media, parts.schema(schema))} for media, schema in schemas.items()
    }


def _body(media: str, schema: Document) -> Document:
    """Of a stream, each record: that is how OpenAPI before 3.2 is read where it meets one."""
    if media == EVENT_STREAM:
        data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
        return {
            "type": "object",
            "properties": {
                "event": {"type": "string"},
                # What some streams end with is no JSON.
                "data": {"anyOf": [{"const": "[DONE]"}, data]},
            },
            "required": ["data"],
        }
    return schema


# --- Its answers ---------------------------------------------------------------------


@attrs.define
class _Response:
    """All that may come with one status."""

    lines: dict[str, None] = attrs.field(factory=dict)
    content: dict[str, list[Schema]] = attrs.field(factory=dict)
    headers: dict[str, str] = attrs.field(factory=lambda: dict(EVERY_ANSWER))

    def add(self, line: str, content: Mapping[str, Schema], headers: Mapping[str, str]) -> None:
        self.lines[line] = None
        for media, schema in content.items():
            schemas = self.content.setdefault(media, [])
            if schema not in schemas:
                schemas.append(schema)
        self.headers |= headers

    def document(self, parts: _Components) -> Document:
        schemas = {
            media: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
            for media, schemas in self.content.items()
        }
        document: Document = {
            "description": "\n\n".join(self.lines),
            "headers": {
                name: parts.header(name, meaning) for name, meaning in self.headers.items()
            },
        }
        return document | ({"content": _content(schemas, parts)} if schemas else {})


def _responses(route: Route, parts: _Components, *, keyed: bool) -> Document:
    found: dict[int, _Response] = {}
    for answer in route.answers:
        response = found.setdefault(answer.status, _Response())
        response.add(answer.description, answer.content, answer.headers)
    for kind, envelope in errors_of(route, keyed=keyed):
        status = envelope.status(kind(""))
        headers = {
            name: meaning
            for name, (statuses, meaning) in _OF_REFUSALS.items()
            if status in statuses
        }
        said = (kind.__doc__ or "").partition("\n")[0]
        response = found.setdefault(status, _Response())
        response.add(f"`{kind.code}`: {said}", {JSON: envelope.schema}, headers)
    documents = {status: found[status].document(parts) for status in sorted(found)}
    return {
        str(status): response if status < 400 else parts.refusal(status, response)
        for status, response in documents.items()
    }
