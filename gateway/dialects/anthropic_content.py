"""The blocks of a message: what each becomes, and which ones are left out by name.

Text, images, documents and search results become parts of the message; tool calls,
tool results and thoughts go where a conversation has its own place for them. Blocks
that only Anthropic's own servers can read, or have run, are left out, and the caller is
told which.

Source: anthropic-python 2.12, types/content_block_param.py,
types/tool_result_block_param.py and their counterparts in types/beta.
"""

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from gateway.core import jsonio
from gateway.core.errors import InvalidRequest
from gateway.core.jsonio import Json
from gateway.core.messages import ImagePart, Message, Part, Role, TextPart, ToolCall
from gateway.dialects import fields, images
from gateway.dialects.draft import Draft

ID: Final = fields.text(1, 256)
TEXT: Final = fields.text()

_UNDER: Final = "messages."
_ANYWHERE: Final = frozenset({"type", "cache_control"})
"""`cache_control` asks for what happens anyway: engines keep the prompts that they have read."""


@attrs.define(eq=False)
class Turn:
    """What the blocks of one message are, sorted.

    Attributes:
        parts: What is said and shown, in order.
        results: Messages of their own: answers to tool calls.
    """

    parts: list[Part] = attrs.field(factory=list)
    reasoning: list[str] = attrs.field(factory=list)
    calls: list[ToolCall] = attrs.field(factory=list)
    results: list[Message] = attrs.field(factory=list)

    def say(self, text: str) -> None:
        if text:
            self.parts.append(TextPart(text))

    @property
    def content(self) -> str | tuple[Part, ...]:
        """The whole text, or the parts in order when there are images among them."""
        message = Message(Role.USER, tuple(self.parts))
        return message.content if message.images else message.text


Reader = Callable[[Draft, Turn, dict[str, Json], str], None]
"""Reads one block into the turn: (draft, turn, block, path)."""


@attrs.frozen
class _Block:
    """One type of block, and the keys that it may have."""

    read: Reader
    known: frozenset[str]


def read_blocks(
    draft: Draft, turn: Turn, value: Json, path: str, *, table: "Mapping[str, _Block] | None" = None
) -> None:
    """A string, which stands for one block of text, or a list of blocks.

    Args:
        table: The types that may stand here; all, where not given.

    Raises:
        InvalidRequest, TooLarge: A block does not fit; `param` says which.
    """
    if isinstance(value, str):
        turn.say(value)
        return
    if not isinstance(value, list):
        raise fields.invalid(path, "a string or a list of content blocks")
    known = BLOCKS if table is None else table
    for index, item in enumerate(value):
        where = f"{path}[{index}]"
        block = fields.obj(item, where)
        kind = block.get("type")
        reader = known.get(kind) if isinstance(kind, str) else None
        if reader is not None:
            draft.ignore_rest(block, reader.known, under=f"{_UNDER}{kind}.")
            reader.read(draft, turn, block, where)
        elif kind in LEFT_OUT:
            draft.ignore(str(kind), under=_UNDER)
        else:
            raise fields.invalid(f"{where}.type", f"one of {', '.join((*known, *LEFT_OUT))}")


# --- What is said and shown ------------------------------------------------------------


