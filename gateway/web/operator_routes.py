"""The URLs for operators: the page, how the daemon does, and models by hand."""

from collections.abc import Sequence
from typing import Final

from gateway.core.errors import (
    BackendError,
    ConfigRefused,
    GatewayError,
    ModelNotFound,
    NotSupported,
    Overloaded,
    RequestTimeout,
    ShuttingDown,
    UnknownRoute,
)
from gateway.web.answers.reload import RELOADED
from gateway.web.answers.status import MODEL, STATUS
from gateway.web.answers.words import TEXT, fields
from gateway.web.home import TYPES, Home
from gateway.web.operating import Operating
from gateway.web.reload import Reload
from gateway.web.route import (
    JSON,
    READS_A_BODY,
    RUNS_A_MODEL,
    UNCHANGED,
    Answer,
    Handler,
    Route,
)
from gateway.web.status import Status

_MODEL: Final = fields({"model": {**TEXT, "description": "its name, or an alias"}})


def operator_routes(
    *, home: Home, status: Status, operating: Operating, reload: Reload
) -> Sequence[Route]:
    """Every URL of them."""
    return (
        Route(
            "GET",
            "/",
            home.root,
            "The page for people; for Ollama's clients that somebody is there",
            tag="Gateway",
            access="public",
            answers=[Answer(content={"text/html": TEXT, "text/plain": TEXT})],
            errors=[],
        ),
        Route(
            "GET",
            "/page/{file}",
            home.file,
            "What that page is made of",
            tag="Gateway",
            access="public",
            answers=[Answer(content=dict.fromkeys(TYPES.values(), TEXT)), UNCHANGED],
            errors=[UnknownRoute],
        ),
        Route(
            "GET",
            "/gateway/status",
            status.now,
            "What is true right now and was lately",
            tag="Gateway",
            access="admin",
            answers=[Answer(content={JSON: STATUS})],
            errors=[],
        ),
        Route(
            "GET",
            "/gateway/events",
            status.events,
            "The same about once a second, until the gateway stops",
            tag="Gateway",
            access="admin",
            answers=[Answer(content={"text/event-stream": STATUS})],
            errors=[Overloaded],
        ),
        Route(
            "POST",
            "/gateway/reload",
            reload.handle,
            "Read the configuration again, and apply what can be",
            tag="Gateway",
            access="admin",
            answers=[Answer(content={JSON: RELOADED})],
            errors=[ConfigRefused, ShuttingDown, NotSupported],
        ),
        _models("load", operating.load, "Bring a model to memory, in turn", RUNS_A_MODEL),
        _models(
            "unload",
            operating.unload,
            "Put a model out of memory",
            (*READS_A_BODY, ModelNotFound, NotSupported, BackendError, RequestTimeout),
        ),
    )


def _models(
    word: str, handler: Handler, summary: str, errors: Sequence[type[GatewayError]]
) -> Route:
    return Route(
        "POST",
        f"/gateway/models/{word}",
        handler,
        summary,
        tag="Gateway",
        access="admin",
        takes={JSON: _MODEL},
        answers=[Answer(content={JSON: MODEL})],
        errors=errors,
    )
