"""What an engine's own error text says, in our errors; the text itself goes no further.

Engines tell the caller's mistakes from their own failures by status only in
part: Ollama answers 500 to a schema it can't read. What a caller can cause
must not count against the engine, or one caller could open its breaker.
"""

import re
from typing import Final

import attrs

from gateway.backends.http import COME_BACK_S, Exchange
from gateway.core.errors import (
    BackendError,
    BackendRefusedRequest,
    ContextLengthExceeded,
    GatewayError,
    RequestTimeout,
    UpstreamBusy,
    UpstreamFailed,
)

_ERROR_BYTES_MAX: Final = 64 * 1024

_BUSY: Final = frozenset({429, 503, 529})
_ON_THE_REQUEST: Final = frozenset({400, 413, 422})

# Ollama v0.24, llama.cpp (with and without its error type), OpenAI, vLLM.
_OVERFLOW: Final = re.compile(
    r"exceeds the context length"
    r"|exceed_context_size_error"
    r"|exceeds? the available context size"
    r"|context_length_exceeded"
    r"|context length is (?:only )?\d"
    r"|is too large to process"
)
# `\W` also covers the escapes where JSON stands in a JSON string.
_PROMPT_TOKENS: Final = (
    re.compile(r"n_prompt_tokens\W{1,8}(\d{1,12})"),
    re.compile(r"(?:request|input) \((\d{1,12}) tokens\)"),
    re.compile(r"(\d{1,12}) in the messages"),
    re.compile(r"(\d{1,12}) input tokens"),
    re.compile(r"(?:resulted in|requested) (\d{1,12})"),
)
_CONTEXT_TOKENS: Final = (
    re.compile(r"n_ctx\W{1,8}(\d{1,12})"),
    re.compile(r"context size \((\d{1,12}) tokens\)"),
    re.compile(r"context length is (?:only )?(\d{1,12})"),
    re.compile(r"batch size: (\d{1,12})"),
)

_FULL: Final = "Context size has been exceeded"
"""llama.cpp's, where several requests together do not fit in a context that they share."""

_INCAPABLE: Final = re.compile(
    r"does not support (tools|thinking|insert|vision|images?|multimodal|chat|generate|completion)"
    r"|does not support (embeddings?|matryoshka)"
    r"|(image) input is not supported"
    r"|(pooling type 'none')",
    re.IGNORECASE,
)
_INCAPABLE_OF: Final = {
    "tools": "This model can't call tools.",
    "thinking": "This model can't reason before it answers; leave the reasoning effort out.",
    "insert": "This model can't fill in the middle; leave the suffix out.",
    "vision": "This model can't read images.",
    "image": "This model can't read images.",
    "images": "This model can't read images.",
    "multimodal": "This model can't read images.",
    "chat": "This model can't chat; it may be made for embeddings.",
    "generate": "This model can't complete text; it may be made for embeddings.",
    "completion": "This model can't complete text; it may be made for embeddings.",
    "embedding": "This model can't embed.",
    "embeddings": "This model can't embed.",
    "pooling type 'none'": "This model can't embed.",
    "matryoshka": "This model's vectors can't be shortened; leave the dimensions out.",
}

_UNREADABLE: Final = re.compile(
    r"invalid (?:JSON schema|format)|must be of type"
    r"|failed to (?:parse|initialize) (?:grammar|samplers)",
    re.IGNORECASE,
)


def refusal(
    status: int, text: str, *, retry_after: str = "", param: str = "messages"
) -> GatewayError:
    """What an error status, with the text of its body, means.

    Args:
        status: Any but 200.
        retry_after: The engine's header of that name.
        param: What the prompt is called.
    """
    if status in _BUSY:
        return UpstreamBusy(
            "The model's engine has too much to do.", retry_after_s=_seconds(retry_after)
        )
    if found := overflow(text):
        return found.error(param)
    if _FULL in text:
        return UpstreamBusy(
            "The model's engine has no room left for this.", retry_after_s=COME_BACK_S
        )
    if match := _INCAPABLE.search(text):
        return BackendRefusedRequest(_INCAPABLE_OF[_of(match)])
    if status in _ON_THE_REQUEST or (status == 500 and _UNREADABLE.search(text)):
        return BackendRefusedRequest("The model's engine can't serve this request as it is.")
    return UpstreamFailed("The model's engine answered with an error.")


@attrs.frozen
class Overflow:
    """A prompt that does not fit, as far as the engine tells.

    Attributes:
        prompt: Its tokens.
        context: The tokens that are really allocated.
    """

    prompt: int | None = None
    context: int | None = None

    def error(self, param: str = "messages") -> ContextLengthExceeded:
        """`param` is what the prompt is called."""
        prompt, context = self.prompt, self.context
        what = "An input" if param == "input" else "The prompt"
        if context is None:
            message = f"{what} is longer than the context of this model."
        elif prompt is None:
            # It was refused without being counted, but it was refused.
            message = (
                f"{what} has at least {context + 1} tokens; the context of this model is"
                f" {context} tokens."
            )
        elif prompt > context:
            message = f"{what} has {prompt} tokens; the context of this model is {context} tokens."
        elif param == "input":
            message = (
                f"{what} of {prompt} tokens leaves no room in the context of this model, {context}"
                " tokens."
            )
        else:
            message = (
                f"The prompt of {prompt} tokens and the longest answer asked for do not fit in"
                f" the context of this model, {context} tokens."
            )
        return ContextLengthExceeded(message, param=param, prompt=prompt, context=context)


def overflow(text: str) -> Overflow | None:
    """What an error's text tells of a prompt that is too long; None if it tells of none."""
    if not _OVERFLOW.search(text):
        return None
    return Overflow(prompt=_number(_PROMPT_TOKENS, text), context=_number(_CONTEXT_TOKENS, text))


def _of(match: re.Match[str]) -> str:
    """The one group that has matched."""
    words: list[str] = [group for group in match.groups() if group]
    return words[0].lower()


async def read_error(exchange: Exchange) -> str:
    """The words of an error's body, whatever envelope they are in; to be searched, not shown.

    Empty where the body broke: the status is what counts.
    """
    try:
        body = await exchange.read_all(_ERROR_BYTES_MAX)
    except (BackendError, RequestTimeout):
        return ""
    return body.decode("utf-8", "replace")


def _number(patterns: tuple[re.Pattern[str], ...], text: str) -> int | None:
    for pattern in patterns:
        if match := pattern.search(text):
            return int(match[1])
    return None


def _seconds(retry_after: str) -> float:
    """Retry-After in seconds; a date, or what is beyond two minutes, is not worth following."""
    return (
        float(retry_after)
        if re.fullmatch(r"[0-9]{1,2}|1[01][0-9]|120", retry_after)
        else COME_BACK_S
    )
