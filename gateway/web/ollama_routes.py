"""The URLs of Ollama's native API."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.core.errors import (
    BackendError,
    InvalidRequest,
    ModelNotAllowed,
    ModelNotFound,
    NotPermitted,
    NotSupported,
    Overloaded,
    RequestTimeout,
)
from gateway.web.answers import ollama as answers
from gateway.web.answers.words import Schema
from gateway.web.inference import Inference
from gateway.web.management import Management
from gateway.web.ollama import Ollama
from gateway.web.route import JSON, READS_A_BODY, Answer, Handler, Route, runs

LINES: Final = "application/x-ndjson"

_DESCRIBED: Final[Schema] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "name": {"description": "The same, as it was once called; for where it is missing"},
        "verbose": {"description": "What there is to tell is told anyway"},
    },
}
_UPSTREAM: Final[Mapping[str, Schema]] = {
    "upstream": {
        "type": "string",
        "description": "By its name which Ollama is meant, of several; else the first",
    }
}
_MANAGES: Final = (
    NotPermitted,
    NotSupported,
    InvalidRequest,
    Overloaded,
    BackendError,
    RequestTimeout,
)


def ollama_routes(
    *,
    chat: Inference[Any],
    generate: Inference[Any],
    ollama: Ollama,
    management: Management,
) -> Sequence[Route]:
    """Every URL of it, but for embeddings."""
    return (
        runs(
            "/api/chat",
            chat,
            "The next message of a chat, as Ollama has it",
            tag="Ollama",
            reply=answers.CHAT,
            record=answers.CHAT,
        ),
        runs(
            "/api/generate",
            generate,
            "A prompt answered or continued, as Ollama has it",
            tag="Ollama",
            reply=answers.GENERATE,
            record=answers.GENERATE,
        ),
        _asked("/api/tags", ollama.tags, "The models that can be asked for", answers.TAGS),
        _asked("/api/ps", ollama.ps, "The models that are in memory", answers.PS),
        _asked("/api/version", ollama.version, "The version of the Ollama behind", answers.VERSION),
        Route(
            "POST",
            "/api/show",
            ollama.show,
            "All that is known of one model",
            tag="Ollama",
            takes={JSON: _DESCRIBED},
            answers=[Answer(content={JSON: answers.SHOW})],
            errors=[*READS_A_BODY, ModelNotAllowed, ModelNotFound, BackendError, RequestTimeout],
        ),
        _manages("POST", "/api/pull", management.transfer, "Fetch a model"),
        _manages("POST", "/api/push", management.transfer, "Publish a model"),
        _manages("POST", "/api/create", management.transfer, "Make a model"),
        _manages("POST", "/api/copy", management.command, "Give a model another name"),
        _manages("DELETE", "/api/delete", management.command, "Delete a model"),
        Route(
            "HEAD",
            "/api/blobs/{digest}",
            management.find_blob,
            "Whether a file of a model is there",
            tag="Ollama",
            query=_UPSTREAM,
            answers=[Answer(content={})],
            errors=_MANAGES,
        ),
        Route(
            "POST",
            "/api/blobs/{digest}",
            management.send_blob,
            "Send a file of a model",
            tag="Ollama",
            takes={"application/octet-stream": {"type": "string"}},
            query=_UPSTREAM,
            answers=[
                Answer(content={}, description="It was there"),
                Answer(status=201, content={}, description="It is there now"),
            ],
            errors=_MANAGES,
        ),
    )


def _asked(template: str, handler: Handler, summary: str, document: Schema) -> Route:
    """What needs no body, and no engine that is there."""
    answer = Answer(content={JSON: document})
    return Route("GET", template, handler, summary, tag="Ollama", answers=[answer], errors=[])


def _manages(method: str, template: str, handler: Handler, summary: str) -> Route:
    """What is passed on to an Ollama, for keys with `manage_models`."""
    return Route(
        method,
        template,
        handler,
        summary,
        tag="Ollama",
        takes={JSON: {"type": "object"}},
        query=_UPSTREAM,
        answers=[Answer(content={LINES: answers.PROGRESS, JSON: answers.PROGRESS})],
        errors=[*READS_A_BODY, *_MANAGES],
    )
