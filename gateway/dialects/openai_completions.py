"""OpenAI's completions, from before chat: text goes in as it stands, and is continued.

`PARAMETERS` is the whole of it: each parameter that OpenAI documents, and the
extensions that chat takes from Ollama. `echo` and `best_of` are done here,
since hardly an engine has them: the prompt's text is put before the answer,
and of all that was drawn the likeliest answers are chosen.

Source: openai-python 3.54, types/completion_create_params.py.
"""

from typing import Final

import attrs

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import Prompt
from gateway.dialects import fields, sampling
from gateway.dialects.base import Parsed, ReplyHead
from gateway.dialects.draft import (
    Draft,
    Fate,
    Parameter,
    Reading,
    Table,
    to_request,
    token_limit,
    without_effect,
)
from gateway.dialects.openai_common import LOGIT_BIAS, STREAM_OPTIONS, STRING
from gateway.dialects.openai_completions_encode import CompletionsEncoder, Shape

ANSWERS_MAX: Final = 64
"""To all prompts of one request. They are drawn one after the other in one slot, and so many
short ones take minutes on a small box; clients that have more send several requests."""

CHOICES_MAX: Final = 20
"""To one prompt. OpenAI's bound on `best_of`."""

LOGPROBS_MAX: Final = 5


@attrs.frozen(kw_only=True)
class CompletionsParsed(Parsed):
    """A completion as it was asked for."""

    shape: Shape


# --- Prompts -----------------------------------------------------------------------

_TEXT: Final = fields.text(1)
_SUFFIX: Final = fields.text()


def _prompt(draft: Draft, value: Json, path: str) -> Fate:
    # Its own reader checks the suffix.
    suffix = draft.body.get("suffix") or None
    draft.request["prompts"] = tuple(
        [attrs.evolve(prompt, suffix=suffix) for prompt in _prompts(value, path)]
    )
    return "asked"


def _prompts(value: Json, path: str) -> list[Prompt]:
    match value:
        case str() | [int(), *_]:
            return [_one(value, path)]
        case [_, *_] if len(value) <= ANSWERS_MAX:
            prompts = [_one(item, f"{path}[{index}]") for index, item in enumerate(value)]
            # An engine that takes no tokens must say so of the first, before it has begun.
            if len({bool(prompt.tokens) for prompt in prompts}) == 1:
                return prompts
    raise fields.invalid(
        path,
        f"a string, a list of tokens, or a list of 1 to {ANSWERS_MAX} of the one or of the other",
    )


def _one(value: Json, path: str) -> Prompt:
    """One text or one list of tokens. Of an empty one no engine makes anything."""
    match value:
        case str():
            return Prompt(_TEXT(value, path))
        case [_, *_] if fields.is_tokens(value):
            return Prompt(tokens=tuple(value))
    raise fields.invalid(path, f"a string or a list of tokens, from 0 to {fields.TOKEN_MAX}")


_PROMPT_SCHEMA: Final = {
    "anyOf": [
        _TEXT.schema,
        fields.TOKENS,
        {
            "type": "array",
            "minItems": 1,
            "maxItems": ANSWERS_MAX,
            "items": _TEXT.schema,
        },
        {
            "type": "array",
            "minItems": 1,
            "maxItems": ANSWERS_MAX,
            "items": fields.TOKENS,
        },
    ]
}


def _suffix(draft: Draft, value: Json, path: str) -> Fate:
    return "asked" if _SUFFIX(value, path) else "no-op"


# --- The shape of the answer ---------------------------------------------------------

_CHOICES: Final = fields.integer(1, CHOICES_MAX)


def _best_of(draft: Draft, value: Json, path: str) -> Fate:
    _CHOICES(value, path)
    return "no-op"  # What comes of it is `_shape`'s to say.


def _echo(draft: Draft, value: Json, path: str) -> Fate:
    fields.boolean(value, path)
    return "no-op"


def _shape(draft: Draft) -> Shape:
    """What depends on several parameters, each of which was read by then.

    Raises:
        InvalidRequest: They do not go together.
    """
    body, request = draft.body, draft.request
    prompts: tuple[Prompt, ...] = request["prompts"]
    n: int = request.get("n", 1)
    drawn: int = body.get("best_of") or n
    if drawn < n:
        raise InvalidRequest("'best_of' must not be less than 'n'.", param="best_of")
    if drawn > n:
        if request.get("stream"):
            raise InvalidRequest(
                "'best_of' can't be streamed: which answer is best is known at the end.",
                param="best_of",
            )
        request["n"] = drawn
        # By these the best are known.
        request.setdefault("logprobs", 0)
    if drawn * len(prompts) > ANSWERS_MAX:
        raise InvalidRequest(
            f"These are {drawn * len(prompts)} answers to draw; one request may ask for"
            f" {ANSWERS_MAX}.",
            param="prompt" if drawn == 1 else "best_of" if drawn > n else "n",
        )
    echo = body.get("echo") is True
    if echo and body.get("logprobs") is not None:
        raise InvalidRequest(
            "'echo' doesn't go with 'logprobs': engines don't tell those of a prompt.",
            param="echo",
        )
    if echo and any(prompt.tokens for prompt in prompts):
        raise InvalidRequest("'echo' needs prompts that are text.", param="echo")
    return Shape(
        prompts=tuple([prompt.text if echo else "" for prompt in prompts]),
        n=n,
        drawn=drawn,
        logprobs=body.get("logprobs"),
        include_usage=draft.include_usage,
    )


# --- The table ---------------------------------------------------------------------

_REQUIRED: Final = {
    "model": "the name of a model, or 'default'",
    "prompt": "a text to continue, or several",
}

PARAMETERS: Final[Table] = {
    # Honoured by us, or by the engine if it can.
    **sampling.SAMPLING,
    "model": to_request("model", fields.model_name),
    "prompt": Parameter(
        _prompt,
        _PROMPT_SCHEMA,
        note="continued as it stands; tokens where the engine takes them, which Ollama doesn't",
    ),
    "suffix": Parameter(
        _suffix, _SUFFIX.schema, note="Ollama's, for models that can fill in the middle"
    ),
    "stream": to_request("stream", fields.boolean, no_op=False),
    "stream_options": STREAM_OPTIONS,
    "max_tokens": attrs.evolve(
        token_limit,
        note="none given: the configured default, as in a chat, and not OpenAI's 16,"
        " which would cut answers off that Ollama gives whole",
    ),
    "n": to_request("n", _CHOICES, no_op=1),
    "best_of": Parameter(
        _best_of,
        _CHOICES.schema,
        note="drawn one after the other; those with the highest mean log-probability come back",
    ),
    "echo": Parameter(_echo, fields.boolean.schema, note="not with tokens, nor with logprobs"),
    "logprobs": to_request("logprobs", fields.integer(0, LOGPROBS_MAX)),
    "logit_bias": LOGIT_BIAS,
    # Ollama's, besides those that `sampling` knows.
    "options": sampling.options,
    "keep_alive": sampling.keep_alive,
    # No engine of ours honours it.
    "user": without_effect(STRING),
}


class OpenAICompletions(Reading):
    """POST /v1/completions. See `Dialect`."""

    stream_type: Final = "text/event-stream"

    parameters = PARAMETERS
    required = _REQUIRED

    def parse(self, body: bytes | bytearray) -> CompletionsParsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        shape = _shape(draft)
        return CompletionsParsed(request=draft.finish(), ignored=draft.ignored, shape=shape)

    def encoder(self, parsed: CompletionsParsed, head: ReplyHead) -> CompletionsEncoder:
        return CompletionsEncoder(head, parsed.shape)
