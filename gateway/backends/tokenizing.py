"""The seam towards an engine's vocabulary: what a text is in tokens, and how many a prompt has.

None of it runs a model, so none of it needs a slot.
"""

from collections.abc import Sequence
from typing import Protocol

from gateway.core.errors import NotSupported
from gateway.core.messages import GenerateRequest
from gateway.core.tokens import Spelling, Tokens


class Tokenizer(Protocol):
    """What an engine tells of its vocabulary.

    All of it raises what `InferenceBackend.open` raises on entering, and NotSupported
    where the engine turns out to have no such thing.
    """

    async def count(self, request: GenerateRequest) -> int:
        """The tokens of a conversation as the engine would read it, its chat template included.

        What `Usage.prompt` of an answer to the same request would be.
        """
        ...

    async def tokenize(self, request: GenerateRequest, spelling: Spelling) -> Tokens:
        """A conversation, or the text of the one prompt that the request has."""
        ...

    async def detokenize(self, model: str, ids: Sequence[int]) -> str:
        """The text of these tokens.

        Raises:
            InvalidRequest: One of them is not in the vocabulary.
        """
        ...


def not_told() -> NotSupported:
    """What a caller is told whose engine has none of this."""
    return NotSupported("The engine of this model does not tell of its vocabulary.", param="model")
