"""The handlers that count tokens, take texts apart and put them together again."""

from collections.abc import Mapping
from typing import Any, Final, Generic

import attrs
from aiohttp import web

from gateway.core import jsonio
from gateway.core.clock import Clock
from gateway.core.jsonio import Json
from gateway.dialects.base import Dialect, P
from gateway.dialects.tokenizing import Detokenize, Tokenize
from gateway.web.intake import IGNORED_PARAMS, Asked, Intake, S
from gateway.web.visit import json_reply
from gateway.web.vocabulary import Vocabulary

ESTIMATED: Final = "x-gateway-estimated"
"""Names what of an answer is an estimate."""


class InputTokens(Generic[P]):
    """POST …/input_tokens and …/count_tokens: the body of a request that is not run.

    Args:
        dialect: Whose body it is.
        told: What stands beside the number.
    """

    def __init__(
        self,
        *,
        dialect: Dialect[P],
        told: Mapping[str, Json],
        vocabulary: Vocabulary,
        intake: Intake,
        clock: Clock,
    ) -> None:
        self.dialect = dialect
        self._told = told
        self._vocabulary = vocabulary
        self._intake = intake
        self._clock = clock

    async def handle(self, web_request: web.Request) -> web.Response:
        with self._intake.share() as share:
            asked = await self._intake.asked(web_request, self.dialect, share)
            self._vocabulary.check(asked.parsed, asked.caller)
            count = await self._vocabulary.count(asked.parsed.request)
        document = {"input_tokens": count.tokens, **self._told}
        if count.estimated:
            document["estimated"] = True
        reply = _reply(asked, jsonio.dumps(document), self._clock)
        if count.estimated:
            reply.headers[ESTIMATED] = "input_tokens"
        return reply


class Tokenizing:
    """POST /tokenize and /detokenize."""

    def __init__(
        self,
        *,
        tokenize: Tokenize,
        detokenize: Detokenize,
        vocabulary: Vocabulary,
        intake: Intake,
        clock: Clock,
    ) -> None:
        self.tokenize_dialect = tokenize
        self.detokenize_dialect = detokenize
        self._vocabulary = vocabulary
        self._intake = intake
        self._clock = clock

    async def tokenize(self, web_request: web.Request) -> web.Response:
        dialect = self.tokenize_dialect
        with self._intake.share() as share:
            asked = await self._intake.asked(web_request, dialect, share)
            parsed = asked.parsed
            self._vocabulary.check(parsed, asked.caller)
            found = await self._vocabulary.tokenize(parsed.request, parsed.spelling)
        return _reply(asked, dialect.reply(parsed, *found), self._clock)

    async def detokenize(self, web_request: web.Request) -> web.Response:
        dialect = self.detokenize_dialect
        with self._intake.share() as share:
            asked = await self._intake.asked(web_request, dialect, share)
            self._vocabulary.check(asked.parsed, asked.caller)
            text = await self._vocabulary.detokenize(asked.parsed.request.model, asked.parsed.ids)
        return _reply(asked, dialect.reply(text), self._clock)


def _reply(asked: Asked[S], body: bytes, clock: Clock) -> web.Response:
    reply = json_reply(asked.visit, body, clock.now())
    if asked.parsed.ignored:
        reply.headers[IGNORED_PARAMS] = ", ".join(asked.parsed.ignored)
    return reply


@attrs.frozen(kw_only=True)
class TokenHandlers:
    """All of them; the first three are named after what would be run."""

    chat: InputTokens[Any]
    responses: InputTokens[Any]
    messages: InputTokens[Any]
    tokenizing: Tokenizing
