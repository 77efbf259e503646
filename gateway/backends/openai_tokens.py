"""The vocabulary of engines with OpenAI's API, which itself has no words for one.

llama.cpp's server counts a chat completion's prompt by the very code that would read it
(`/v1/chat/completions/input_tokens`); texts go to `/tokenize` and `/detokenize`. vLLM has
these two alone, and takes conversations in the first. An engine that has neither is one
that tells nothing of its vocabulary.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import attrs
import msgspec

from gateway.backends import openai_wire as wire
from gateway.backends.http import Exchange, Headers, HttpClient, endpoint
from gateway.backends.refusals import read_error, refusal
from gateway.backends.tokenizing import not_told
from gateway.core import jsonio
from gateway.core.errors import (
    BackendRefusedRequest,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
)
from gateway.core.jsonio import Json
from gateway.core.messages import GenerateRequest
from gateway.core.tokens import Spelling, Tokens

T = TypeVar("T")

_NO_SUCH_URL: Final = frozenset({404, 405, 501})
NOT_IN_THE_VOCABULARY: Final = re.compile(r"range_check|out of (?:range|vocabulary)|invalid token")
_READ_IN_A_THREAD_BYTES: Final = 256 * 1024
"""A larger answer would hold up everybody else while it is read."""


def _as_it_is(request: GenerateRequest) -> GenerateRequest:
    return request


class _Count(msgspec.Struct):
    input_tokens: int


class _Rendered(msgspec.Struct):
    prompt: str


class _Ids(msgspec.Struct):
    tokens: list[int]


class _Piece(msgspec.Struct):
    id: int
    piece: str | list[int]


class _Pieces(msgspec.Struct):
    tokens: list[_Piece]


class _Content(msgspec.Struct):
    content: str


class _VllmCount(msgspec.Struct):
    count: int


class _VllmTokens(msgspec.Struct):
    tokens: list[int]
    token_strs: list[str] | None = None


@attrs.frozen(kw_only=True)
class Questions:
    """How an engine is asked.

    Attributes:
        base: Scheme, host and port, and a path before `/v1` if there is one.
        answer_bytes_max: Of one answer.
        prepare: What is done to a request before the engine gets it.
    """

    http: HttpClient
    headers: Headers
    base: str
    answer_bytes_max: int
    prepare: Callable[[GenerateRequest], GenerateRequest] = _as_it_is

    async def ask(self, path: str, body: Json, answer: type[T]) -> T:
        return await self.send(path, jsonio.dumps(body), answer)

    async def send(self, path: str, body: bytes, answer: type[T]) -> T:
        """Raises as `Tokenizer` does."""
        url = endpoint(self.base, path)
        async with self.http.open("POST", url, body=body, headers=self.headers) as exchange:
            if exchange.status != 200:
                raise await _refusal(exchange)
            text = await exchange.read_all(self.answer_bytes_max)
        try:
            if len(text) > _READ_IN_A_THREAD_BYTES:
                return await asyncio.to_thread(msgspec.json.decode, text, type=answer)
            return msgspec.json.decode(text, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Some servers answer 200 to URLs that they don't have, such as LM Studio.
            raise not_told() from None


@attrs.frozen
class LlamaCppTokenizer:
    """Of llama.cpp's server. See `Tokenizer`."""

    _questions: Questions

    async def count(self, request: GenerateRequest) -> int:
        body = wire.chat_body(self._questions.prepare(request), wire.LLAMA_CPP_EXTENSIONS)
        path = "/v1/chat/completions/input_tokens"
        return (await self._questions.send(path, body, _Count)).input_tokens

    async def tokenize(self, request: GenerateRequest, spelling: Spelling) -> Tokens:
        if request.messages:
            # As it does itself for a chat; where the template has written the token that
            # a prompt begins with, it has taken that out again.
            body = wire.chat_body(self._questions.prepare(request), wire.LLAMA_CPP_EXTENSIONS)
            text = (await self._questions.send("/apply-template", body, _Rendered)).prompt
            spelling = attrs.evolve(spelling, add_special=True, parse_special=True)
        else:
            text = request.prompts[0].text
        asked = {
            "model": request.model,
            "content": text,
            "add_special": spelling.add_special,
            "parse_special": spelling.parse_special,
            "with_pieces": spelling.pieces,
        }
        if not spelling.pieces:
            return Tokens((await self._questions.ask("/tokenize", asked, _Ids)).tokens)
        found = (await self._questions.ask("/tokenize", asked, _Pieces)).tokens
        return Tokens(
            [token.id for token in found],
            [each if isinstance(each := token.piece, str) else bytes(each) for token in found],
        )

    async def detokenize(self, model: str, ids: Sequence[int]) -> str:
        asked = {"model": model, "tokens": ids}
        return (await self._questions.ask("/detokenize", asked, _Content)).content


@attrs.frozen
class VllmTokenizer:
    """Of vLLM. See `Tokenizer`.

    Its pieces are entries of the vocabulary, which may write a space as `Ġ` or `▁`.
    """

    _questions: Questions

    async def count(self, request: GenerateRequest) -> int:
        return (await self._questions.ask("/tokenize", self._chat(request), _VllmCount)).count

    async def tokenize(self, request: GenerateRequest, spelling: Spelling) -> Tokens:
        if not spelling.parse_special:
            raise BackendRefusedRequest(
                "The engine of this model takes the marks of a template for what they are in one.",
                param="parse_special",
            )
        if request.messages:
            asked = self._chat(request)
        else:
            asked = {
                "model": request.model,
                "prompt": request.prompts[0].text,
                "add_special_tokens": spelling.add_special,
            }
        if spelling.pieces:
            asked["return_token_strs"] = True
        found = await self._questions.ask("/tokenize", asked, _VllmTokens)
        return Tokens(found.tokens, found.token_strs if spelling.pieces else None)

    async def detokenize(self, model: str, ids: Sequence[int]) -> str:
        asked = {"model": model, "tokens": ids}
        return (await self._questions.ask("/detokenize", asked, _Rendered)).prompt

    def _chat(self, request: GenerateRequest) -> dict[str, Json]:
        """What of a chat completion makes its prompt."""
        chat = jsonio.loads(wire.chat_body(self._questions.prepare(request), frozenset()))
        return {name: chat[name] for name in ("model", "messages", "tools") if name in chat}


async def _refusal(exchange: Exchange) -> GatewayError:
    """The error that a status other than 200 means."""
    text = await read_error(exchange)
    if exchange.status in _NO_SUCH_URL:
        if "model" in text.lower():
            return ModelNotFound("No engine has this model.", param="model")
        return not_told()
    if NOT_IN_THE_VOCABULARY.search(text):
        return InvalidRequest("'tokens' must be tokens of this model's vocabulary.", param="tokens")
    return refusal(exchange.status, text, retry_after=exchange.retry_after)
