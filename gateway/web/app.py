"""The table of routes, and the one aiohttp Application that serves it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from gateway.core.errors import BackendError, ModelNotAllowed, ModelNotFound, RequestNotFound
from gateway.web import stored
from gateway.web.answers import anthropic, gateway, openai
from gateway.web.answers import ollama as ollama_answers
from gateway.web.docs import Docs
from gateway.web.embedding import Embedding
from gateway.web.home import Home
from gateway.web.inference import Inference
from gateway.web.management import Management
from gateway.web.middleware import Edge
from gateway.web.models import Models
from gateway.web.ollama import Ollama
from gateway.web.ollama_routes import ollama_routes
from gateway.web.operating import Operating
from gateway.web.operator_routes import operator_routes
from gateway.web.ops import Ops
from gateway.web.reload import Reload
from gateway.web.requests import Requests
from gateway.web.route import JSON, UNCHANGED, Access, Answer, Route, embeds, runs
from gateway.web.status import Status
from gateway.web.switchboard import Switchboard
from gateway.web.token_routes import token_routes
from gateway.web.tokenizing import TokenHandlers
from gateway.web.usage import Usage, usage_routes

CHAT_COMPLETIONS: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
MESSAGES: Final = "/v1/messages"
RESPONSES: Final = "/v1/responses"
EMBEDDINGS: Final = "/v1/embeddings"


def routes(
    *,
    chat: Inference[Any],
    completions: Inference[Any],
    messages: Inference[Any],
    responses: Inference[Any],
    embeddings: Embedding[Any],
    ollama_chat: Inference[Any],
    ollama_generate: Inference[Any],
    ollama_embed: Embedding[Any],
    ollama_embeddings: Embedding[Any],
    ollama: Ollama,
    management: Management,
    tokens: TokenHandlers,
    models: Models,
    requests: Requests,
    usage: Usage,
    home: Home,
    status: Status,
    operating: Operating,
    reload: Reload,
    ops: Ops,
    docs: Docs,
) -> Sequence[Route]:
    """Every URL there is."""
    return (
        runs(
            CHAT_COMPLETIONS,
            chat,
            "A chat completion, as OpenAI has it",
            tag="OpenAI",
            reply=openai.CHAT,
            record=openai.CHAT_CHUNK,
        ),
        runs(
            COMPLETIONS,
            completions,
            "A text continued, as OpenAI has it",
            tag="OpenAI",
            reply=openai.COMPLETION,
            record=openai.COMPLETION_CHUNK,
        ),
        runs(
            MESSAGES,
            messages,
            "A message, as Anthropic has it",
            tag="Anthropic",
            reply=anthropic.MESSAGE,
            record=anthropic.MESSAGE_EVENT,
        ),
        runs(
            RESPONSES,
            responses,
            "A response, as OpenAI has it; nothing of it is stored",
            tag="OpenAI",
            reply=openai.RESPONSE,
            record=openai.RESPONSE_EVENT,
        ),
        embeds(
            EMBEDDINGS,
            embeddings,
            "A vector for each text, as OpenAI has it",
            tag="OpenAI",
            reply=openai.EMBEDDINGS,
        ),
        *stored.ROUTES,
        *ollama_routes(
            chat=ollama_chat, generate=ollama_generate, ollama=ollama, management=management
        ),
        embeds(
            "/api/embed",
            ollama_embed,
            "A vector for each text, as Ollama has it",
            tag="Ollama",
            reply=ollama_answers.EMBED,
        ),
        embeds(
            "/api/embeddings",
            ollama_embeddings,
            "A vector for one text, as Ollama once had it",
            tag="Ollama",
            reply=ollama_answers.EMBEDDINGS,
        ),
        *token_routes(tokens),
        Route(
            "GET",
            "/v1/models",
            models.list,
            "The models that can be asked for",
            tag="OpenAI",
            answers=[Answer(content={JSON: openai.MODELS})],
            errors=[],
        ),
        Route(
            "GET",
            "/v1/models/{model:.+}",
            models.one,
            "One model",
            tag="OpenAI",
            answers=[Answer(content={JSON: openai.MODEL})],
            errors=[ModelNotAllowed, ModelNotFound, BackendError],
        ),
        Route(
            "GET",
            "/v1/requests/{id}",
            requests.one,
            "Where a request of yours is",
            tag="Gateway",
            answers=[Answer(content={JSON: gateway.PROGRESS})],
            errors=[RequestNotFound],
        ),
        *usage_routes(usage),
        *operator_routes(home=home, status=status, operating=operating, reload=reload),
        Route(
            "GET",
            "/health",
            ops.health,
            "Whether the gateway runs; always 200",
            tag="Gateway",
            access="public",
            answers=[Answer(content={JSON: gateway.HEALTH})],
            errors=[],
        ),
        Route(
            "GET",
            "/ready",
            ops.ready,
            "Whether a request would have a chance",
            tag="Gateway",
            access="local",
            answers=[
                Answer(content={JSON: gateway.READY}),
                Answer(status=503, content={JSON: gateway.NOT_READY}, description="Not now"),
            ],
            errors=[],
        ),
        Route(
            "GET",
            "/metrics",
            ops.metrics,
            "Metrics for Prometheus",
            tag="Gateway",
            access="local",
            answers=[Answer(content={"text/plain": {"type": "string"}})],
            errors=[],
        ),
        Route(
            "GET",
            "/openapi.json",
            docs.openapi,
            "This description",
            tag="Gateway",
            access="local",
            answers=[Answer(content={JSON: {"type": "object"}}), UNCHANGED],
            errors=[],
        ),
        Route(
            "GET",
            "/docs",
            docs.page,
            "The same for people, with settings for their clients",
            tag="Gateway",
            access="local",
            answers=[Answer(content={"text/html": {"type": "string"}}), UNCHANGED],
            errors=[],
        ),
    )


def access(table: Sequence[Route]) -> Mapping[str, Access]:
    """Who may have what, by path."""
    return {route.path: route.access for route in table}


def application(table: Sequence[Route], switchboard: Switchboard, edge: Edge) -> web.Application:
    """The URLs of the table; who answers them is the switchboard's to say."""
    app = web.Application(middlewares=[edge])
    for route in table:
        if route.method == "GET":
            app.router.add_get(route.template, switchboard.handler(route))
        else:
            app.router.add_route(route.method, route.template, switchboard.handler(route))
    return app


def templates(app: web.Application) -> list[tuple[str, str]]:
    """Method and template of every route, as `middleware.route_of` spells them."""
    return [
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    ]
