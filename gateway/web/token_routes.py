"""The URLs that count tokens, take texts apart and put them together again."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.core.errors import (
    BackendError,
    BackendRefusedRequest,
    ModelNotAllowed,
    ModelNotFound,
    NotSupported,
    Overloaded,
    RequestTimeout,
    UnsupportedParameter,
)
from gateway.dialects.draft import schema_of
from gateway.web.answers import anthropic, openai
from gateway.web.answers import gateway as answers
from gateway.web.answers.words import Schema
from gateway.web.intake import IGNORED_PARAMS
from gateway.web.route import JSON, READS_A_BODY, TELLS, Answer, Handler, Route, Tag
from gateway.web.tokenizing import ESTIMATED, InputTokens, TokenHandlers

_ASKS_AN_ENGINE: Final = (
    *READS_A_BODY,
    BackendError,
    BackendRefusedRequest,
    ModelNotAllowed,
    ModelNotFound,
    Overloaded,
    RequestTimeout,
    UnsupportedParameter,
)
_COUNTS: Final[Mapping[str, str]] = {
    IGNORED_PARAMS: TELLS[IGNORED_PARAMS],
    ESTIMATED: "`input_tokens`: no engine with this model counts, and this is an estimate",
}


def token_routes(handlers: TokenHandlers) -> Sequence[Route]:
    """All of them. Clients whose base URL ends in `/v1` find the last ones there, too."""
    tokenizing = handlers.tokenizing
    tokenize, detokenize = tokenizing.tokenize_dialect, tokenizing.detokenize_dialect
    return (
        _counts(
            "/v1/chat/completions/input_tokens",
            handlers.chat,
            "How many tokens the prompt of a chat completion has",
            tag="OpenAI",
            reply=openai.TOKEN_COUNT,
        ),
        _counts(
            "/v1/responses/input_tokens",
            handlers.responses,
            "How many tokens the input of a response has",
            tag="OpenAI",
            reply=openai.TOKEN_COUNT,
        ),
        _counts(
            "/v1/messages/count_tokens",
            handlers.messages,
            "How many tokens the prompt of a message has",
            tag="Anthropic",
            reply=anthropic.TOKEN_COUNT,
        ),
        *(
            _asks(
                f"{base}/tokenize",
                tokenizing.tokenize,
                "A text or a conversation, taken apart into tokens",
                takes=schema_of(tokenize.parameters, tokenize.required),
                reply=answers.TOKENIZED,
            )
            for base in ("", "/v1")
        ),
        *(
            _asks(
                f"{base}/detokenize",
                tokenizing.detokenize,
                "Tokens, put together again",
                takes=schema_of(detokenize.parameters, detokenize.required),
                reply=answers.DETOKENIZED,
            )
            for base in ("", "/v1")
        ),
    )


def _counts(
    template: str, counting: InputTokens[Any], summary: str, *, tag: Tag, reply: Schema
) -> Route:
    dialect = counting.dialect
    return Route(
        "POST",
        template,
        counting.handle,
        summary,
        tag=tag,
        takes={JSON: schema_of(dialect.parameters, dialect.required)},
        answers=[Answer(content={JSON: reply}, headers=_COUNTS)],
        errors=_ASKS_AN_ENGINE,
    )


def _asks(template: str, handler: Handler, summary: str, *, takes: Schema, reply: Schema) -> Route:
    told = {IGNORED_PARAMS: TELLS[IGNORED_PARAMS]}
    return Route(
        "POST",
        template,
        handler,
        summary,
        tag="Gateway",
        takes={JSON: takes},
        answers=[Answer(content={JSON: reply}, headers=told)],
        errors=(*_ASKS_AN_ENGINE, NotSupported),
    )
