"""Ollama's native completion: what a request may hold, and how it becomes one of ours.

A plain prompt is put into the model's chat template, as the one turn of a user;
`raw` and `suffix` continue the text as it stands.

Source: ollama v0.24.0, api/types.go, `GenerateRequest`, and server/routes.go,
`GenerateHandler`.
"""

from typing import Final

from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import Message, Prompt, Role
from gateway.dialects import fields
from gateway.dialects.base import Parsed, ReplyHead
from gateway.dialects.draft import Draft, Fate, Parameter, Reading, Table, without_effect
from gateway.dialects.ollama_chat_messages import with_images
from gateway.dialects.ollama_encode import GENERATE, OllamaEncoder
from gateway.dialects.ollama_parameters import COMMON, REQUIRED, answer_wanted, nothing_asked


def _answer_user(draft: Draft) -> None:
    body = draft.body
    content = with_images(draft, body["prompt"], body.get("images"), "images")
    system = body.get("system")
    draft.request["messages"] = (
        *([Message(Role.SYSTEM, system)] if system else []),
        Message(Role.USER, content),
    )


def _continue_text(draft: Draft) -> None:
    body = draft.body
    if body.get("images"):
        raise InvalidRequest("'images' can't be sent with 'raw' or 'suffix'.", param="images")
    if body.get("raw"):
        for name in ("system", "template", "context"):
            if body.get(name):
                raise InvalidRequest(f"'{name}' can't be sent with 'raw'.", param=name)
    elif body.get("system"):
        draft.params.discard("system")
        draft.ignore("system")
    draft.request["prompts"] = (Prompt(body["prompt"], suffix=body.get("suffix") or None),)


# --- Parameters with rules of their own ------------------------------------------

_TEXT: Final = fields.text()


def _text(draft: Draft, value: Json, path: str) -> Fate:
    """Checked here, and put together when all were read."""
    return "asked" if _TEXT(value, path) else "no-op"


def _raw(draft: Draft, value: Json, path: str) -> Fate:
    return "asked" if fields.boolean(value, path) else "no-op"


def _images(draft: Draft, value: Json, path: str) -> Fate:
    return "asked" if fields.array(value, path, length_max=draft.limits.images_max) else "no-op"


def _context(value: Json, path: str) -> list[Json]:
    if not isinstance(value, list):
        raise fields.invalid(path, "a list of tokens")
    return value


_NO_PICTURES: Final = "no images are made here"
_PICTURE: Final = without_effect(fields.integer(0, 2**31 - 1), 0, note=_NO_PICTURES)

PARAMETERS: Final[Table] = {
    **COMMON,
    "prompt": Parameter(
        _text,
        _TEXT.schema,
        note="empty: the model is loaded, or put out of memory by keep_alive 0",
    ),
    "suffix": Parameter(_text, _TEXT.schema, note="what stands after the gap that is filled"),
    "system": Parameter(_text, _TEXT.schema, note="ignored beside suffix, refused beside raw"),
    "raw": Parameter(_raw, fields.boolean.schema),
    "images": Parameter(_images, {"type": "array"}, note="in base64; not with raw or suffix"),
    "template": without_effect(_TEXT, "", note="the model's own holds"),
    "context": without_effect(
        fields.Field(_context, {"type": "array"}),
        [],
        note="deprecated by Ollama: send the turns to /api/chat",
    ),
    # Of models that paint.
    "width": _PICTURE,
    "height": _PICTURE,
    "steps": _PICTURE,
}


class OllamaGenerate(Reading):
    """POST /api/generate. See `Dialect`."""

    stream_type: Final = "application/x-ndjson"

    parameters = PARAMETERS
    required = REQUIRED
    json_only = False

    def parse(self, body: bytes | bytearray) -> Parsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        draft = self.draft(body)
        if not draft.body.get("prompt"):
            return nothing_asked(draft)
        if draft.body.get("raw") or draft.body.get("suffix"):
            _continue_text(draft)
        else:
            _answer_user(draft)
        return answer_wanted(draft)

    def encoder(self, parsed: Parsed, head: ReplyHead) -> OllamaEncoder:
        return OllamaEncoder(head, GENERATE, wants=parsed.wants)