def _text(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    turn.say(TEXT(block.get("text"), f"{path}.text"))


def _image(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    turn.parts.append(_image_part(draft, block.get("source"), f"{path}.source"))


def _image_part(draft: Draft, value: Json, path: str) -> ImagePart:
    source = _source(value, path, "base64")
    if not draft.images_left:
        raise fields.invalid(path, f"one of at most {draft.limits.images_max} images")
    draft.images_left -= 1
    bytes_max = draft.limits.image_bytes_max
    return images.base64_image(source.get("data"), f"{path}.data", bytes_max=bytes_max)


def _document(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    """A text with its title before it. What is no text can't be read here."""
    _refuse_citations(draft, block, "document", path)
    source = _source(block.get("source"), f"{path}.source", "text", "content")
    _say_head(turn, block, path, "title", "context")
    if source["type"] == "text":
        turn.say(TEXT(source.get("data"), f"{path}.source.data"))
    else:
        where = f"{path}.source.content"
        read_blocks(draft, turn, source.get("content"), where, table=_SHOWN)


def _search_result(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    _refuse_citations(draft, block, "search_result", path)
    _say_head(turn, block, path, "title", "source")
    read_blocks(draft, turn, block.get("content"), f"{path}.content", table=_SHOWN)


def _say_head(turn: Turn, block: dict[str, Json], path: str, *names: str) -> None:
    for name in names:
        turn.say(fields.optional(block, name, path, TEXT) or "")


def _refuse_citations(draft: Draft, block: dict[str, Json], kind: str, path: str) -> None:
    """No engine says which part of a document an answer rests on."""
    wish = fields.optional(block, "citations", path, fields.obj) or {}
    if wish.get("enabled"):
        draft.ignore("citations", under=f"{_UNDER}{kind}.")


def _source(value: Json, path: str, *kinds: str) -> dict[str, Json]:
    source = fields.obj(value, path)
    if source.get("type") not in kinds:
        raise InvalidRequest(
            f"'{path}.type' must be {' or '.join(kinds)}: nothing is fetched or converted here,"
            " and no files are kept. Send images as base64 and documents as text.",
            param=f"{path}.type",
        )
    return source


# --- Thoughts, calls and their results -----------------------------------------------------


def _thinking(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    """An earlier thought. Its signature is Anthropic's affair."""
    if thought := TEXT(block.get("thinking"), f"{path}.thinking"):
        turn.reasoning.append(thought)


def _tool_use(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    turn.calls.append(
        ToolCall(
            id=ID(block.get("id"), f"{path}.id"),
            name=fields.called_name(block.get("name"), f"{path}.name"),
            arguments=jsonio.dumps_text(fields.obj(block.get("input"), f"{path}.input")),
        )
    )


def _tool_result(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    """Its text answers the call; its images are shown after it.

    Templates have no place for an image in the answer of a tool, and none for whether the
    tool failed.
    """
    id = ID(block.get("tool_use_id"), f"{path}.tool_use_id")
    inner = Turn()
    if block.get("content") is not None:
        read_blocks(draft, inner, block["content"], f"{path}.content", table=_SHOWN)
    text = Message(Role.TOOL, tuple(inner.parts)).text
    if fields.optional(block, "is_error", path, fields.boolean):
        text = f"Error: {text}"
    turn.results.append(Message(role=Role.TOOL, content=text, tool_call_id=id))
    turn.parts += [part for part in inner.parts if isinstance(part, ImagePart)]


def _compaction(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    """What stands in place of earlier messages: their summary, in the clear."""
    turn.say(fields.optional(block, "content", path, TEXT) or "")


def _nothing(draft: Draft, turn: Turn, block: dict[str, Json], path: str) -> None:
    """A mark between blocks that is shown to no model."""


def _block(read: Reader, *keys: str) -> _Block:
    return _Block(read, _ANYWHERE.union(keys))


_SHOWN: Final[Mapping[str, _Block]] = {
    "text": _block(_text, "text", "citations"),
    "image": _block(_image, "source"),
    "document": _block(_document, "source", "title", "context", "citations"),
    "search_result": _block(_search_result, "content", "title", "source", "citations"),
}
"""What may also stand in the result of a tool."""

BLOCKS: Final[Mapping[str, _Block]] = {
    **_SHOWN,
    "thinking": _block(_thinking, "thinking", "signature"),
    "tool_use": _block(_tool_use, "id", "name", "input", "caller"),
    "tool_result": _block(_tool_result, "tool_use_id", "content", "is_error"),
    "compaction": _block(_compaction, "content", "encrypted_content", "signature"),
    "fallback": _block(_nothing, "from", "to", "trigger"),
}
"""By type. How many blocks a message has is bounded by the size of the body."""

LEFT_OUT: Final = (
    "redacted_thinking",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "advisor_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "mcp_tool_listing",
    "container_upload",
    "tool_addition",
    "tool_removal",
    "tool_reference",
    "browser_state",
)
"""What Anthropic's servers alone can read, or have run."""
