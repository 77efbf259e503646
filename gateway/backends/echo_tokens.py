"""The vocabulary of the backend without a model: a word is a token, with the blanks around it."""

import re
import zlib
from collections.abc import Sequence
from typing import Final

from gateway.core.errors import InvalidRequest
from gateway.core.messages import GenerateRequest, Prompt
from gateway.core.tokens import Spelling, Tokens

WORD: Final = re.compile(r"\s*\S+\s*")

_TOKEN_MAX: Final = 2**31 - 1

REMEMBERED_MAX: Final = 65_536
"""Words of which the text is known when only their number comes back."""


def prompt_tokens(request: GenerateRequest) -> int:
    """Of all that the request says."""
    return sum(len(text.split()) for text in _texts(request))


def text_of(prompt: Prompt) -> str:
    """Tokens are told as the numbers that they are; a suffix plays no part."""
    return " ".join(map(str, prompt.tokens)) if prompt.tokens else prompt.text


class EchoTokenizer:
    """Numbers words by their CRC-32, so that the same word has the same number everywhere.

    See `Tokenizer`. Which word a number stands for it knows only of those that it has met.
    """

    def __init__(self) -> None:
        self._words: dict[int, str] = {}

    async def count(self, request: GenerateRequest) -> int:
        return prompt_tokens(request)

    async def tokenize(self, request: GenerateRequest, spelling: Spelling) -> Tokens:
        words = [word for text in _texts(request) for word in WORD.findall(text)]
        ids = [self._number(word) for word in words]
        return Tokens(ids, words if spelling.pieces else None)

    async def detokenize(self, model: str, ids: Sequence[int]) -> str:
        try:
            return "".join(self._words[number] for number in ids)
        except KeyError:
            raise InvalidRequest(
                "'tokens' must be numbers of words that were taken apart here.", param="tokens"
            ) from None

    def _number(self, word: str) -> int:
        number = zlib.crc32(word.encode()) & _TOKEN_MAX
        if number not in self._words and len(self._words) >= REMEMBERED_MAX:
            self._words.clear()
        self._words[number] = word
        return number


def _texts(request: GenerateRequest) -> list[str]:
    return [message.text for message in request.messages] + list(map(text_of, request.prompts))
