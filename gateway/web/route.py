"""What a route is: one URL, and all that is told of it.

The same rows are routed (`gateway/web/app.py`), guarded (`gateway/web/middleware.py`)
and described (`gateway/web/openapi.py`), so that none of them can know another table.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal

import attrs
from aiohttp import web

from gateway.core.errors import (
    BackendError,
    BackendRefusedRequest,
    BodyTimeout,
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    MalformedRequest,
    MemoryPressure,
    ModelNotAllowed,
    ModelNotFound,
    Overloaded,
    RateLimited,
    RequestTimeout,
    TooLarge,
    UnsupportedMediaType,
    UnsupportedParameter,
)
from gateway.dialects.draft import schema_of
from gateway.web.answers.gateway import FORECAST
from gateway.web.answers.words import Schema
from gateway.web.embedding import Embedding
from gateway.web.envelopes import envelope_of
from gateway.web.inference import Inference
from gateway.web.intake import IGNORED_PARAMS, MAX_TOKENS, REJOINED, TRUNCATED

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Tag = Literal["OpenAI", "Anthropic", "Ollama", "Gateway"]
"""Whose API it is."""

Access = Literal["key", "local", "admin", "public"]
"""Who may: holders of a key; these, and whoever is on this machine; holders of a key
with `admin`, and whoever is on this machine; everybody."""

JSON: Final = "application/json"

# A pattern may have braces of its own, one deep.
_PATTERN: Final = re.compile(r"\{(\w+)[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")

READS_A_BODY: Final = (
    MalformedRequest,
    InvalidRequest,
    BodyTimeout,
    TooLarge,
    UnsupportedMediaType,
    MemoryPressure,
)
"""What every handler that reads a JSON body may raise."""

RUNS_A_MODEL: Final = (
    *READS_A_BODY,
    BackendError,
    BackendRefusedRequest,
    ContextLengthExceeded,
    ModelNotAllowed,
    ModelNotFound,
    Overloaded,
    RateLimited,
    RequestTimeout,
    UnsupportedParameter,
)
"""What every handler that runs a model may raise."""


@attrs.frozen(kw_only=True)
class Answer:
    """What comes when all goes well.

    Attributes:
        content: By media type what the body is; of a stream, what one record is.
        description: What it is, in a line without a full stop.
        headers: By name what it says; besides those of every answer.
    """

    content: Mapping[str, Schema]
    description: str = "The answer"
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)


UNCHANGED: Final = Answer(
    status=304, content={}, description="As the client has it already, by its `If-None-Match`"
)


@attrs.frozen
class Route:
    """One URL.

    Attributes:
        method: A GET answers to HEAD too.
        template: As aiohttp has it: `{name:pattern}` is a parameter.
        summary: What it is for, in a line without a full stop.
        answers: One for each status that is no refusal.
        errors: What it may refuse with, a class for all under it; what the edge
            refuses, whatever the route, is not among them.
        takes: By media type what its body is; empty: it has none.
        query: By name what can be said in the query.
        heeds: By name what the headers mean that it looks at; a wrong one is as if
            it were missing.
    """

    method: str
    template: str
    handler: Handler
    summary: str
    tag: Tag = attrs.field(kw_only=True)
    answers: Collection[Answer] = attrs.field(kw_only=True)
    errors: Sequence[type[GatewayError]] = attrs.field(kw_only=True)
    access: Access = attrs.field(kw_only=True, default="key")
    takes: Mapping[str, Schema] = attrs.field(kw_only=True, factory=dict)
    query: Mapping[str, Schema] = attrs.field(kw_only=True, factory=dict)
    heeds: Mapping[str, str] = attrs.field(kw_only=True, factory=dict)

    @property
    def path(self) -> str:
        """The template without the patterns of its parameters."""
        return _PATTERN.sub(r"{\1}", self.template)


HEEDS: Final = {
    "x-request-id": "your name for the request, in its answer and in the log",
    "x-gateway-priority": "interactive, normal or batch, as far as the key may",
    "x-gateway-place": "the place that a refusal has promised",
}
"""Headers of a request for a model."""

TELLS: Final = {
    IGNORED_PARAMS: "parameters that had no effect, by name",
    MAX_TOKENS: "tokens of the answer at the most, where more were asked for",
    TRUNCATED: "`deadline`: the answer reached its deadline, and this is what there was",
    REJOINED: "`1`: an earlier try of the same request had begun this answer",
}
"""Headers of a model's answer."""

DRY_RUN: Final[Mapping[str, Schema]] = {
    "dry_run": {
        "type": "string",
        "description": "1 or true: run nothing, say what would become of the request",
    }
}


def runs(
    template: str,
    inference: Inference[Any],
    summary: str,
    *,
    tag: Tag,
    reply: Schema,
    record: Schema,
) -> Route:
    """A route that generates text; what it takes is its dialect's own table.

    Args:
        reply: What a whole answer is.
        record: What one record of a stream is; if it breaks, the last is the envelope
            of an error.
    """
    dialect = inference.dialect
    streamed = {"anyOf": [record, envelope_of(template).schema]}
    return _of_a_model(
        template,
        inference.handle,
        summary,
        tag=tag,
        takes=schema_of(dialect.parameters, dialect.required),
        answer={JSON: {"anyOf": [reply, FORECAST]}, dialect.stream_type: streamed},
    )


def embeds(
    template: str, embedding: Embedding[Any], summary: str, *, tag: Tag, reply: Schema
) -> Route:
    """A route for embeddings, as `runs`."""
    dialect = embedding.dialect
    return _of_a_model(
        template,
        embedding.handle,
        summary,
        tag=tag,
        takes=schema_of(dialect.parameters, dialect.required),
        answer={JSON: {"anyOf": [reply, FORECAST]}},
    )


def _of_a_model(
    template: str,
    handler: Handler,
    summary: str,
    *,
    tag: Tag,
    takes: Schema,
    answer: Mapping[str, Schema],
) -> Route:
    return Route(
        "POST",
        template,
        handler,
        summary,
        tag=tag,
        takes={JSON: takes},
        answers=[Answer(content=answer, description="The answer", headers=TELLS)],
        errors=RUNS_A_MODEL,
        query=DRY_RUN,
        heeds=HEEDS,
    )
