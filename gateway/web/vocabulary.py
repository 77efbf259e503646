"""What models make of texts: asked of an engine that tells, else estimated."""

from collections.abc import Callable, Sequence

import attrs

from gateway.admission.models import require_model
from gateway.backends.tokenizing import Tokenizer, not_told
from gateway.core.errors import NotSupported, UnsupportedParameter
from gateway.core.messages import GenerateRequest
from gateway.core.ticket import Caller
from gateway.core.tokens import Spelling, Tokens
from gateway.dialects.base import Said
from gateway.pool.asking import Asker
from gateway.pool.pool import Pool
from gateway.pool.upstream import Upstream


@attrs.frozen
class Count:
    """The tokens of a prompt; `estimated` where no engine of the model would count them."""

    tokens: int
    estimated: bool = False


class Vocabulary:
    """Runs no model and waits in no queue; see `Asker` for what bounds it.

    All of it raises as `Asker.ask` does.

    Args:
        estimate: About how many tokens the prompt of a request has with an upstream.
        strict_params: Refuse a request with a parameter that nobody can honour.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        asker: Asker,
        estimate: Callable[[GenerateRequest, Upstream], int],
        strict_params: bool,
    ) -> None:
        self._pool = pool
        self._asker = asker
        self._estimate = estimate
        self._strict_params = strict_params

    async def count(self, request: GenerateRequest) -> Count:
        """The tokens of a conversation as its engine would read it."""
        request = self._pool.catalogue.applied(request)

        async def question(upstream: Upstream) -> int:
            return await _tokenizer(upstream).count(request)

        try:
            return Count(await self._asker.ask(request.model, question))
        except NotSupported:
            upstream = self._pool.require(request.model)[0]
            return Count(self._estimate(request, upstream), estimated=True)

    async def tokenize(
        self, request: GenerateRequest, spelling: Spelling
    ) -> tuple[Tokens, int | None]:
        """A text in tokens, and how many the model can read, as far as its engine tells.

        Raises:
            NotSupported: No engine with this model tells of its vocabulary.
        """
        request = self._pool.catalogue.applied(request)

        async def question(upstream: Upstream) -> tuple[Tokens, int | None]:
            tokens = await _tokenizer(upstream).tokenize(request, spelling)
            info = (upstream.models or {}).get(upstream.named(request.model))
            return tokens, None if info is None else info.context_length

        return await self._asker.ask(request.model, question)

    async def detokenize(self, model: str, ids: Sequence[int]) -> str:
        """The text of tokens.

        Raises:
            InvalidRequest: One of them is not in the vocabulary.
            NotSupported: As `tokenize`.
        """
        model = self._pool.catalogue.named(model)

        async def question(upstream: Upstream) -> str:
            return await _tokenizer(upstream).detokenize(model, ids)

        return await self._asker.ask(model, question)

    def check(self, said: Said, caller: Caller) -> None:
        """Whether the question may be asked.

        Raises:
            ModelNotAllowed: Not by this caller.
            UnsupportedParameter: In strict mode, where parameters were ignored.
        """
        require_model(caller, said.request.model, self._pool.catalogue)
        ignored = said.ignored
        if self._strict_params and ignored:
            raise UnsupportedParameter(
                f"Not supported here: {', '.join(ignored)}. (The gateway runs with strict_params.)",
                param=ignored[0],
            )


def _tokenizer(upstream: Upstream) -> Tokenizer:
    tokenizer = upstream.backend.tokenizer
    if tokenizer is None:
        raise not_told()
    return tokenizer
