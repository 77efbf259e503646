"""Texts taken apart into tokens and put together again: `/tokenize` and `/detokenize`.

OpenAI has no words for this. llama.cpp's server and vLLM have the same two URLs with
different words; both are understood, and the answer has what either's clients look for.

Sources: llama.cpp, tools/server/README.md; vLLM, entrypoints/serve/tokenize/protocol.py.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from gateway.core import jsonio
from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import GenerateRequest, Prompt
from gateway.core.tokens import Piece, Spelling, Tokens
from gateway.dialects import fields
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Reading,
    Table,
    to_request,
    without_effect,
)
from gateway.dialects.openai_chat_messages import MESSAGES
from gateway.dialects.openai_chat_tools import TOOLS

CHARS_MAX: Final = 1_000_000
"""Taking so much apart costs an engine a second; the answer is larger than the text."""

DEFAULT_MODEL: Final = "default"
"""Where none is named, as clients of llama.cpp do: it has but one."""

_SUBJECTS: Final = ("messages", "prompt", "content")
_OF_A_CHAT: Final = ("tools",)
_OF_A_TEXT: Final = ("add_special", "add_special_tokens", "parse_special")


@attrs.frozen(kw_only=True)
class TokenizeParsed:
    """A text to take apart.

    Attributes:
        request: With the conversation, or with one prompt that is a text.
        ignored: As in `Parsed`.
        strings: The pieces are wanted beside the tokens, as vLLM tells them, and not
            with them, as llama.cpp does.
    """

    request: GenerateRequest
    spelling: Spelling
    ignored: tuple[str, ...] = ()
    strings: bool = False


@attrs.frozen(kw_only=True)
class DetokenizeParsed:
    """Tokens to put together: one prompt of the request."""

    request: GenerateRequest
    ignored: tuple[str, ...] = ()

    @property
    def ids(self) -> Sequence[int]:
        return self.request.prompts[0].tokens


def _string(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece.decode("utf-8", "replace")


# --- The tables ----------------------------------------------------------------------

_TEXT: Final = fields.text()
_SUBJECT: Final = fields.text(0, CHARS_MAX)


def _tokens(value: Json, path: str) -> tuple[int, ...]:
    listed = fields.array(value, path, length_max=CHARS_MAX)
    if not fields.is_tokens(listed):
        raise fields.invalid(path, f"a list of tokens, from 0 to {fields.TOKEN_MAX}")
    return tuple(listed)


def _subject(name: str, note: str) -> Parameter:
    def reader(draft: Draft, value: Json, path: str) -> Fate:
        draft.request[name] = _SUBJECT(value, path)
        return "asked"

    # The bound is left out: whoever tries a schema's bounds would send more than a body may have.
    return Parameter(reader, _TEXT.schema, note=f"{note}; {CHARS_MAX} characters at the most")


_MODEL: Final = to_request("model", fields.model_name, note="the default model if it is missing")

_REQUIRED: Final[Mapping[str, str]] = {"tokens": "a list of tokens of the model's vocabulary"}

TOKENIZE: Final[Table] = {
    "model": _MODEL,
    "prompt": _subject("prompt", "begins as a prompt begins, unless add_special_tokens is false"),
    "content": _subject("content", "stands by itself, unless add_special is true"),
    "messages": MESSAGES,
    "tools": TOOLS,
    "add_special": to_request("add_special", fields.boolean),
    "add_special_tokens": to_request("add_special", fields.boolean),
    "parse_special": to_request(
        "parse_special",
        fields.boolean,
        note="false: marks of a template are taken for text, where the engine can",
    ),
    "with_pieces": to_request("with_pieces", fields.boolean),
    "return_token_strs": to_request("return_token_strs", fields.boolean),
    # Prompts are made as answers need them.
    "add_generation_prompt": without_effect(fields.boolean, True),
    "continue_final_message": without_effect(fields.boolean, False),
    "chat_template": without_effect(_TEXT),
    "chat_template_kwargs": without_effect(fields.obj, {}),
    "media_io_kwargs": without_effect(fields.obj, {}),
    "mm_processor_kwargs": without_effect(fields.obj, {}),
}

DETOKENIZE: Final[Table] = {
    "model": _MODEL,
    "tokens": to_request(
        "tokens",
        fields.Field(
            _tokens,
            {**fields.TOKENS, "minItems": 0, "maxItems": CHARS_MAX},
        ),
    ),
}


class Tokenize(Reading):
    """POST /tokenize."""

    parameters = TOKENIZE

    def parse(self, body: bytes | bytearray) -> TokenizeParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge (an image)."""
        draft = self.draft(body)
        read = draft.request
        if sum(name in read for name in _SUBJECTS) != 1:
            raise InvalidRequest(
                "One of 'prompt', 'content' and 'messages' is required, and no other of them.",
                param="prompt",
            )
        text = read.get("prompt", read.get("content"))
        for name in _OF_A_CHAT if text is not None else _OF_A_TEXT:
            if draft.body.get(name) is not None:
                draft.ignore(name)
        strings = read.get("return_token_strs", False)
        return TokenizeParsed(
            request=GenerateRequest(
                model=read.get("model", DEFAULT_MODEL),
                messages=read.get("messages", ()),
                prompts=() if text is None else (Prompt(text),),
                tools=read.get("tools", ()) if text is None else (),
            ),
            spelling=Spelling(
                # As whose word for the text it is does when nothing is said.
                add_special=read.get("add_special", "prompt" in read),
                parse_special=read.get("parse_special", True),
                pieces=strings or read.get("with_pieces", False),
            ),
            ignored=draft.ignored,
            strings=strings,
        )

    def reply(self, parsed: TokenizeParsed, tokens: Tokens, context_length: int | None) -> bytes:
        """The whole answer.

        Args:
            context_length: Of the model, as far as it is known.
        """
        found: list[Json] = list(tokens.ids)
        document: dict[str, Json] = {"count": len(found), "tokens": found}
        if tokens.pieces is not None:
            if parsed.strings:
                document["token_strs"] = list(map(_string, tokens.pieces))
            else:
                document["tokens"] = [
                    {"id": number, "piece": piece if isinstance(piece, str) else list(piece)}
                    for number, piece in zip(tokens.ids, tokens.pieces, strict=True)
                ]
        if context_length is not None:
            document["max_model_len"] = context_length
        return jsonio.dumps(document)


class Detokenize(Reading):
    """POST /detokenize."""

    parameters = DETOKENIZE
    required = _REQUIRED

    def parse(self, body: bytes | bytearray) -> DetokenizeParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`)."""
        draft = self.draft(body)
        read = draft.request
        return DetokenizeParsed(
            request=GenerateRequest(
                model=read.get("model", DEFAULT_MODEL), prompts=(Prompt(tokens=read["tokens"]),)
            ),
            ignored=draft.ignored,
        )

    def reply(self, text: str) -> bytes:
        """The whole answer: by llama.cpp's name and by vLLM's."""
        return jsonio.dumps({"content": text, "prompt": text})
